"""FastAPI: `add_middleware`, as its documentation has it."""

# No `from __future__ import annotations`: FastAPI reads them while it runs.

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

from ak_guard import ApiKeyMiddleware
from tests.hosts.apps.told import STREAM, told


def build(url: str) -> FastAPI:
    app = unguarded()
    app.add_middleware(ApiKeyMiddleware, backend=url, public_paths=["/health"])
    return app


def unguarded() -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.started = True
        yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> str:
        return "up"

    @app.get("/who")
    async def who(request: Request) -> dict[str, Any]:
        return told(request.state.ak_guard, started=request.app.state.started)

    @app.get("/stream")
    def stream() -> StreamingResponse:
        def parts() -> Iterator[str]:
            yield from STREAM

        return StreamingResponse(parts())

    @app.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.ak_guard.key.name)
        await websocket.receive_text()
        await websocket.close()

    return app
