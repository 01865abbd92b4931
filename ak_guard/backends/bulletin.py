"""Where a store tells what administrators changed, and who follows it: the same whoever carries the news."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.news import News, Report, Roll


class Line(Protocol):
    """One follower's way to the news."""

    async def news_after(self, applied: int) -> News | None:
        """What came after the revision `applied`; None where nothing did. Raises `BackendError`; then `close` it."""
        ...

    async def close(self) -> None:
        """Hang up. It may be asked again."""
        ...


class Bulletin(Protocol):
    """Of one store. Every method raises `BackendError` when the store cannot be reached.

    `waits` says that its lines answer when there is news, and otherwise after some seconds.
    """

    waits: bool

    async def enter(self, worker_id: str, report: Report) -> int:
        """Add a worker, or add it again; returns the revision from which on it follows."""
        ...

    async def beat(self, worker_id: str, report: Report) -> None:
        """Say that a worker lives and how far it is."""
        ...

    async def leave(self, worker_id: str) -> None:
        """Remove a worker that ends."""
        ...

    def line(self, wake: Callable[[], None]) -> Line:
        """A line of one's own. `wake` is called in the running loop where a change is known before it is asked for."""
        ...


@runtime_checkable
class Posts(Protocol):
    """A backend whose bulletin others may read on behalf of workers that cannot reach the store themselves."""

    @property
    def bulletin(self) -> SharedBulletin:
        """Its bulletin."""
        ...


class SharedBulletin(Bulletin, Protocol):
    """A bulletin of which everything can be asked."""

    async def news_after(self, applied: int) -> News:
        """What came after the revision `applied`."""
        ...

    async def roll(self) -> Roll:
        """Everybody who follows."""
        ...
