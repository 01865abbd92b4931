"""Who guards with a backend right now, and whether all of them have followed its changes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, Self, runtime_checkable

from ak_guard.notation import LEAP_YEAR

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ak_guard.backends.bulletin import SharedBulletin
    from ak_guard.news import Entry

#: A worker says so often that it lives, in seconds.
BEAT_SECONDS: Final = 5.0
#: So long a worker goes on with what it knows when it cannot ask, in seconds, unless it says otherwise.
STALE_SECONDS: Final = 60.0

# Confirmations usually come within a poll of the workers, so whoever waits for them asks about as often.
_ASK_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Worker:
    """An event loop in some process that guards with this backend.

    `seen_at` is when it last reported, `good_until` until when it may go on without doing so again; after that it lets
    nobody in whom it does not look up anew. `revision` is the last change that it has applied, `behind` how many it has
    not. `counters` names where its guards count windows; empty where they do not say.
    """

    id: str
    name: str
    started_at: datetime
    seen_at: datetime
    good_until: datetime
    behind: int
    counters: tuple[str, ...]
    #: Whether it has missed a report: stopped, paused or cut off from the store.
    silent: bool
    revision: int

    @classmethod
    def of(cls, entry: Entry, *, newest: int, now: float) -> Self:
        """From what the store knows and the store's time; what was known just before the next report was due counts."""
        return cls(
            id=entry.id,
            name=entry.name,
            started_at=datetime.fromtimestamp(entry.started_at, UTC),
            seen_at=datetime.fromtimestamp(entry.beat_at, UTC),
            # What another version has told may be more than any time there is.
            good_until=datetime.fromtimestamp(entry.beat_at + BEAT_SECONDS + min(entry.stale_seconds, LEAP_YEAR), UTC),
            behind=max(0, newest - entry.revision),
            counters=tuple(entry.counters.splitlines()),
            silent=now - entry.beat_at >= 2 * BEAT_SECONDS,
            revision=entry.revision,
        )


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How long it took (seconds) until the running workers had applied all changes, by name, and who has not."""

    seconds: float
    workers: tuple[str, ...] = ()
    silent: tuple[Worker, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everybody has confirmed."""
        return not self.silent

    @property
    def missing(self) -> str:
        """Who has not, and until when each may still act on what it knew before."""
        return ", ".join(
            f"{worker.name} (last seen {worker.seen_at:%H:%M:%S}, may go on until {worker.good_until:%H:%M:%S} UTC)"
            for worker in self.silent
        )


@runtime_checkable
class KnowsWorkers(Protocol):
    """A backend that several processes share and that knows which of them are running."""

    def guarded(self, *, stale: float, counters: str) -> None:
        """Say of a guard in this process how long it goes on with what it knows, in seconds, and where it counts."""
        ...

    async def touch(self, key_id: str) -> None:
        """Tell all workers to look at this key again, though nothing of it was changed."""
        ...

    async def workers(self) -> list[Worker]:
        """Those that are running, or may be; the longest running first. Raises `BackendError`."""
        ...

    async def confirm(self, *, timeout: float) -> Confirmation:  # noqa: ASYNC109  # late is an answer, not an error
        """Wait until every running worker follows all changes made so far, `timeout` seconds at most."""
        ...


async def listed(bulletin: SharedBulletin) -> list[Worker]:
    """Those that are running, or may be."""
    return [worker for _, worker in await _alive(bulletin, 0)]


async def follow_all(bulletin: SharedBulletin, *, timeout: float) -> Confirmation:  # noqa: ASYNC109  # as `confirm`
    """Wait until every worker has applied what is the newest revision now."""
    wanted = (await bulletin.roll()).revision
    return await confirmed(lambda: _alive(bulletin, wanted), timeout=timeout)


async def _alive(bulletin: SharedBulletin, wanted: int) -> list[tuple[bool, Worker]]:
    """Everybody who may still act on what was known before a revision, and whether they have applied it."""
    newest, now, entries = await bulletin.roll()
    found = [(entry.revision >= wanted, Worker.of(entry, newest=newest, now=now)) for entry in entries]
    return [(done, worker) for done, worker in found if now < worker.good_until.timestamp()]


async def confirmed(
    alive: Callable[[], Awaitable[Sequence[tuple[bool, Worker]]]],
    *,
    timeout: float,  # noqa: ASYNC109  # late is an answer, not an error
) -> Confirmation:
    """Ask again and again who is alive and whether each has applied what is waited for."""
    began = time.monotonic()
    while True:
        found = await alive()
        silent = tuple(worker for done, worker in found if not done)
        passed = time.monotonic() - began
        if not silent or passed >= timeout:
            return Confirmation(passed, tuple(worker.name for done, worker in found if done), silent)
        await asyncio.sleep(min(_ASK_AGAIN_SECONDS, timeout - passed))
