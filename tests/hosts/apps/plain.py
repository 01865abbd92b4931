"""Bare ASGI, with no word of keys in it but the admission that it tells of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, StreamingResponse

from tests.hosts.apps.told import STREAM, told

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def make() -> ASGIApp:
    started = False

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal started
        if scope["type"] == "lifespan":
            await receive()
            started = True
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        admission = scope["state"]["ak_guard"]
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": admission.key.name})
            await receive()
            await send({"type": "websocket.close"})
        elif scope["path"] == "/stream":
            await StreamingResponse(iter(STREAM))(scope, receive, send)
        else:
            seen = {**told(admission, started=started), "http": scope["http_version"]}
            await JSONResponse(seen)(scope, receive, send)

    return app
