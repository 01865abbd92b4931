"""What requests did, as every backend keeps it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from ak_guard import InputError, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.backends.base import KeepsUsage, ReadsUsage
from ak_guard.usage import UsageRecord

if TYPE_CHECKING:
    from ak_guard.backends import KeyStore
    from ak_guard.testing import ManualClock

HOUR = 3_600
DAY = 86_400
NOON = 1_800_014_400.0
KEY = "key_" + "1" * 20
OTHER_KEY = "key_" + "2" * 20


def record(
    at: float,
    *,
    key_id: str | None = KEY,
    ip: str | None = "203.0.113.7",
    method: str = "GET",
    route: str = "/v1/models",
    status: int | None = 200,
    code: str = "admitted",
    cost: int = 1,
    hint: str = "",
) -> UsageRecord:
    return UsageRecord(at, key_id, "default", ip, method, route, status, code, cost, 0.25, hint)


@pytest.fixture
def store(backend: KeyStore, clock: ManualClock) -> KeepsUsage:
    clock.now = NOON
    assert isinstance(backend, KeepsUsage)
    assert isinstance(backend, ReadsUsage)
    return backend


async def test_records_come_back_newest_first_as_they_went_in(keys: KeyManager, store: KeepsUsage) -> None:
    told = [
        record(NOON - 30, status=None, ip=None),
        record(NOON - 20, code="rate_limit_exceeded", status=429, cost=0),
        record(NOON - 10, method="POST", route="/v1/chat/completions", cost=12),
    ]
    await store.add_usage("one", told)
    found = await keys.records(KEY)
    assert [one._replace(id="") for one in found] == told[::-1]
    assert len({one.id for one in found}) == 3


async def test_the_same_batch_counts_once(keys: KeyManager, store: KeepsUsage) -> None:
    for _ in range(2):
        await store.add_usage("one", [record(NOON - 10)])
    await store.add_usage("two", [record(NOON - 5)])
    assert len(await keys.records(KEY)) == 2
    assert (await keys.usage(KEY)).calls == 2


async def test_records_are_filtered_and_paged(keys: KeyManager, store: KeepsUsage) -> None:
    for batch in range(4):
        at = NOON - 400 + 100 * batch
        code = "insufficient_quota" if batch == 2 else "admitted"
        await store.add_usage(f"batch {batch}", [record(at + number, cost=batch, code=code) for number in range(3)])
    await store.add_usage("strangers", [record(NOON - 1, key_id=None, code="invalid_api_key", hint="ak_…7Qx4")])
    assert {one.cost for one in await keys.records(KEY, code="insufficient_quota")} == {2}
    assert [one.hint for one in await keys.records("")] == ["ak_…7Qx4"]
    assert len(await keys.records()) == 13
    assert len(await keys.records(KEY, since=NOON - 199)) == 5
    paged: list[UsageRecord] = []
    while page := await keys.records(KEY, limit=5, before=paged[-1].id if paged else None):
        paged += page
    assert paged == await keys.records(KEY)
    assert [one.at for one in paged] == sorted([one.at for one in paged], reverse=True)


async def test_usage_is_summed_by_hour_code_address_and_route(keys: KeyManager, store: KeepsUsage) -> None:
    await store.add_usage(
        "one",
        [
            record(NOON - 2 * HOUR, cost=5),
            record(NOON - 1_800, cost=2),
            record(NOON - 1_700, cost=0, code="rate_limit_exceeded"),
            record(NOON - 1_600, ip="198.51.100.9", method="POST", route="/v1/chat", cost=7),
            record(NOON - 1_500, key_id=OTHER_KEY),
        ],
    )
    await store.add_usage("two", [record(NOON - 1_400, cost=3)])
    found = await keys.usage(KEY, since=NOON - 3 * HOUR)
    assert (found.calls, found.refused, found.cost) == (5, 1, 17)
    assert found.by_code == {"admitted": 4, "rate_limit_exceeded": 1}
    hours = [(bucket.start.timestamp() - NOON, bucket.calls, bucket.refused, bucket.cost) for bucket in found.buckets]
    assert hours == [(-3 * HOUR, 0, 0, 0), (-2 * HOUR, 1, 0, 5), (-HOUR, 4, 1, 12), (0, 0, 0, 0)]
    assert found.buckets[2].by_code == {"admitted": 3, "rate_limit_exceeded": 1}
    assert [(place.name, place.calls, place.refused, place.cost) for place in found.addresses] == [
        ("203.0.113.7", 4, 1, 10),
        ("198.51.100.9", 1, 0, 7),
    ]
    assert [(place.name, place.calls) for place in found.routes] == [("GET /v1/models", 4), ("POST /v1/chat", 1)]
    assert [(place.name, place.route, place.cost) for place in found.places] == [
        ("203.0.113.7", "GET /v1/models", 10),
        ("198.51.100.9", "POST /v1/chat", 7),
    ]
    assert found.addresses[0].last.timestamp() == NOON - 1_400
    everybody = await keys.usage()
    assert everybody.calls == 6


async def test_a_place_was_first_seen_when_it_was_first_seen_at_all(keys: KeyManager, store: KeepsUsage) -> None:
    await store.add_usage("one", [record(NOON - 5 * DAY), record(NOON - 60), record(NOON - 50, ip="198.51.100.9")])
    found = await keys.usage(KEY, since=NOON - HOUR)
    assert [(place.name, place.calls, place.first.timestamp()) for place in found.addresses] == [
        ("198.51.100.9", 1, NOON - 50),
        ("203.0.113.7", 1, NOON - 5 * DAY),
    ]
    assert [(place.calls, place.first.timestamp()) for place in found.routes] == [(2, NOON - 5 * DAY)]


async def test_days_are_those_of_utc(keys: KeyManager, store: KeepsUsage) -> None:
    midnight = NOON - NOON % DAY
    await store.add_usage("one", [record(midnight - 1, cost=1), record(midnight, cost=2), record(NOON - 1, cost=4)])
    found = await keys.usage(KEY, since=midnight - DAY, bucket="day")
    assert [(bucket.start, bucket.cost) for bucket in found.buckets] == [
        (datetime.fromtimestamp(midnight - DAY, UTC), 1),
        (datetime.fromtimestamp(midnight, UTC), 6),
    ]
    assert found.cost == 7


async def test_last_used_follows_whatever_order_it_is_told_in(keys: KeyManager, store: KeepsUsage) -> None:
    await store.add_usage("one", [record(NOON - 10, ip="198.51.100.9"), record(NOON - 20)])
    await store.add_usage("two", [record(NOON - 30), record(NOON - 5, key_id=OTHER_KEY, code="api_key_disabled")])
    found = await keys.last_used([KEY, OTHER_KEY, "key_" + "3" * 20])
    assert {key_id: (used.at.timestamp() - NOON, used.ip) for key_id, used in found.items()} == {
        KEY: (-10, "198.51.100.9"),
        OTHER_KEY: (-5, "203.0.113.7"),
    }
    assert await keys.last_used([]) == {}


async def test_what_callers_choose_is_bounded_and_printable(keys: KeyManager, store: KeepsUsage) -> None:
    await store.add_usage(
        "one", [record(NOON - 10, route="/" + "a" * 5_000), record(NOON - 5, method="X" * 99, route="/\x1b[2J\ud800\n")]
    )
    newest, oldest = await keys.records(KEY)
    assert len(oldest.route) == 200
    assert newest.route == "/\\x1b[2J\\ud800\\n"
    assert len(newest.method) == 16
    assert all(place.name.isprintable() and len(place.name) <= 200 for place in (await keys.usage(KEY)).routes)


async def test_whatever_a_record_holds_can_be_kept_and_told(keys: KeyManager, store: KeepsUsage) -> None:
    nasty = "\x1b[31mEVIL\u202e\x00\r\nX"
    told = record(NOON - 10, ip=nasty, hint=nasty, cost=10**30)._replace(group=nasty)
    await store.add_usage("one", [told, record(NOON - 5, ip="::ffff:203.0.113.7")])
    newest, oldest = await keys.records(KEY)
    assert (oldest.ip, newest.ip) == (None, "203.0.113.7")
    assert (oldest.group or "").isprintable()
    assert oldest.hint.isprintable()
    assert oldest.cost == 10**15 - 1


async def test_wrong_questions_name_the_field() -> None:
    keys = KeyManager(MemoryBackend())
    for field, asked in (
        ("bucket", keys.usage(bucket="week")),  # type: ignore[arg-type]  # wrong on purpose
        ("since", keys.usage(since=2_000_000_000)),
        ("since", keys.usage(since=0)),
        ("since", keys.records(since="soon")),
        ("since", keys.records(since=float("nan"))),
        ("limit", keys.records(limit=100_000)),
    ):
        with pytest.raises(InputError) as caught:
            await asked
        assert caught.value.field == field


async def test_many_statuses_are_what_each_status_is(keys: KeyManager) -> None:
    ids = []
    for number in range(3):
        issued = await keys.create(f"key-{number}", quota=100 + number, limits=["10/1m", "20/1d"])
        ids.append(issued.key.id)
    unlimited = await keys.create("unlimited")
    found = await keys.statuses([*ids, unlimited.key.id, "key_" + "0" * 20])
    assert found == {key_id: await keys.status(key_id) for key_id in [*ids, unlimited.key.id]}
    assert await keys.statuses([]) == {}


async def test_the_busiest_keys_come_first(keys: KeyManager, store: KeepsUsage) -> None:
    await store.add_usage(
        "one",
        [
            *[record(NOON + second, cost=2) for second in range(3)],
            *[record(NOON + second, key_id=OTHER_KEY) for second in range(4)],
            record(NOON + 9, key_id=OTHER_KEY, code="rate_limit_exceeded", cost=0),
            record(NOON + 9, key_id=None, code="invalid_api_key", cost=0),
            record(NOON - 2 * DAY),
        ],
    )
    assert await keys.busiest() == [(OTHER_KEY, 5, 1, 4), (KEY, 3, 0, 6), ("", 1, 1, 0)]
    assert await keys.busiest(limit=1) == [(OTHER_KEY, 5, 1, 4)]
    assert [use.calls for use in await keys.busiest(since=NOON - 3 * DAY, bucket="day")] == [5, 4, 1]


async def test_what_stands_out_is_found_beside_the_week_before(keys: KeyManager, store: KeepsUsage) -> None:
    habit = [record(NOON - 2 * DAY - hour * HOUR + second) for hour in range(8) for second in range(5)]
    await store.add_usage("habit", [*habit, record(NOON - HOUR)])
    assert await keys.anomalies(KEY) == ()
    await store.add_usage("news", [record(NOON - 60, ip="198.51.100.9", cost=500)])
    found = await keys.anomalies(KEY)
    assert [(one.kind, one.subject, one.seen) for one in found] == [
        ("velocity", "", 501),
        ("new_network", "198.51.100.0/24", 1),
    ]
    assert await keys.anomalies(OTHER_KEY) == ()


async def test_a_last_use_from_a_network_that_is_new_to_the_key_is_told_for_a_whole_list(
    keys: KeyManager, store: KeepsUsage
) -> None:
    """As `anomalies` tells it: not without a habit, nor of an address that called before or that is said to be ours."""
    ids = {}
    for name in ("strayed", "steady", "nearby", "seen long ago", "no habit", "ours", "idle", "never"):
        known = {"known_networks": ["198.51.100.0/24"]} if name == "ours" else {}
        ids[name] = (await keys.create(name, metadata=known)).key.id

    def calls(name: str, count: int, at: float, ip: str) -> list[UsageRecord]:
        return [record(at + second, key_id=ids[name], ip=ip) for second in range(count)]

    habit = [
        one
        for name in ("strayed", "steady", "nearby", "seen long ago", "ours", "idle")
        for one in calls(name, 20, NOON - 3 * DAY, "203.0.113.7")
    ]
    await store.add_usage("long ago", calls("seen long ago", 1, NOON - 20 * DAY, "198.51.100.9"))
    await store.add_usage("habit", [*habit, *calls("no habit", 19, NOON - 3 * DAY, "203.0.113.7")])
    today = {"steady": "203.0.113.7", "nearby": "203.0.113.99"}
    for name in ("strayed", "steady", "nearby", "seen long ago", "no habit", "ours"):
        await store.add_usage(name, calls(name, 1, NOON - 60, today.get(name, "198.51.100.9")))

    listed = (await keys.page()).items
    assert len(listed) == len(ids)
    assert await keys.new_networks(listed) == {ids["strayed"]}
    for name, key_id in ids.items():
        kinds = {one.kind for one in await keys.anomalies(key_id)}
        assert ("new_network" in kinds) == (name == "strayed"), name
    assert await keys.new_networks([]) == frozenset()
