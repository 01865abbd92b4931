"""`ak-guard run`: an app with no word of keys in it, guarded by the command that starts it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from httpx2 import Client, HTTPTransport, TransportError
from typer.testing import CliRunner

from ak_guard import ConfigurationError, KeyManager, served
from ak_guard.cli.app import app
from tests.support import bearer

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).parent / "ak-guard"


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AK_GUARD_", "COVERAGE_"))}
    return {**kept, **more}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The URL of a database and the secret of a key in it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db"

    async def make() -> str:
        async with KeyManager(url) as manager:
            return (await manager.create("prod-api", limits=["1000000/1d"])).secret

    return url, asyncio.run(make())


@contextmanager
def run(uds: Path, *args: str, **environment: str) -> Iterator[Client]:
    """The command, serving on a unix socket until the block ends."""
    process = subprocess.Popen(
        [SCRIPT, "run", *args, "--uds", str(uds), "--log-level", "warning"],
        cwd=ROOT,
        env=_environment(**environment),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _until_it_listens(process, uds)
        with Client(transport=HTTPTransport(uds=str(uds)), base_url="http://localhost", timeout=20) as client:
            yield client
    finally:
        process.terminate()
        _, said = process.communicate(timeout=20)
    assert "Traceback" not in said


def _until_it_listens(process: subprocess.Popen[str], uds: Path) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(FileNotFoundError, ConnectionRefusedError), socket.socket(socket.AF_UNIX) as attempt:
            attempt.connect(str(uds))
            return
        time.sleep(0.02)
    raise RuntimeError("the server did not start")


def test_several_workers_guard_an_app_that_is_named(tmp_path: Path, keys: tuple[str, str]) -> None:
    url, secret = keys
    config = tmp_path / "guard.toml"
    config.write_text(f'backend = "{url}"\npublic_paths = ["/health"]\nmode = "report"\n')
    options = ("--workers", "2", "--factory", "tests.support:echo_app")
    with run(tmp_path / "s", *options, AK_GUARD_CONFIG=str(config), AK_GUARD_MODE="enforce") as client:
        assert client.get("/").json()["code"] == "missing_api_key"
        assert client.get("/health").json()["key"] is None
        left = [client.get("/", headers=bearer(secret)).json()["remaining"] for _ in range(4)]
        assert left == sorted(left, reverse=True)
        # The second may still be starting while the first one answers.
        assert asyncio.run(_workers(url, 2)) == 2


async def _workers(url: str, wanted: int) -> int:
    """How many run, once there are as many as are wanted."""
    deadline = time.monotonic() + 20
    async with KeyManager(url) as manager:
        while len(found := await manager.workers()) < wanted and time.monotonic() < deadline:  # noqa: ASYNC110  # elsewhere
            await asyncio.sleep(0.02)
    return len(found)


def test_an_app_is_served_anew_when_its_code_changes(tmp_path: Path, keys: tuple[str, str]) -> None:
    url, secret = keys
    code = tmp_path / "changing.py"
    text = "from starlette.responses import PlainTextResponse\napp = PlainTextResponse('{}')\n"
    code.write_text(text.format("one"))
    options = ("--reload", "--reload-dir", str(tmp_path), "--app-dir", str(tmp_path), "changing:app")
    with run(tmp_path / "s", "--db", url, *options) as client:
        assert client.get("/").status_code == 401
        assert client.get("/", headers=bearer(secret)).text == "one"
        code.write_text(text.format("two, now"))
        told, deadline = "one", time.monotonic() + 20
        while told == "one" and time.monotonic() < deadline:
            # The process that served until now is ended in between.
            with suppress(TransportError):
                told = client.get("/", headers=bearer(secret)).text
        assert told == "two, now"
        assert client.get("/").status_code == 401


def test_settings_may_come_from_the_file_of_variables_that_uvicorn_reads(tmp_path: Path, keys: tuple[str, str]) -> None:
    url, secret = keys
    (tmp_path / "env").write_text(f"AK_GUARD_BACKEND={url}\n")
    options = ("--env-file", str(tmp_path / "env"), "examples.plain_asgi:service")
    with run(tmp_path / "s", *options) as client:
        assert client.get("/", headers=bearer(secret)).status_code == 200


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (("--db", "memory://", "examples.plain_asgi:service", "--prot", "80"), 2, "No such option '--prot'"),
        (("--db", "memory://", "examples.plain_asgi:service", "--interface", "wsgi"), 2, "--interface: wsgi"),
        (("--db", "nonsense://", "examples.plain_asgi:service"), 1, "backend: 'nonsense' is not understood"),
        (("examples.plain_asgi:service", "--workers", "2"), 1, "backend: none is given"),
        (("--db", "memory://"), 2, "Missing argument"),
        (("--version",), 0, ""),
    ],
)
def test_what_cannot_be_run_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], code: int, said: str
) -> None:
    # What the command writes for its workers ends with the test.
    monkeypatch.syspath_prepend(str(ROOT))
    for name in ("AK_GUARD_APP", "AK_GUARD_BACKEND"):
        monkeypatch.setenv(name, "")
    ended = CliRunner().invoke(app, ["run", *args])
    assert ended.exit_code == code
    assert said in ended.stderr


def test_an_app_that_cannot_be_found_ends_with_one_line() -> None:
    ended = subprocess.run(
        [SCRIPT, "run", "--db", "memory://", "no_such:app"],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    assert "AK_GUARD_APP: no_such cannot be imported" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("", "set it to the app"),
        ("tests.support", "must be module:attribute"),
        ("tests.support:echo_app.nothing", "has no echo_app.nothing"),
        ("tests.services:SERVICES", "is no ASGI app but dict"),
    ],
)
def test_an_app_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, named: str, said: str) -> None:
    monkeypatch.setenv("AK_GUARD_APP", named)
    with pytest.raises(ConfigurationError, match="AK_GUARD_APP: .*" + said):
        _ = served.app
