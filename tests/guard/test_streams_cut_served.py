"""Over a real uvicorn, streams and websockets end when the key that opened them is no longer good."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from httpx2 import Client, RemoteProtocolError
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend
from tests.support import bearer, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request
    from starlette.websockets import WebSocket

    from ak_guard.manager import Issued


class Service:
    """A Starlette app under a real uvicorn: a stream that never ends by itself, in several ways, and a websocket."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.keys = KeyManager(self.backend)
        self.ended: list[str] = []
        routes = [
            Route("/events", self.events),
            Route("/in-thread", self.in_thread),
            Route("/file", self.file),
            WebSocketRoute("/ws", self.socket),
        ]
        self.app = Starlette(routes=routes)
        self.guarded = ApiKeyMiddleware(self.app, backend=self.backend)

    async def events(self, _: Request) -> StreamingResponse:
        return StreamingResponse(self._events(), media_type="text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            yield b"data: one\n\n"
            await asyncio.Event().wait()
        finally:
            self.ended.append("events")

    async def in_thread(self, _: Request) -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            while True:
                yield b"data: one\n\n"
                time.sleep(0.01)

        return StreamingResponse(parts())

    async def file(self, _: Request) -> StreamingResponse:
        return StreamingResponse(self._events(), headers={"content-length": "1000"})

    async def socket(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as left:
            self.ended.append(f"{left.code} {left.reason}")

    def disable(self, issued: Issued) -> None:
        asyncio.run(self.keys.disable(issued.key.id))


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("path", ["/events", "/in-thread"])
@pytest.mark.parametrize("inside", [False, True], ids=["outermost", "inside-a-middleware"])
def test_a_stream_ends_as_if_it_were_complete(
    service: Service, http: str, path: str, caplog: pytest.LogCaptureFixture, *, inside: bool
) -> None:
    issued = asyncio.run(service.keys.create("prod-api"))

    async def pass_on(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    app: Any = BaseHTTPMiddleware(service.guarded, dispatch=pass_on) if inside else service.guarded
    with running(app, http=http) as url, Client(base_url=url, headers=bearer(issued.secret), timeout=8) as client:
        with client.stream("GET", path) as response:
            parts = response.iter_raw()
            assert next(parts).startswith(b"data: one")
            service.disable(issued)
            assert set(b"".join(parts).split()) <= {b"data:", b"one"}
        # The connection can be used again: the response was ended properly.
        assert client.get("/events").json()["code"] == "api_key_disabled"
    assert service.ended == (["events"] if path == "/events" else [])
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_response_with_a_length_breaks_off(service: Service, http: str) -> None:
    issued = asyncio.run(service.keys.create("prod-api"))
    with (
        running(service.guarded, http=http) as url,
        Client(base_url=url, headers=bearer(issued.secret), timeout=8) as client,
        client.stream("GET", "/file") as response,
    ):
        parts = response.iter_raw()
        assert next(parts) == b"data: one\n\n"
        service.disable(issued)
        with pytest.raises(RemoteProtocolError):
            next(parts)
    assert service.ended == ["events"]


# Uvicorn with the old interface of websockets.
@pytest.mark.filterwarnings("ignore:The `websockets` implementation", "ignore::DeprecationWarning")
@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio", "wsproto"])
def test_a_websocket_is_closed_and_its_app_told(service: Service, ws: str) -> None:
    issued = asyncio.run(service.keys.create("prod-api"))
    with running(service.guarded, ws=ws) as url:
        address = url.replace("http:", "ws:") + "/ws"
        with connect(address, additional_headers=bearer(issued.secret)) as socket:
            assert socket.recv() == "hello"
            service.disable(issued)
            with pytest.raises(ConnectionClosedError) as closed:
                socket.recv(timeout=8)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, "api_key_disabled")
    assert service.ended == ["1008 api_key_disabled"]


def test_streams_go_on_where_cutting_is_off(service: Service) -> None:
    issued = asyncio.run(service.keys.create("prod-api"))
    app = ApiKeyMiddleware(service.app, backend=service.backend, cut_streams=False)
    with (
        running(app) as url,
        Client(base_url=url, headers=bearer(issued.secret), timeout=8) as client,
        client.stream("GET", "/in-thread") as response,
    ):
        parts = response.iter_raw()
        next(parts)
        service.disable(issued)
        assert client.get("/events").status_code == 401
        assert [part[:9] for part in (next(parts) for _ in range(20))] == [b"data: one"] * 20
