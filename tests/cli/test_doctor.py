"""`ak-guard doctor` on real databases: what it says, and that it changes nothing."""

from __future__ import annotations

import asyncio
import importlib
import json
import shlex
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text
from starlette.responses import JSONResponse
from typer.testing import CliRunner

from ak_guard import ApiKeyMiddleware, BackendError, KeyManager
from ak_guard.backends import HTTPBackend, MemoryBackend, SQLBackend
from ak_guard.cli.app import app
from tests.served import TOKEN, Tap, served
from tests.support import bearer, client_for, echo_app, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Cli
    from tests.databases import Databases

GOOD = ("prod-api", "--quota", "10", "--limit", "10/1d")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    return tmp_path


def codes(*args: str) -> list[str]:
    """What is found, the worst first; the exit code says whether anything is wrong."""
    result = CliRunner().invoke(app, ["doctor", "--json", *args])
    found = json.loads(result.stdout)["findings"]
    assert result.exit_code == (6 if any(one["severity"] != "advice" for one in found) else 0), result.output
    return [one["code"] for one in found]


def test_a_good_setup_has_nothing_amiss(cli: Cli) -> None:
    cli.create(*GOOD)
    result = cli.run("doctor", "--strict")
    assert (result.exit_code, result.stdout) == (0, "Nothing is amiss.\n")


def test_advice_is_told_with_the_line_that_mends_it_which_works(cli: Cli) -> None:
    cli.create("contractor jane", "--quota", "10")
    told = cli.run("doctor")
    assert told.exit_code == 0
    assert cli.run("doctor", "--strict").exit_code == 6
    lines = [line.partition("mend")[2].strip() for line in told.stdout.splitlines() if "  mend  " in line]
    assert len(lines) == 2
    assert "  why   " in told.stdout
    for line in lines:
        cli.ok(*shlex.split(line)[1:])
    assert cli.ok("doctor").stdout == "Nothing is amiss.\n"


def test_a_canary_that_was_called_is_the_worst_there_is(cli: Cli) -> None:
    cli.create(*GOOD)
    secret, canary = cli.create("prod-spare", "--group", "canary", "--quota", "10")
    assert "canary_called" not in codes("--db", cli.url)

    async def call() -> None:
        backend = SQLBackend(cli.url)
        async with KeyManager(backend), client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as caller:
            assert (await caller.get("/", headers=bearer(secret))).status_code == 403

    asyncio.run(call())
    found = json.loads(cli.run("doctor", "--json").stdout)["findings"][0]
    assert (found["severity"], found["code"]) == ("error", "canary_called")
    assert "prod-spare was called 0.0 hours ago from 203.0.113.10" in found["what"]
    assert canary["id"] in found["mend"]


def test_rows_that_cannot_be_read_hide_no_other_finding(cli: Cli, database: Path) -> None:
    _, broken = cli.create(*GOOD)
    cli.create("api", "--quota", "10")
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE ak_keys SET limits = '[\"nonsense\"]' WHERE id = ?", (broken["id"],))
    found = json.loads(cli.run("doctor", "--json").stdout)["findings"]
    assert [one["code"] for one in found] == ["unreadable_rows", "no_environment"]
    assert broken["id"] in found[0]["what"]


def test_a_custom_key_without_a_pepper_is_warned_of(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.create(*GOOD, "--custom-key", typed="x7Kq9ZmTr4WdLp2Vb8Nc\n")
    assert codes("--db", cli.url) == ["custom_without_pepper"]
    monkeypatch.setenv("AK_GUARD_PEPPER", "p" * 32)
    cli.ok("keys", "rotate", "prod-api", "--no-grace", "--custom-key", typed="y7Kq9ZmTr4WdLp2Vb8Nd\n")
    assert codes("--db", cli.url) == ["custom_without_pepper"]
    cli.ok("keys", "delete", "prod-api", "--yes")
    cli.create(*GOOD, "--custom-key", typed="z7Kq9ZmTr4WdLp2Vb8Ne\n")
    assert codes("--db", cli.url) == []


def test_looking_makes_no_database_and_brings_no_schema_up_to_date(cli: Cli, database: Path, folder: Path) -> None:
    assert codes("--db", "sqlite:///other.db") == ["no_tables"]
    assert not (folder / "other.db").exists()
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE ak_alembic SET version_num = '0001'")
    assert codes("--db", cli.url) == ["other_schema"]
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT version_num FROM ak_alembic").fetchall() == [("0001",)]


def test_stores_that_are_away_are_told_without_their_passwords(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    cli.create(*GOOD)
    monkeypatch.setenv("AK_GUARD_BACKEND", "postgresql://me:hunter2@127.0.0.1:1/keys")
    monkeypatch.setenv("AK_GUARD_LIMITS", "redis://:hunter2@127.0.0.1:1/0")
    assert codes() == ["database_away", "limits_away"]
    assert "hunter2" not in CliRunner().invoke(app, ["doctor"]).output
    assert codes("--db", cli.url) == ["limits_away"]


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, ["wrong_setting"]),
        ({"AK_GUARD_BACKEND": "memory://"}, ["memory_backend"]),
        ({"AK_GUARD_BACKEND": "memory://", "AK_GUARD_MODE": "reports"}, ["wrong_setting"]),
        ({"AK_GUARD_BACKEND": "memory://", "AK_GUARD_MOOD": "report"}, ["unknown_setting", "memory_backend"]),
        ({"AK_GUARD_BACKEND": "sqlite:////nowhere/at/all/keys.db"}, ["no_tables"]),
        (
            {"AK_GUARD_BACKEND": "memory://", "FORWARDED_ALLOW_IPS": "*"},
            ["forwarded_from_everybody", "memory_backend"],
        ),
    ],
)
def test_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], found: list[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert codes() == found


async def test_running_workers_that_count_apart_are_seen_in_the_database(cli: Cli) -> None:
    def run() -> Any:
        return CliRunner().invoke(app, ["doctor", "--json", "--db", cli.url])

    backends = [SQLBackend(cli.url), SQLBackend(cli.url)]
    for backend in backends:
        await backend.start()
        guard = ApiKeyMiddleware(echo_app(), backend=backend, limits="memory://")
        async with client_for(guard) as client:
            # The first look-up enters the worker.
            assert (await client.get("/", headers={"x-api-key": "nobody"})).status_code == 401
    try:
        told = await asyncio.to_thread(run)
        assert [one["code"] for one in json.loads(told.stdout)["findings"]] == ["limits_not_shared"]
        assert "2 workers run and 2 of them" in told.stdout
    finally:
        for backend in backends:
            await backend.aclose()


async def test_a_proxy_whose_word_is_not_read_is_guessed_from_the_callers(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = SQLBackend(cli.url)
    await backend.start()
    async with KeyManager(backend) as keys:
        made = [await keys.create(f"prod-{name}", quota=10, limits=["10/1d"]) for name in ("api", "web", "billing")]
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend), ip="10.0.0.5") as client:
        for issued in made:
            assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
    # What was recorded is written at the latest now.
    await backend.aclose()
    assert await asyncio.to_thread(codes, "--db", cli.url) == ["one_private_address"]
    monkeypatch.setenv("AK_GUARD_TRUSTED_PROXIES", "10.0.0.5")
    assert await asyncio.to_thread(codes, "--db", cli.url) == []


