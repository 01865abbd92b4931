"""One keep-alive connection to a server on loopback, and what it answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Answer(NamedTuple):
    """`code` is that of a refusal, empty where there is none."""

    status: int
    code: str


class Caller:
    """Sends one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, message: bytes) -> Answer:
        self._writer.write(message)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        body = await self._reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        status = int(head.split(b" ", 2)[1])
        return Answer(status, json.loads(body)["code"] if status >= 400 else "")


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


def message(secret: str, path: str = "/v1/chat", *, address: str | None = None) -> bytes:
    """A request with this key; `address` is whom a proxy on this machine has it from."""
    forwarded = "" if address is None else f"X-Forwarded-For: {address}\r\n"
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{forwarded}Authorization: Bearer {secret}\r\n\r\n".encode()
