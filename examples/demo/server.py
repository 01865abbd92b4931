"""A real uvicorn in the demo's own event loop, on a free port of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def listen(port: int = 0) -> socket.socket:
    """A socket of loopback; port 0 takes one that is free."""
    # The protocol is named because asyncio turns Nagle's delay off only for sockets that name it: 44 ms a request.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def make_server(app: Any, **options: Any) -> uvicorn.Server:
    # The guard reads X-Forwarded-For by itself; uvicorn would put its own reading in the place of the peer.
    # It also logs an error for each websocket that is refused with a status (https://github.com/Kludex/uvicorn/pull/3138).
    return uvicorn.Server(uvicorn.Config(app, log_level="critical", proxy_headers=False, **options))


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[str]:
    """Serve `app` for as long as the block lasts; gives its address, such as `127.0.0.1:40123`."""
    listener = listen()
    server = make_server(app, **options)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.wait([task], timeout=0.005)
            if task.done():
                raise RuntimeError("the server did not start")
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()
