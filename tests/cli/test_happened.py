"""`ak-guard usage`, `audit` and `leak`: what happened, and what is done when a key is out."""

from __future__ import annotations

import asyncio
import csv
import getpass
import io
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import KeyManager
from ak_guard.backends import SQLBackend
from ak_guard.cli import complete
from ak_guard.usage import UsageRecord
from tests.cli.test_workers import add_worker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli

ME = f"cli:{getpass.getuser()}"


def called(cli: Cli, key_id: str | None, *, ago: float, ip: str = "203.0.113.7", **more: Any) -> None:
    """One request, as an app would have recorded it."""
    record = UsageRecord(time.time() - ago, key_id, "default", ip, "GET", "/v1/models", 200, "admitted", 3, 0.1)

    async def write() -> None:
        backend = SQLBackend(cli.url)
        await backend.add_usage(f"{key_id} {ago} {ip}", [record._replace(**more)])
        await backend.aclose()

    asyncio.run(write())


def test_usage_shows_calls_addresses_routes_and_single_requests(cli: Cli) -> None:
    _, key = cli.create("prod-api")
    called(cli, key["id"], ago=60)
    called(cli, key["id"], ago=50, ip="198.51.100.9", code="rate_limit_exceeded", status=429, cost=0)
    called(cli, None, ago=40, code="invalid_api_key", status=401, cost=0, hint="ak_…7Qx4")
    text = cli.ok("usage", "prod-api", "--records", "5").stdout
    assert "2 calls, 1 refused, 3 units since 20" in text
    assert "rate_limit_exceeded 1" in text
    assert "last used" in text
    assert "198.51.100.9" in text
    assert "GET /v1/models" in text
    found = cli.json("usage", "prod-api", "--since", "3h")
    assert (found["calls"], found["refused"], found["cost"]) == (2, 1, 3)
    assert found["last_used"]["ip"] == "198.51.100.9"
    assert {place["name"] for place in found["addresses"]} == {"203.0.113.7", "198.51.100.9"}
    assert sum(bucket["calls"] for bucket in found["buckets"]) == 2
    assert cli.json("usage", "--by", "day")["calls"] == 3
    (stranger,) = cli.json("usage", "--unknown", "--records", "9")["records"]
    assert (stranger["hint"], stranger["key_id"]) == ("ak_…7Qx4", None)
    (refused,) = cli.json("usage", "prod-api", "--records", "9", "--code", "rate_limit_exceeded")["records"]
    assert refused["status"] == 429
    assert "0 calls" in cli.ok("usage", "prod-api", "--since", "2020-01-01", "--until", "2020-01-02").stdout


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("usage prod-api --unknown", "options"),
        ("usage --records 100000", "--records"),
        ("usage --since soon", "--since"),
        ("audit --json --csv", "options"),
        ("audit --page-size 0", "--page-size"),
        ("audit --until 3fortnights", "--until"),
    ],
)
def test_wrong_questions_name_the_option(cli: Cli, line: str, field: str) -> None:
    result = cli.run(*line.split())
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {field}: ")


def test_audit_shows_who_did_what_and_pages(cli: Cli) -> None:
    _, key = cli.create("prod-api", "--quota", "10")
    cli.ok("keys", "update", "prod-api", "--quota", "20")
    cli.ok("groups", "create", "paid")
    text = cli.ok("audit", "prod-api").stdout
    assert ME in text
    assert "key.update" in text
    assert "quota 10" in text
    newest = cli.json("audit", "--page-size", "1")
    assert [entry["action"] for entry in newest["entries"]] == ["group.create"]
    older = cli.json("audit", "--page-size", "5", "--before", str(newest["before"]))
    assert [entry["action"] for entry in older["entries"]] == ["key.update", "key.create"]
    assert older["before"] is None
    assert older["entries"][0]["after"] == {"quota": 20}
    cli.ok("keys", "delete", "prod-api", "--yes")
    assert len(cli.json("audit", key["id"])["entries"]) == 3
    assert [entry["subject"] for entry in cli.json("audit", "--group", "paid")["entries"]] == ["paid"]
    assert "No such change" in cli.ok("audit", "--actor", "nobody").stdout


def test_audit_is_exported_as_a_table_that_no_spreadsheet_runs(cli: Cli) -> None:
    cli.create("=HYPERLINK(1)", "--owner", 'a "quoted", owner')
    rows = list(csv.DictReader(io.StringIO(cli.ok("audit", "--all", "--csv").stdout)))
    assert [(row["action"], row["actor"], row["subject"]) for row in rows] == [("key.create", ME, "'=HYPERLINK(1)")]
    assert json.loads(rows[0]["after"])["owner"] == 'a "quoted", owner'


