"""Leases inside Redis, at times that the test names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ak_guard.budgets import Ask, Grant, Lease, Quota, Shortfall, Window
from tests.stores.redis_server import corner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ak_guard.budgets.redis import RedisStorage

NOW = 1_800_000_000.0
MINUTE = Window(10, 60)
DAY = Window(100, 86_400)


@pytest.fixture
async def simulated() -> AsyncIterator[RedisStorage]:
    async with corner(own_time=False) as storage:
        yield storage


def asks(need: int, *windows: Window) -> list[Ask]:
    return [Ask(window, need) for window in windows]


async def granted(storage: RedisStorage, wanted: Sequence[Ask], *, now: float, lease: Lease | None = None) -> Grant:
    grant = await storage.acquire("key/a", wanted, lease=lease, now=now)
    assert isinstance(grant, Grant)
    return grant


async def short(storage: RedisStorage, wanted: Sequence[Ask], *, now: float, lease: Lease | None = None) -> Shortfall:
    shortfall = await storage.acquire("key/a", wanted, lease=lease, now=now)
    assert isinstance(shortfall, Shortfall)
    return shortfall


async def test_a_dead_lease_counts_as_spent(simulated: RedisStorage) -> None:
    await granted(simulated, asks(6, DAY), now=NOW, lease=Lease("lease-1", "w", 10.0))
    assert [level.held for level in await simulated.peek("key/a", [DAY], now=NOW + 9.999999)] == [6]
    assert [level.held for level in await simulated.peek("key/a", [DAY], now=NOW + 10)] == [0]
    await granted(simulated, asks(1, DAY), now=NOW + 10)
    await simulated.give_back("lease-1", {DAY.slot: 6})
    assert [level.used for level in await simulated.peek("key/a", [DAY], now=NOW + 10)] == [7]


async def test_a_lease_is_renewed_in_the_same_step_even_where_the_take_falls_short(simulated: RedisStorage) -> None:
    await granted(simulated, asks(8, MINUTE), now=NOW, lease=Lease("lease-1", "w", 10.0))
    renewal = Lease("lease-2", "w", 10.0, renews="lease-1", unspent={MINUTE.slot: 5})
    await granted(simulated, asks(7, MINUTE), now=NOW, lease=renewal)
    again = Lease("lease-3", "w", 10.0, renews="lease-2", unspent={MINUTE.slot: 99})
    shortfall = await short(simulated, asks(8, MINUTE), now=NOW, lease=again)
    assert shortfall == Shortfall([0], [3], [NOW + 60], None)
    (level,) = await simulated.peek("key/a", [MINUTE], now=NOW)
    assert (level.used, level.held) == (3, 0)


async def test_a_shortfall_tells_when_the_first_lease_on_a_full_window_ends(simulated: RedisStorage) -> None:
    wide = Window(100, 300)
    await granted(simulated, asks(2, wide), now=NOW, lease=Lease("other", "w", 1.0))
    await granted(simulated, asks(4, MINUTE, wide), now=NOW, lease=Lease("late", "w", 9.5))
    await granted(simulated, asks(4, MINUTE), now=NOW, lease=Lease("early", "w", 4.25))
    assert (await short(simulated, asks(5, MINUTE, wide), now=NOW)).retry_at == NOW + 4.25
    assert (await short(simulated, asks(5, MINUTE, wide), now=NOW + 5)).retry_at == NOW + 9.5
    assert (await short(simulated, asks(5, MINUTE, wide), now=NOW + 10)).retry_at is None


async def test_what_is_held_of_a_window_that_has_passed_is_not_waited_for(simulated: RedisStorage) -> None:
    await granted(simulated, asks(4, MINUTE), now=NOW, lease=Lease("lease-1", "w", 9.5))
    await simulated.restart("key/a", [MINUTE])
    await granted(simulated, asks(9, MINUTE), now=NOW)
    assert (await short(simulated, asks(5, MINUTE), now=NOW)).retry_at is None
    assert [level.held for level in await simulated.peek("key/a", [MINUTE], now=NOW)] == [0]


async def test_large_amounts_and_fine_times_are_exact(simulated: RedisStorage) -> None:
    now, most = NOW + 0.123457, 10**15 - 1
    huge = Quota(most)
    grant = await granted(simulated, asks(most - 1, huge), now=now, lease=Lease("lease-1", "w", 0.1))
    assert grant.used == [most - 1]
    wanted = asks(1, huge, MINUTE)
    assert (await granted(simulated, wanted, now=now)).ends == [float("inf"), now + 60]
    assert (await short(simulated, wanted, now=now)).used == [most, 1]
    levels = await simulated.peek("key/a", [huge, MINUTE], now=now)
    assert [(level.used, level.held, level.start) for level in levels] == [(most, most - 1, now), (1, 0, now)]
    await simulated.give_back("lease-1", {huge.slot: most - 2})
    assert (await granted(simulated, wanted, now=now)).used == [3, 2]
