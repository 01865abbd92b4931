"""Polls that wait for a change: one line to the store for all of them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import TYPE_CHECKING, Final

from ak_guard.backends.feed import POLL_SECONDS
from ak_guard.errors import BackendError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from ak_guard.backends.bulletin import SharedBulletin
    from ak_guard.news import News

log: Final = logging.getLogger("ak_guard")

# The line is held for those who poll again: longer than any poll waits.
_LINGER_SECONDS: Final = 30.0


class Relay:
    """Tells those who poll what a bulletin tells."""

    def __init__(self, bulletin: SharedBulletin) -> None:
        self._bulletin = bulletin
        self._watches = PerLoop(lambda: _Watch(bulletin))

    async def news_after(self, since: int, wait: float, gone: asyncio.Future[None]) -> News:
        """What came after the revision `since`; what comes within `wait` seconds where nothing has.

        `gone` is done when nobody waits for the answer any more.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        watch = self._watches.get()
        while True:
            # Taken first, so that what is committed after the question is not missed.
            next_change = watch.next_change(since)
            news = await self._bulletin.news_after(since)
            left = deadline - loop.time()
            if news.revision != since or left <= 0:
                return news
            await asyncio.wait([next_change, gone], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            # The store may be closed next, and must not be opened again.
            if watch.closed or gone.done():
                return news

    async def hang_up(self) -> None:
        """Answer everybody who waits, and let nobody wait any more. Called in the event loop that serves."""
        await self._watches.get().hang_up()


class _Watch:
    """Of one event loop: follows the bulletin while anybody waits for it."""

    def __init__(self, bulletin: SharedBulletin) -> None:
        self._bulletin = bulletin
        self._loop = asyncio.get_running_loop()
        self._change: asyncio.Future[None] = self._loop.create_future()
        self._asked_soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._used_at = 0.0
        self.closed: bool = False

    def next_change(self, since: int) -> asyncio.Future[None]:
        """Done with the next change, or with an outage, which whoever asks finds out by asking."""
        self._used_at = self._loop.time()
        if self._task is None and not self.closed:
            # Whoever polls first lends nothing of its context to what outlives it.
            self._task = self._loop.create_task(self._follow(since), context=contextvars.Context())
        return self._change

    async def hang_up(self) -> None:
        self.closed = True
        self._tell()
        self._asked_soon.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _tell(self) -> None:
        change, self._change = self._change, self._loop.create_future()
        if not change.done():
            change.set_result(None)

    async def _follow(self, applied: int) -> None:
        line = self._bulletin.line(self._asked_soon.set)
        try:
            while not self.closed and self._loop.time() < self._used_at + _LINGER_SECONDS:
                try:
                    news = await line.news_after(applied)
                except BackendError as error:
                    log.error("changes are not heard: %s; this is tried again until it works", error)
                    await line.close()
                    self._tell()
                else:
                    if news is not None and news.revision != applied:
                        applied = news.revision
                        self._tell()
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._asked_soon.wait()
                except TimeoutError:
                    pass
                self._asked_soon.clear()
        finally:
            self._task = None
            await line.close()