def test_leak_disables_replaces_and_hands_the_line_over_once(cli: Cli, tmp_path: Path) -> None:
    secret, key = cli.create("prod-web", "--quota", "100", "--limit", "50/1h")
    called(cli, key["id"], ago=60, ip="198.51.100.17")
    report = tmp_path / "leak.md"
    result = cli.ok("leak", "prod-web", "--since", "2h", "--report", str(report))
    variable, _, new = result.stdout.strip().partition("=")
    assert variable == "WEB_API_KEY"
    assert result.stdout.count("\n") == 1
    assert "no running app to wait for" in result.stderr
    assert "created the replacement prod-web-2" in result.stderr
    assert f"ak-guard keys enable {key['id']}" in result.stderr
    assert "NEW" in result.stderr
    assert "198.51.100.17" in result.stderr
    for hidden in (secret, new):
        assert hidden not in result.stderr
        assert hidden not in report.read_text()
    assert cli.show("prod-web")["key"]["state"] == "disabled"
    made = cli.show("prod-web-2")["key"]
    assert (made["replaces"], made["quota"], made["limits"]) == (key["id"], 100, ["50/1h"])
    assert cli.show("prod-web")["key"]["replaced_by"] == made["id"]
    assert made["id"] in cli.ok("keys", "show", "prod-web").stdout
    assert cli.ok("keys", "explain", "--stdin", typed=new).exit_code == 0
    assert report.read_text().startswith("# Leak of prod-web\n")


def test_leak_answers_scripts_with_the_secret_once(cli: Cli, tmp_path: Path) -> None:
    _, key = cli.create("prod-web")
    report = tmp_path / "leak.json"
    found = cli.json("leak", key["id"], "--report", str(report))
    assert found["report"]["replacement"]["name"] == "prod-web-2"
    assert found["secret"] not in json.dumps(found["report"])
    assert json.loads(report.read_text()) == found["report"]
    assert cli.json("leak", key["id"])["secret"] is None
    assert cli.json("leak", key["id"], "--no-replacement")["report"]["why_no_replacement"] == "it was not asked for"


def test_leak_changes_nothing_when_its_report_cannot_be_written(cli: Cli, tmp_path: Path) -> None:
    _, key = cli.create("prod-web")
    for report, why in (
        (tmp_path / "missing" / "leak.md", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        result = cli.run("leak", "prod-web", "--report", str(report))
        assert result.exit_code == 2
        assert result.stderr.splitlines()[0] == f"error: --report: {report} cannot be written ({why})"
    assert cli.show(key["id"])["key"]["state"] == "active"
    older = tmp_path / "leak.md"
    older.write_text("kept")
    assert cli.run("leak", "nobody", "--report", str(older)).exit_code == 3
    assert older.read_text() == "kept"


def test_leak_names_who_is_silent_and_makes_no_replacement_yet(cli: Cli) -> None:
    _, key = cli.create("prod-web")
    add_worker(cli, "web-1:77", silent_for=20)
    result = cli.run("leak", "prod-web", "--timeout", "0.1")
    assert result.exit_code == 5
    assert result.stdout == ""
    assert "not confirmed by web-1:77" in result.stderr
    assert "no replacement: not every running worker refuses the old key yet" in result.stderr
    assert cli.show(key["id"])["key"]["state"] == "disabled"


def test_names_ids_and_groups_are_completed(cli: Cli) -> None:
    _, key = cli.create("prod-api")
    cli.create("staging-web")
    cli.ok("groups", "create", "paid")

    class Context:
        params: dict[str, Any] = {"db": cli.url}  # noqa: RUF012  # as typer has it

    context: Any = Context()
    assert [text for text, _ in complete.keys(context, "pr")] == ["prod-api"]
    assert {text for text, _ in complete.keys(context, "")} == {"prod-api", "staging-web"}
    assert [text for text, _ in complete.keys(context, key["id"][:8])] == [key["id"]]
    assert [text for text, _ in complete.groups(context, "p")] == ["paid"]
    Context.params = {}
    assert complete.keys(context, "") == []


def test_changes_of_the_command_are_its_users(cli: Cli) -> None:
    cli.create("prod-api")

    async def actors() -> set[str]:
        async with KeyManager(cli.url) as keys:
            return {entry.actor for entry in await keys.audit()}

    assert asyncio.run(actors()) == {ME}
