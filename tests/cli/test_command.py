"""The command as a whole: the installed script, its help, options at every level, the missing extra."""

from __future__ import annotations

import json
import shlex
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from ak_guard import cli as package
from ak_guard.cli.app import app
from tests.cli.conftest import Cli

if TYPE_CHECKING:
    from collections.abc import Iterator


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from _commands(below, (*path, name))


COMMANDS = list(_commands(get_command(app)))
EXAMPLES = [
    line.removeprefix("$ ak-guard ").replace(r"\[", "[")
    for _, command in COMMANDS
    for line in command.epilog.splitlines()[1:]
]


def test_the_commands_are_those_that_were_asked_for() -> None:
    paths = {" ".join(path) for path, _ in COMMANDS}
    wanted = "create list show update enable disable rotate delete reset explain"
    assert {f"keys {word}" for word in wanted.split()} <= paths
    assert {f"groups {word}" for word in ("create", "list", "show", "update", "delete")} <= paths


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_every_help_has_examples_and_the_common_options(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path, "--help"], prog_name="ak-guard", env={"TERMINAL_WIDTH": "100"})
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"$ {' '.join(['ak-guard', *path])} " in result.stdout
    assert "--db" in result.stdout
    # What is served speaks by itself.
    assert "--json" in result.stdout or path == ("run",)


# What serves until it is stopped has tests of its own.
@pytest.mark.parametrize("line", sorted({line for line in EXAMPLES if not line.startswith(("run ", "serve"))}))
def test_every_example_works_as_it_stands(peopled: tuple[Cli, str], line: str) -> None:
    cli, secret = peopled
    words, _, file = line.partition(" < ")
    typed = {"": "", "old-key.txt": "x7Kq9ZmTr4WdLp2Vb8Nc\n", "key.txt": secret}[file]
    if words.startswith("groups create"):
        cli.ok("groups", "delete", words.split()[2], "--yes")
    if " delete " in words:
        typed = words.split()[2] + "\n"
    cli.ok(*shlex.split(words), typed=typed)


def test_the_top_help_lists_the_exit_codes() -> None:
    text = CliRunner().invoke(app, ["--help"]).stdout
    for line in (
        "0  done",
        "1  the store is away",
        "2  wrong usage",
        "3  no such key",
        "4  `keys explain`",
        "5  --wait",
    ):
        assert line in text


@pytest.mark.parametrize("path", [(), ("keys",), ("groups",)], ids=str)
def test_without_a_command_the_help_is_shown(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*path])
    assert result.exit_code == 2
    assert "Usage:" in result.stdout


def test_the_store_and_json_may_be_named_before_or_behind_the_command(cli: Cli) -> None:
    cli.create("prod-api")
    db = ("--db", cli.url)
    for args in (
        ("--json", *db, "keys", "list"),
        ("keys", "--json", *db, "list"),
        ("keys", "list", "--json", *db),
        ("--json", "keys", "list", *db),
    ):
        result = CliRunner().invoke(app, args)
        assert json.loads(result.stdout)["keys"][0]["name"] == "prod-api"


def test_the_store_may_come_from_the_environment_and_the_option_wins(cli: Cli) -> None:
    cli.create("prod-api")
    result = CliRunner().invoke(app, ["keys", "list", "--json"], env={"AK_GUARD_BACKEND": cli.url})
    assert len(json.loads(result.stdout)["keys"]) == 1
    result = CliRunner().invoke(app, ["keys", "list", "--db", cli.url], env={"AK_GUARD_BACKEND": "memory://"})
    assert result.exit_code == 0


def test_without_a_store_the_error_says_how_to_name_one() -> None:
    result = CliRunner().invoke(app, ["keys", "list"])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "--db sqlite:///" in result.stderr
    assert "AK_GUARD_BACKEND" in result.stderr


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"ak-guard {version('ak_guard')}\n"


def test_the_installed_script_makes_a_key_that_another_run_shows(cli: Cli) -> None:
    made = cli.script("keys", "create", "prod-api", "--json")
    assert made.returncode == 0, made.stderr
    secret = json.loads(made.stdout)["secret"]
    shown = cli.script("keys", "show", "prod-api", "--json")
    assert json.loads(shown.stdout)["key"] == json.loads(made.stdout)["key"]
    assert secret not in shown.stdout + shown.stderr
    explained = cli.script("keys", "explain", "--stdin", "--json", typed=secret)
    assert json.loads(explained.stdout)["admitted"] is True


def test_the_installed_script_ends_with_its_codes_and_without_a_traceback(cli: Cli) -> None:
    missing = cli.script("keys", "show", "nobody")
    assert (missing.returncode, missing.stdout) == (3, "")
    assert missing.stderr.startswith("error: not found: ")
    assert cli.script("keys", "fly").returncode == 2


def test_an_error_is_one_line_of_text_also_with_json(cli: Cli) -> None:
    for args, code in ((("keys", "show", "nobody"), 3), (("keys", "create", "prod-a", "--quota", "ten"), 2)):
        ended = cli.script(*args, "--json")
        assert (ended.returncode, ended.stdout) == (code, "")
        assert [line.partition(":")[0] for line in ended.stderr.splitlines()] == ["error", "hint"]
    away = Cli("sqlite:////nowhere/at/all/keys.db").script("keys", "list", "--json")
    assert (away.returncode, away.stdout) == (1, "")
    assert away.stderr.startswith("error: backend: ")


def test_the_installed_script_answers_where_only_ascii_can_be_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.ok("keys", "create", "prod-客服")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert r"prod-\u5ba2\u670d" in cli.script("keys", "list").stdout
    assert json.loads(cli.script("keys", "list", "--json").stdout)["keys"][0]["name"] == "prod-客服"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_script_says_how_to_install_it(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("ak_guard.cli.", f"{missing}."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as ended:
        package.main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told == "error: the command needs an extra; run: pip install 'ak_guard[sql,cli]'\n"
