"""Limits, groups and keys as values: what they refuse, how they are shown."""

from __future__ import annotations

import dataclasses
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import ApiKey, Group, InputError, Limit
from ak_guard.notation import DAY, MAX_AMOUNT, MAX_SECONDS
from ak_guard.records import parse_limits
from tests.pure.support import examples

if TYPE_CHECKING:
    from ak_guard.notation import Anchor

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Etc/GMT+5", "Pacific/Apia"]


def field_of(make: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(InputError) as caught:
        make(*args, **kwargs)
    return caught.value.field


@st.composite
def limits(draw: st.DrawFn) -> Limit:
    anchors: tuple[Anchor, ...] = ("first-use", "calendar", "sliding")
    anchor = draw(st.sampled_from(anchors))
    calendar = anchor == "calendar"
    seconds = draw(st.integers(1, DAY) | st.integers(1, 3_650).map(lambda days: days * DAY))
    return Limit(
        draw(st.integers(1, MAX_AMOUNT)),
        seconds if calendar else draw(st.integers(1, MAX_SECONDS)),
        draw(st.sampled_from(["units", "requests"])),
        anchor,
        draw(st.sampled_from(ZONES)) if calendar else "UTC",
        draw(st.integers(0, 6)) if calendar else 0,
    )


@given(limits())
@examples(400)
def test_a_limit_is_read_back_from_its_text(limit: Limit) -> None:
    again = Limit.parse(str(limit))
    assert again == limit
    assert (hash(again), again.name, str(again)) == (hash(limit), limit.name, str(limit))


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (90_000, {"anchor": "calendar"}),
        (86_401, {"anchor": "calendar"}),
        (3_600, {"zone": "Europe/Berlin"}),
        (604_800, {"anchor": "sliding", "week_start": 3}),
    ],
)
def test_a_limit_that_cannot_be_written_cannot_be_made(seconds: int, words: dict[str, Any]) -> None:
    # Stores keep the text: what is not read back from it would change, or make a stored key unreadable.
    try:
        limit = Limit(5, seconds, **words)
    except InputError:
        return
    assert Limit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("1000/5 hour", "5h", "1000/5h"),
        ("500 requests/1d", "1d-requests", "500 requests/1d"),
        ("5/1w calendar UTC monday", "7d-calendar", "5/7d calendar"),
        ("5/1w calendar sunday Europe/Berlin", "7d-calendar", "5/7d calendar Europe/Berlin sunday"),
        ("5 requests/60s sliding", "1m-requests-sliding", "5 requests/1m sliding"),
    ],
)
def test_a_limit_has_a_name_for_clients_and_a_text_for_people(text: str, name: str, shown: str) -> None:
    limit = Limit.parse(text)
    assert (limit.name, str(limit)) == (name, shown)


@given(limits())
@examples(200)
def test_a_name_can_stand_in_a_response_header(limit: Limit) -> None:
    assert limit.name.replace("-", "").isalnum()
    assert limit.name.isascii()


BAD_FIELDS: dict[str, tuple[object, ...]] = {
    "amount": (0, -1, 10**15, 1.0, True, "5", None),
    "seconds": (0, -1, MAX_SECONDS + 1, 60.0, True, "60", None),
    "unit": ("tokens", "", None, 1),
    "anchor": ("rolling", "", None, []),
    "week_start": (-1, 7, None, "monday", False),
    "zone": ("Nowhere/City", "", "\x00", "../UTC", None, 5),
}


@pytest.mark.parametrize(("field", "bad"), [(field, bad) for field, values in BAD_FIELDS.items() for bad in values])
def test_a_limit_names_the_field_that_is_wrong(field: str, bad: object) -> None:
    good: dict[str, Any] = {"amount": 5, "seconds": DAY, "anchor": "calendar"}
    assert field_of(Limit, **(good | {field: bad})) == field


def test_a_limit_cannot_be_changed() -> None:
    limit = Limit(5, 60)
    with pytest.raises(dataclasses.FrozenInstanceError):
        limit.amount = 6  # type: ignore[misc]  # the point
    assert pickle.loads(pickle.dumps(limit)) == limit


def test_limits_are_read_in_their_order_and_as_objects_too() -> None:
    assert parse_limits(["1/5h", Limit(2, DAY), "3/7d"]) == (Limit(1, 18_000), Limit(2, DAY), Limit(3, 7 * DAY))
    assert parse_limits([]) == ()


@pytest.mark.parametrize(
    "values",
    ["1000/5h", ["1/1d", "2/24h"], ["1/1d calendar", "2/1d calendar Europe/Berlin"], ["1/1d", "junk"], [None], 5, None],
)
def test_one_limit_a_window_and_a_list_of_them(values: Any) -> None:
    assert field_of(parse_limits, values, "shared_limits") == "shared_limits"


