"""`ak-guard settings`, and a store that a file names."""

from __future__ import annotations

import inspect
import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from ak_guard import ApiKeyMiddleware
from ak_guard.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_shown_is_a_file_to_begin_with(folder: Path) -> None:
    shown = CliRunner().invoke(app, ["settings"])
    assert shown.exit_code == 0
    assert tomllib.loads(shown.stdout) == {}
    meant = "\n".join(
        line.removeprefix("# ") for line in shown.stdout.splitlines() if " = " in line or line.startswith("# [")
    )
    known = inspect.signature(ApiKeyMiddleware).parameters.keys() - {"app"}
    assert tomllib.loads(meant).keys() == known
    for name in known:
        assert f"AK_GUARD_{name.upper()}=" in shown.stdout


def test_it_says_where_each_is_set_and_never_to_what(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "ak_guard.toml").write_text('mode = "report"\nbackend = "postgresql://me:hunter2@host/keys"\nmood = 1\n')
    monkeypatch.setenv("AK_GUARD_MODE", "enforce")
    told = CliRunner().invoke(app, ["settings", "--json"])
    document = json.loads(told.stdout)
    set_by = {one["name"]: one["set_by"] for one in document["settings"]}
    assert document["file"] == "ak_guard.toml"
    assert "AK_GUARD_PEPPER" in document["variables"]
    assert (set_by["mode"], set_by["backend"], set_by["limits"]) == (
        "AK_GUARD_MODE",
        "backend in ak_guard.toml",
        None,
    )
    assert told.stderr == "warning: ak_guard.toml: mood: no setting has this name; did you mean mode?\n"
    plain = CliRunner().invoke(app, ["settings", "--db", "sqlite:///x.db"])
    assert "# Set by AK_GUARD_MODE" in plain.stdout
    assert "# Set by --db" in plain.stdout
    assert "hunter2" not in plain.output + told.output


def test_the_store_may_stand_in_a_file(cli: Cli, folder: Path) -> None:
    cli.create("prod-api")
    (folder / "ak_guard.toml").write_text(f'backend = "{cli.url}"\n')
    assert "prod-api" in CliRunner().invoke(app, ["keys", "list"]).stdout
    (folder / "ak_guard.toml").write_text(f'backnd = "{cli.url}"\n')
    told = CliRunner().invoke(app, ["keys", "list"])
    assert told.exit_code == 1
    assert "did you mean backend?" in told.stderr
