"""`ak-guard scan` finds keys and says whose they are; `ak-guard top` shows who is busy and what is full."""

from __future__ import annotations

import asyncio
import gzip
import os
import pty
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from ak_guard import Limit, keys
from ak_guard.backends import SQLBackend
from ak_guard.budgets import Ask, Window
from tests.cli.conftest import SCRIPT, Cli
from tests.cli.test_happened import called

if TYPE_CHECKING:
    from pathlib import Path


def test_scan_says_whose_key_stands_where_and_shows_none(cli: Cli, tmp_path: Path) -> None:
    secret, key = cli.create("prod-api")
    stranger = keys.mint()
    folder = tmp_path / "logs"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "packed").write_text(secret)
    (folder / "app.log").write_text(f"GET /\nAuthorization: Bearer {secret}\n")
    (folder / "env").write_text(f"ak_{'0' * 38}\nKEY={stranger}")
    with gzip.open(folder / "old.log.gz", "wt") as file:
        file.write(f"x {secret}")
    (folder / "broken.gz").write_bytes(b"no gzip")
    result = cli.run("scan", str(folder))
    assert result.exit_code == 6
    for shown in (f"{folder}/app.log:2:23", f"{folder}/old.log.gz:1:3", key["id"], "active", "nobody's", key["hint"]):
        assert shown in result.stdout
    assert "broken.gz cannot be read" in result.stderr
    assert secret not in result.output
    assert stranger not in result.output
    found = cli.run("scan", str(folder), "--key", "prod-api", "--json")
    assert found.exit_code == 6
    assert found.stdout.count('"line"') == 2
    assert secret not in found.stdout


def test_scan_reads_standard_input_and_needs_no_database(cli: Cli) -> None:
    secret, _ = cli.create("prod-api")
    assert cli.run("scan", "-", typed=f"{secret}\n").exit_code == 6
    alone = cli.run("scan", "--no-db", "-", typed=f"{keys.mint()}\n")
    assert alone.exit_code == 6
    assert "No keys were found." in cli.ok("scan", "-", typed="ak_nothing\n").stdout
    missing = cli.run("scan", "no-such-file")
    assert missing.exit_code == 1
    assert "files: there is no no-such-file" in missing.stderr


def test_scan_opens_no_database_when_it_shall_ask_none(tmp_path: Path) -> None:
    away = Cli("postgresql://nobody@127.0.0.1:1/none")
    assert away.run("scan", "-", typed=f"{keys.mint()}\n").exit_code == 1
    found = away.run("scan", "--no-db", "-", typed=f"{keys.mint()}\n")
    assert found.exit_code == 6, found.output
    missing = Cli(f"sqlite:///{tmp_path}/keys.db")
    assert "No keys were found." in missing.ok("scan", "--no-db", "-", typed="nothing\n").stdout
    assert list(tmp_path.iterdir()) == []


def test_scan_says_that_only_the_database_knows_whose_a_key_is(cli: Cli) -> None:
    cli.create("prod-api")
    result = cli.run("scan", "--no-db", "--key", "prod-api", "-", typed=f"{keys.mint()}\n")
    assert result.exit_code == 2
    assert "error: --no-db: cannot be given together with --key: only the database knows" in result.stderr


def spend(cli: Cli, key_id: str, limit: str, units: int) -> None:
    """Take from a window, as an app would have."""

    async def take() -> None:
        backend = SQLBackend(cli.url)
        await backend.start()
        ask = Ask(Window.of(Limit.parse(limit)), units)
        await backend.counters.acquire(f"key/{key_id}", [ask], lease=None, now=time.time())
        await backend.aclose()

    asyncio.run(take())


def test_top_shows_the_busiest_keys_and_the_fullest_windows(cli: Cli) -> None:
    _, busy = cli.create("prod-api", "--quota", "100", "--limit", "10/1h")
    _, full = cli.create("dev-full", "--quota", "0")
    # Within the running hour, whatever the minute is.
    called(cli, busy["id"], ago=0)
    called(cli, full["id"], ago=0, code="insufficient_quota", cost=0)
    called(cli, None, ago=0, code="invalid_api_key", cost=0)
    spend(cli, busy["id"], "10/1h", 9)
    found = cli.json("top", "--once")
    assert [(one["name"], one["window"], one["share"]) for one in found["fullest"]] == [
        ("dev-full", "quota", 1.0),
        ("prod-api", "1h", 0.9),
    ]
    assert {use["name"] for use in found["busiest"]} == {"prod-api", "dev-full", None}
    assert all(use["calls"] == 1 for use in found["busiest"])
    text = cli.ok("top").stdout
    assert "no key, or nobody's" in text
    assert " 90%" in text
    assert "9/10" in text


def test_top_looks_again_until_it_is_interrupted(cli: Cli) -> None:
    _, busy = cli.create("prod-api")
    called(cli, busy["id"], ago=0)
    terminal, inside = pty.openpty()
    line = [str(SCRIPT), "top", "--every", "0.5", "--db", cli.url]
    # The terminal tells no size of its own.
    size = {"COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
    process = subprocess.Popen(line, stdin=inside, stdout=inside, stderr=inside, env={**os.environ, **size})
    os.close(inside)
    try:
        shown = b""
        while shown.count(b"Busiest this hour") < 3:
            shown += os.read(terminal, 65_536)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
    assert b"prod-api" in shown


@pytest.mark.parametrize("line", ["top --rows 0", "top --every 0"])
def test_top_names_the_option_that_is_wrong(cli: Cli, line: str) -> None:
    result = cli.run(*line.split())
    assert result.exit_code == 2
    assert line.split()[1] in result.stderr
