"""What every storage of budgets does: several windows at once, all or nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ak_guard.budgets import Ask, Change, Grant, Lease, MultiWindowSupport, Quota, Shortfall, Window
from tests.contract.storages import HTTP, SHARED, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.databases import Databases

NOW = 1_800_000_000.0
FIVE_HOURS = Window(10, 18_000, name="5h")
DAY = Window(20, 86_400, name="1d")
QUOTA = Quota(25)


@pytest.fixture(params=["memory", *SHARED, *HTTP])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases
) -> AsyncIterator[MultiWindowSupport]:
    async with opened(request.param, tmp_path, databases) as store:
        yield store


def asks(need: int, *windows: Window, extra: int = 0) -> list[Ask]:
    return [Ask(window, need, extra) for window in windows]


async def used(storage: MultiWindowSupport, *windows: Window, now: float = NOW) -> list[int]:
    return [level.used for level in await storage.peek("key/a", windows, now=now)]


async def test_a_take_counts_in_every_window(storage: MultiWindowSupport) -> None:
    grant = await storage.acquire("key/a", asks(3, FIVE_HOURS, DAY, QUOTA), lease=None, now=NOW)
    assert isinstance(grant, Grant)
    assert grant.taken == [3, 3, 3]
    assert grant.used == [3, 3, 3]
    assert grant.ends[:2] == [NOW + 18_000, NOW + 86_400]
    assert await used(storage, FIVE_HOURS, DAY, QUOTA) == [3, 3, 3]


async def test_a_refusal_changes_nothing_anywhere(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(8, FIVE_HOURS, DAY), lease=None, now=NOW)
    short = await storage.acquire("key/a", asks(3, DAY, FIVE_HOURS, QUOTA), lease=None, now=NOW + 5)
    assert isinstance(short, Shortfall)
    assert short.full == [1]
    assert short.used == [8, 8, 0]
    assert short.ends[1] == NOW + 18_000
    assert await used(storage, FIVE_HOURS, DAY, QUOTA) == [8, 8, 0]


async def test_a_first_use_window_is_free_again_exactly_at_its_end(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(10, FIVE_HOURS), lease=None, now=NOW)
    assert not await storage.acquire("key/a", asks(1, FIVE_HOURS), lease=None, now=NOW + 17_999.999)
    assert await storage.acquire("key/a", asks(1, FIVE_HOURS), lease=None, now=NOW + 18_000)


async def test_the_next_window_begins_with_the_next_use(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(1, FIVE_HOURS), lease=None, now=NOW)
    grant = await storage.acquire("key/a", asks(1, FIVE_HOURS), lease=None, now=NOW + 50_000)
    assert isinstance(grant, Grant)
    assert grant.ends == [NOW + 68_000]


async def test_a_quota_never_frees(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(25, QUOTA), lease=None, now=NOW)
    assert not await storage.acquire("key/a", asks(1, QUOTA), lease=None, now=NOW + 10**9)


async def test_a_changed_limit_keeps_what_was_used(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(10, FIVE_HOURS), lease=None, now=NOW)
    assert await storage.acquire("key/a", asks(5, Window(15, 18_000)), lease=None, now=NOW)
    assert not await storage.acquire("key/a", asks(1, Window(12, 18_000)), lease=None, now=NOW)


async def test_subjects_do_not_share(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(10, FIVE_HOURS), lease=None, now=NOW)
    assert await storage.acquire("key/b", asks(10, FIVE_HOURS), lease=None, now=NOW)


async def test_extra_is_at_most_a_tenth_of_what_the_need_leaves_in_the_fullest(storage: MultiWindowSupport) -> None:
    hundred, thousand, calls = Window(100, 60), Window(1_000, 300), Window(50, 60, unit="requests")
    wanted = [Ask(hundred, 4, 100), Ask(thousand, 4, 100), Ask(calls, 1, 3)]
    grant = await storage.acquire("key/a", wanted, lease=None, now=NOW)
    assert isinstance(grant, Grant)
    assert grant.taken == [13, 13, 4]
    await storage.acquire("key/a", asks(78, hundred), lease=None, now=NOW)
    few = await storage.acquire("key/a", [Ask(hundred, 1, 5)], lease=None, now=NOW)
    assert isinstance(few, Grant)
    assert few.taken == [1]


async def test_an_ask_of_nothing_starts_nothing(storage: MultiWindowSupport) -> None:
    assert await storage.acquire("key/a", asks(0, FIVE_HOURS), lease=None, now=NOW)
    (level,) = await storage.peek("key/a", [FIVE_HOURS], now=NOW)
    assert level.start is None


async def test_a_lease_gives_back_once_and_only_what_it_took(storage: MultiWindowSupport) -> None:
    lease = Lease("lease-1", "worker", 10.0)
    await storage.acquire("key/a", asks(6, FIVE_HOURS, DAY), lease=lease, now=NOW)
    assert [level.held for level in await storage.peek("key/a", [FIVE_HOURS, DAY], now=NOW)] == [6, 6]
    await storage.give_back("lease-1", {FIVE_HOURS.slot: 4, DAY.slot: 99})
    assert await used(storage, FIVE_HOURS, DAY) == [2, 0]
    await storage.give_back("lease-1", {FIVE_HOURS.slot: 2})
    assert await used(storage, FIVE_HOURS, DAY) == [2, 0]
    await storage.give_back("nobody", {FIVE_HOURS.slot: 2})


async def test_a_late_give_back_does_not_reach_the_next_window(storage: MultiWindowSupport) -> None:
    lease = Lease("lease-1", "worker", 10.0)
    await storage.acquire("key/a", asks(6, FIVE_HOURS), lease=lease, now=NOW)
    await storage.acquire("key/a", asks(5, FIVE_HOURS), lease=None, now=NOW + 18_000)
    await storage.give_back("lease-1", {FIVE_HOURS.slot: 6})
    assert await used(storage, FIVE_HOURS, now=NOW + 18_000) == [5]


async def test_a_late_give_back_does_not_reach_a_restarted_window(storage: MultiWindowSupport) -> None:
    lease = Lease("lease-1", "worker", 10.0)
    await storage.acquire("key/a", asks(6, FIVE_HOURS), lease=lease, now=NOW)
    await storage.restart("key/a", [FIVE_HOURS])
    await storage.acquire("key/a", asks(5, FIVE_HOURS), lease=None, now=NOW)
    await storage.give_back("lease-1", {FIVE_HOURS.slot: 6})
    assert await used(storage, FIVE_HOURS) == [5]


async def test_restart_empties_only_what_is_named(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(10, FIVE_HOURS, DAY), lease=None, now=NOW)
    await storage.restart("key/a", [FIVE_HOURS])
    assert await used(storage, FIVE_HOURS, DAY) == [0, 10]
    await storage.forget("key/a")
    assert await used(storage, DAY) == [0]


async def test_a_settlement_may_pass_the_limit_and_never_goes_below_nothing(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(10, FIVE_HOURS), lease=None, now=NOW)
    storage.settle("key/a", [Change(FIVE_HOURS, 5, None), Change(DAY, 5, None)], now=NOW)
    assert await used(storage, FIVE_HOURS, DAY) == [15, 5]
    storage.settle("key/a", [Change(DAY, -50, None)], now=NOW)
    assert await used(storage, FIVE_HOURS, DAY) == [15, 0]


async def test_a_refund_for_a_window_that_has_passed_is_dropped(storage: MultiWindowSupport) -> None:
    grant = await storage.acquire("key/a", asks(5, FIVE_HOURS), lease=None, now=NOW)
    assert isinstance(grant, Grant)
    later = NOW + 18_000
    await storage.acquire("key/a", asks(5, FIVE_HOURS), lease=None, now=later)
    storage.settle("key/a", [Change(FIVE_HOURS, -5, grant.generations[0])], now=later)
    await storage.flush()
    assert await used(storage, FIVE_HOURS, now=later) == [5]


async def test_a_sliding_window_weighs_the_bucket_before(storage: MultiWindowSupport) -> None:
    sliding = Window(10, 100, anchor="sliding")
    start = 1_800_000_000.0
    await storage.acquire("key/a", asks(10, sliding), lease=None, now=start)
    short = await storage.acquire("key/a", asks(3, sliding), lease=None, now=start + 110)
    assert isinstance(short, Shortfall)
    assert short.used == [9]
    free = short.ends[0]
    # floor(10 * rest / 100) <= 7 from rest < 80 on.
    assert free == pytest.approx(start + 120, abs=1e-3)
    assert not await storage.acquire("key/a", asks(3, sliding), lease=None, now=free - 1e-3)
    assert await storage.acquire("key/a", asks(3, sliding), lease=None, now=free)


async def test_many_at_once_get_exactly_what_there_is(storage: MultiWindowSupport) -> None:
    window = Window(137, 18_000)
    outcomes = await asyncio.gather(
        *(storage.acquire("key/a", asks(1, window, QUOTA_LARGE), lease=None, now=NOW) for _ in range(1_000))
    )
    assert sum(isinstance(outcome, Grant) for outcome in outcomes) == 137
    assert await used(storage, window, QUOTA_LARGE) == [137, 137]


QUOTA_LARGE = Quota(1_000)


async def held(storage: MultiWindowSupport, window: Window, now: float = NOW) -> int:
    return (await storage.peek("key/a", [window], now=now))[0].held


async def test_renewing_gives_back_what_is_unspent_in_the_same_step(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(8, FIVE_HOURS), lease=Lease("lease-1", "worker", 10.0), now=NOW)
    lease = Lease("lease-2", "worker", 10.0, "lease-1", {FIVE_HOURS.slot: 5})
    assert await storage.acquire("key/a", asks(7, FIVE_HOURS), lease=lease, now=NOW + 1)
    assert await used(storage, FIVE_HOURS) == [10]
    assert await held(storage, FIVE_HOURS) == 7
    await storage.give_back("lease-1", {FIVE_HOURS.slot: 3})
    assert await used(storage, FIVE_HOURS) == [10]


async def test_renewing_ends_the_old_lease_also_where_the_take_falls_short(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(8, FIVE_HOURS), lease=Lease("lease-1", "worker", 10.0), now=NOW)
    lease = Lease("lease-2", "worker", 10.0, "lease-1", {FIVE_HOURS.slot: 5})
    short = await storage.acquire("key/a", asks(8, FIVE_HOURS), lease=lease, now=NOW + 1)
    assert isinstance(short, Shortfall)
    assert (short.used, short.retry_at) == ([3], None)
    assert await used(storage, FIVE_HOURS) == [3]
    assert await held(storage, FIVE_HOURS) == 0


async def test_a_shortfall_tells_when_the_first_of_the_others_may_give_back(storage: MultiWindowSupport) -> None:
    for number, seconds in enumerate([9.0, 5.0, 7.0]):
        lease = Lease(f"lease-{number}", "another", seconds)
        await storage.acquire("key/a", asks(3, FIVE_HOURS), lease=lease, now=NOW)
    short = await storage.acquire("key/a", asks(2, FIVE_HOURS, DAY), lease=None, now=NOW + 1)
    assert isinstance(short, Shortfall)
    assert short.retry_at == pytest.approx(NOW + 5)
    renewing = Lease("mine", "worker", 10.0, "lease-1", {})
    renewed = await storage.acquire("key/a", asks(2, FIVE_HOURS, DAY), lease=renewing, now=NOW + 1)
    assert isinstance(renewed, Shortfall)
    assert renewed.retry_at == pytest.approx(NOW + 7)
    late = await storage.acquire("key/a", asks(2, FIVE_HOURS, DAY), lease=None, now=NOW + 20)
    assert isinstance(late, Shortfall)
    assert late.retry_at is None


async def test_after_its_deadline_a_lease_counts_as_spent(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(8, FIVE_HOURS), lease=Lease("lease-1", "worker", 10.0), now=NOW)
    assert await held(storage, FIVE_HOURS, NOW + 9) == 8
    assert await held(storage, FIVE_HOURS, NOW + 10) == 0
    renewing = Lease("lease-2", "worker", 10.0, "lease-1", {FIVE_HOURS.slot: 8})
    assert not await storage.acquire("key/a", asks(3, FIVE_HOURS), lease=renewing, now=NOW + 10)
    assert await used(storage, FIVE_HOURS) == [8]


async def test_a_lease_of_a_window_that_was_restarted_holds_nothing(storage: MultiWindowSupport) -> None:
    await storage.acquire("key/a", asks(10, FIVE_HOURS), lease=Lease("lease-1", "worker", 10.0), now=NOW)
    await storage.restart("key/a", [FIVE_HOURS])
    await storage.acquire("key/a", asks(10, FIVE_HOURS), lease=None, now=NOW)
    assert await held(storage, FIVE_HOURS) == 0
    short = await storage.acquire("key/a", asks(1, FIVE_HOURS), lease=None, now=NOW)
    assert isinstance(short, Shortfall)
    assert short.retry_at is None
