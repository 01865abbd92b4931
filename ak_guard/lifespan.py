"""Start with the app and stop with it, whether or not the app knows about lifespan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Lifespan:
    """Pass a lifespan scope on, with `start` before the app's own start-up and `stop` after its shutdown.

    `start` returns None, or the text of what is wrong: then start-up fails with it. An app that does not speak the
    lifespan protocol (it raises) is spoken for, so that the guard still opens and closes.
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
        except Exception:
            if told.started:
                await told.stop()
                raise
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
