"""`ak-guard groups`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def test_a_group_is_made_shown_changed_and_deleted(cli: Cli) -> None:
    made = cli.json(
        *("groups", "create", "paid", "--route", "POST /v1/chat/*", "--route", "/v1/models"),
        *("--limit", "60/1m", "--shared-limit", "5000/1d", "--multiplier", "2.5"),
    )["group"]
    assert made == {
        "name": "paid",
        "enabled": True,
        "routes": ["POST /v1/chat/*", "/v1/models"],
        "limits": ["60/1m"],
        "shared_limits": ["5000/1d"],
        "multiplier": "2.5",
    }
    assert cli.json("groups", "show", "paid")["group"] == made
    changed = cli.json("groups", "update", "paid", "--limit", "90/1m", "--disabled", "--multiplier", "1/3")["group"]
    assert changed == {**made, "limits": ["90/1m"], "enabled": False, "multiplier": "1/3"}
    cleared = cli.json(
        "groups",
        "update",
        "paid",
        "--enabled",
        "--clear",
        "routes",
        "--clear",
        "multiplier",
        "--clear",
        "shared-limits",
    )["group"]
    assert cleared == {**changed, "enabled": True, "routes": [], "multiplier": "1", "shared_limits": []}
    assert cli.json("groups", "list")["groups"] == [cleared]
    assert cli.json("groups", "delete", "paid", "--yes") == {"deleted": ["paid"]}
    assert cli.run("groups", "show", "paid").exit_code == 3


def test_people_see_the_rules_of_groups(cli: Cli) -> None:
    assert "default" in cli.ok("groups", "list").stdout
    cli.ok("groups", "create", "paid", "--route", "/v1/*", "--limit", "60/1m", "--multiplier", "2")
    for text in (cli.ok("groups", "list").stdout, cli.ok("groups", "show", "paid").stdout):
        for word in ("paid", "enabled", "/v1/*", "60/1m", "2"):
            assert word in text


def test_delete_says_how_many_keys_it_shuts_out_and_asks_for_the_name(cli: Cli) -> None:
    cli.ok("groups", "create", "paid")
    cli.create("prod-a", "--group", "paid")
    refused = cli.run("groups", "delete", "paid", typed="no\n")
    assert refused.exit_code == 2
    assert "1 key" in refused.stderr
    cli.create("prod-b", "--group", "paid")
    told = cli.ok("groups", "delete", "paid", typed="paid\n").stderr
    assert "2 keys" in told
    assert "follow within a second" in told
    assert cli.json("groups", "list")["groups"] == []


def test_groups_say_what_is_wrong(cli: Cli) -> None:
    cli.ok("groups", "create", "paid")
    for args, code, words in (
        (("create", "paid"), 2, "name: "),
        (("create", "other", "--route", "no-slash"), 2, "routes: "),
        (("create", "other", "--multiplier", "much"), 2, "multiplier: "),
        (("create", "other", "--shared-limit", "much"), 2, "shared_limits: "),
        (("update", "nobody", "--multiplier", "2"), 3, "nobody"),
        (("update", "paid"), 2, "nothing to change"),
        (("update", "paid", "--limit", "1/1m", "--clear", "limits"), 2, "limits: "),
        (("delete", "nobody", "--yes"), 3, "nobody"),
    ):
        result = cli.run("groups", *args)
        assert result.exit_code == code, args
        assert words in result.stderr.splitlines()[0]
        assert result.stdout == ""
