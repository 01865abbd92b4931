"""Real servers on TCP and on unix sockets, in each version of HTTP that they speak, with lifespan and without."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import uvicorn
from httpx2 import Client, HTTPTransport
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect, unix_connect

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import SQLBackend
from tests.hosts.apps import plain
from tests.servers.wire import free_port
from tests.support import bearer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from websockets.sync.client import ClientConnection

ROOT = Path(__file__).parents[2]


class Kind(NamedTuple):
    """A server, how it is started, and whether it runs the lifespan of the app."""

    name: str
    package: str
    options: dict[str, str]
    lifespan: bool = True
    versions: tuple[str, ...] = ("1.1",)

    def __str__(self) -> str:
        return f"{self.name} ({self.package} {version(self.package)})"


KINDS = [
    Kind("uvicorn httptools", "uvicorn", {"http": "httptools", "lifespan": "on"}),
    Kind("uvicorn httptools, no lifespan", "uvicorn", {"http": "httptools", "lifespan": "off"}, lifespan=False),
    Kind("uvicorn h11", "uvicorn", {"http": "h11", "lifespan": "on"}),
    Kind("uvicorn h11, no lifespan", "uvicorn", {"http": "h11", "lifespan": "off"}, lifespan=False),
    Kind("hypercorn", "hypercorn", {}, versions=("1.1", "2")),
    Kind("granian", "granian", {"interface": "asgi"}, versions=("1.1", "2")),
    Kind("granian, no lifespan", "granian", {"interface": "asginl"}, lifespan=False, versions=("1.1", "2")),
]


class Place(NamedTuple):
    """A server that runs, on both kinds of sockets."""

    kind: Kind
    port: int
    uds: Path
    secrets: dict[str, str]

    def client(self, over: str, http: str, key: str | None) -> Client:
        options: dict[str, Any] = {"http1": http == "1.1", "http2": http == "2"}
        transport = HTTPTransport(uds=str(self.uds), **options) if over == "unix" else HTTPTransport(**options)
        headers = {} if key is None else bearer(self.secrets[key])
        return Client(transport=transport, base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=10)

    def websocket(self, over: str, key: str | None) -> ClientConnection:
        headers = {} if key is None else bearer(self.secrets[key])
        if over == "unix":
            return unix_connect(str(self.uds), "ws://localhost/ws", additional_headers=headers)
        return connect(f"ws://127.0.0.1:{self.port}/ws", additional_headers=headers)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """The URL of a database, and secrets by the name of their key."""
    url = f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db"

    async def make() -> dict[str, str]:
        async with KeyManager(url) as keys:
            rules: dict[str, dict[str, Any]] = {
                "prod-api": {"limits": ["1000/1d"]},
                "prod-server": {"allow_ips": ["127.0.0.1"]},
                "prod-spent": {"quota": 0},
            }
            return {name: (await keys.create(name, **rule)).secret for name, rule in rules.items()}

    return url, asyncio.run(make())


@pytest.fixture(scope="module", params=KINDS, ids=str)
def place(
    request: pytest.FixtureRequest, store: tuple[str, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    kind: Kind = request.param
    # The path of a unix socket has at most 107 bytes.
    uds = tmp_path_factory.mktemp("uds") / "s"
    with ExitStack() as stack:
        held, port = stack.enter_context(_port())
        if kind.package == "uvicorn":
            stack.enter_context(_uvicorn(kind, held, uds, store[0]))
        elif kind.package == "hypercorn":
            command = ["hypercorn", "--bind", f"127.0.0.1:{port}", "--bind", f"unix:{uds}"]
            stack.enter_context(_process(command, store[0], port, uds))
        else:
            # It binds one socket at a time.
            command = ["granian", "--interface", kind.options["interface"], "--no-access-log"]
            stack.enter_context(_process([*command, "--port", str(port)], store[0], port, None))
            stack.enter_context(_process([*command, "--uds", str(uds)], store[0], None, uds))
        yield Place(kind, port, uds, store[1])


@contextmanager
def _port() -> Iterator[tuple[socket.socket, int]]:
    held, port = free_port()
    with held:
        yield held, port


@contextmanager
def _uvicorn(kind: Kind, listener: socket.socket, uds: Path, url: str) -> Iterator[None]:
    """In a thread, on both sockets at once."""
    backend = SQLBackend(url)
    config = uvicorn.Config(ApiKeyMiddleware(plain.make(), backend=backend), log_level="warning", **kind.options)  # type: ignore[arg-type]  # words
    server = uvicorn.Server(config)
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(uds))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener, local]}, daemon=True)
        thread.start()
        while not server.started:
            thread.join(timeout=0.005)
            assert thread.is_alive(), "the server did not start"
        yield
        server.should_exit = True
        thread.join(timeout=10)
    # Without lifespan nobody else would.
    asyncio.run(backend.aclose())


@contextmanager
def _process(command: list[str], url: str, port: int | None, uds: Path | None) -> Iterator[None]:
    """The app is guarded by its name in the environment, as the README has it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AK_GUARD_", "COVERAGE_"))}
    environment |= {"AK_GUARD_BACKEND": url, "AK_GUARD_APP": "tests.hosts.apps.plain:make()", "PYTHONPATH": str(ROOT)}
    program = shutil.which(command[0], path=str(Path(sys.executable).parent))
    assert program is not None
    process = subprocess.Popen(
        [program, *command[1:], "ak_guard.served:app"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + 20
        while not _listen(port, uds):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline, "the server does not listen"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        said, _ = process.communicate(timeout=15)
    assert "Traceback" not in said, said


def _listen(port: int | None, uds: Path | None) -> bool:
    with suppress(OSError):
        if port is not None:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        if uds is not None:
            with socket.socket(socket.AF_UNIX) as attempt:
                attempt.connect(str(uds))
        return True
    return False


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_requests_are_judged_and_answered(place: Place, over: str) -> None:
    for http in place.kind.versions:
        with place.client(over, http, None) as client:
            refused = client.get("/")
            assert (refused.status_code, refused.json()["code"]) == (401, "missing_api_key")
            assert refused.http_version == f"HTTP/{http}"
        with place.client(over, http, "prod-api") as client:
            seen = client.get("/").json()
            assert seen.pop("client") == (None if over == "unix" else "127.0.0.1")
            assert seen == {"key": "prod-api", "started": place.kind.lifespan, "http": http}
            streamed = client.get("/stream")
            assert streamed.text == "one two three"
            assert streamed.headers["ratelimit-policy"] == '"1d";q=1000;w=86400'
            assert client.post("/", content=b"x" * 100_000).json()["key"] == "prod-api"
        with place.client(over, http, "prod-spent") as client:
            assert client.get("/").json()["code"] == "insufficient_quota"
        with place.client(over, http, "prod-server") as client:
            # On a unix socket nobody has an address, so a list of them lets nobody in.
            assert client.get("/").status_code == (403 if over == "unix" else 200)


@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_websockets_are_judged_at_their_handshake(place: Place, over: str) -> None:
    for key, status in ((None, 401), ("prod-spent", 429)):
        with pytest.raises(InvalidStatus) as refused:
            place.websocket(over, key)
        assert refused.value.response.status_code == status
    with place.websocket(over, "prod-api") as opened:
        assert opened.recv() == "prod-api"
        # Whoever hangs up before everything was read may lose the rest.
        opened.send("bye")
