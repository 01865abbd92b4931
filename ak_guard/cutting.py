"""One response that goes on, a stream or a websocket, and how it is cut."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection

    from starlette.types import Message, Send

    from ak_guard.guard import Case
    from ak_guard.records import Denial

log: Final = logging.getLogger("ak_guard")

#: How long, in seconds, an app that was told of the end may take before more is done to end it.
GRACE_SECONDS: Final = 2.0

_POLICY_VIOLATION: Final = 1008
_TRY_AGAIN_LATER: Final = 1013


class StreamCutError(OSError):
    """The key is no longer good, so nothing more is sent.

    Raised by the app's `send` (an OSError, as servers raise for a client that is gone), and to the server where it has
    to break the connection because a `content-length` was announced that will not be reached.
    """


class Watch(Protocol):
    """Who keeps open streams."""

    def remove(self, stream: OpenStream) -> None: ...


class OpenStream:
    """The response to `case`, which goes on.

    A stream is cut by cancelling the app's call, because most wait for something of their own and not for the client.
    A websocket is closed first and its app told, which may then end by itself.
    """

    __slots__ = ("_ending", "_loop", "_pressed", "_send", "_start", "_task", "_timer", "_watch", "case", "denial")

    def __init__(self, watch: Watch, send: Send, case: Case) -> None:
        self.case: Case = case
        #: Why it was cut; None while it goes on.
        self.denial: Denial | None = None
        self._watch: Watch | None = watch
        self._send = send
        # None for a websocket.
        self._start = case.start
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._pressed = False
        self._ending: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def send(self, message: Message) -> Awaitable[None]:
        """The app sends something. Raises `StreamCutError` after the cut."""
        kind = message["type"]
        last = kind == "websocket.close" or (kind == "http.response.body" and not message.get("more_body"))
        if self.denial is None:
            if last:
                # What the app does afterwards, in background tasks for one, is its own affair.
                self.over()
            return self._send(message)
        if last:
            return _nothing()
        raise StreamCutError(self.denial.detail)

    @property
    def disconnect(self) -> Message:
        """What the app of a cut websocket receives."""
        return {"type": "websocket.disconnect", **self._reason()}

    def over(self) -> None:
        """Nothing is left to cut."""
        if self._watch is not None:
            self._watch.remove(self)
            self._watch = None

    def cut(self, denial: Denial, task: asyncio.Task[Any] | None) -> None:
        """End it, for the client and for the app, whose call `task` runs. Called in its event loop by another task."""
        if self.denial is not None or self._watch is None:
            return
        self.denial = denial
        self._task = task
        if self._start is None:
            self._begin_ending()
            self._timer = self._loop.call_later(GRACE_SECONDS, self._press)
        else:
            self._press()
            # An app that does not let itself be cancelled shall not keep the client waiting.
            self._timer = self._loop.call_later(GRACE_SECONDS, self._begin_ending)

    async def ended(self, error: BaseException | None = None) -> bool:
        """The app's call is over. Returns whether its `error` was only the cut, and so is nobody else's business.

        Raises `StreamCutError` where the server has to break the connection.
        """
        self.over()
        if self.denial is None:
            return False
        if self._timer is not None:
            self._timer.cancel()
        # A cancellation by the server or by a timeout around the guard may have come at the same time.
        ours = self._pressed and self._task is not None and self._task.uncancel() == 0
        if isinstance(error, asyncio.CancelledError) and not ours:
            self._drop_ending()
            return False
        try:
            if self._ending is not None:
                await asyncio.wait([self._ending])
            elif not self._announced_its_length():
                await self._end()
        except asyncio.CancelledError:
            self._drop_ending()
            raise
        if error is not None and not _is_of_the_cut(error):
            return False
        if self._announced_its_length():
            raise StreamCutError(self.denial.detail)
        return True

    def _press(self) -> None:
        # Whoever is cancelling it already ends it too, and must not be mistaken for the cut.
        if self._task is not None and not self._task.cancelling():
            self._pressed = True
            self._task.cancel()

    def _begin_ending(self) -> None:
        self._ending = self._loop.create_task(self._end())

    def _drop_ending(self) -> None:
        if self._ending is not None:
            self._ending.cancel()

    async def _end(self) -> None:
        ending: Message = {"type": "http.response.body", "body": b"", "more_body": False}
        if self._start is None:
            ending = {"type": "websocket.close", **self._reason()}
        try:
            await self._send(ending)
        except Exception as error:  # noqa: BLE001  # each server has its own
            # Most likely the client left at the same moment.
            log.debug("the end of a stream could not be sent: %s", type(error).__name__)

    def _announced_its_length(self) -> bool:
        """Then a response that ends early must not look complete, and only a broken connection tells that."""
        headers = () if self._start is None else self._start.get("headers", ())
        return any(name.lower() == b"content-length" for name, _ in headers)

    def _reason(self) -> Message:
        code = "" if self.denial is None else self.denial.code
        return {
            "code": _TRY_AGAIN_LATER if code == "key_service_unavailable" else _POLICY_VIOLATION,
            "reason": code,
        }


def tasks_of(cases: Collection[Case]) -> dict[Case, asyncio.Task[Any]]:
    """Which tasks of the running event loop run the door's call for these cases.

    Found by what they are awaiting, when something is to be cut: to note the task of each request would make all of
    them pay for it, and `send` may be called from another one. A server that runs the app in no task has none.
    """
    wanted = {id(case): case for case in cases}
    found: dict[Case, asyncio.Task[Any]] = {}
    try:
        tasks = asyncio.all_tasks()
    except Exception as error:  # noqa: BLE001  # granian's `--task-impl rust` leaves tasks behind that break it
        log.warning("the apps of streams that are cut cannot be ended here: %s", type(error).__name__)
        return found
    for task in tasks:
        awaited: Any = task.get_coro()
        while awaited is not None:
            code, frame = getattr(awaited, "cr_code", None), getattr(awaited, "cr_frame", None)
            if code is not None and frame is not None and "case" in code.co_varnames:
                case = wanted.get(id(frame.f_locals.get("case")))
                if case is not None:
                    found[case] = task
            awaited = getattr(awaited, "cr_await", None)
    return found


def _is_of_the_cut(error: BaseException) -> bool:
    """Whether an app that was cut failed only because of that, however its framework tells it."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_of_the_cut(one) for one in error.exceptions)
    if isinstance(error, asyncio.CancelledError):
        return True
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, StreamCutError):
        seen = seen.__cause__ or seen.__context__
    return seen is not None


async def _nothing() -> None:
    """The end was told already."""
