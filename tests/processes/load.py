"""Many requests at once over all workers, on connections that each send the next one after an answer."""

from __future__ import annotations

import asyncio
import functools
import json
from collections import Counter
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONNECTIONS: Final = 64
_PATIENCE_SECONDS: Final = 40.0


class Answer(NamedTuple):
    """What a client saw. `status` is 0 where the worker hung up on a request; `worker` is the port."""

    status: int
    code: str
    worker: int


class Reply(NamedTuple):
    status: int
    code: str
    headers: dict[str, str]
    body: str


class Load:
    """Requests with some secrets, in turn, to workers at some ports. `tally` counts all answers so far."""

    def __init__(self, ports: Sequence[int], *secrets: str) -> None:
        self.ports = list(ports)
        self.tally: Counter[Answer] = Counter()
        self._messages = cycle([_message(secret) for secret in secrets])

    @property
    def admitted(self) -> int:
        return self.count(200)

    def count(self, status: int) -> int:
        return sum(times for answer, times in self.tally.items() if answer.status == status)

    @property
    def codes(self) -> set[tuple[int, str]]:
        """Every kind of answer there was."""
        return {(answer.status, answer.code) for answer in self.tally}

    async def send(self, requests: int, *, connections: int = CONNECTIONS) -> None:
        """Send so many requests, as many at a time as there are connections; each worker gets its share of these."""
        queue = (next(self._messages) for _ in range(requests))
        loop = asyncio.get_running_loop()
        ports = [port for port, _ in zip(cycle(self.ports), range(min(connections, requests)), strict=False)]
        ends: list[asyncio.Future[None]] = [loop.create_future() for _ in ports]
        callers = [
            functools.partial(_Caller, queue, self.tally, port, end) for port, end in zip(ports, ends, strict=True)
        ]
        opened = []
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                for caller, port, end in zip(callers, ports, ends, strict=True):
                    try:
                        opened.append((await loop.create_connection(caller, "127.0.0.1", port))[0])
                    except OSError:
                        end.set_result(None)
                await asyncio.gather(*ends)
        finally:
            for transport in opened:
                transport.close()


class _Caller(asyncio.Protocol):
    """One connection, until the queue is empty or the worker hangs up."""

    def __init__(self, queue: Iterator[bytes], tally: Counter[Answer], port: int, end: asyncio.Future[None]) -> None:
        self._queue = queue
        self._tally = tally
        self._port = port
        self._end = end
        self._waits = False
        self._buffer = b""

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        reply = _read(self._buffer)
        if reply is None:
            return
        self._buffer = b""
        self._waits = False
        self._tally[Answer(reply.status, reply.code, self._port)] += 1
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waits:
            self._tally[Answer(0, "hung up", self._port)] += 1
        self._finish()

    def _next(self) -> None:
        message = next(self._queue, None)
        if message is None:
            self._finish()
            return
        self._waits = True
        self._transport.write(message)

    def _finish(self) -> None:
        if not self._end.done():
            self._end.set_result(None)


async def ask(port: int, secret: str) -> Reply:
    """One request to one worker, on a connection of its own."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(_message(secret))
            data = b""
            while (reply := _read(data)) is None:
                chunk = await reader.read(65_536)
                if not chunk:
                    return Reply(0, "hung up", {}, "")
                data += chunk
            return reply
        finally:
            writer.close()


def _message(secret: str) -> bytes:
    return f"GET /v1/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\r\n".encode()


def _read(data: bytes) -> Reply | None:
    """The response in `data`, None while it is not all there."""
    head, blank, body = data.partition(b"\r\n\r\n")
    if not blank:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if len(body) < int(headers["content-length"]):
        return None
    status = int(first.split(" ", 2)[1])
    return Reply(status, "" if status == 200 else json.loads(body)["code"], headers, body.decode())
