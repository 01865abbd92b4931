"""Servers of a test's own on a free port, to be stopped, killed and started again. What was committed survives."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.processes.stores import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_START_SECONDS: Final = 50.0
_END_SECONDS: Final = 30.0
# Runs a server, says its id and ends with it. When standard input ends, because the tests have died, all end.
_GUARDIAN: Final = """
exec 3<&0
"$@" >/dev/null 2>&1 3<&- & server=$!
echo $server
(read _ <&3; kill -KILL 0) & wait $server
kill -KILL 0
"""


class Server:
    """One server process. `answers` says whether it can be asked."""

    def __init__(
        self, command: Sequence[str], answers: Callable[[], bool], *, user: str | None, farewell: signal.Signals
    ) -> None:
        self._command = command
        self._answers = answers
        self._user = user
        self._farewell = farewell
        self._guardian: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def start(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        self._begin()
        while not self._answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{Path(self._command[0]).name} does not answer")
            if self._guardian is not None and self._guardian.poll() is not None:
                # PostgreSQL does not start while a process of one that was killed is still about to go.
                self._put_away()
                self._begin()
            time.sleep(0.02)

    def _begin(self) -> None:
        self._guardian = subprocess.Popen(
            ["sh", "-c", _GUARDIAN, "sh", *self._command],
            user=self._user,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        assert self._guardian.stdout is not None
        self._pid = int(self._guardian.stdout.readline())

    def stop(self) -> None:
        """End it as an operator does."""
        self._end(self._farewell)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._guardian is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number)
            self._put_away()

    def _put_away(self) -> None:
        guardian, self._guardian = self._guardian, None
        assert guardian is not None
        guardian.wait(_END_SECONDS)
        for pipe in (guardian.stdin, guardian.stdout):
            assert pipe is not None
            pipe.close()


class _NoServer(Server):
    """A file has none."""

    def __init__(self) -> None:
        super().__init__([], lambda: True, user=None, farewell=signal.SIGTERM)

    def start(self) -> None:
        pass


@contextmanager
def a_private_place(store: str, folder: Path) -> Iterator[tuple[Place, Server]]:
    """A place on a server that nobody else uses, which runs."""
    with tempfile.TemporaryDirectory(prefix="ak_") as data:
        place, server = _MAKERS[store](Path(data), f"sqlite:///{folder}/keys.db")
        server.start()
        try:
            yield place, server
        finally:
            server.kill()


def _sqlite(data: Path, file: str) -> tuple[Place, Server]:
    return Place("sqlite", file), _NoServer()


def _redis(data: Path, file: str) -> tuple[Place, Server]:
    port = _free_port()
    kept = ("--dir", str(data), "--save", "", "--appendonly", "yes")
    command = [_binary("redis-server"), "--port", str(port), "--bind", "127.0.0.1", *kept]

    def answers() -> bool:
        return b"PONG" in _exchange(port, b"PING\r\n")

    server = Server(command, answers, user=None, farewell=signal.SIGTERM)
    return Place("redis", file, f"redis://127.0.0.1:{port}/0"), server


def _postgres(data: Path, file: str) -> tuple[Place, Server]:
    user = _servant("postgres")
    if user is not None:
        shutil.chown(data, user)
    folder, port, ready = data / "data", _free_port(), _binary("pg_isready")
    _run([_binary("initdb"), "--auth=trust", "--username=postgres", "--no-sync", "-D", str(folder)], user)
    # The machine does not lose power in a test, and all else survives without fsync.
    settings = ("-c", "fsync=off", "-c", "unix_socket_directories=")
    command = [_binary("postgres"), "-D", str(folder), "-p", str(port), "-h", "127.0.0.1", *settings]

    def answers() -> bool:
        asked = subprocess.run([ready, "-q", "-h", "127.0.0.1", "-p", str(port)], check=False)
        return asked.returncode == 0

    server = Server(command, answers, user=user, farewell=signal.SIGINT)
    return Place("postgres", f"postgresql://postgres@127.0.0.1:{port}/postgres"), server


def _mysql(data: Path, file: str) -> tuple[Place, Server]:
    user = _servant("mysql")
    if user is not None:
        shutil.chown(data, user)
    folder, port = data / "data", _free_port()
    _run(
        [
            _binary("mariadb-install-db"),
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            f"--datadir={folder}",
        ],
        user,
    )
    command = [
        _binary("mariadbd"),
        "--no-defaults",
        f"--datadir={folder}",
        f"--socket={data}/socket",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--innodb-buffer-pool-size=16M",
    ]

    def answers() -> bool:
        # It greets first, with the version of its protocol behind the length.
        return _exchange(port, b"")[4:5] == b"\x0a"

    server = Server(command, answers, user=user, farewell=signal.SIGTERM)
    return Place("mysql", f"mysql://root@127.0.0.1:{port}/test"), server


_MAKERS: Final = {"sqlite": _sqlite, "postgres": _postgres, "mysql": _mysql, "redis": _redis}


def _servant(name: str) -> str | None:
    """Who runs a server that refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(name)
    except KeyError:
        return None
    return name


def _binary(name: str) -> str:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, versions), os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        missing = f"{name} is not installed"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def _run(command: Sequence[str], user: str | None) -> None:
    subprocess.run(command, user=user, cwd="/", check=True, capture_output=True, timeout=40)


def _exchange(port: int, question: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(question)
            return connection.recv(1_024)
    except OSError:
        return b""


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port
