"""What is told of changes to those who follow them, and by them in return."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class News(NamedTuple):
    """The newest revision, and the ids of the keys that changed on the way to it; None: anything may have changed."""

    revision: int
    key_ids: tuple[str | None, ...]


class Report(NamedTuple):
    """What a worker says of itself.

    `stale_seconds` is how long it goes on with what it knows while it cannot ask, `counters` names where its guards
    count windows, a line each. `revision` is the newest change it has applied, None when it enters.
    """

    name: str
    stale_seconds: float
    counters: str
    revision: int | None = None


class Entry(NamedTuple):
    """A worker as a store knows it. Times are seconds since the epoch, by the store's clock."""

    id: str
    name: str
    started_at: float
    beat_at: float
    revision: int
    stale_seconds: float
    counters: str


class Roll(NamedTuple):
    """All workers as they stand at `now`, the longest running first, and the newest revision."""

    revision: int
    now: float
    entries: Sequence[Entry]
