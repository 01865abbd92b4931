"""Litestar: wrapped, because its own stack of middleware is built for each route."""

# No `from __future__ import annotations`: Litestar reads them while it runs.

from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Request, WebSocket, get, websocket
from litestar.middleware import DefineMiddleware
from litestar.response import Stream

from ak_guard import ApiKeyMiddleware
from ak_guard.backends import KeyLookup
from tests.hosts.apps.told import STREAM, told


@get("/health")
async def _health() -> str:
    return "up"


@get("/who")
async def _who(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return told(request.scope["state"]["ak_guard"], started=request.app.state.get("started", False))


@get("/stream")
async def _stream() -> Stream:
    async def parts() -> AsyncIterator[str]:
        for part in STREAM:
            yield part

    return Stream(parts())


@websocket("/ws")
async def _ws(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_text(socket.scope["state"]["ak_guard"].key.name)
    await socket.receive_text()
    await socket.close()


def _start(app: Litestar) -> None:
    app.state.started = True


_HANDLERS = [_health, _who, _stream, _ws]


def build(url: str) -> ApiKeyMiddleware:
    app = Litestar(_HANDLERS, on_startup=[_start])
    return ApiKeyMiddleware(app, backend=url, public_paths=["/health"])  # type: ignore[arg-type]  # types of its own


def build_defined(backend: KeyLookup) -> Litestar:
    """In its own list: for each route a guard, all of them with one backend. What has no route is not guarded."""
    guard = DefineMiddleware(ApiKeyMiddleware, backend=backend, public_paths=["/health"])  # type: ignore[arg-type]
    return Litestar(_HANDLERS, on_startup=[_start], middleware=[guard])
