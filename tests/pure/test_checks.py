"""The rules of a key, its group and the service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ak_guard import ApiKey, Denial, Group
from ak_guard.address import IPSet, parse_address
from ak_guard.checks import (
    GroupRules,
    KeyRules,
    ServiceRules,
    check_address,
    check_group,
    check_state,
    unknown_key,
)
from ak_guard.paths import route_of
from tests.pure.support import http, websocket

NOW = 1_800_000_000.0
AT_NOW = datetime.fromtimestamp(NOW, UTC)
ANY_SERVICE = ServiceRules(IPSet(), IPSet())


def state(now: float = NOW, *, until: float | None = None, **rules: Any) -> str | None:
    return code_of(check_state(KeyRules(ApiKey("id", "n", **rules), until), now))


def address(client: str | None, **rules: Any) -> str | None:
    ip = None if client is None else parse_address(client)
    return code_of(check_address(KeyRules(ApiKey("id", "n", **rules)), ip))


def service(client: str | None, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> str | None:
    ip = None if client is None else parse_address(client)
    return code_of(ServiceRules(IPSet(allow), IPSet(deny)).check(ip))


def group(group: Group | None, *, name: str = "g", allow: Any = None, deny: Any = (), **scope: Any) -> str | None:
    rules = GroupRules(name, group, ServiceRules(IPSet(), IPSet(), allow, deny))
    return code_of(check_group(rules, route_of(http(**scope))))


def code_of(denial: Denial | None) -> str | None:
    return None if denial is None else denial.code


def test_an_enabled_key_without_expiry_is_good_for_ever() -> None:
    assert state() is None
    assert state(0.0) is None
    assert state(1e18) is None


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (NOW - 3_600, None),
        (NOW - 0.001, None),
        (NOW, "api_key_expired"),
        (NOW + 0.001, "api_key_expired"),
        (NOW + 1e9, "api_key_expired"),
    ],
)
def test_a_key_is_expired_from_the_very_moment_on(now: float, code: str | None) -> None:
    assert state(now, expires_at=AT_NOW) == code


def test_an_expiry_is_a_moment_in_whatever_zone_it_is_written() -> None:
    in_kolkata = AT_NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert state(NOW - 0.001, expires_at=in_kolkata) is None
    assert state(NOW, expires_at=in_kolkata) == "api_key_expired"


def test_parts_of_a_second_count_in_an_expiry() -> None:
    expiry = AT_NOW + timedelta(milliseconds=500)
    assert state(NOW + 0.499, expires_at=expiry) is None
    assert state(NOW + 0.5, expires_at=expiry) == "api_key_expired"


def test_disabled_is_told_before_expired() -> None:
    assert state(enabled=False) == "api_key_disabled"
    assert state(enabled=False, expires_at=AT_NOW) == "api_key_disabled"


def test_a_secret_rotated_out_is_unknown_from_the_end_of_its_grace_on() -> None:
    assert state(NOW - 0.001, until=NOW) is None
    assert state(NOW, until=NOW) == "invalid_api_key"
    assert check_state(KeyRules(ApiKey("id", "n"), NOW), NOW) == unknown_key()


def test_a_secret_rotated_out_learns_nothing_of_the_keys_state() -> None:
    assert state(until=NOW, enabled=False, expires_at=AT_NOW) == "invalid_api_key"


@pytest.mark.parametrize("client", ["203.0.113.7", "2001:db8::1", None])
@pytest.mark.parametrize("empty", [(), None, []])
def test_no_list_and_an_empty_one_mean_no_rule(client: str | None, empty: Any) -> None:
    assert address(client, allow_ips=empty, deny_ips=empty) is None


@pytest.mark.parametrize(
    ("client", "allow", "deny", "passes"),
    [
        ("203.0.113.7", ("203.0.113.0/24",), (), True),
        ("203.0.114.7", ("203.0.113.0/24",), (), False),
        ("127.0.0.1", ("127.0.0.0/24", "113.74.26.106"), (), True),
        ("2001:db8::2", ("127.0.0.0/24", "113.74.26.106"), (), False),
        ("203.0.113.7", (), ("203.0.113.7",), False),
        ("203.0.113.8", (), ("203.0.113.7",), True),
        ("fe80::1:1", (), ("::1", "fe80::/32"), False),
        ("127.0.0.1", (), ("::1", "fe80::/32"), True),
        ("127.0.0.1", ("127.0.0.1",), ("127.0.0.1",), False),
        ("10.0.0.5", ("10.0.0.0/8",), ("10.0.0.5",), False),
        ("10.0.0.6", ("10.0.0.0/8",), ("10.0.0.5",), True),
        ("10.0.0.5", ("10.0.0.5",), ("10.0.0.0/8",), False),
        ("::ffff:192.0.2.4", (), ("192.0.2.4",), False),
        ("::ffff:c000:204", (), ("192.0.2.4",), False),
        ("::ffff:192.0.2.4", ("192.0.2.4",), (), True),
        ("192.0.2.4", ("::/0",), (), False),
        ("192.0.2.4", (), ("::/0",), True),
        ("127.2.3.1", ("127.2.3.4/24",), (), True),
    ],
)
def test_deny_wins_and_an_allow_list_lets_only_its_own_in(
    client: str, allow: tuple[str, ...], deny: tuple[str, ...], passes: bool
) -> None:
    expected = None if passes else "ip_not_allowed"
    assert address(client, allow_ips=allow, deny_ips=deny) == expected
    assert service(client, allow, deny) == expected


@pytest.mark.parametrize("client", [None, "testclient", "", "0127.2.3.1", "unix:"])
@pytest.mark.parametrize(
    "rules",
    [
        {"allow_ips": ("0.0.0.0/0", "::/0")},
        {"deny_ips": ("192.0.2.1",)},
        {"allow_ips": ("::/0",), "deny_ips": ("::1",)},
    ],
)
def test_an_unknown_address_fits_no_rule(client: str | None, rules: dict[str, tuple[str, ...]]) -> None:
    assert address(client, **rules) == "ip_not_allowed"
    assert service(client, rules.get("allow_ips", ()), rules.get("deny_ips", ())) == "ip_not_allowed"


@pytest.mark.parametrize("stored", [("junk",), ("10.0.0.0/8", "junk"), ("",), (None,), "10.0.0.0/8", ("10.0.0.0/40",)])
@pytest.mark.parametrize("field", ["allow_ips", "deny_ips"])
@pytest.mark.parametrize("client", ["10.0.0.1", "203.0.113.7", None])
def test_a_stored_list_that_cannot_be_read_lets_nobody_in(client: str | None, field: str, stored: Any) -> None:
    assert address(client, **{field: stored}) == "ip_not_allowed"


def test_a_key_called_from_many_addresses_gets_the_same_answer_each_time() -> None:
    rules = KeyRules(ApiKey("id", "n", allow_ips=("10.0.0.0/8",), deny_ips=("10.0.1.0/24",)))
    clients = [f"{first}.0.{third}.{last}" for first in (10, 11) for third in (0, 1) for last in range(256)]
    for _ in range(2):
        for client in clients:
            passes = client.startswith("10.0.0.")
            assert (check_address(rules, parse_address(client)) is None) == passes


def test_a_refused_address_is_named_and_the_list_is_not() -> None:
    rules = KeyRules(ApiKey("id", "n", allow_ips=("198.51.100.0/24",), deny_ips=("192.0.2.0/24",)))
    denial = check_address(rules, parse_address("::ffff:203.0.113.7"))
    assert denial is not None
    assert "203.0.113.7" in denial.detail
    assert "198.51.100" not in repr(denial)
    assert "192.0.2" not in repr(denial)


def test_a_refusal_of_an_unknown_address_says_so() -> None:
    denial = ServiceRules(IPSet(["192.0.2.0/24"]), IPSet()).check(None)
    assert denial is not None
    assert "could not be determined" in denial.detail


def test_a_service_without_rules_asks_nobody() -> None:
    assert service(None) is None
    assert service("203.0.113.7") is None
    assert not ServiceRules(IPSet(), IPSet()).active
    assert ServiceRules(IPSet(), IPSet(["::1"])).active


def test_a_group_that_nobody_knows_lets_nobody_in() -> None:
    assert group(None) == "group_not_allowed"
    assert group(None, allow={"g"}) == "group_not_allowed"


def test_a_disabled_group_lets_nobody_in() -> None:
    assert group(Group("g")) is None
    assert group(Group("g", enabled=False)) == "group_not_allowed"


@pytest.mark.parametrize(
    ("allow", "deny", "passes"),
    [
        (None, (), True),
        ({"g"}, (), True),
        ({"g", "h"}, (), True),
        ({"h"}, (), False),
        ({"G"}, (), False),
        (set(), (), False),
        (None, {"g"}, False),
        (None, {"h"}, True),
        ({"g"}, {"g"}, False),
        ({"g", "h"}, {"h"}, True),
    ],
)
def test_a_service_says_which_groups_enter_and_deny_wins(allow: Any, deny: Any, passes: bool) -> None:
    assert group(Group("g"), allow=allow, deny=deny) == (None if passes else "group_not_allowed")


def test_a_group_is_let_in_only_where_its_routes_lead() -> None:
    paid = Group("g", routes=["POST /v1/chat/*", "/v1/models"])
    assert group(paid, path="/v1/models") is None
    assert group(paid, path="/v1/chat/completions", method="POST") is None
    assert group(paid, path="/v1/chat/completions") == "group_not_allowed"
    assert group(paid, path="/admin") == "group_not_allowed"
    assert group(paid, path="/v1/chat/../../admin", method="POST") == "group_not_allowed"


def test_a_route_asked_for_again_is_judged_by_all_of_the_request_and_not_by_the_last_answer() -> None:
    rules = GroupRules("g", Group("g", routes=["POST /v1/a/b", "/v1/*/c"]), ANY_SERVICE)
    cases: list[tuple[dict[str, Any], bool]] = [
        (http(path="/v1/a/b", method="POST"), True),
        (http(path="/v1/a/b"), False),
        (http(path="/api/v1/a/b", method="POST", root_path="/api"), True),
        (http(path="/api/v1/a/b", method="POST"), False),
        (http(path="/v1/a/c"), True),
        (websocket(path="/v1/a/c"), True),
        (websocket(path="/v1/a/b"), False),
        (http(path="/v1/..\\c/c", raw_path=b"/v1/..%5cc/c"), False),
    ]
    for scope, passes in [*cases, *cases[::-1], *cases]:
        assert (check_group(rules, route_of(scope)) is None) == passes


def test_a_websocket_is_judged_as_get() -> None:
    rules = GroupRules("g", Group("g", routes=["GET /ws"]), ANY_SERVICE)
    assert check_group(rules, route_of(websocket(path="/ws"))) is None
    assert code_of(check_group(rules, route_of(websocket(path="/other")))) == "group_not_allowed"


def test_the_group_is_told_before_the_route() -> None:
    refused = check_group(
        GroupRules("g", Group("g", routes=["/x"], enabled=False), ANY_SERVICE), route_of(http(path="/y"))
    )
    assert refused is not None
    assert "may not use this service" in refused.detail


def test_every_key_that_is_none_gets_the_same_answer() -> None:
    assert unknown_key() == unknown_key()
    assert unknown_key().code == "invalid_api_key"
