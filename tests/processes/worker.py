"""What one worker process is: uvicorn around a small guarded app that answers with its pid and counts its calls."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import uvicorn

from ak_guard import ApiKeyMiddleware

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_GOODBYE_SECONDS: Final = 3


class Job(NamedTuple):
    """What a worker is told. `number` is its place among its fellows, `ahead` by how many seconds its clock is fast."""

    number: int
    backend: str
    limits: str | None
    ahead: float
    calls: str
    log: str


class Calls:
    """How often the app was reached, in a file that is right even when the process is killed the moment after."""

    def __init__(self, path: str) -> None:
        Path(path).write_bytes(bytes(8))
        with Path(path).open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")

    def add(self) -> None:
        self._cells[0] += 1

    @staticmethod
    def read(path: Path) -> int:
        return int.from_bytes(path.read_bytes(), sys.byteorder)


def app_for(job: Job) -> ASGIApp:
    calls = Calls(job.calls)
    body = b"%d" % os.getpid()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]

    async def tell_pid(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only http is spoken here")
        calls.add()
        if scope["path"] == "/stay":
            # Until the client hangs up.
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body, "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def clock() -> float:
        return time.time() + job.ahead

    return ApiKeyMiddleware(tell_pid, backend=job.backend, limits=job.limits, clock=clock)


async def serve(job: Job) -> None:
    """Serve until SIGTERM. When requests can come, one line of JSON says where."""
    # With the protocol named, asyncio turns Nagle's algorithm off; without it each answer would wait 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app_for(job),
        http="httptools",
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not task.done():  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.005)
    if server.started:
        ready = {"number": job.number, "pid": os.getpid(), "port": listener.getsockname()[1]}
        os.write(sys.stdout.fileno(), json.dumps(ready).encode() + b"\n")
    await task
