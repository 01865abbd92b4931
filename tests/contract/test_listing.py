"""Pages of keys: every order, both ways, filters and counts, the same in every store."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import InputError, KeyManager
from ak_guard.backends import KeyCounts, KeyFilter
from ak_guard.listing import ALL_KEYS, STATES
from ak_guard.usage.records import UsageRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ak_guard.backends import KeyPage
    from ak_guard.testing import ManualClock

# Each has a neighbour that is equal in something, and some have no value at all.
KEYS: tuple[dict[str, Any], ...] = (
    {"name": "prod-api", "quota": 10, "expires_in": "30d", "owner": "ann"},
    {"name": "staging_web", "quota": None, "expires_in": "1d", "group": "paid"},
    {"name": "dev.local", "quota": 10, "group": "paid"},
    {"name": "Zürich-100%", "quota": 5, "expires_in": "2d"},
    {"name": "zebra", "quota": None, "enabled": False},
    {"name": "Prod-Batch", "quota": 0, "expires_in": "3h", "owner": "ann"},
    {"name": "ci-runner", "quota": 7, "expires_in": "30d", "enabled": False},
)


@pytest.fixture
async def made(keys: KeyManager, clock: ManualClock) -> dict[str, str]:
    """The ids of the keys by name; the first three were created in the same moment, and the third has expired."""
    ids = {}
    for number, rules in enumerate(KEYS):
        clock.move(0 if number < 3 else 1)
        ids[rules["name"]] = (await keys.create(**rules)).key.id
    await keys.update(ids["dev.local"], expires_at=datetime.fromtimestamp(clock(), UTC) - timedelta(days=1))
    return ids


def names(page: KeyPage) -> list[str]:
    return [listed.key.name for listed in page.items]


async def forwards(keys: KeyManager, sort: str, limit: int, where: KeyFilter = ALL_KEYS) -> list[KeyPage]:
    pages = [await keys.page(where, sort=sort, limit=limit)]
    while pages[-1].next is not None:
        pages.append(await keys.page(where, sort=sort, limit=limit, after=pages[-1].next))
    return pages


def flat(pages: Iterable[KeyPage]) -> list[str]:
    return [name for page in pages for name in names(page)]


LEAST_FIRST = {
    "name": ["ci-runner", "dev.local", "prod-api", "Prod-Batch", "staging_web", "zebra", "Zürich-100%"],
    "expires": ["dev.local", "Prod-Batch", "staging_web", "Zürich-100%", "prod-api", "ci-runner", "zebra"],
}


async def test_an_order_is_the_same_in_pages_of_any_size(keys: KeyManager, made: dict[str, str]) -> None:
    for sort, least_first in LEAST_FIRST.items():
        for limit in (1, 3, 25):
            assert flat(await forwards(keys, sort, limit)) == least_first
            assert flat(await forwards(keys, f"-{sort}", limit)) == least_first[::-1]


async def test_equal_and_missing_values_are_neither_lost_nor_met_twice(keys: KeyManager, made: dict[str, str]) -> None:
    for sort in ("quota", "-quota", "created", "-created", "updated", "-updated"):
        pages = await forwards(keys, sort, 2)
        assert sorted(flat(pages)) == sorted(made)
        quotas = [listed.key.quota for page in pages for listed in page.items]
        if sort == "quota":
            assert quotas == [0, 5, 7, 10, 10, None, None]
        if sort == "-quota":
            assert quotas == [None, None, 10, 10, 7, 5, 0]


async def test_the_page_before_is_the_page_that_was_there(keys: KeyManager, made: dict[str, str]) -> None:
    for sort in ("name", "-quota", "expires", "-created"):
        pages = await forwards(keys, sort, 3)
        assert [page.previous is None for page in pages] == [True, False, False]
        for earlier, later in pairwise(pages):
            back = await keys.page(sort=sort, limit=3, before=later.previous)
            assert names(back) == names(earlier)
            assert (back.next is None, back.previous is None) == (False, earlier.previous is None)
            again = await keys.page(sort=sort, limit=3, after=back.next)
            assert names(again) == names(later)


async def test_a_place_stays_good_when_its_key_is_deleted_or_moves(keys: KeyManager, made: dict[str, str]) -> None:
    first = await keys.page(sort="name", limit=2)
    await keys.delete(made["dev.local"])
    await keys.update(made["ci-runner"], name="zzz")
    second = await keys.page(sort="name", limit=2, after=first.next)
    assert names(second) == ["prod-api", "Prod-Batch"]


async def test_a_page_after_the_longest_names_there_can_be_is_found(keys: KeyManager) -> None:
    for letter in "ΐ键a":
        await keys.create(letter * 200, owner=letter * 200)
    first = await keys.page(sort="name", limit=2)
    assert len(first.next or "") < 10_000
    assert len((await keys.page(sort="name", limit=2, after=first.next)).items) == 1


FOUND: list[tuple[KeyFilter, set[str]]] = [
    (KeyFilter(search="PROD"), {"prod-api", "Prod-Batch"}),
    (KeyFilter(search="ZÜR"), {"Zürich-100%"}),
    (KeyFilter(search="100%"), {"Zürich-100%"}),
    (KeyFilter(search="g_w"), {"staging_web"}),
    (KeyFilter(search="ANN"), {"prod-api", "Prod-Batch"}),
    (KeyFilter(group="paid"), {"staging_web", "dev.local"}),
    (KeyFilter(owner="ann"), {"prod-api", "Prod-Batch"}),
    (KeyFilter(enabled=False), {"zebra", "ci-runner"}),
    (KeyFilter(environment="production"), {"prod-api", "Prod-Batch"}),
    (KeyFilter(environment="none"), {"zebra", "Zürich-100%"}),
    (KeyFilter(state="active"), {"prod-api", "staging_web", "Zürich-100%", "Prod-Batch"}),
    (KeyFilter(state="disabled"), {"zebra", "ci-runner"}),
    (KeyFilter(state="expired"), {"dev.local"}),
    (KeyFilter(state="expiring"), {"staging_web", "Zürich-100%", "Prod-Batch"}),
    (KeyFilter(state="endless"), set()),
    (KeyFilter(search="prod", state="expiring", owner="ann"), {"Prod-Batch"}),
]


async def test_conditions_hold_together(keys: KeyManager, made: dict[str, str]) -> None:
    for where, found in FOUND:
        pages = await forwards(keys, "name", 3, where)
        assert (set(flat(pages)), pages[0].total) == (found, len(found)), where


async def test_an_id_is_found_as_a_whole(keys: KeyManager, made: dict[str, str]) -> None:
    assert names(await keys.page(KeyFilter(search=made["zebra"]))) == ["zebra"]
    assert names(await keys.page(KeyFilter(search=made["zebra"][:-1]))) == []


async def test_counts_tell_all_states_whichever_is_asked_for(
    keys: KeyManager, made: dict[str, str], clock: ManualClock
) -> None:
    everything = KeyCounts(total=7, active=4, disabled=2, expired=1, expiring=3, endless=0)
    assert await keys.counts() == everything
    assert (await keys.page(KeyFilter(state="expired"))).counts == everything
    assert await keys.counts(KeyFilter(group="paid", state="disabled")) == KeyCounts(
        total=2, active=1, expired=1, expiring=1
    )
    await keys.update(made["prod-api"], expires_at=None)
    assert (await keys.counts()).endless == 1
    clock.move("1d")  # to the very end of one of them
    assert await keys.counts() == KeyCounts(total=7, active=2, disabled=2, expired=3, expiring=1, endless=1)
    assert await keys.counts(KeyFilter(search="nobody")) == KeyCounts()


async def test_the_last_used_come_first_and_those_never_used_last(
    keys: KeyManager, backend: Any, made: dict[str, str], clock: ManualClock
) -> None:
    used = ("zebra", "prod-api", "dev.local")
    records = [
        UsageRecord(clock() + at, made[name], "default", f"203.0.113.{at}", "GET", "/", 200, "admitted", 1, 0.1)
        for at, name in enumerate(used, start=1)
    ]
    await backend.add_usage("batch", records)
    for limit in (2, 25):
        newest_first = flat(await forwards(keys, "-last_used", limit))
        assert newest_first[:3] == ["dev.local", "prod-api", "zebra"]
        assert flat(await forwards(keys, "last_used", limit)) == newest_first[::-1]
    first = (await keys.page(sort="-last_used")).items[0]
    assert (first.last_used_ip, first.last_used_at) == ("203.0.113.3", datetime.fromtimestamp(clock() + 3, UTC))
    unused = await keys.page(KeyFilter(used=False), sort="name")
    assert (unused.total, names(unused)) == (4, ["ci-runner", "Prod-Batch", "staging_web", "Zürich-100%"])
    assert (await keys.counts(KeyFilter(used=True))).total == 3
    assert names(await keys.page(KeyFilter(used=True), sort="-last_used")) == list(reversed(used))
    by_address = KeyFilter(search=" 203.0.113.2")
    assert names(await keys.page(by_address, sort="-last_used")) == ["prod-api"]
    assert (await keys.page(by_address, sort="name")).total == 1
    assert (await keys.page(KeyFilter(search="203.0.113.9"))).total == 0


async def test_the_order_of_last_uses_is_the_same_whatever_narrows_it(
    keys: KeyManager, backend: Any, clock: ManualClock
) -> None:
    # Some were used in the same moment, some never; every third works no more.
    ids = [
        (await keys.create(f"prod-{number:02}", group="paid", enabled=number % 3 > 0)).key.id for number in range(24)
    ]
    records = [
        UsageRecord(clock() + at // 2, key_id, "paid", None, "GET", "/", 200, "admitted", 1, 0.1)
        for at, key_id in enumerate(ids[::2] + ids[1:8:2])
    ]
    await backend.add_usage("batch", records)
    whole = [listed.key for listed in (await keys.page(sort="last_used")).items]
    for where in (KeyFilter(state="active"), KeyFilter(search="prod-1"), KeyFilter(used=True), KeyFilter(used=False)):
        matching = {listed.key.id for listed in (await keys.page(where, limit=100)).items}
        least_first = [key.name for key in whole if key.id in matching]
        for limit in (1, 5, 25):
            assert flat(await forwards(keys, "last_used", limit, where)) == least_first
            assert flat(await forwards(keys, "-last_used", limit, where)) == least_first[::-1]
        last = (await forwards(keys, "last_used", 5, where))[-1]
        if last.previous is not None:
            before = await keys.page(where, sort="last_used", limit=5, before=last.previous)
            assert names(before) == least_first[-len(last.items) - 5 : -len(last.items)]


async def test_keys_that_were_neither_used_nor_made_lately_are_unused(
    keys: KeyManager, backend: Any, clock: ManualClock
) -> None:
    async def use(*names: str) -> None:
        records = [
            UsageRecord(clock(), ids[name], "default", None, "GET", "/", 200, "admitted", 1, 0.1) for name in names
        ]
        await backend.add_usage(f"batch {clock()}", records)

    ids = {name: (await keys.create(name)).key.id for name in ("busy", "idle", "never", "off")}
    await use("busy", "idle")
    await keys.update(ids["off"], enabled=False)
    clock.move("60d")
    ids["young"] = (await keys.create("young")).key.id
    await use("busy")
    clock.move("31d")

    async def unused(days: int) -> set[str]:
        page = await keys.page(KeyFilter(unused_days=days), sort="last_used")
        assert page.total == len(page.items)
        assert {listed.key.name for listed in await keys.first(KeyFilter(unused_days=days))} == set(names(page))
        return set(names(page))

    assert await unused(90) == {"idle", "never", "off"}
    assert await unused(30) == {"busy", "idle", "never", "off", "young"}
    assert await unused(91) == set()
    working = await keys.page(KeyFilter(unused_days=90, state="active"), sort="last_used")
    assert (names(working), working.total, working.counts.disabled) == (["never", "idle"], 2, 1)
    # For a month nothing was recorded, so nobody knows what was used then.
    assert await keys.unused() == []
    await use("busy")
    assert [listed.key.name for listed in await keys.unused()] == ["never", "idle"]
    assert await keys.unused(days=300) == []


async def test_the_first_keys_of_a_list_are_those_of_its_first_page(keys: KeyManager, made: dict[str, str]) -> None:
    for sort in ("name", "-expires", "quota", "-created", "last_used"):
        page = await keys.page(KeyFilter(state="active"), sort=sort, limit=3)
        assert await keys.first(KeyFilter(state="active"), sort=sort, limit=3) == list(page.items)


async def test_a_name_that_changes_changes_the_environment(keys: KeyManager, made: dict[str, str]) -> None:
    await keys.update(made["prod-api"], name="staging-api")
    assert names(await keys.page(KeyFilter(environment="staging"), sort="name")) == ["staging-api", "staging_web"]
    await keys.update(made["prod-api"], name="api")
    assert names(await keys.page(KeyFilter(environment="staging"), sort="name")) == ["staging_web"]


async def test_a_list_tells_until_when_an_old_secret_works(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api")
    await keys.rotate(issued.key.id, grace="1h")
    await keys.rotate(issued.key.id, grace="5m")
    ends = datetime.fromtimestamp(clock() + 300, UTC)
    assert [listed.old_secret_until for listed in (await keys.page()).items] == [ends]
    clock.move("5m")
    assert [listed.old_secret_until for listed in (await keys.page()).items] == [None]


def _written(*content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("sort", {"sort": "hint"}),
        ("sort", {"sort": "--name"}),
        ("limit", {"limit": 0}),
        ("limit", {"limit": 1_001}),
        ("state", {"where": KeyFilter(state="gone")}),  # type: ignore[arg-type]  # wrong on purpose
        ("environment", {"where": KeyFilter(environment="prod")}),
        ("unused_days", {"where": KeyFilter(unused_days=0)}),
        ("unused_days", {"where": KeyFilter(unused_days=366)}),
        ("search", {"where": KeyFilter(search="a\x00b")}),
        ("owner", {"where": KeyFilter(owner="\ud800")}),
        ("after", {"after": ""}),
        ("after", {"after": "é"}),
        ("after", {"after": "bm9uc2Vuc2U"}),
        ("after", {"after": _written("-created", "text", "key_1")}),
        ("after", {"after": _written("-created", True, "key_1")}),
        ("after", {"after": _written("-created", float("nan"), "key_1")}),
        ("after", {"after": _written("-created", 10**40, "key_1")}),
        ("after", {"after": _written("-created", 1.0, "a\x00")}),
        ("after", {"after": _written("-created", 1.0)}),
        ("after", {"after": _written("-hint", 1.0, "key_1")}),
        ("after", {"after": _written("created", 1.0, "key_1")}),
        ("before", {"sort": "name", "before": _written("name", None, "key_1")}),
        ("before", {"before": _written("-created", 1.0, "key_1"), "after": _written("-created", 1.0, "key_1")}),
    ],
)
async def test_what_cannot_be_asked_for_names_its_field(field: str, arguments: dict[str, Any]) -> None:
    async with KeyManager("memory://") as keys:
        with pytest.raises(InputError) as caught:
            await keys.page(**arguments)
    assert caught.value.field == field


def test_every_state_is_counted() -> None:
    assert KeyCounts.__slots__ == ("total", *STATES)
