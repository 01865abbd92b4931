"""Follow what administrators change, wherever they do it, and let them see that it was heard."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any, Final

from ak_guard.backends.outage import Outage
from ak_guard.backends.workers import BEAT_SECONDS
from ak_guard.errors import AkGuardError, BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ak_guard.backends.bulletin import Bulletin
    from ak_guard.backends.watch import Listeners
    from ak_guard.news import News, Report

log: Final = logging.getLogger(__name__)

#: How often the store is asked for changes, in seconds.
POLL_SECONDS: Final = 0.25

# Between two questions where each answer waits for news.
_BREATH_SECONDS: Final = 0.01
# An answer that takes longer is taken for an outage.
_ANSWER_SECONDS: Final = 5.0
# Whoever stops does not wait longer for a store that is away.
_GOODBYE_SECONDS: Final = 2.0
_BACK: Final = "the store answers again; changes are followed from where they were left"


class Feed:
    """Of one event loop: tells `listeners` of each change on the bulletin, and the bulletin that it was told.

    It runs while somebody listens. Its worker is entered there before `ready` is true, so nothing can be
    remembered by anybody whom an administrator cannot see. When it ends, everything remembered is dropped, because from
    then on nobody would hear of a change. `report` gives what a worker says of itself.
    """

    def __init__(self, bulletin: Bulletin, listeners: Listeners, report: Callable[[], Report]) -> None:
        self._bulletin = bulletin
        self._listeners = listeners
        self._own = report
        # Made here and not at import: a process that was forked must not pass for its parent.
        self._id = secrets.token_hex(16)
        self._name = worker_name()
        self._applied = 0
        self._entered = False
        self.ended: bool = False
        self._entering = False
        self._closing: set[asyncio.Task[None] | None] = set()
        self._tried = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._report_now = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._reporter = self._task(self._report_until_nobody_listens())
        self._follower = self._task(self._follow())

    async def ready(self) -> bool:
        """Whether what is read from now on may be remembered. Waits for the first attempt to enter, and no longer."""
        await self._tried.wait()
        return self._entered and not self.ended

    def end(self) -> None:
        """From here on changes are not heard, so nothing that was read before may be remembered. Any thread may call.

        Enough for a feed whose event loop was closed over it.
        """
        if not self.ended:
            self.ended = True
            self._listeners.tell(None)

    async def stop(self) -> None:
        """End, in whichever event loop it runs."""
        self.end()
        if self._loop is asyncio.get_running_loop():
            self._quit()
            await asyncio.wait([self._reporter, self._follower])
        elif not self._loop.is_closed():
            # Said there it would come when everything here is closed, and open it again.
            await self._say_goodbye()
            self._loop.call_soon_threadsafe(self._quit)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        # The request that happened to come first lends nothing of its context to what outlives it.
        task = asyncio.create_task(work, context=contextvars.Context())
        task.add_done_callback(self._is_over)
        return task

    def _is_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the change feed failed; what was known is dropped and it begins again", exc_info=error)
        self.end()
        self._quit()

    def _quit(self) -> None:
        self._tried.set()
        for task in (self._reporter, self._follower):
            # One ends when the other does, but a second cancellation must not cut its goodbye short.
            if task not in self._closing:
                task.cancel()

    async def _report_until_nobody_listens(self) -> None:
        outage = Outage(_BACK)
        try:
            while self._listeners:
                self._report_now.clear()
                try:
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        await self._report()
                except (AkGuardError, TimeoutError) as error:
                    outage.began("this worker cannot report to the store", error)
                else:
                    outage.ended()
                self._tried.set()
                await _wait(self._report_now, BEAT_SECONDS if outage.over else POLL_SECONDS)
        except asyncio.CancelledError:
            # Not `finally`: where a loop was closed over this task, there is nothing to await any more.
            await self._leave()
            raise
        await self._leave()

    async def _report(self) -> None:
        if self._entered:
            await self._bulletin.beat(self._id, self._own()._replace(revision=self._applied))
            return
        # From here on it may be listed there, also when no answer says so.
        self._entering = True
        self._applied, self._entered = await self._bulletin.enter(self._id, self._own()), True

    async def _leave(self) -> None:
        self._closing.add(asyncio.current_task())
        self.end()
        await self._say_goodbye()

    async def _say_goodbye(self) -> None:
        entering, self._entering = self._entering, False
        if not entering:
            return
        try:
            async with asyncio.timeout(_GOODBYE_SECONDS):
                await self._bulletin.leave(self._id)
        except (AkGuardError, TimeoutError):
            log.warning("the store is away; worker %s stays listed there until it is taken for ended", self._name)

    async def _follow(self) -> None:
        line = self._bulletin.line(self._poll_now.set)
        outage = Outage(_BACK)
        # First a pause: what was read on entering is news enough, and a loop of one request opens no line.
        pause = POLL_SECONDS
        try:
            while True:
                await _wait(self._poll_now, pause)
                self._poll_now.clear()
                pause = POLL_SECONDS
                if not self._entered:
                    continue
                asked_at = self._loop.time()
                try:
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        news = await line.news_after(self._applied)
                except (BackendError, TimeoutError) as error:
                    outage.began("changes are not heard", error)
                    await line.close()
                    continue
                outage.ended()
                is_new = news is not None and news.revision != self._applied
                if news is not None and is_new:
                    await self._apply(news)
                # Whoever is said to wait for news and does not is still not asked all the time.
                if self._bulletin.waits and (is_new or self._loop.time() - asked_at >= POLL_SECONDS):
                    pause = _BREATH_SECONDS
        except asyncio.CancelledError:
            self._closing.add(asyncio.current_task())
            await line.close()
            raise

    async def _apply(self, news: News) -> None:
        for key_id in news.key_ids:
            self._listeners.tell(key_id)
            # Requests go on in between where many keys were changed at once.
            await asyncio.sleep(0)
        self._applied = news.revision
        self._report_now.set()


def worker_name() -> str:
    """What this process is called in lists of workers."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until the event is set or the time has passed."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
