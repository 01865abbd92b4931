"""`keys create --template`: each fills in what was not given, and says so."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard.cli.templates import TEMPLATES, TemplateName, fill
from ak_guard.inputs import limits

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def _lifetime(key: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])


def test_temporary_ends_by_itself_and_is_limited(cli: Cli) -> None:
    result = cli.ok("keys", "create", "dev-contractor", "--template", "temporary")
    assert "added expires in 14d; limits 1000/1d" in result.stderr
    key = cli.show("dev-contractor")["key"]
    assert _lifetime(key) == timedelta(days=14)
    assert key["limits"] == ["1000/1d"]


def test_temporary_leaves_what_was_given(cli: Cli) -> None:
    result = cli.ok("keys", "create", "dev-a", "--template", "temporary", "--expires-in", "2d", "--limit", "5/1h")
    assert "added" not in result.stderr
    key = cli.show("dev-a")["key"]
    assert _lifetime(key) == timedelta(days=2)
    assert key["limits"] == ["5/1h"]
    _, dated = cli.create("dev-b", "--template", "temporary", "--expires-at", "2099-01-01T00:00:00Z", "--no-limits")
    assert dated["expires_at"] == "2099-01-01T00:00:00Z"
    assert dated["limits"] == []


def test_fixed_server_needs_an_address(cli: Cli) -> None:
    refused = cli.run("keys", "create", "prod-a", "--template", "fixed-server")
    assert refused.exit_code == 2
    assert "allow_ips: " in refused.stderr
    assert "--allow-ip" in refused.stderr
    assert cli.json("keys", "list")["keys"] == []
    _, key = cli.create("prod-a", "--template", "fixed-server", "--allow-ip", "203.0.113.7")
    assert key["limits"] == ["1000/5h", "3000/1d", "10000/7d"]
    assert key["allow_ips"] == ["203.0.113.7"]
    assert key["expires_at"] is None


def test_tight_budget_needs_a_quota(cli: Cli) -> None:
    refused = cli.run("keys", "create", "prod-a", "--template", "tight-budget")
    assert refused.exit_code == 2
    assert "quota: " in refused.stderr
    assert "--quota" in refused.stderr
    _, key = cli.create("prod-a", "--template", "tight-budget", "--quota", "100000")
    assert key["limits"] == ["100/5h", "300/1d", "1000/7d"]
    assert key["quota"] == 100_000


def test_a_quota_of_nothing_is_a_quota(cli: Cli) -> None:
    _, key = cli.create("prod-a", "--template", "tight-budget", "--quota", "0")
    assert key["quota"] == 0


def test_an_unknown_template_is_wrong_usage_that_names_those_there_are(cli: Cli) -> None:
    result = cli.run("keys", "create", "prod-a", "--template", "generous")
    assert result.exit_code == 2
    for name in TEMPLATES:
        assert name in result.stderr


@pytest.mark.parametrize("name", list(TemplateName))
def test_what_templates_fill_in_is_good_input(name: TemplateName) -> None:
    given = {"allow_ips": ["203.0.113.7"], "quota": 5, "expires_in": None, "expires_at": None, "limits": None}
    filled, said = fill(name, given)
    read = limits(filled["limits"])
    assert read is not None
    assert ", ".join(map(str, read)) in said[-1]
