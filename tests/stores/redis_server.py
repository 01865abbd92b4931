"""A Redis of a test's own, which it may stop; a wire that loses answers when told to; a corner of the common Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from ak_guard.budgets.redis import RedisStorage
from ak_guard.errors import BudgetError
from tests.services import url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PATIENCE = 10.0


def free_port() -> int:
    """One whose cluster bus, 10,000 above, is a port too."""
    while True:
        with socket.socket() as opened:
            opened.bind(("127.0.0.1", 0))
            port: int = opened.getsockname()[1]
        if port < 55_000:
            return port


class Server:
    """A `redis-server` on a free port. What was written survives `kill`."""

    def __init__(self, folder: Path, *options: str, password: str = "") -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("redis-server is not installed")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._greeting = f"AUTH {password}\r\nPING\r\n" if password else "PING\r\n"
        kept = ("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "always")
        self._command = [binary, *options, "--port", str(self.port), "--bind", "127.0.0.1"]
        self._command += ["--requirepass", password] if password else []
        self._command += [] if "--sentinel" in options else kept
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _PATIENCE
        while "PONG" not in self.ask(self._greeting.strip()):
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def ask(self, *words: str) -> str:
        """What the server answers to a command, by the plainest client there is."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE) as connection:
                connection.sendall((" ".join(words) + "\r\n").encode())
                return connection.recv(65_536).decode()
        except OSError:
            return ""

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Wire:
    """A TCP proxy in front of a server. While `lossy`, a script reaches the server and its answer is lost."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.lossy = False
        self.scripts = 0
        self.url = ""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to)
        lost = asyncio.Event()

        async def there() -> None:
            while data := await reader.read(65_536):
                scripts = data.count(b"EVAL")
                self.scripts += scripts
                if scripts and self.lossy:
                    lost.set()
                server_writer.write(data)
            server_writer.close()

        async def back() -> None:
            while data := await server_reader.read(65_536):
                if lost.is_set():
                    break
                writer.write(data)
            writer.close()

        with contextlib.suppress(OSError):
            await asyncio.gather(there(), back())
        server_writer.close()


@contextlib.asynccontextmanager
async def wire_to(server: Server) -> AsyncIterator[Wire]:
    wire = Wire(server.port)
    listening = await asyncio.start_server(wire.carry, "127.0.0.1", 0)
    wire.url = f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}/0"
    try:
        yield wire
    finally:
        listening.close()


@contextlib.asynccontextmanager
async def corner(*, own_time: bool) -> AsyncIterator[RedisStorage]:
    """A storage in the common Redis under a prefix of its own, which is empty again afterwards."""
    storage = RedisStorage(url_of("redis"), prefix=f"ak-test-{uuid.uuid4().hex}", own_time=own_time)
    try:
        yield storage
    finally:
        with contextlib.suppress(BudgetError):
            await storage.flush()
        await storage.reset()
        await storage.aclose()
