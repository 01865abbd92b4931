"""The bulletin of a key service: changes come over a poll that waits for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ak_guard.backends.documents import news_from, report_document, revision_from, roll_from
from ak_guard.backends.http.offer import Offer
from ak_guard.backends.http.wire import NotOffered, Refused, Unanswered
from ak_guard.errors import AkGuardError, BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.backends.bulletin import Line
    from ak_guard.backends.http.wire import Wire
    from ak_guard.loops import PerLoop
    from ak_guard.news import News, Report, Roll

# Shorter than a follower waits for any answer.
_WAIT_SECONDS: Final = 4.0


class ServiceBulletin:
    """Asks the service. One that offers no changes is not followed: what is known is asked again when it is old."""

    waits = True

    def __init__(self, wires: PerLoop[Wire], clock: Callable[[], float]) -> None:
        self._wires = wires
        self._changes = Offer(
            clock,
            missing="this key service tells no changes; what is known is asked again when it is older than cache_ttl",
            back="this key service tells changes now; they are followed",
        )
        self._workers = Offer(
            clock,
            missing="this key service lists no workers, so nobody can wait for this one to follow a change",
            back="this key service lists workers now",
        )

    async def enter(self, worker_id: str, report: Report) -> int:
        try:
            if self._workers.worth_asking:
                answer = await self._wires.get().told("PUT", _path(worker_id), report_document(report))
                revision = revision_from(answer)
                self._workers.was_there()
                return revision
        except NotOffered:
            self._workers.was_missing()
        except AkGuardError as error:
            raise BackendError(str(error)) from error
        return await self._newest()

    async def beat(self, worker_id: str, report: Report) -> None:
        if not self._workers.is_missing:
            await self._told("PUT", _path(worker_id), report_document(report))
        elif self._workers.worth_asking:
            # It goes on following from where it is, so nothing has to be forgotten.
            await self.enter(worker_id, report)

    async def leave(self, worker_id: str) -> None:
        try:
            if not self._workers.is_missing:
                await self._told("DELETE", _path(worker_id))
        finally:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # Most likely the event loop ends, and nobody could close a connection after that.
                await self._wires.get().rest()

    async def roll(self) -> Roll:
        return roll_from(await self._told("GET", "/v1/workers"))

    async def news_after(self, applied: int, wait: float = 0.0) -> News:
        query = {"since": str(applied), "wait": f"{wait:g}"}
        return news_from(await self._told("GET", "/v1/changes", query=query, waits=wait))

    def line(self, _: Callable[[], None]) -> Line:
        return _Poll(self)

    async def wait_for_news(self, applied: int) -> News | None:
        if not self._changes.worth_asking:
            await asyncio.sleep(_WAIT_SECONDS)
            return None
        if self._changes.is_missing:
            await self._newest()
            if self._changes.is_missing:
                return None
        news = await self.news_after(applied, _WAIT_SECONDS)
        return None if news.revision == applied else news

    async def _newest(self) -> int:
        """From where to follow, where no worker can be entered."""
        try:
            news = news_from(await self._wires.get().told("GET", "/v1/changes", query={"since": "0"}))
        except NotOffered:
            self._changes.was_missing()
            return 0
        except (Unanswered, Refused) as error:
            raise BackendError(str(error)) from error
        self._changes.was_there()
        return news.revision

    async def _told(self, method: str, path: str, document: object = None, **how: object) -> object:
        try:
            return await self._wires.get().told(method, path, document, **how)
        except (Unanswered, Refused, NotOffered) as error:
            raise BackendError(str(error)) from error


class _Poll:
    """A line to the service: its pool has the connections."""

    def __init__(self, bulletin: ServiceBulletin) -> None:
        self._bulletin = bulletin

    async def news_after(self, applied: int) -> News | None:
        return await self._bulletin.wait_for_news(applied)

    async def close(self) -> None:
        return


def _path(worker_id: str) -> str:
    return f"/v1/workers/{worker_id}"
