"""The examples run as they stand: under a real server, with real HTTP, on a SQLite file; so does the demo."""

from __future__ import annotations

import asyncio
import importlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from httpx2 import Client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ak_guard import KeyManager
from examples.demo import edges
from examples.demo.__main__ import show
from examples.demo.board import Answer, Board
from examples.starlette_app import GROUPS
from tests.support import bearer, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AK_GUARD_BACKEND", f"sqlite:///{tmp_path}/keys.db")
    return f"sqlite:///{tmp_path}/keys.db"


def served(name: str) -> Iterator[Client]:
    # Read anew, because an example opens the database that the environment names when it is imported.
    example = importlib.reload(importlib.import_module(f"examples.{name}"))
    with running(example.app) as address, Client(base_url=address) as client:
        yield client


def create(url: str, **rules: Any) -> str:
    async def issue() -> str:
        async with KeyManager(url, groups=GROUPS) as keys:
            return (await keys.create("dev-local", **rules)).secret

    return asyncio.run(issue())


@pytest.fixture
def fastapi_client(url: str) -> Iterator[Client]:
    yield from served("fastapi_app")


@pytest.fixture
def starlette_client(url: str) -> Iterator[Client]:
    yield from served("starlette_app")


@pytest.fixture
def plain_client(url: str) -> Iterator[Client]:
    yield from served("plain_asgi")


def test_fastapi_answers_the_holder_of_a_key_and_nobody_else(url: str, fastapi_client: Client) -> None:
    secret = create(url, limits=["2/5h"])
    assert fastapi_client.get("/v1/whoami").status_code == 401
    assert fastapi_client.get("/health").json() == {"status": "up"}
    answer = fastapi_client.get("/v1/whoami", headers=bearer(secret))
    assert answer.json() == {"key": "dev-local", "client": "127.0.0.1", "remaining": 1}


def test_fastapi_charges_a_chat_by_its_words(url: str, fastapi_client: Client) -> None:
    secret = create(url, limits=["5/5h"])
    reply = fastapi_client.post("/v1/chat", json={"text": "four words are charged"}, headers=bearer(secret))
    assert reply.text == "FOUR\nWORDS\nARE\nCHARGED\n"
    assert fastapi_client.get("/v1/whoami", headers=bearer(secret)).json()["remaining"] == 0
    assert fastapi_client.get("/v1/whoami", headers=bearer(secret)).status_code == 429


def test_starlette_lets_a_reader_read_and_a_writer_write_at_double_price(url: str, starlette_client: Client) -> None:
    reader, writer = create(url, group="reader"), create(url, group="writer")
    assert starlette_client.get("/notes").json()["code"] == "missing_api_key"
    assert starlette_client.get("/health").status_code == 200
    assert starlette_client.get("/notes", headers=bearer(reader)).json() == {"reader": "dev-local", "left": 99}
    assert starlette_client.post("/notes", headers=bearer(reader)).json()["code"] == "group_not_allowed"
    written = starlette_client.post("/notes", headers=bearer(writer))
    assert (written.status_code, written.json()) == (201, {"writer": "dev-local", "left": 98})


def test_starlette_knows_no_keys_of_other_groups(url: str, starlette_client: Client) -> None:
    answer = starlette_client.get("/notes", headers=bearer(create(url, group="stranger")))
    assert (answer.status_code, answer.json()["code"]) == (403, "group_not_allowed")


def test_the_plain_app_streams_and_charges_when_the_work_is_done(url: str, plain_client: Client) -> None:
    secret = create(url, limits=["3/5h"])
    with plain_client.stream("GET", "/", headers=bearer(secret)) as answer:
        assert list(answer.iter_lines()) == ["one", "two", "three"]
        assert answer.headers["ratelimit"] == '"5h";r=2;t=18000'
    refused = plain_client.get("/", headers=bearer(secret))
    assert (refused.status_code, refused.headers["ratelimit"].partition(";t")[0]) == (429, '"5h";r=0')


