"""Exit codes and errors: one line and a hint on standard error, nothing on standard output, no trace-back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import Cli

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result


def _says(result: Result, code: int, words: str) -> None:
    assert result.exit_code == code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) <= 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("create", "prod-b", "--limit", "much"), "limits: 'much'"),
        (("create", "prod-b", "--limit", "5/5h", "--limit", "6/5h"), "limits: "),
        (("create", "prod-b", "--limit", "5/5h", "--no-limits"), "limits: "),
        (("create", "prod-b", "--allow-ip", "nowhere"), "allow_ips: "),
        (("create", "prod-b", "--deny-ip", "300.0.0.1"), "deny_ips: "),
        (("create", "prod-b", "--quota", "-5"), "quota: "),
        (("create", "prod-b", "--quota", "ten"), "--quota: must be a whole number"),
        (("create", "prod-b", "--expires-in", "soon"), "expires_in: "),
        (("create", "prod-b", "--expires-at", "2020-01-01"), "expires_at: "),
        (("create", "prod-b", "--expires-at", "2099-01-01", "--expires-in", "1d"), "expires"),
        (("create", "prod-b", "--metadata", "novalue"), "metadata: "),
        (("create", "prod-b", "--metadata", "a=1", "--metadata", "a=2"), "metadata: "),
        (("create", " "), "name: "),
        (("create",), "usage: Missing argument 'NAME'"),
        (("create", "prod-b", "--unknown"), "usage: No such option: --unknown"),
        (("list", "--page-size", "0"), "--page-size: 0 must be a whole number from 1 to 1000"),
        (("list", "--page-size", "x"), "--page-size: must be a whole number"),
        (("list", "--after", "nobody"), "after: is no place in this list"),
        (("list", "--sort", "colour"), "sort: 'colour' must be one of name, created"),
        (("list", "--unused", "--state", "disabled"), "--unused: means keys that work"),
        (("list", "--state", "asleep"), "--state: 'asleep'"),
        (("update", "prod-api"), "nothing to change"),
        (("update", "prod-api", "--clear", "name"), "--clear: 'name' is not one of"),
        (("rotate", "prod-api", "--grace", "long"), "grace: "),
        (("reset", "prod-api"), "--quota, --limits or both"),
        (("explain",), "--stdin"),
        (("explain", "prod-api", "--stdin"), "--stdin"),
        (("explain", "prod-api", "--cost", "-1"), "cost: "),
        (("explain", "prod-api", "--cost", "1.5"), "--cost: must be a whole number"),
        (("explain", "prod-api", "--at", "noon"), "at: 'noon'"),
        (("fly",), "usage: No such command 'fly'"),
    ],
)
def test_bad_input_ends_with_2_and_names_the_field(peopled: tuple[Cli, str], args: tuple[str, ...], words: str) -> None:
    cli, _ = peopled
    _says(cli.run("keys", *args), 2, words)
    assert len(cli.json("keys", "list")["keys"]) == 3


def test_a_hint_names_the_help_of_the_command_that_was_typed(cli: Cli) -> None:
    assert "`ak-guard keys list --help`" in cli.run("keys", "list", "--foo").stderr
    assert "uvicorn" not in cli.run("fly").stderr
    assert "uvicorn --help" in cli.run("run", "module:app", "--foo").stderr


@pytest.mark.parametrize(
    "args",
    [
        ("show", "nobody"),
        ("update", "nobody", "--quota", "5"),
        ("enable", "nobody"),
        ("disable", "key_0123456789abcdef0123"),
        ("rotate", "nobody"),
        ("delete", "nobody", "--yes"),
        ("reset", "nobody", "--quota"),
        ("explain", "nobody"),
    ],
)
def test_what_is_not_there_ends_with_3(cli: Cli, args: tuple[str, ...]) -> None:
    _says(cli.run("keys", *args), 3, repr(args[1]))


def test_explain_of_a_refused_request_ends_with_4(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-a", "--allow-ip", "203.0.113.7")
    assert cli.run("keys", "explain", "prod-a", "--ip", "203.0.113.7").exit_code == 0
    assert cli.run("keys", "explain", "prod-a", "--ip", "203.0.113.8").exit_code == 4


def test_a_store_that_is_away_ends_with_1(tmp_path: Path) -> None:
    _says(Cli(f"sqlite:///{tmp_path}/nowhere/keys.db").run("keys", "list"), 1, "backend: ")
    (tmp_path / "no.db").write_bytes(b"this is a text and no database" * 100)
    _says(Cli(f"sqlite:///{tmp_path}/no.db").run("keys", "list"), 1, "no.db")


@pytest.mark.parametrize("url", ["memory://", "carrier-pigeon://loft", "keys.db", "sqlite://"])
def test_a_store_that_cannot_serve_ends_with_1(url: str) -> None:
    _says(Cli(url).run("keys", "list"), 1, "backend: ")


def test_memory_is_refused_with_the_reason() -> None:
    told = Cli("memory://").run("keys", "create", "prod-a").stderr
    assert "private to the process" in told
    assert "hint: a file serves both: --db sqlite:///keys.db" in told


def test_a_pepper_that_is_too_short_is_named_with_its_variable(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AK_GUARD_PEPPER", "short")
    result = cli.run("keys", "list")
    _says(result, 1, "pepper: ")
    assert "AK_GUARD_PEPPER" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("keys", "list"),
        ("keys", "show", "prod-a"),
        ("keys", "explain", "prod-a"),
        ("keys", "disable", "prod-a"),
        ("groups", "list"),
        ("groups", "delete", "paid", "--yes"),
    ],
)
def test_a_database_that_is_not_there_is_not_made_by_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    _says(Cli("sqlite:///key.db").run(*args), 1, f"no database at {tmp_path}/key.db; `ak-guard init` makes one")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["keys", "groups"])
def test_create_makes_a_database_and_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    cli = Cli("sqlite:///new.db")
    said = f"made the database {tmp_path}/new.db"
    assert said in cli.ok(what, "create", "prod-a").stderr.splitlines()
    assert said not in cli.ok(what, "create", "prod-b").stderr
