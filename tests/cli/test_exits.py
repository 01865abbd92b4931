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
        (("create", "prod-b", "--quota", "many"), "--quota: "),
        (("create", "prod-b", "--expires-in", "soon"), "expires_in: "),
        (("create", "prod-b", "--expires-at", "2020-01-01"), "expires_at: "),
        (("create", "prod-b", "--expires-at", "2099-01-01", "--expires-in", "1d"), "expires"),
        (("create", "prod-b", "--metadata", "novalue"), "metadata: "),
        (("create", "prod-b", "--metadata", "a=1", "--metadata", "a=2"), "metadata: "),
        (("create", " "), "name: "),
        (("create",), "usage: Missing argument 'NAME'"),
        (("create", "prod-b", "--unknown"), "usage: No such option: --unknown"),
        (("list", "--page-size", "0"), "limit: "),
        (("update", "prod-api"), "nothing to change"),
        (("update", "prod-api", "--clear", "name"), "--clear: 'name' is not one of"),
        (("rotate", "prod-api", "--grace", "long"), "grace: "),
        (("reset", "prod-api"), "--quota, --limits or both"),
        (("explain",), "--stdin"),
        (("explain", "prod-api", "--stdin"), "--stdin"),
        (("explain", "prod-api", "--cost", "-1"), "cost: "),
        (("explain", "prod-api", "--at", "noon"), "at: 'noon'"),
        (("fly",), "usage: No such command 'fly'"),
    ],
)
def test_bad_input_ends_with_2_and_names_the_field(peopled: tuple[Cli, str], args: tuple[str, ...], words: str) -> None:
    cli, _ = peopled
    _says(cli.run("keys", *args), 2, words)
    assert len(cli.json("keys", "list")["keys"]) == 3


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
        ("list", "--after", "nobody"),
    ],
)
def test_what_is_not_there_ends_with_3(cli: Cli, args: tuple[str, ...]) -> None:
    _says(cli.run("keys", *args), 3, repr(args[1] if args[0] != "list" else "nobody"))


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
    assert "private to the process" in Cli("memory://").run("keys", "create", "prod-a").stderr
