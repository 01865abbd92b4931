"""`ak-guard keys`: what goes in comes out, and changes change what they name."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ak_guard.backends import SQLBackend
from ak_guard.usage import UsageRecord

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def test_every_option_of_create_shows_again(cli: Cli) -> None:
    _, made = cli.create(
        "prod-billing",
        *("--group", "paid", "--owner", "team-billing", "--quota", "5000"),
        *("--allow-ip", "203.0.113.7", "--allow-ip", "10.0.0.5/8", "--deny-ip", "10.1.0.0/16"),
        *("--expires-at", "2099-01-31T12:00:00Z", "--limit", "1000/5h", "--limit", "500 requests/1d calendar"),
        *("--metadata", "ticket=OPS-1", "--metadata", "note=a=b"),
        *("--max-concurrency", "5"),
    )
    shown = cli.show(made["id"])
    assert shown["key"] == made
    assert made["name"] == "prod-billing"
    assert (made["state"], made["environment"], made["enabled"]) == ("active", "production", True)
    assert (made["group"], made["owner"], made["quota"]) == ("paid", "team-billing", 5000)
    assert sorted(made["allow_ips"]) == ["10.0.0.0/8", "203.0.113.7"]
    assert made["deny_ips"] == ["10.1.0.0/16"]
    assert made["expires_at"] == "2099-01-31T12:00:00Z"
    assert made["limits"] == ["1000/5h", "500 requests/1d calendar"]
    assert made["metadata"] == {"ticket": "OPS-1", "note": "a=b"}
    assert made["max_concurrency"] == 5
    assert shown["status"]["concurrency"] == {"limit": 5, "used": 0, "remaining": 5}
    assert [window["name"] for window in shown["status"]["windows"]] == ["5h", "1d-requests-calendar"]
    assert (shown["status"]["quota"]["used"], shown["status"]["quota"]["limit"]) == (0, 5000)


def test_show_tells_people_every_rule_and_what_is_left(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-api", "--quota", "5000", "--limit", "1000/5h", "--expires-in", "14d")
    text = cli.ok("keys", "show", "prod-api").stdout
    for words in ("prod-api [production]", "active", "in 14 days", "0/5000", "0/1000", "not started"):
        assert words in text


def test_how_many_requests_run_at_once_is_shown_changed_and_cleared(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-api", "--max-concurrency", "5")
    text = cli.ok("keys", "show", "prod-api").stdout
    assert "at most 5" in text
    assert "0 of 5 requests that may run at once" in text
    cli.ok("keys", "update", "prod-api", "--max-concurrency", "7")
    assert cli.show("prod-api")["key"]["max_concurrency"] == 7
    cli.ok("keys", "update", "prod-api", "--clear", "max-concurrency")
    assert cli.show("prod-api")["status"]["concurrency"] is None
    assert "any number" in cli.ok("keys", "show", "prod-api").stdout


def test_names_are_shown_as_they_are_typed_and_never_read_as_markup(cli: Cli) -> None:
    cli.ok("keys", "create", "[red]prod[/red] :smile:", "--metadata", "a=[bold]", "--metadata", "b=1")
    assert "[red]prod[/red] :smile:" in cli.ok("keys", "list").stdout
    assert "a=[bold], b=1" in cli.ok("keys", "show", "[red]prod[/red] :smile:").stdout


def test_the_state_is_one_word(cli: Cli) -> None:
    _, key = cli.create("prod-api")
    assert key["state"] == "active"
    cli.ok("keys", "update", key["id"], "--expires-at", "2020-01-01T00:00:00Z")
    assert cli.show("prod-api")["key"]["state"] == "expired"
    assert "ago" in cli.ok("keys", "show", "prod-api").stdout
    cli.ok("keys", "disable", "prod-api")
    assert cli.show("prod-api")["key"]["state"] == "disabled"
    assert "disabled" in cli.ok("keys", "list").stdout


def test_expires_in_counts_from_now(cli: Cli) -> None:
    before = datetime.now(UTC)
    _, key = cli.create("dev-a", "--expires-in", "30d")
    left = datetime.fromisoformat(key["expires_at"]) - before - timedelta(days=30)
    assert timedelta(0) <= left < timedelta(minutes=1)


def test_no_limits_differs_from_the_limits_of_the_group(cli: Cli) -> None:
    cli.ok("groups", "create", "paid", "--limit", "60/1m")
    _, inheriting = cli.create("prod-a", "--group", "paid")
    _, unlimited = cli.create("prod-b", "--group", "paid", "--no-limits")
    assert inheriting["limits"] is None
    assert [window["name"] for window in cli.show("prod-a")["status"]["windows"]] == ["1m"]
    assert unlimited["limits"] == []
    assert cli.show("prod-b")["status"]["windows"] == []


def test_list_filters_and_pages(cli: Cli) -> None:
    for name, *options in (
        ("prod-a", "--owner", "ann"),
        ("prod-b", "--group", "paid"),
        ("dev-c", "--disabled"),
        ("dev-d",),
    ):
        cli.ok("keys", "create", name, *options)

    def names(*args: str) -> list[str]:
        return [key["name"] for key in cli.json("keys", "list", *args)["keys"]]

    assert names() == ["dev-d", "dev-c", "prod-b", "prod-a"]
    assert names("--search", "PROD") == ["prod-b", "prod-a"]
    assert names("--group", "paid") == ["prod-b"]
    assert names("--owner", "ann") == ["prod-a"]
    assert names("--disabled") == ["dev-c"]
    assert names("--enabled") == ["dev-d", "prod-b", "prod-a"]
    assert names("--environment", "production", "--state", "active") == ["prod-b", "prod-a"]
    assert names("--sort", "name") == ["dev-c", "dev-d", "prod-a", "prod-b"]
    # Nobody knows yet of a key that is younger than that.
    assert names("--unused") == []
    first = cli.json("keys", "list", "--page-size", "3")
    assert (first["total"], first["counts"]["disabled"]) == (4, 1)
    assert names("--after", first["next"]) == ["prod-a"]
    assert cli.json("keys", "list")["next"] is None
    assert f"3 of 4; for more add --after {first['next']}" in cli.ok("keys", "list", "--page-size", "3").stderr
    assert "No keys match." in cli.ok("keys", "list", "--search", "nothing").stdout


def test_list_tells_when_and_from_where_keys_were_used(cli: Cli) -> None:
    _, spare = cli.create("prod-spare")
    _, used = cli.create("prod-used")
    now = time.time()
    habit = [_call(used["id"], now - 2 * 86_400 + second, "203.0.113.7") for second in range(20)]

    async def record() -> None:
        backend = SQLBackend(cli.url)
        await backend.start()
        await backend.add_usage("habit", habit)
        await backend.add_usage("now", [_call(used["id"], now, "198.51.100.9")])
        await backend.aclose()

    asyncio.run(record())
    (found,) = cli.json("keys", "list", "--search", "198.51.100.9")["keys"]
    assert (found["id"], found["last_used_ip"], found["new_network"]) == (used["id"], "198.51.100.9", True)
    shown = cli.ok("keys", "list", "--sort", "last_used").stdout
    assert shown.index(spare["id"]) < shown.index(used["id"])
    assert "never" in shown
    assert "new network" in shown

    told = cli.json("usage", "prod-used")["anomalies"]
    assert [(one["kind"], one["subject"]) for one in told] == [("new_network", "198.51.100.0/24")]
    assert "unusual: 1 calls" in cli.ok("usage", "prod-used").stdout
    assert cli.ok("keys", "learn", "prod-used").stdout == "203.0.113.7\n"
    cli.ok("keys", "known", "prod-used", "198.51.100.9/24")
    assert cli.show("prod-used")["key"]["metadata"] == {"known_networks": ["198.51.100.0/24"]}
    assert not cli.json("keys", "list", "--search", "198.51.100.9")["keys"][0]["new_network"]
    cli.ok("keys", "known", "prod-used", "198.51.100.0/24", "--forget")
    assert cli.show("prod-used")["key"]["metadata"] == {"known_networks": []}
    assert cli.json("keys", "list", "--search", "198.51.100.9")["keys"][0]["new_network"]


def test_an_allow_list_is_learned_from_calls_and_applied_when_it_is_said(cli: Cli) -> None:
    _, made = cli.create("prod-api")
    result = cli.run("keys", "learn", "prod-api", "--apply")
    assert result.exit_code == 2
    assert "no call of prod-api was admitted since then" in result.stderr

    async def record() -> None:
        backend = SQLBackend(cli.url)
        await backend.start()
        await backend.add_usage("one", [_call(made["id"], time.time() - 60, f"203.0.113.{last}") for last in (7, 8)])
        await backend.aclose()

    asyncio.run(record())
    assert cli.json("keys", "learn", "prod-api")["addresses"] == ["203.0.113.7", "203.0.113.8"]
    assert cli.show("prod-api")["key"]["allow_ips"] == []
    assert cli.json("keys", "learn", "prod-api", "--since", "1s")["addresses"] == ["203.0.113.7", "203.0.113.8"]
    assert cli.json("keys", "learn", "prod-api", "--apply")["applied"]
    assert sorted(cli.show("prod-api")["key"]["allow_ips"]) == ["203.0.113.7", "203.0.113.8"]


def _call(key_id: str, at: float, ip: str) -> UsageRecord:
    return UsageRecord(at, key_id, "default", ip, "GET", "/", 200, "admitted", 1, 0.1)


def test_list_shows_people_what_is_used_and_scripts_when_they_ask(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-a", "--quota", "70", "--limit", "9/5h")
    shown = cli.ok("keys", "list").stdout
    assert "0/70" in shown
    assert "5h 0/9" in shown
    assert "0/70" not in cli.ok("keys", "list", "--no-usage").stdout
    assert "status" not in cli.json("keys", "list")["keys"][0]
    assert cli.json("keys", "list", "--usage")["keys"][0]["status"]["quota"]["limit"] == 70


def test_update_changes_what_is_named_and_keeps_the_rest(cli: Cli) -> None:
    _, before = cli.create("prod-a", "--quota", "5", "--owner", "ann", "--limit", "9/5h", "--allow-ip", "203.0.113.7")
    after = cli.json("keys", "update", "prod-a", "--quota", "6", "--name", "prod-b", "--metadata", "a=b")["key"]
    changed = {"quota": 6, "name": "prod-b", "metadata": {"a": "b"}, "updated_at": after["updated_at"]}
    assert after == {**before, **changed}
    assert cli.show("prod-b")["key"] == after


@pytest.mark.parametrize(
    ("field", "given", "empty"),
    [
        ("quota", ("--quota", "5"), None),
        ("expires-at", ("--expires-in", "5d"), None),
        ("allow-ips", ("--allow-ip", "203.0.113.7"), []),
        ("deny-ips", ("--deny-ip", "203.0.113.7"), []),
        ("limits", ("--limit", "5/5h"), None),
        ("owner", ("--owner", "ann"), None),
        ("group", ("--group", "paid"), "default"),
        ("metadata", ("--metadata", "a=b"), {}),
    ],
)
def test_clear_takes_a_field_away(cli: Cli, field: str, given: tuple[str, str], empty: object) -> None:
    name = field.replace("-", "_")
    _, before = cli.create("prod-a", *given)
    assert before[name] != empty
    assert cli.json("keys", "update", "prod-a", "--clear", field)["key"][name] == empty
    assert cli.run("keys", "update", "prod-a", "--clear", field, *given).exit_code == 2


def test_update_without_limits_of_any_kind(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-a", "--limit", "5/5h")
    assert cli.json("keys", "update", "prod-a", "--no-limits")["key"]["limits"] == []


def test_several_keys_are_switched_at_once_or_not_at_all(cli: Cli) -> None:
    for name in ("prod-a", "prod-b", "prod-c"):
        cli.ok("keys", "create", name)
    result = cli.run("keys", "disable", "prod-a", "nobody", "prod-b")
    assert result.exit_code == 3
    assert len(cli.json("keys", "list", "--enabled")["keys"]) == 3
    disabled = cli.json("keys", "disable", "prod-a", "prod-b", "prod-a")["keys"]
    assert [(key["name"], key["state"]) for key in disabled] == [("prod-a", "disabled"), ("prod-b", "disabled")]
    assert "enabled prod-a" in cli.ok("keys", "enable", "prod-a", "prod-b").stdout
    assert len(cli.json("keys", "list", "--enabled")["keys"]) == 3


def test_a_name_that_two_keys_have_is_answered_with_their_ids(cli: Cli) -> None:
    _, one = cli.create("prod-a")
    _, two = cli.create("prod-a")
    cli.create("prod-a-longer")
    result = cli.run("keys", "disable", "prod-a")
    assert result.exit_code == 2
    assert one["id"] in result.stderr
    assert two["id"] in result.stderr
    assert cli.json("keys", "disable", two["id"])["keys"][0]["id"] == two["id"]


def test_a_name_beyond_ascii_finds_its_key(cli: Cli) -> None:
    _, key = cli.create("prod-Straße-客服")
    assert cli.show("prod-Straße-客服")["key"]["id"] == key["id"]
    assert cli.run("keys", "show", "prod-strasse-客服").exit_code == 3


def test_delete_asks_for_the_name(cli: Cli) -> None:
    _, key = cli.create("prod-a")
    wrong = cli.run("keys", "delete", key["id"], typed="yes\n")
    assert wrong.exit_code == 2
    assert "prod-a" in wrong.stderr
    nothing = cli.run("keys", "delete", key["id"], typed="")
    assert nothing.exit_code == 2
    assert "nothing was changed" in nothing.stderr
    assert cli.show("prod-a")["key"] == key
    assert cli.json("keys", "delete", "prod-a", typed="prod-a\n") == {"deleted": [key["id"]]}
    assert cli.run("keys", "show", key["id"]).exit_code == 3


def test_delete_of_several_asks_for_all_names_before_the_first_is_gone(cli: Cli) -> None:
    cli.create("prod-a")
    cli.create("prod-b")
    assert cli.run("keys", "delete", "prod-a", "prod-b", typed="prod-a\nno\n").exit_code == 2
    assert len(cli.json("keys", "list")["keys"]) == 2
    assert len(cli.json("keys", "delete", "prod-a", "prod-b", "--yes")["deleted"]) == 2
    assert cli.json("keys", "list")["keys"] == []


def test_a_name_without_environment_gets_advice_and_no_error(cli: Cli) -> None:
    advice = "customer-support-tool"
    assert advice in cli.ok("keys", "create", "frontend").stderr
    assert advice not in cli.ok("keys", "create", "staging-web").stderr
    assert advice not in cli.ok("keys", "create", "billing-worker").stderr
    assert advice in cli.ok("keys", "update", "staging-web", "--name", "web").stderr


def test_a_group_that_is_not_stored_is_warned_of(cli: Cli) -> None:
    assert "no group 'paid'" in cli.ok("keys", "create", "prod-a", "--group", "paid").stderr
    cli.ok("groups", "create", "paid")
    assert "no group" not in cli.ok("keys", "create", "prod-b", "--group", "paid").stderr
    assert "no group 'piad'" in cli.ok("keys", "update", "prod-b", "--group", "piad").stderr


def test_metadata_cannot_move_the_cursor(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-a", "--metadata", "note=\x1b[2Jgone\nnext")
    text = cli.ok("keys", "show", "prod-a").stdout
    assert "\x1b" not in text
    assert r"\u001b[2Jgone\nnext" in text


def test_search_looks_past_case_in_every_script(cli: Cli) -> None:
    cli.create("prod-Ärger")
    cli.create("prod-客服")
    assert [key["name"] for key in cli.json("keys", "list", "--search", "客服")["keys"]] == ["prod-客服"]
    assert [key["name"] for key in cli.json("keys", "list", "--search", "ärger")["keys"]] == ["prod-Ärger"]


def test_a_change_is_said_to_reach_running_apps_within_a_second(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-a")
    cli.ok("groups", "create", "paid")
    for args in (
        ("keys", "disable", "prod-a"),
        ("keys", "enable", "prod-a"),
        ("keys", "update", "prod-a", "--quota", "5"),
        ("keys", "rotate", "prod-a"),
        ("groups", "update", "paid", "--multiplier", "2"),
        ("groups", "delete", "paid", "--yes"),
        ("keys", "delete", "prod-a", "--yes"),
    ):
        lines = cli.ok(*args).stderr.splitlines()
        assert lines.count("Running apps follow within a second, as long as they reach the database.") == 1, args


def test_an_expiry_is_echoed_as_a_moment_and_a_distance(cli: Cli) -> None:
    made = cli.ok("keys", "create", "prod-a", "--expires-in", "360d").stderr
    ends = datetime.fromisoformat(cli.show("prod-a")["key"]["expires_at"])
    assert f"expires {ends:%Y-%m-%d %H:%M} UTC, in 360 days" in made
    moved = cli.ok("keys", "update", "prod-a", "--expires-at", "2020-01-31T12:00:00Z").stderr
    assert "expired 2020-01-31 12:00 UTC, " in moved
    assert "never expires" in cli.ok("keys", "update", "prod-a", "--clear", "expires-at").stderr


def test_a_name_that_another_key_has_gets_a_hint_with_its_id(cli: Cli) -> None:
    _, first = cli.create("prod-a")
    cli.create("prod-a-longer")
    told = cli.ok("keys", "create", "prod-a").stderr
    assert f"hint: the name 'prod-a' has another key too ({first['id']})" in told
    assert "another key" not in cli.ok("keys", "create", "prod-b").stderr


def test_a_group_that_the_app_may_define_is_not_called_unlimited(cli: Cli) -> None:
    cli.ok("keys", "create", "prod-a", "--group", "paid")
    cli.ok("keys", "create", "prod-b", "--group", "paid", "--quota", "70")
    unknown = "The limits of group 'paid' are not stored here; the app may define it."
    for name in ("prod-a", "prod-b"):
        shown = cli.ok("keys", "show", name).stdout
        assert unknown in shown
        assert "not limited" not in shown
    assert "0/70" in shown
    assert "group paid" in cli.ok("keys", "list").stdout
    cli.ok("groups", "create", "paid")
    assert "this key is not limited" in cli.ok("keys", "show", "prod-a").stdout
    cli.ok("keys", "create", "prod-c")
    assert "this key is not limited" in cli.ok("keys", "show", "prod-c").stdout


def test_recent_callers_are_locked_out_only_by_force(cli: Cli) -> None:
    _, made = cli.create("prod-a")
    record = UsageRecord(time.time() - 60, made["id"], "default", "198.51.100.7", "GET", "/", 200, "admitted", 1, 0.1)

    async def called() -> None:
        backend = SQLBackend(cli.url)
        await backend.add_usage("batch", [record])
        await backend.aclose()

    asyncio.run(called())
    refused = cli.run("keys", "update", "prod-a", "--allow-ip", "192.0.2.1")
    assert refused.exit_code == 2
    assert "error: allow_ips: would lock out 198.51.100.7, admitted within the last days" in refused.stderr
    assert "hint: --force saves it all the same" in refused.stderr
    assert cli.show("prod-a")["key"]["allow_ips"] == []
    cli.ok("keys", "update", "prod-a", "--allow-ip", "192.0.2.1", "--force")
    assert cli.show("prod-a")["key"]["allow_ips"] == ["192.0.2.1"]
