"""Starlette: the guard in the list of middleware; and mounted, where only what is below the mount is guarded."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute

from ak_guard import ApiKeyMiddleware
from tests.hosts.apps.told import STREAM, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from ak_guard.backends import KeyLookup


async def _health(_: Request) -> PlainTextResponse:
    return PlainTextResponse("up")


async def _who(request: Request) -> JSONResponse:
    return JSONResponse(told(request.state.ak_guard, started=getattr(request.app.state, "started", False)))


async def _stream(_: Request) -> StreamingResponse:
    return StreamingResponse(iter(STREAM))


async def _ws(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.state.ak_guard.key.name)
    await websocket.receive_text()
    await websocket.close()


@asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    app.state.started = True
    yield


_ROUTES = [Route("/health", _health), Route("/who", _who), Route("/stream", _stream), WebSocketRoute("/ws", _ws)]


def build(url: str) -> Starlette:
    guard = Middleware(ApiKeyMiddleware, backend=url, public_paths=["/health"])
    return Starlette(routes=_ROUTES, middleware=[guard], lifespan=_lifespan)


def unguarded() -> Starlette:
    return Starlette(routes=_ROUTES, lifespan=_lifespan)


def build_mounted(backend: KeyLookup) -> Starlette:
    """A mounted app gets no lifespan: its guard opens with the first request."""
    inside = ApiKeyMiddleware(Starlette(routes=_ROUTES), backend=backend, public_paths=["/health"])
    return Starlette(routes=[Mount("/api", inside), Route("/outside", _health)], lifespan=_lifespan)
