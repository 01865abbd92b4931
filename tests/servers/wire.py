"""Servers as processes, and bytes to and from them as they are."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS: Final = {
    "uvicorn-httptools": ("uvicorn", "--http", "httptools", "--no-access-log", "--port", "{port}"),
    "uvicorn-h11": ("uvicorn", "--http", "h11", "--no-access-log", "--port", "{port}"),
    "hypercorn": ("hypercorn", "--bind", "127.0.0.1:{port}"),
    "granian": ("granian", "--interface", "asgi", "--no-access-log", "--port", "{port}"),
}
_ROOT: Final = Path(__file__).parents[2]
# What our refusals are made of: code and status.
REFUSALS: Final = {
    "misconfigured": 503,
    "missing_api_key": 401,
    "credential_too_large": 431,
    "ambiguous_credentials": 400,
    "invalid_api_key": 401,
    "group_not_allowed": 403,
    "insufficient_quota": 429,
}
# What a server answers by itself to bytes that are no request for it.
_OF_THE_SERVER: Final = {400, 404, 405, 411, 413, 414, 431, 501, 505}


class Reply(NamedTuple):
    """One response as it came over the wire, header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of our refusal; None for everything else, such as a server's own answer."""
        if self.status == 200 or not self.headers.get("content-type", "").startswith("application/json"):
            return None
        code: str = self.json["code"]
        assert REFUSALS[code] == self.status
        assert self.json["error"]["code"] == code
        return code


class Server(NamedTuple):
    """A server that runs."""

    name: str
    port: int
    log: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes, method: str = "GET") -> Reply | None:
        """Send bytes and read one response. None when the server hangs up without one."""
        with self.connect() as connection:
            # A server may turn a request down, and hang up, before it has read all of it.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(data)
            return read_reply(connection, method)

    def get(self, target: str | bytes, *lines: str | bytes, method: str = "GET", body: bytes = b"") -> Reply | None:
        """Make a request of a target and header lines as they are."""
        return self.send(request(target, *lines, method=method, body=body), method)

    def ask(self, target: str, *lines: str | bytes, method: str = "GET", body: bytes = b"") -> Reply:
        """Make a request that any server answers."""
        reply = self.get(target, *lines, method=method, body=body)
        assert reply is not None
        return reply


def request(target: str | bytes, *lines: str | bytes, method: str = "GET", body: bytes = b"") -> bytes:
    head = [method.encode() + b" " + _bytes(target) + b" HTTP/1.1", b"Host: localhost", b"Connection: close"]
    return b"\r\n".join([*head, *map(_bytes, lines), b"", b""]) + body


def read_reply(connection: socket.socket, method: str = "GET") -> Reply | None:
    response = http.client.HTTPResponse(connection, method=method)
    try:
        response.begin()
        body = response.read() if response.status != 101 else b""
    except (http.client.HTTPException, ConnectionResetError):
        return None
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def assert_turned_down(reply: Reply | None) -> None:
    """The server did it by itself, or the guard did and said so."""
    if reply is not None and reply.code is None:
        assert reply.status in _OF_THE_SERVER, reply


def bearer_line(key: str) -> str:
    return f"Authorization: Bearer {key}"


def command(name: str, target: str, port: int, *more: str) -> list[str]:
    return [sys.executable, "-m", *(part.format(port=port) for part in COMMANDS[name]), *more, target]


def free_port() -> tuple[socket.socket, int]:
    """A port nobody else gets while the socket is held; a server that allows reuse may still listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held, held.getsockname()[1]


@contextlib.contextmanager
def serving(name: str, log: Path, target: str = "tests.servers.guarded:app", *more: str) -> Iterator[Server]:
    """Run a server until the block ends."""
    held, port = free_port()
    with held, log.open("wb") as output:
        process = subprocess.Popen(
            command(name, target, port, *more), cwd=_ROOT, env=_environment(), stdout=output, stderr=output
        )
        try:
            _until_it_listens(process, port, log)
            yield Server(name, port, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def run_to_end(name: str, target: str) -> tuple[int, str]:
    """Start a server that is to fail; gives its exit code and all it said."""
    held, port = free_port()
    with held:
        ended = subprocess.run(
            command(name, target, port), cwd=_ROOT, env=_environment(), capture_output=True, timeout=20, check=False
        )
    return ended.returncode, (ended.stdout + ended.stderr).decode()


def _until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the server did not start: {log.read_text()}")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AK_GUARD_")}


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
