"""Quart: its `asgi_app` is wrapped, as its documentation has it for middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Quart, request, websocket

from ak_guard import ApiKeyMiddleware
from tests.hosts.apps.told import STREAM, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def build(url: str) -> Quart:
    app = Quart(__name__)
    app.asgi_app = ApiKeyMiddleware(app.asgi_app, backend=url, public_paths=["/health"])  # type: ignore[method-assign, assignment, arg-type]

    @app.before_serving
    async def start() -> None:
        app.config["STARTED"] = True

    @app.get("/health")
    async def health() -> str:
        return "up"

    @app.get("/who")
    async def who() -> dict[str, Any]:
        return told(request.scope["state"]["ak_guard"], started=app.config.get("STARTED", False))

    @app.get("/stream")
    async def stream() -> AsyncIterator[str]:
        async def parts() -> AsyncIterator[str]:
            for part in STREAM:
                yield part

        return parts()

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.send(websocket.scope["state"]["ak_guard"].key.name)
        await websocket.receive()

    return app
