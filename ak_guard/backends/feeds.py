"""The change feed of a store in every event loop that needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard.backends.feed import Feed, worker_name
from ak_guard.backends.workers import STALE_SECONDS
from ak_guard.loops import PerLoop
from ak_guard.news import Report

if TYPE_CHECKING:
    from ak_guard.backends.bulletin import Bulletin
    from ak_guard.backends.watch import Listeners


class Feeds:
    """Runs a `Feed` in each event loop where keys are looked up while `listeners` remember them."""

    def __init__(self, bulletin: Bulletin, listeners: Listeners) -> None:
        self._bulletin = bulletin
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
        feed = self._per_loop.get().feed = Feed(self._bulletin, self._listeners, self._report)
        return feed

    def _report(self) -> Report:
        stale = STALE_SECONDS if self._stale is None else self._stale
        return Report(worker_name(), stale, "\n".join(sorted(self._counters)))


class _Held:
    """A place for the feed of one loop: it may end and begin again."""

    feed: Feed | None = None