@pytest.mark.parametrize("kind", ["postgres", "mysql"])
def test_a_server_has_a_schema_and_a_clock(kind: str, databases: Databases) -> None:
    async def break_group(url: str) -> None:
        async with KeyManager(url) as keys:
            await keys.create("prod-api", quota=10, limits=["10/1d"])
        backend = SQLBackend(url)
        async with backend.database.write(BackendError) as connection:
            row = {"name": "paid", "routes": "[]", "limits": "[]", "shared": "[]", "multiplier": "many"}
            await connection.execute(
                text("INSERT INTO ak_groups VALUES (:name, :routes, :limits, :shared, :multiplier, true)"), row
            )
        await backend.aclose()

    with databases.migrated(kind) as url:
        assert codes("--db", url) == []
        asyncio.run(break_group(url))
        assert codes("--db", url) == ["unreadable_rows"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tap]:
    """The guard of this environment asks a key service, which is in order."""
    tap = Tap()
    with served(KeyManager(MemoryBackend()), tap=tap) as url:
        monkeypatch.setenv("AK_GUARD_BACKEND", url)
        monkeypatch.setenv("AK_GUARD_SERVICE_TOKEN", TOKEN)
        yield tap


def test_a_key_service_in_order_has_nothing_amiss(asked: Tap) -> None:
    assert codes() == []
    assert asked.calls["/v1/resolve"] > 0


def test_a_token_that_a_key_service_refuses_is_told_and_not_shown(asked: Tap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AK_GUARD_SERVICE_TOKEN", "hunter2-hunter2-hunter2")
    assert codes() == ["token_refused"]
    assert "hunter2" not in CliRunner().invoke(app, ["doctor"]).output
    monkeypatch.delenv("AK_GUARD_SERVICE_TOKEN")
    assert codes() == ["token_refused"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://127.0.0.1:1/keys"])
def test_a_key_service_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AK_GUARD_BACKEND", url)
    assert codes() == ["service_away"]


@pytest.mark.parametrize(
    ("path", "answer", "found"),
    [
        ("/v1/healthz", JSONResponse({"status": "ok", "protocol": 2}), ["other_protocol"]),
        ("/v1/healthz", JSONResponse({}, 404), []),
        ("/v1/resolve", JSONResponse({}, 404), ["service_away"]),
        ("/v1/peek", JSONResponse({}, 404), ["no_counters"]),
        ("/v1/workers", JSONResponse({}, 404), ["no_changes"]),
        ("/v1/workers", JSONResponse({"revision": 0, "now": 1.0, "workers": []}), ["clock_skew"]),
        ("/v1/workers", JSONResponse({"revision": 0, "now": 9e9, "workers": []}), ["clock_skew"]),
    ],
    ids=["newer", "no health", "no keys", "no counters", "no changes", "behind", "ahead"],
)
def test_what_a_key_service_cannot_do_is_told(asked: Tap, path: str, answer: JSONResponse, found: list[str]) -> None:
    asked.instead[path] = answer
    assert codes() == found


def test_a_service_with_a_protocol_of_its_own_is_asked_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("examples.foreign_key_service")
    with running(module.service) as url:
        backend = HTTPBackend(url, translation=module.Subscriptions())
        monkeypatch.setattr(module, "backend", backend, raising=False)
        monkeypatch.setenv("AK_GUARD_BACKEND", "examples.foreign_key_service:backend")
        assert codes() == []
    assert codes() == ["service_away"]
