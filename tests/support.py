"""Helpers that several test files share: an app to guard, requests without a server, and real servers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from httpx2 import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.requests import Request
    from starlette.types import ASGIApp
    from starlette.websockets import WebSocket


async def _echo(request: Request) -> JSONResponse:
    """Say what the app sees of the request."""
    admission = getattr(request.state, "ak_guard", None)
    return JSONResponse(
        {
            "path": request.url.path,
            "query": request.scope["query_string"].decode(),
            "headers": {name.decode(): value.decode("latin-1") for name, value in request.scope["headers"]},
            "key": admission.key.name if admission else None,
            "client": admission.client if admission else None,
            "remaining": admission.remaining if admission else None,
        }
    )


async def _stream(_: Request) -> StreamingResponse:
    async def chunks() -> AsyncIterator[bytes]:
        for part in (b"one ", b"two ", b"three"):
            yield part

    return StreamingResponse(chunks(), media_type="text/plain")


async def _socket(websocket: WebSocket) -> None:
    offered = list(websocket.scope["subprotocols"])
    await websocket.accept(subprotocol=offered[0] if offered else None)
    await websocket.send_json({"offered": offered, "key": websocket.scope["state"]["ak_guard"].key.name})
    await websocket.close()


def echo_app() -> Starlette:
    """An app without a guard: `/stream` streams, `/ws` is a websocket, all else is echoed."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(
        routes=[
            Route("/stream", _stream),
            WebSocketRoute("/ws", _socket),
            Route("/{rest:path}", _echo, methods=methods),
        ]
    )


def client_for(app: ASGIApp, *, ip: str = "203.0.113.10") -> AsyncClient:
    """A client that calls an app in the process, as if from `ip`. No lifespan is run."""
    return AsyncClient(transport=ASGITransport(app=app, client=(ip, 40_000)), base_url="http://testserver")


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@contextlib.contextmanager
def running(app: Any, **options: Any) -> Iterator[str]:
    """Serve an app with a real uvicorn on a free port of loopback, in a thread; gives its URL.

    `options` are those of `uvicorn.Config` (`http="h11"`, `lifespan="off"` …).
    """
    # With its protocol named, asyncio turns Nagle's delay off; without, each answer waits 40 ms.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(timeout=0.005)
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 10.0) -> None:
    """Wait for what must come true by itself."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, "this did not come true in time"
        await asyncio.sleep(0.01)


async def printed_by_processes(count: int, script: str, *arguments: str) -> list[int]:
    """The number that each of so many processes prints, all running this script at the same time."""

    def run() -> int:
        command = [sys.executable, "-c", script, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=50).stdout)

    return await asyncio.gather(*(asyncio.to_thread(run) for _ in range(count)))
