"""`ak-guard init` and `ak-guard admin-token`: who may manage keys."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from ak_guard import KeyManager
from ak_guard.admin import AdminTokens
from ak_guard.cli.app import app
from tests.cli.conftest import Cli

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def role_of(url: str, secret: str) -> str | None:
    async def ask() -> str | None:
        async with KeyManager(url) as keys:
            who = await AdminTokens(keys).who(secret)
            return None if who is None else who.role

    return asyncio.run(ask())


def test_init_makes_everything_in_an_empty_folder_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = CliRunner().invoke(app, ["init"], prog_name="ak-guard")
    assert first.exit_code == 0, first.output
    secret = first.stdout.strip()
    assert role_of(f"sqlite:///{tmp_path}/keys.db", secret) == "owner"
    assert {path.name for path in tmp_path.glob("[!.]*.*") if "-" not in path.name} == {"keys.db", "ak_guard.toml"}
    assert "ak-guard serve" in first.stderr
    assert secret not in first.stderr

    again = CliRunner().invoke(app, ["init", "--json"], prog_name="ak-guard")
    assert json.loads(again.stdout) == {"secret": None, "token": None}
    # Commands in this folder need no --db any more.
    listed = CliRunner().invoke(app, ["admin-token", "list", "--json"], prog_name="ak-guard")
    (token,) = json.loads(listed.stdout)["tokens"]
    assert (token["name"], token["role"], token["expires_at"]) == ("owner", "owner", None)


def test_init_writes_no_settings_where_the_database_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Cli(f"sqlite:///{tmp_path}/other.db").json("init", "--name", "ann")
    assert (made["token"]["name"], made["token"]["state"]) == ("ann", "active")
    assert not (tmp_path / "ak_guard.toml").exists()


def test_init_shows_the_token_though_the_settings_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ak_guard.toml").symlink_to(tmp_path / "missing" / "ak_guard.toml")
    result = CliRunner().invoke(app, ["init"], prog_name="ak-guard")
    assert result.exit_code == 1
    assert role_of(f"sqlite:///{tmp_path}/keys.db", result.stdout.strip()) == "owner"
    assert "error: ak_guard.toml: cannot be written (No such file or directory)" in result.stderr


def test_a_token_is_made_listed_and_revoked(cli: Cli) -> None:
    made = cli.json("admin-token", "create", "ci", "--role", "editor", "--expires-in", "90d")
    assert role_of(cli.url, made["secret"]) == "editor"
    assert cli.json("admin-token", "list")["tokens"] == [made["token"]]
    shown = cli.ok("admin-token", "list").stdout
    assert "ci" in shown
    assert made["secret"] not in shown
    assert cli.json("admin-token", "revoke", "ci") == {"revoked": made["token"]["id"]}
    assert role_of(cli.url, made["secret"]) is None
    assert "No admin tokens" in cli.ok("admin-token", "list").stdout


def test_which_token_is_meant_must_be_clear(cli: Cli) -> None:
    twins = [cli.json("admin-token", "create", "ci")["token"]["id"] for _ in range(2)]
    unclear = cli.run("admin-token", "revoke", "ci")
    assert unclear.exit_code == 2
    assert all(token_id in unclear.stderr for token_id in twins)
    assert cli.run("admin-token", "revoke", "nobody").exit_code == 3
    secret = cli.json("admin-token", "create", "ann")["secret"]
    pasted = cli.run("admin-token", "revoke", secret)
    assert pasted.exit_code == 2
    assert secret not in pasted.output
    assert len(cli.json("admin-token", "list")["tokens"]) == 3