def test_the_plain_app_opens_a_websocket_only_for_a_key(url: str, plain_client: Client) -> None:
    address = str(plain_client.base_url).replace("http://", "ws://")
    with connect(address, additional_headers=bearer(create(url)), proxy=None) as socket:
        assert list(socket) == ["one", "two", "three"]
    with pytest.raises(InvalidStatus) as refused:
        connect(address, proxy=None)
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("name", ["fastapi_app", "starlette_app", "plain_asgi"])
def test_the_commands_that_an_example_names_work(name: str, tmp_path: Path) -> None:
    told = importlib.import_module(f"examples.{name}").__doc__ or ""
    export, create, serve = [line.strip() for line in told.splitlines() if line.startswith("    ")]
    secret = _shell(f"cd {tmp_path} && {export} && {create} 2> said").strip()
    assert re.fullmatch(r"ak_[0-9A-Za-z]{38}", secret)
    assert (tmp_path / "said").read_text().startswith(f"made the database {tmp_path}/keys.db\n")
    assert serve == f"uvicorn examples.{name}:app"


def run_demo(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "examples.demo", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def test_the_demo_shows_every_refusal_and_ends_by_itself() -> None:
    demo = run_demo()
    told, _ = demo.communicate(timeout=50)
    assert demo.returncode == 0, told
    # Three need a store that is away or a cap on concurrent requests.
    codes = set(re.findall(r"^  ok    .{52} \d{3}  ([a-z_]+)", told, re.MULTILINE))
    assert codes >= {
        "misconfigured",
        "missing_api_key",
        "credential_too_large",
        "ambiguous_credentials",
        "invalid_api_key",
        "too_many_failures",
        "api_key_disabled",
        "api_key_expired",
        "ip_not_allowed",
        "group_not_allowed",
        "cost_exceeds_limit",
        "insufficient_quota",
        "rate_limit_exceeded",
    }
    assert "WRONG" not in told
    assert "\x1b" not in told
    assert re.search(r"ak_[0-9A-Za-z]{38}", told) is None
    assert "The console ran on http://127.0.0.1:" in told


def test_a_line_of_the_demo_that_differs_ends_it_with_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(edges, "_ATTEMPTS", 3)
    assert asyncio.run(show(str(tmp_path))) == 1
    told = capsys.readouterr().out
    assert told.count("WRONG") == 1
    assert re.search(r"WRONG 3 unknown keys from 198\.51\.100\.66 +401 .*\n +expected: 429 too_many_failures", told)


@pytest.mark.parametrize(
    ("answer", "note"), [(Answer(200), "left: 1"), (Answer(429, "insufficient_quota"), "left: 0"), (Answer(429), "")]
)
def test_the_board_notes_a_wrong_status_a_wrong_code_and_a_wrong_note(answer: Answer, note: str) -> None:
    board = Board()
    board.line("a call", Answer(429, "insufficient_quota"), 429, "insufficient_quota", "left: 1", "left: 1")
    assert board.wrong == 0
    board.line("a call", answer, 429, "insufficient_quota", note, "left: 1")
    assert (board.lines, board.wrong) == (2, 1)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_serve_keeps_the_app_running_with_a_key_to_try_until_it_is_stopped(stop: signal.Signals) -> None:
    # Ctrl-C reaches a process group, so the demo gets one of its own.
    demo = run_demo("--serve", start_new_session=True)
    try:
        assert demo.stdout is not None
        shown = next(line for line in demo.stdout if "curl" in line)
        answer = _shell(f"{shown.strip()} --silent")
        assert answer.startswith("HTTP/1.1 200 OK")
        assert '"key":"dev-local"' in answer
        console, _, token = next(line for line in demo.stdout if "The console runs on" in line).partition("; ")
        signed_in = _shell(f"curl --silent -H 'Authorization: Bearer {token.split()[-1]}' {console.split()[-1]}/api/me")
        assert '"role":"owner"' in signed_in
        shown = next(line for line in demo.stdout if "ak-guard keys list" in line)
        assert "dev-local" in _shell(shown.strip())
    finally:
        os.killpg(demo.pid, stop)
        told, _ = demo.communicate(timeout=10)
    assert demo.returncode == 0
    assert told.endswith("Stopped.\n")
    assert not Path(shown.partition("sqlite:///")[2].strip()).exists()


def _shell(command: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )
    return ended.stdout
