"""Start with the app and stop with it, whether or not the app knows about lifespan."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log: Final = logging.getLogger("ak_guard")


class Lifespan:
    """Pass a lifespan scope on, with `start` before the app's own start-up and `stop` after its shutdown.

    `start` returns None, or the text of what is wrong: then start-up fails with it. An app that does not speak the
    lifespan protocol (it raises) is spoken for, so that the guard still opens and closes. As with servers it is served
    then, too; but one that raises after it has heard that it shall start may be one that could not.
    """

    def __init__(
        self, app: ASGIApp, start: Callable[[], Awaitable[str | None]], stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._app = app
        self._start = start
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        fault = await self._start()
        if fault is not None:
            await send({"type": "lifespan.startup.failed", "message": fault})
            # Servers have the message; test clients wait for the exception.
            raise ConfigurationError(fault)
        told = _Told(message, receive, send, self._stop)
        try:
            await self._app(scope, told.receive, told.send)
        except Exception as error:
            if told.started:
                await told.stop()
                raise
            if told.was_heard:
                log.warning("the app failed on starting; it is served as one without lifespan", exc_info=error)
            else:
                log.info("the app is served as one without lifespan: %s: %s", type(error).__name__, error)
        if not told.started:
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await told.stop()
            await send({"type": "lifespan.shutdown.complete"})


class _Told:
    """The conversation between server and app, overheard."""

    def __init__(self, first: Message, receive: Receive, send: Send, stop: Callable[[], Awaitable[None]]) -> None:
        self._first: Message | None = first
        self._receive = receive
        self._send = send
        self._stop = stop
        self.started = False
        self._stopped = False

    @property
    def was_heard(self) -> bool:
        """Whether the app has asked what it is told; most that know of HTTP alone raise before."""
        return self._first is None

    async def stop(self) -> None:
        """Once: an app may say that it failed and then raise as well."""
        if not self._stopped:
            self._stopped = True
            await self._stop()

    async def receive(self) -> Message:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] in {"lifespan.startup.complete", "lifespan.startup.failed"}:
            self.started = True
        if message["type"] in {"lifespan.shutdown.complete", "lifespan.shutdown.failed", "lifespan.startup.failed"}:
            await self.stop()
        await self._send(message)
