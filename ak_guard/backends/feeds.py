"""The change feed of a database in every event loop that needs it, and what it knows of all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ak_guard.backends.feed import Feed
from ak_guard.backends.workers import STALE_SECONDS, Confirmation, Worker, confirmed
from ak_guard.database import presence
from ak_guard.errors import BackendError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from ak_guard.backends.watch import Listeners
    from ak_guard.database.engine import Database


class Feeds:
    """Runs a `Feed` in each event loop where keys are looked up while `listeners` remember them."""

    def __init__(self, database: Database, listeners: Listeners) -> None:
        self._database = database
        self._listeners = listeners
        self._per_loop: PerLoop[_Held] = PerLoop(_Held, keep=True)
        self._stale: float | None = None
        self._counters: set[str] = set()

    def guarded(self, stale: float, counters: str) -> None:
        """Add what a guard of this process says of itself: one row speaks for all of them."""
        self._stale = max(stale, self._stale or 0.0)
        self._counters.add(counters)

    def start(self) -> None:
        """Begin in the running loop, where somebody listens. What was remembered before nobody has followed."""
        if self._listeners and self._running() is None:
            self._listeners.tell(None)
            self._begin()

    async def ready(self) -> None:
        """To be awaited before a look-up: while this worker cannot be entered, its answer must not be remembered."""
        if self._listeners and not await (self._running() or self._begin()).ready():
            self._listeners.tell(None)

    async def workers(self) -> list[Worker]:
        """Those that are running, or may be."""
        return [worker for _, worker in await self._alive(0)]

    async def confirm(self, timeout: float) -> Confirmation:  # noqa: ASYNC109  # late is an answer, not an error
        """Wait until every worker has applied what is the newest revision now."""
        async with self._database.read(BackendError) as connection:
            wanted = (await presence.roll(connection)).revision
        return await confirmed(lambda: self._alive(wanted), timeout=timeout)

    async def aclose(self) -> None:
        """End in every loop."""
        for held in self._per_loop.drain():
            if held.feed is not None:
                await held.feed.stop()

    def _running(self) -> Feed | None:
        for held in self._per_loop.abandoned():
            if held.feed is not None:
                held.feed.end()
        feed = self._per_loop.get().feed
        return None if feed is None or feed.ended else feed

    def _begin(self) -> Feed:
        feed = self._per_loop.get().feed = Feed(self._database, self._listeners, self._report)
        return feed

    def _report(self) -> dict[str, Any]:
        stale = STALE_SECONDS if self._stale is None else self._stale
        return {"stale_seconds": stale, "counters": "\n".join(sorted(self._counters))}

    async def _alive(self, wanted: int) -> list[tuple[bool, Worker]]:
        """Everybody who may still act on what was known before a revision, and whether they have applied it."""
        async with self._database.read(BackendError) as connection:
            newest, now, rows = await presence.roll(connection)
        found = [(row.revision >= wanted, Worker.of(row, newest=newest, now=now)) for row in rows]
        return [(done, worker) for done, worker in found if now < worker.good_until.timestamp()]


class _Held:
    """A place for the feed of one loop: it may end and begin again."""

    feed: Feed | None = None