def test_windows_of_one_length_differ_by_unit_and_anchor() -> None:
    texts = ["1/1d", "2 requests/1d", "3/1d calendar", "4/1d sliding", "5 requests/1d sliding"]
    assert [str(limit) for limit in parse_limits(texts)] == texts


def test_a_group_without_anything_lets_all_in_at_the_plain_price() -> None:
    group = Group("paid")
    assert (group.name, group.routes, group.limits, group.shared_limits) == ("paid", (), (), ())
    assert (group.multiplier, group.enabled) == (Fraction(1), True)


def test_a_group_reads_what_it_is_given() -> None:
    group = Group(
        "paid", routes=["POST /v1/chat/*"], limits=["60/1m"], shared_limits=["1000/1d"], multiplier=2, enabled=False
    )
    assert group.routes == ("POST /v1/chat/*",)
    assert group.limits == (Limit(60, 60),)
    assert group.shared_limits == (Limit(1_000, DAY),)
    assert (group.multiplier, group.enabled) == (Fraction(2), False)
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.name = "other"  # type: ignore[misc]  # the point


@pytest.mark.parametrize("value", ["no", 0, None, "False"])
def test_a_group_is_on_or_off_and_nothing_that_only_looks_like_it(value: Any) -> None:
    with pytest.raises(InputError) as caught:
        Group("paid", enabled=value)
    assert caught.value.field == "enabled"


@pytest.mark.parametrize(
    ("given_value", "exact"),
    [
        (0, Fraction(0)),
        (2, Fraction(2)),
        (0.1, Fraction(1, 10)),
        (1.1, Fraction(11, 10)),
        ("0.3", Fraction(3, 10)),
        ("1/3", Fraction(1, 3)),
        (Fraction(1, 7), Fraction(1, 7)),
        (Decimal("2.50"), Fraction(5, 2)),
    ],
)
def test_a_multiplier_is_exact(given_value: Any, exact: Fraction) -> None:
    assert Group("g", multiplier=given_value).multiplier == exact


@pytest.mark.parametrize(
    "bad",
    [-1, -0.5, "-1", float("nan"), float("inf"), "abc", "", "1/0", None, True, [], 10**16, "1e20", Fraction(-1, 3)],
)
def test_a_multiplier_that_is_no_number_from_0_up_is_refused(bad: Any) -> None:
    assert field_of(Group, "g", multiplier=bad) == "multiplier"


@pytest.mark.parametrize(
    "route", ["*", "/", "/*", "/v1/models", "POST /v1/chat/*", "get /x", "PROPFIND /*", "GET *", "/v1/*/x"]
)
def test_a_route_is_a_path_with_perhaps_a_method_before_it(route: str) -> None:
    assert Group("g", routes=[route]).routes == (route,)


@pytest.mark.parametrize(
    "routes",
    [
        "/v1",
        "*",
        ["v1"],
        [""],
        ["GET"],
        ["GET v1"],
        ["GET, POST /x"],
        ["http://host/x"],
        ["GET /a b"],
        [5],
        [None],
        [b"/x"],
        5,
    ],
)
def test_routes_that_are_none_are_refused(routes: Any) -> None:
    assert field_of(Group, "g", routes=routes) == "routes"


@pytest.mark.parametrize("name", ["", " ", "\t", "a\nb", "a\x00", "x" * 201, None, 5, b"g", "\u200b"])
def test_a_name_is_printable_text(name: Any) -> None:
    assert field_of(Group, name) == "name"


@pytest.mark.parametrize("name", ["default", "x" * 200, "Gr\u00fcnes Team", "\u5206\u7ec4", "a b"])
def test_any_printable_text_names_a_group(name: str) -> None:
    assert Group(name).name == name


def test_a_group_names_which_of_its_limits_are_wrong() -> None:
    assert field_of(Group, "g", limits=["junk"]) == "limits"
    assert field_of(Group, "g", shared_limits=["junk"]) == "shared_limits"
    assert field_of(Group, "g", limits="60/1m") == "limits"
    assert field_of(Group, "g", shared_limits="60/1m") == "shared_limits"


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("prod-api", "production"),
        ("production", "production"),
        ("staging-web", "staging"),
        ("dev-local", "development"),
        ("API_PROD", "production"),
        ("web.staging.eu", "staging"),
        ("ci-runner", "test"),
        ("billing-worker", None),
        ("customer-support-tool", None),
        ("product-catalogue", None),
        ("devotion", None),
        ("", None),
    ],
)
def test_the_environment_is_read_from_a_keys_name(name: str, environment: str | None) -> None:
    assert ApiKey("id", name).environment == environment


def test_a_key_with_no_group_named_has_default_and_no_rules() -> None:
    key = ApiKey("id", "n")
    assert (key.group, key.enabled, key.expires_at, key.quota, key.limits) == ("default", True, None, None, None)
    assert (key.allow_ips, key.deny_ips, dict(key.metadata)) == ((), (), {})
