"""The command and a guarded app share one database: each sees what the other did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from ak_guard import ApiKeyMiddleware
from tests.support import bearer, echo_app, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Cli


@pytest.fixture
def server(cli: Cli) -> Iterator[httpx2.Client]:
    """A guarded app under a real server on the database of the command."""
    with (
        running(ApiKeyMiddleware(echo_app(), backend=cli.url)) as url,
        httpx2.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


def _statuses(server: httpx2.Client, secret: str, calls: int) -> list[int]:
    return [server.get("/v1/models", headers=bearer(secret)).status_code for _ in range(calls)]


def test_what_an_app_used_is_seen_by_show(cli: Cli, server: httpx2.Client) -> None:
    secret, key = cli.create("prod-api", "--limit", "5/5h", "--limit", "100/7d", "--quota", "50")
    assert _statuses(server, secret, 3) == [200, 200, 200]
    status = cli.show(key["id"])["status"]
    assert [(window["name"], window["used"], window["remaining"]) for window in status["windows"]] == [
        ("5h", 3, 2),
        ("7d", 3, 97),
    ]
    assert status["windows"][0]["resets_at"].endswith("Z")
    assert (status["quota"]["used"], status["quota"]["remaining"]) == (3, 47)
    shown = cli.ok("keys", "show", key["id"]).stdout
    for words in ("3/5", "3/100", "3/50", "in 5 hours", "in 7 days", "never by itself"):
        assert words in shown
    listed = cli.ok("keys", "list").stdout
    assert "3/50" in listed
    assert "5h 3/5, resets in 5 hours" in listed


def test_a_reset_lets_a_key_in_again(cli: Cli, server: httpx2.Client) -> None:
    secret, _ = cli.create("prod-api", "--limit", "2/5h", "--quota", "3")
    assert _statuses(server, secret, 3) == [200, 200, 429]
    done = cli.json("keys", "reset", "prod-api", "--limits")["keys"][0]["status"]
    assert (done["windows"][0]["used"], done["quota"]["used"]) == (0, 2)
    cli.ok("workers", "--wait")
    assert _statuses(server, secret, 2) == [200, 429]
    assert "0/3" in cli.ok("keys", "reset", "prod-api", "--quota", "--limits").stdout
    cli.ok("workers", "--wait")
    assert _statuses(server, secret, 3) == [200, 200, 429]


def test_explain_says_what_the_app_then_does(cli: Cli, server: httpx2.Client) -> None:
    secret, _ = cli.create("prod-api", "--limit", "2/5h")
    assert cli.run("keys", "explain", "prod-api").exit_code == 0
    assert _statuses(server, secret, 2) == [200, 200]
    refused = cli.run("keys", "explain", "prod-api", "--json")
    assert refused.exit_code == 4
    assert '"code": "rate_limit_exceeded"' in refused.stdout
    for_people = cli.run("keys", "explain", "--stdin", typed=secret)
    assert for_people.exit_code == 4
    assert "refuse: rate_limit_exceeded" in for_people.stdout
    assert "it would pass in 5 hours" in for_people.stdout
    assert _statuses(server, secret, 1) == [429]
    assert cli.run("keys", "explain", "prod-api", "--at", "2099-01-01T00:00:00Z").exit_code == 0


def test_explain_tells_every_rule_with_its_margin(cli: Cli) -> None:
    cli.ok("groups", "create", "paid", "--route", "POST /v1/chat/*", "--multiplier", "2")
    cli.create(
        *("prod-api", "--group", "paid", "--allow-ip", "203.0.113.0/24", "--limit", "100/5h", "--quota", "30"),
        *("--expires-in", "10d"),
    )
    request = ("--ip", "203.0.113.7", "--method", "post", "--path", "/v1/chat/completions", "--cost", "10")
    found = cli.json("keys", "explain", "prod-api", *request)
    assert (found["admitted"], found["code"]) == (True, "admitted")
    rules = {rule["name"]: rule for rule in found["rules"]}
    assert list(rules) == ["state", "address", "group and route", "5h", "quota"]
    assert all(rule["passed"] and rule["code"] is None for rule in rules.values())
    assert 9.9 * 86_400 < rules["state"]["margin"] <= 10 * 86_400
    assert (rules["5h"]["margin"], rules["quota"]["margin"]) == (80, 10)
    assert [rule["need"] for rule in rules.values()] == [None, None, None, 20, 20]
    too_much = cli.run("keys", "explain", "prod-api", *request[:-1], "20", "--json")
    assert too_much.exit_code == 4
    assert '"code": "insufficient_quota"' in too_much.stdout
    assert "group_not_allowed" in cli.run("keys", "explain", "prod-api", "--ip", "203.0.113.7", "--path", "/x").stdout
    assert "waiting does not help" in cli.run("keys", "explain", "prod-api", "--ip", "198.51.100.1").stdout
