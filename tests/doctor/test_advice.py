"""Which keys ignore good advice, and what settings and workers give away."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ak_guard import ApiKey, Group
from ak_guard.backends.documents import VERSION
from ak_guard.backends.http.address import is_open_wire
from ak_guard.backends.http.condition import Condition as ServiceCondition
from ak_guard.backends.workers import Confirmation, Worker
from ak_guard.cli.run import defaults
from ak_guard.database.condition import Condition
from ak_guard.doctor import service, setup, store
from ak_guard.doctor.finding import Finding, Severity
from ak_guard.doctor.keys import advice
from ak_guard.records import parse_limits

NOW = datetime(2027, 1, 31, 12, tzinfo=UTC)
GOOD = ApiKey("key_1", "prod-api", quota=10, limits=parse_limits(["10/1d"]), hint="ak_…abcd")


def _codes(*keys: ApiKey, unpeppered: tuple[str, ...] = (), groups: tuple[Group, ...] = ()) -> set[str]:
    return {finding.code for finding in advice(keys, {group.name: group for group in groups}, unpeppered, NOW)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "prod-shared"}, "shared_key"),
        ({"name": "api"}, "no_environment"),
        ({"name": "prod-contractor.jane"}, "no_end"),
        ({"name": "dev-Hackathon"}, "no_end"),
        ({"name": "prod-billing_worker"}, "no_addresses"),
        ({"quota": None}, "no_quota"),
        ({"quota": None, "limits": None}, "no_limits"),
        ({"quota": None, "limits": ()}, "no_limits"),
        ({"hint": "…abcd"}, "custom_without_pepper"),
    ],
)
def test_a_key_that_ignores_one_advice_is_told_just_that(changes: dict[str, Any], code: str) -> None:
    key = replace(GOOD, **changes)
    assert _codes(key, unpeppered=("key_1",)) == {code}
    # A key that lets nobody in needs no advice.
    assert _codes(replace(key, enabled=False), unpeppered=("key_1",)) == set()
    assert _codes(replace(key, expires_at=NOW), unpeppered=("key_1",)) - {"no_end"} == set()


@pytest.mark.parametrize(
    ("changes", "groups"),
    [
        ({}, ()),
        ({"name": "prod-contractor", "expires_at": NOW + timedelta(days=1)}, ()),
        ({"name": "prod-worker", "allow_ips": ("203.0.113.7/32",)}, ()),
        ({"name": "prod-teamwork"}, ()),
        ({"name": "customer-support-tool"}, ()),
        ({"hint": "…abcd"}, ()),
    ],
)
def test_a_key_that_follows_advice_is_left_alone(changes: dict[str, Any], groups: tuple[Group, ...]) -> None:
    assert _codes(replace(GOOD, **changes), groups=groups) == set()


def test_limits_may_come_from_the_group() -> None:
    key = replace(GOOD, quota=None, limits=None, group="paid")
    assert _codes(key, groups=(Group("paid", limits=["10/1d"]),)) == {"no_quota"}
    assert _codes(key, groups=(Group("paid", shared_limits=["10/1d"]),)) == {"no_quota"}
    assert _codes(key, groups=(Group("paid"),)) == {"no_limits"}
    # It may be defined in the app.
    assert _codes(key) == {"no_quota"}


def test_keys_of_one_name_are_told_together_and_many_are_counted() -> None:
    (same,) = advice([GOOD, replace(GOOD, id="key_2", name="Prod-API")], {}, (), NOW)
    assert (same.code, same.about) == ("same_name", ("key_1", "key_2"))
    many = [replace(GOOD, id=f"key_{at}", name=f"api {at}") for at in range(7)]
    (told,) = advice(many, {}, (), NOW)
    assert "api 0, api 1, api 2, api 3, api 4 and 2 more" in told.what
    assert told.mend == "ak-guard keys update key_0 --name 'prod-api 0'"
    assert len(told.about) == 7


def _found(*found: Finding) -> list[tuple[str, str]]:
    return [(str(finding.severity), finding.code) for finding in found]


@pytest.mark.parametrize(
    ("settings", "environment", "found"),
    [
        ({}, {}, []),
        ({}, {"FORWARDED_ALLOW_IPS": "127.0.0.1,::1"}, []),
        ({}, {"FORWARDED_ALLOW_IPS": "10.0.0.1, *"}, [("warning", "forwarded_from_everybody")]),
        ({"trusted_proxies": ["10.0.0.0/8", "0.0.0.0/0"]}, {}, [("warning", "proxies_are_everybody")]),
        ({"trusted_proxies": ["10.0.0.0/8"]}, {}, []),
        ({"mode": "report"}, {}, [("warning", "report_mode")]),
        ({"failure_limit": None}, {}, [("warning", "no_failure_limit")]),
        ({"stale_if_error": 86_400.0}, {}, [("advice", "long_stale_if_error")]),
        ({"backend": "memory://"}, {}, [("warning", "memory_backend")]),
    ],
)
def test_settings_that_weaken_the_guard_are_told(
    settings: dict[str, Any], environment: dict[str, str], found: list[tuple[str, str]]
) -> None:
    options = defaults()._replace(**settings)
    assert _found(*setup.proxies(options, environment), *setup.rules(options)) == found


def _worker(name: str, *counters: str, silent: bool = False, behind: int = 0) -> Worker:
    return Worker(name, name, NOW, NOW - timedelta(seconds=1), NOW + timedelta(minutes=1), behind, counters, silent, 6)


@pytest.mark.parametrize(
    ("workers", "code"),
    [
        ([_worker("a", "the memory of vm:1")], None),
        ([_worker("a", "the memory of vm:1"), _worker("b", "the memory of vm:2")], "limits_not_shared"),
        ([_worker("a", "the memory of vm:1"), _worker("b", "the memory of vm:2", silent=True)], None),
        ([_worker("a", "beside the keys"), _worker("b", "beside the keys")], None),
        ([_worker("a", "beside the keys"), _worker("b", "redis://one:6379/0")], "limits_in_several_places"),
    ],
)
def test_workers_that_count_apart_are_told(workers: list[Worker], code: str | None) -> None:
    assert [finding.code for finding in store.counters(workers)] == ([] if code is None else [code])


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        ([], False),
        (["10.0.0.5"] * 2, False),
        (["10.0.0.5"] * 3, True),
        (["::1"] * 3, True),
        (["10.0.0.5", "10.0.0.5", "10.0.0.6"], False),
        (["203.0.113.7"] * 3, False),
        ([None] * 3, False),
    ],
)
def test_callers_that_all_come_from_one_private_address_are_told(addresses: list[str | None], told: bool) -> None:
    assert [finding.code for finding in store.callers(addresses)] == (["one_private_address"] if told else [])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://keys.internal", False),
        ("http://localhost:9000", False),
        ("http://127.0.0.1:9000", False),
        ("http://[::1]:9000", False),
        ("http://keys.internal", True),
        ("http://10.0.0.5:9000", True),
    ],
)
def test_a_service_token_that_can_be_read_on_the_way_is_told(url: str, told: bool) -> None:
    found = ServiceCondition(VERSION, lets_in=True, follows=True, counts=True, open_wire=is_open_wire(url))
    findings = service.service(found, counts_elsewhere=False)
    assert _found(*findings) == ([("warning", "open_wire")] if told else [])


def test_workers_that_lag_are_told_with_what_they_may_still_do() -> None:
    found = list(store.lag(Confirmation(2.0, ("a",), (_worker("b", silent=True), _worker("c", behind=3))), NOW))
    assert [finding.what for finding in found] == [
        "worker b last reported 1 s ago",
        "worker c is 3 changes behind",
    ]
    assert all("until 12:01:00 UTC" in finding.why for finding in found)


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (Condition("0002", "0002"), []),
        (Condition(None), [("error", "no_tables")]),
        (Condition("0001", "0002"), [("warning", "other_schema")]),
        (Condition("0003", "0002"), [("error", "other_schema")]),
        (Condition("0002", "0002", skew=1.0), []),
        (Condition("0002", "0002", skew=-3.0), [("warning", "clock_skew")]),
    ],
)
def test_the_state_of_a_database_is_told(condition: Condition, found: list[tuple[str, str]]) -> None:
    assert _found(*store.schema(condition), *store.clock(condition), *store.rows(condition)) == found


def test_every_finding_has_a_reason_and_a_line_that_mends_it() -> None:
    options = defaults()._replace(mode="report", failure_limit=None, backend="memory://", stale_if_error=1e5)
    for finding in (*setup.rules(options), *store.schema(Condition(None)), *store.clock(Condition("1", "1", 9.0))):
        assert finding.severity in Severity
        assert finding.what
        assert finding.why
        assert finding.mend
