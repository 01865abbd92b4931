"""A secret is shown once, read from standard input only, and stands nowhere else."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import SCRIPT, Cli

if TYPE_CHECKING:
    from pathlib import Path

CUSTOM = "x7Kq9ZmTr4WdLp2Vb8Nc"
MINTED = re.compile(r"ak_[0-9A-Za-z]{38}")


def test_create_prints_the_secret_alone_on_standard_output(cli: Cli) -> None:
    result = cli.ok("keys", "create", "prod-api")
    secret = result.stdout.strip()
    assert MINTED.fullmatch(secret)
    assert "will not be shown again" in result.stderr
    assert "API_KEY" not in result.stderr, "a pipe has no hand to paste a line"
    assert secret not in result.stderr
    assert cli.ok("keys", "explain", "--stdin", typed=secret + "\n").exit_code == 0


def test_no_later_output_and_no_byte_of_the_database_holds_a_secret(cli: Cli, database: Path) -> None:
    first, key = cli.create("prod-api", "--limit", "5/5h", "--quota", "9")
    second = cli.json("keys", "rotate", "prod-api")["secret"]
    custom, _ = cli.create("prod-custom", "--custom-key", typed=CUSTOM + "\n")
    assert custom == CUSTOM
    assert len({first, second, custom}) == 3
    said = ""
    for args in (
        ("list",),
        ("show", "prod-api"),
        ("show", "prod-custom"),
        ("update", "prod-api", "--owner", "ann"),
        ("disable", key["id"]),
        ("enable", key["id"]),
        ("reset", key["id"], "--quota", "--limits"),
        ("explain", key["id"]),
    ):
        said += cli.ok("keys", *args).output + cli.ok("keys", *args, "--json").output
    for secret in (first, second, custom):
        said += cli.ok("keys", "explain", "--stdin", typed=secret).output
    said += cli.ok("keys", "delete", "prod-custom", "--yes").output
    stored = b"".join(file.read_bytes() for file in database.parent.glob("keys.db*"))
    assert key["id"].encode() in stored
    for secret in (first, second, custom):
        assert secret not in said
        assert secret.encode() not in stored


def test_a_key_text_given_as_an_argument_is_refused_and_not_repeated(cli: Cli) -> None:
    secret, _ = cli.create("prod-api")
    for args in (("show", secret), ("explain", secret), ("disable", secret), ("create", "prod-b", secret)):
        result = cli.run("keys", *args)
        assert result.exit_code == 2
        assert secret not in result.output
    assert "rotate" in cli.run("keys", "explain", secret).stderr
    cli.create("prod-custom", "--custom-key", typed=CUSTOM)
    result = cli.run("keys", "show", CUSTOM)
    assert result.exit_code == 3
    assert CUSTOM not in result.output


def test_a_custom_key_comes_from_standard_input_and_a_weak_one_is_refused_unrepeated(cli: Cli) -> None:
    secret, key = cli.create("prod-custom", "--custom-key", typed=f"  {CUSTOM}\nanother line\n")
    assert secret == CUSTOM
    assert key["hint"] == "…b8Nc"
    for weak in ("short", "passwordpasswordpassword", "has a blank in the middle"):
        result = cli.run("keys", "create", "prod-b", "--custom-key", typed=weak)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: key: ")
        assert weak not in result.output
    assert cli.run("keys", "create", "prod-b", "--custom-key", typed="").exit_code == 2


def test_rotate_takes_a_custom_key_too(cli: Cli) -> None:
    cli.create("prod-api")
    assert cli.json("keys", "rotate", "prod-api", "--stdin", typed=CUSTOM)["secret"] == CUSTOM


def test_rotate_keeps_id_and_rules_and_lets_the_old_secret_work_for_the_grace(cli: Cli) -> None:
    old, key = cli.create("prod-api", "--limit", "5/5h")
    result = cli.ok("keys", "rotate", "prod-api", "--grace", "2h")
    new = result.stdout.strip()
    assert MINTED.fullmatch(new)
    assert new != old
    assert "2h" in result.stderr
    changed = {field for field, value in cli.show(key["id"])["key"].items() if value != key[field]}
    assert changed == {"hint", "updated_at"}
    for secret in (old, new):
        assert cli.run("keys", "explain", "--stdin", typed=secret).exit_code == 0


@pytest.mark.parametrize("option", [("--grace", "0"), ("--no-grace",)])
def test_rotate_without_grace_ends_the_old_secret_at_once(cli: Cli, option: tuple[str, ...]) -> None:
    old, _ = cli.create("prod-api")
    result = cli.ok("keys", "rotate", "prod-api", *option)
    assert "old secret has ended" in result.stderr
    assert "follow within a second" in result.stderr
    explained = cli.run("keys", "explain", "--stdin", "--json", typed=old)
    assert explained.exit_code == 4
    assert '"code": "invalid_api_key"' in explained.stdout
    assert cli.run("keys", "explain", "--stdin", typed=result.stdout).exit_code == 0


def test_an_unknown_secret_is_not_found_and_not_repeated(cli: Cli) -> None:
    result = cli.run("keys", "explain", "--stdin", typed=CUSTOM)
    assert result.exit_code == 3
    assert CUSTOM not in result.output


def test_input_that_is_no_text_is_bad_input(cli: Cli) -> None:
    result = subprocess.run(
        [SCRIPT, "keys", "explain", "--stdin", "--db", cli.url],
        input=b"\xff\xfe\n",
        capture_output=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C.UTF-8"},
    )
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: input: ")


class Terminal:
    """The script on a terminal of its own."""

    def __init__(self, *args: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [SCRIPT, *args], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def wait_for(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + 20
        while self.seen.count(text) < times:
            assert time.monotonic() < deadline, self.seen
            self._read(0.2)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode() + b"\n")

    def end(self) -> int:
        """Read to the end; returns the exit code."""
        deadline = time.monotonic() + 20
        try:
            while self._read(0.2):
                assert time.monotonic() < deadline, self.seen
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.master)

    def _read(self, patience: float) -> bool:
        if not select.select([self.master], [], [], patience)[0]:
            return True
        try:
            got = os.read(self.master, 65_536)
        except OSError:  # what Linux says when nobody holds the other end any more
            return False
        self.seen += got.decode(errors="replace")
        return bool(got)


def test_a_person_at_a_terminal_types_a_custom_key_unseen_and_gets_a_line_to_paste(cli: Cli) -> None:
    terminal = Terminal("keys", "create", "prod-api", "--custom-key", "--db", cli.url)
    terminal.wait_for("Text of the key: ")
    terminal.type(CUSTOM)
    terminal.wait_for("Text of the key (again): ")
    terminal.type(CUSTOM)
    assert terminal.end() == 0
    assert terminal.seen.count(CUSTOM) == 1
    assert f"export API_KEY={CUSTOM}" in terminal.seen
    assert "curl -H" in terminal.seen
    assert "will not be shown again" in terminal.seen


def test_two_different_entries_at_a_terminal_make_no_key(cli: Cli) -> None:
    terminal = Terminal("keys", "create", "prod-api", "--custom-key", "--db", cli.url)
    terminal.wait_for("Text of the key: ")
    terminal.type(CUSTOM)
    terminal.wait_for("Text of the key (again): ")
    terminal.type(CUSTOM + "x")
    assert terminal.end() == 2
    assert CUSTOM not in terminal.seen
    assert cli.json("keys", "list")["keys"] == []


def test_control_c_at_a_question_ends_at_once_and_deletes_nothing(cli: Cli) -> None:
    cli.create("prod-api")
    terminal = Terminal("keys", "delete", "prod-api", "--db", cli.url)
    terminal.wait_for("Type its name to go on: ")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen
    assert len(cli.json("keys", "list")["keys"]) == 1


def test_a_secret_is_handed_over_though_the_store_cannot_be_asked_for_hints_any_more(cli: Cli, database: Path) -> None:
    cli.create("prod-api")
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE ak_groups RENAME TO elsewhere")
    result = cli.ok("keys", "create", "prod-api", "--group", "paid")
    assert "hint: the name 'prod-api' has another key too" in result.stderr
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE elsewhere RENAME TO ak_groups")
    explained = cli.run("keys", "explain", "--stdin", "--json", typed=result.stdout)
    assert json.loads(explained.stdout)["key"]["group"] == "paid"


def test_a_change_of_the_group_is_told_though_the_store_cannot_be_asked_for_hints(cli: Cli, database: Path) -> None:
    cli.create("prod-api")
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE ak_groups RENAME TO elsewhere")
    result = cli.ok("keys", "update", "prod-api", "--group", "paid")
    assert "updated prod-api" in result.stderr
