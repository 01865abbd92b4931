"""`ak-guard workers` and `--wait`: who is running, who has heard of a change, and who has not."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx2
import pytest

from ak_guard import ApiKeyMiddleware, BackendError
from ak_guard.backends import SQLBackend
from ak_guard.budgets.place import place_of
from tests.support import bearer, echo_app, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]
WORKERS = 4


def add_worker(cli: Cli, name: str, *, silent_for: float, counters: str = "redis://10.0.0.5:6379/0") -> None:
    """A worker that was killed: it left its row behind."""
    seen = time.time() - silent_for
    with closing(sqlite3.connect(cli.url.removeprefix("sqlite:///"))) as store, store:
        store.execute("INSERT INTO ak_workers VALUES (?, ?, ?, ?, 0, 60.0, ?)", [name, name, seen, seen, counters])


@pytest.fixture
def server(cli: Cli) -> Iterator[httpx2.Client]:
    """A guarded app under a real server on the database of the command."""
    with (
        running(ApiKeyMiddleware(echo_app(), backend=cli.url, cache_ttl=3_600)) as url,
        httpx2.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


@pytest.mark.parametrize("command", ["disable", "delete"])
def test_wait_returns_when_the_app_follows(cli: Cli, server: httpx2.Client, command: str) -> None:
    secret, _ = cli.create("prod-api")
    assert server.get("/", headers=bearer(secret)).status_code == 200
    more = ["--yes"] if command == "delete" else []
    result = cli.ok("keys", command, "prod-api", "--wait", *more)
    assert server.get("/", headers=bearer(secret)).status_code == 401
    assert "confirmed by 1 running worker after 0." in result.stdout
    assert "follow within" not in result.stderr


def test_wait_tells_scripts_who_confirmed_and_how_long_it_took(cli: Cli, server: httpx2.Client) -> None:
    cli.create("prod-api")
    assert server.get("/", headers=bearer("x7Kq9ZmTr4WdLp2Vb8Nc")).status_code == 401
    found = cli.json("keys", "disable", "prod-api", "--wait")
    assert found["keys"][0]["state"] == "disabled"
    confirmation = found["confirmation"]
    assert 0 <= confirmation["seconds"] < 5
    assert (confirmation["complete"], confirmation["silent"]) == (True, [])
    assert confirmation["workers"] == [f"{socket.gethostname()}:{os.getpid()}"]
    assert "confirmation" not in cli.json("keys", "disable", "prod-api")


def test_where_no_app_runs_there_is_nothing_to_wait_for(cli: Cli) -> None:
    cli.create("prod-api")
    assert "no running app to wait for" in cli.ok("keys", "disable", "prod-api", "--wait").stdout
    assert "No running app guards with this database." in cli.ok("workers").stdout
    assert cli.json("workers") == {"workers": []}


def test_a_worker_that_does_not_answer_is_named_with_the_time_it_counts_until(cli: Cli) -> None:
    cli.create("prod-api")
    add_worker(cli, "web-1:77", silent_for=20)
    result = cli.run("keys", "disable", "prod-api", "--wait", "--timeout", "0.1")
    assert result.exit_code == 5
    assert "disabled prod-api" in result.stdout
    assert "not confirmed by web-1:77: last seen 20" in result.stderr
    assert "it may go on with what it knew until 20" in result.stderr
    assert cli.show("prod-api")["key"]["state"] == "disabled"
    for_scripts = cli.run("keys", "disable", "prod-api", "--wait", "--timeout", "0", "--json")
    assert for_scripts.exit_code == 5
    (silent,) = json.loads(for_scripts.stdout)["confirmation"]["silent"]
    assert silent["name"] == "web-1:77"
    left = datetime.fromisoformat(silent["good_until"]) - datetime.now(UTC)
    assert 30 < left.total_seconds() <= 45
    waited = cli.run("workers", "--wait", "--timeout", "0.1")
    assert waited.exit_code == 5
    assert "not confirmed by web-1:77" in waited.stderr


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_a_timeout_that_is_no_time_changes_nothing(cli: Cli, seconds: str) -> None:
    cli.create("prod-api")
    result = cli.run("keys", "disable", "prod-api", "--wait", "--timeout", seconds)
    assert result.exit_code == 2
    assert "--timeout: " in result.stderr
    assert cli.show("prod-api")["key"]["state"] == "active"


def test_workers_lists_who_follows_and_who_is_silent(cli: Cli, server: httpx2.Client) -> None:
    cli.create("prod-api")
    add_worker(cli, "web-1:77", silent_for=20)
    assert server.get("/", headers=bearer("x7Kq9ZmTr4WdLp2Vb8Nc")).status_code == 401
    here = f"{socket.gethostname()}:{os.getpid()}"

    def listed() -> dict[str, Any]:
        return {worker["name"]: worker for worker in cli.json("workers")["workers"]}

    _until(lambda: listed()[here]["behind"] == 0)
    found = listed()
    assert not found[here]["silent"]
    assert (found["web-1:77"]["silent"], found["web-1:77"]["behind"]) == (True, 1)
    assert found["web-1:77"]["counters"] == ["redis://10.0.0.5:6379/0"]
    shown = cli.ok("workers").stdout
    for words in (here, "follows", "web-1:77", "silent", "seconds ago", "redis://10.0.0.5:6379/0"):
        assert words in shown


def test_usage_that_is_counted_elsewhere_is_not_shown_as_if_it_were_known(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.create("prod-api", "--limit", "5/1m")
    add_worker(cli, "web-1:77", silent_for=1)
    listed = cli.ok("keys", "list")
    assert "prod-api" in listed.stdout
    assert "Usage is not shown. limits: the running guards count windows in another storage" in listed.stderr
    for args in (("keys", "list", "--usage"), ("keys", "show", "prod-api"), ("keys", "reset", "prod-api", "--limits")):
        refused = cli.run(*args)
        assert refused.exit_code == 1
        assert "redis://10.0.0.5:6379/0" in refused.stderr
        assert "hint: set AK_GUARD_LIMITS" in refused.stderr
    add_worker(cli, "web-2:78", silent_for=1, counters=place_of("memory://"))
    monkeypatch.setenv("AK_GUARD_LIMITS", "memory://")
    assert "0/5" in cli.ok("keys", "show", "prod-api").stdout


class Fleet(NamedTuple):
    """Several worker processes behind one port."""

    url: str
    pids: frozenset[int]

    def ask(self, secret: str) -> httpx2.Response:
        # A connection of its own, so that any of the workers may get it.
        return httpx2.get(self.url, headers=bearer(secret), trust_env=False, timeout=10)


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "this did not come true in time"
        time.sleep(0.05)


@contextmanager
def fleet(cli: Cli, log: Path) -> Iterator[Fleet]:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    port = held.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "--workers", str(WORKERS), "--port", str(port), "--no-access-log"]
    # Without it uvicorn replaces a worker that is paused.
    command += ["--timeout-worker-healthcheck", "60"]
    environment = {**os.environ, "AK_GUARD_BACKEND": cli.url}
    with held, log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "tests.stores.fleet:app"], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
        try:
            _until(lambda: process.poll() is None and len(_names(cli)) == WORKERS)
            yield Fleet(f"http://127.0.0.1:{port}/", frozenset(int(name.rpartition(":")[2]) for name in _names(cli)))
        finally:
            process.terminate()
            process.wait(timeout=20)


def _names(cli: Cli) -> list[Any]:
    return [worker["name"] for worker in cli.json("workers")["workers"]]


@pytest.mark.timeout(120)
def test_four_real_workers_refuse_a_disabled_key_once_wait_has_returned(cli: Cli, tmp_path: Path) -> None:
    secret, _ = cli.create("prod-api")
    with fleet(cli, tmp_path / "log") as workers:
        admitted: Counter[int] = Counter()

        def all_know_the_key() -> bool:
            answer = workers.ask(secret)
            assert answer.status_code == 200
            admitted[int(answer.text)] += 1
            return admitted.keys() == workers.pids

        _until(all_know_the_key)
        done = cli.script("keys", "disable", "prod-api", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        confirmation = json.loads(done.stdout)["confirmation"]
        assert len(confirmation["workers"]) == WORKERS
        assert confirmation["seconds"] < 2
        assert Counter(workers.ask(secret).json()["code"] for _ in range(60)) == {"api_key_disabled": 60}

        cli.ok("keys", "enable", "prod-api")
        assert cli.run("workers", "--wait").exit_code == 0
        paused = min(workers.pids)
        os.kill(paused, signal.SIGSTOP)
        try:
            done = cli.script("keys", "disable", "prod-api", "--wait", "--timeout", "1.5", "--json")
        finally:
            os.kill(paused, signal.SIGCONT)
        assert done.returncode == 5, done.stderr
        confirmation = json.loads(done.stdout)["confirmation"]
        assert [worker["name"].rpartition(":")[2] for worker in confirmation["silent"]] == [str(paused)]
        assert len(confirmation["workers"]) == WORKERS - 1
        assert cli.run("workers", "--wait").exit_code == 0
    # Whoever ends in good order signs off.
    assert _names(cli) == []


@pytest.mark.parametrize("command", [("disable",), ("delete", "--yes")])
def test_what_is_stored_is_told_as_stored_where_nobody_can_be_asked_who_follows(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise BackendError("the database does not answer")

    _, made = cli.create("prod-api")
    monkeypatch.setattr(SQLBackend, "confirm", away)
    told = cli.run("keys", command[0], made["id"], *command[1:], "--wait")
    assert told.exit_code == 5
    assert "error: the change is stored, but not confirmed by anybody: the store cannot be asked" in told.stderr
    assert not [key for key in cli.json("keys", "list")["keys"] if key["enabled"]]
