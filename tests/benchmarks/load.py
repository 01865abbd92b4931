"""A load generator of its own process: keep-alive connections that each send the next request after an answer.

Reads jobs from standard input, one JSON object a line: {"port", "requests", "connections", "authorization", "status"},
and answers each with the seconds it took. Only loopback is called.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from typing import Any, Final

from tests.benchmarks.traffic import HEADERS, PATH

_PATIENCE_SECONDS: Final = 60.0


class Caller(asyncio.Protocol):
    """One connection. `left` is the number of requests that all connections have still to send."""

    def __init__(self, message: bytes, status: bytes, left: list[int], done: asyncio.Future[None]) -> None:
        self.message = message
        self.status = b"HTTP/1.1 " + status
        self.left = left
        self.done = done
        self.transport: asyncio.Transport | None = None
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, blank, body = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.buffer = b""
        if not head.startswith(self.status):
            self._end(RuntimeError(f"answered {head[:60]!r}"))
            return
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(RuntimeError("the server hung up"))

    def _next(self) -> None:
        if not self.left[0] or self.transport is None:
            self._end(None)
            return
        self.left[0] -= 1
        self.transport.write(self.message)

    def _end(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


async def run(job: dict[str, Any]) -> float:
    """Send the requests of one job; seconds from the first to the last answer."""
    loop = asyncio.get_running_loop()
    lines = [f"GET {PATH} HTTP/1.1".encode(), *(name + b": " + value for name, value in HEADERS)]
    lines.append(b"authorization: " + job["authorization"].encode())
    message = b"\r\n".join([*lines, b"", b""])
    left = [job["requests"]]
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(job["connections"])]
    status = str(job["status"]).encode()
    begin = time.perf_counter()
    callers = [
        await loop.create_connection(functools.partial(Caller, message, status, left, end), "127.0.0.1", job["port"])
        for end in ends
    ]
    try:
        await asyncio.wait_for(asyncio.gather(*ends), _PATIENCE_SECONDS)
    finally:
        for transport, _ in callers:
            transport.close()
    return time.perf_counter() - begin


def main() -> None:
    for line in sys.stdin:
        print(asyncio.run(run(json.loads(line))), flush=True)  # noqa: T201  # its answer


if __name__ == "__main__":
    main()
