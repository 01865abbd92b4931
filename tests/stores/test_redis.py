"""What is special to Redis: its own time, other loops and processes, cluster slots, expiry, and exact numbers."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import threading
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import redis
from limits.storage import storage_from_string
from redis.crc import key_slot

from ak_guard.budgets import Ask, Change, Grant, Lease, MultiWindowRateLimiter, Quota, Shortfall, Window
from ak_guard.budgets.redis import RedisStorage
from ak_guard.errors import BudgetError, ConfigurationError
from tests.services import url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

HOUR = 3_600.0
MINUTE = Window(10, 60)
DAY = Window(100, 86_400)


@pytest.fixture
def prefix() -> str:
    return f"ak-test-{uuid.uuid4().hex}"


@pytest.fixture
async def storage(prefix: str) -> AsyncIterator[RedisStorage]:
    """One that decides by the time of Redis."""
    store = RedisStorage(url_of("redis"), prefix=prefix)
    yield store
    await store.reset()
    await store.aclose()


@pytest.fixture
def plain() -> Iterator[redis.Redis]:
    """Somebody who looks into Redis and knows nothing of ak_guard."""
    client: redis.Redis = redis.Redis.from_url(url_of("redis"), decode_responses=True)
    yield client
    client.close()


def asks(need: int, *windows: Window, extra: int = 0) -> list[Ask]:
    return [Ask(window, need, extra) for window in windows]


async def granted(storage: RedisStorage, wanted: Sequence[Ask], *, now: float, lease: Lease | None = None) -> Grant:
    grant = await storage.acquire("key/a", wanted, lease=lease, now=now)
    assert isinstance(grant, Grant)
    return grant


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("off", [-HOUR, HOUR, 40 * 24 * HOUR])
async def test_the_store_decides_and_the_caller_is_told_in_his_own_time(storage: RedisStorage, off: float) -> None:
    now = time.time() + off
    calendar = Window(10, 86_400, anchor="calendar")
    wanted = [*asks(10, MINUTE, calendar), Ask(Quota(50), 10)]
    grant = await granted(storage, wanted, now=now, lease=Lease("lease-1", "w", 30.0))
    midnight = (time.time() // 86_400 + 1) * 86_400
    assert grant.ends == pytest.approx([now + 60, midnight + off, float("inf")], abs=2)
    shortfall = await storage.acquire("key/a", asks(1, MINUTE), lease=None, now=now)
    assert isinstance(shortfall, Shortfall)
    assert shortfall.ends == pytest.approx([now + 60], abs=2)
    assert shortfall.retry_at == pytest.approx(now + 30, abs=2)
    for level in await storage.peek("key/a", [MINUTE, calendar], now=now):
        assert (level.used, level.held) == (10, 10)
        assert level.start is not None
        assert level.start <= now + 2
        assert level.end in [pytest.approx(end, abs=2) for end in grant.ends[:2]]


async def test_a_fast_clock_rolls_no_window_early(storage: RedisStorage, prefix: str) -> None:
    await granted(storage, asks(10, MINUTE), now=time.time())
    assert not await storage.acquire("key/a", asks(1, MINUTE), lease=None, now=time.time() + HOUR)
    fast = RedisStorage(url_of("redis"), prefix=prefix)
    assert not await fast.acquire("key/a", asks(1, MINUTE), lease=None, now=time.time() + HOUR)
    await fast.aclose()


async def test_calendar_bounds_that_never_hold_the_stores_time_change_nothing(storage: RedisStorage) -> None:
    class Elsewhere(Window):
        def bounds(self, now: float) -> tuple[float, float]:
            return now + 5, now + 10

    await granted(storage, asks(4, DAY), now=time.time(), lease=Lease("lease-1", "w", 60.0))
    odd = Elsewhere(10, 86_400, anchor="calendar")
    renewing = Lease("lease-2", "w", 60.0, renews="lease-1", unspent={DAY.slot: 4})
    with pytest.raises(BudgetError, match="calendar"):
        await storage.acquire("key/a", asks(1, DAY, odd), lease=renewing, now=time.time())
    (level,) = await storage.peek("key/a", [DAY], now=time.time())
    assert (level.used, level.held) == (4, 4)


async def _take_many(url: str, prefix: str, tries: int) -> int:
    storage = RedisStorage(url, prefix=prefix)
    window, wide = Window(137, 18_000), Quota(1_000)
    takes = (storage.acquire("key/a", asks(1, window, wide), lease=None, now=time.time()) for _ in range(tries))
    admitted = sum(isinstance(outcome, Grant) for outcome in await asyncio.gather(*takes))
    await storage.aclose()
    return admitted


def take_many(url: str, prefix: str, tries: int) -> int:
    return asyncio.run(_take_many(url, prefix, tries))


async def test_several_processes_get_exactly_what_there_is(storage: RedisStorage, prefix: str) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        runs = [loop.run_in_executor(pool, take_many, url_of("redis"), prefix, 200) for _ in range(3)]
        assert sum(await asyncio.gather(*runs)) == 137
    levels = await storage.peek("key/a", [Window(137, 18_000), Quota(1_000)], now=time.time())
    assert [level.used for level in levels] == [137, 137]


def test_one_storage_serves_loops_in_several_threads_exactly(prefix: str) -> None:
    storage = RedisStorage(url_of("redis"), prefix=prefix)
    outcomes: list[bool] = []

    async def take() -> None:
        takes = (storage.acquire("key/a", asks(1, DAY), lease=None, now=time.time()) for _ in range(100))
        outcomes.extend(isinstance(outcome, Grant) for outcome in await asyncio.gather(*takes))

    threads = [threading.Thread(target=asyncio.run, args=(take(),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def end() -> None:
        await storage.reset()
        await storage.aclose()

    asyncio.run(end())
    assert (len(outcomes), sum(outcomes)) == (300, 100)


def test_connections_end_with_the_loop_they_belong_to(prefix: str, plain: redis.Redis) -> None:
    # Found by name among the clients of everybody else.
    storage = RedisStorage(f"{url_of('redis')}?client_name={prefix}", prefix=prefix)

    def connected() -> int:
        return sum(client["name"] == prefix for client in plain.client_list())

    async def use() -> int:
        await storage.peek("key/a", [DAY], now=time.time())
        return connected()

    assert [asyncio.run(use()) for _ in range(3)] == [1, 1, 1]
    gc.collect()  # a connection that was left open would warn now
    asyncio.run(until(lambda: not connected()))


@pytest.mark.parametrize("subject", ["key/a", "key/{a}", "}{", "key/}/{x}", "50%", "group/naïve", ""])
async def test_all_keys_of_a_subject_are_in_one_cluster_slot(
    storage: RedisStorage, prefix: str, plain: redis.Redis, subject: str
) -> None:
    lease = Lease(f"lease-{prefix}", "w", 60.0)
    storage.settle(subject, [Change(DAY, 1, None)], now=time.time())
    await storage.acquire(subject, asks(1, DAY), lease=lease, now=time.time())
    mine = [key for key in plain.scan_iter(f"{prefix}:*") if not key.endswith(lease.id)]
    assert len(mine) == 3
    assert len({key_slot(key.encode()) for key in mine}) == 1
    (level,) = await storage.peek(subject, [DAY], now=time.time())
    assert (level.used, level.held) == (2, 1)
    await storage.forget(subject)
    assert not [key for key in plain.scan_iter(f"{prefix}:*") if key.endswith((":w", ":l"))]


async def test_an_idle_subject_vanishes_with_its_last_window(
    storage: RedisStorage, prefix: str, plain: redis.Redis
) -> None:
    windows, leases = f"{prefix}:{{key/a}}:w", f"{prefix}:{{key/a}}:l"

    def rest(key: str) -> float:
        return float(plain.pttl(key)) / 1_000

    await granted(storage, asks(1, MINUTE), now=time.time(), lease=Lease("lease-1", "w", 5.0))
    assert rest(windows) == pytest.approx(60, abs=2)
    assert rest(leases) == pytest.approx(5, abs=2)
    await granted(storage, asks(1, DAY), now=time.time(), lease=Lease("lease-2", "w", 2.0))
    assert rest(windows) == pytest.approx(86_400, abs=2)
    assert rest(leases) == pytest.approx(5, abs=2)
    await granted(storage, asks(1, Quota(5)), now=time.time())
    assert plain.pttl(windows) == -1
    await storage.restart("key/a", [Quota(5), DAY])
    assert rest(windows) == pytest.approx(60, abs=2)
    sliding = Window(10, 600, anchor="sliding")
    grant = await granted(storage, asks(1, sliding), now=time.time())
    bucket_end = (time.time() // 600 + 1) * 600
    assert rest(windows) == pytest.approx(bucket_end + 600 - time.time(), abs=2)
    assert grant.generations[0]


async def test_a_subject_that_vanished_begins_with_another_generation(
    storage: RedisStorage, prefix: str, plain: redis.Redis
) -> None:
    second = Window(10, 1)
    first = await granted(storage, asks(8, second), now=time.time(), lease=Lease("lease-1", "w", 60.0))
    await until(lambda: not plain.exists(f"{prefix}:{{key/a}}:w"))
    later = await granted(storage, asks(5, second, DAY), now=time.time())
    assert first.generations[0] not in later.generations
    assert max(*first.generations, *later.generations) <= 2**53
    await storage.give_back("lease-1", {second.slot: 8})
    storage.settle("key/a", [Change(second, -8, first.generations[0])], now=time.time())
    (level,) = await storage.peek("key/a", [DAY], now=time.time())
    assert level.used == 5


async def test_another_process_can_give_a_lease_back(storage: RedisStorage, prefix: str) -> None:
    await granted(storage, asks(6, DAY), now=time.time(), lease=Lease("lease-1", "w", 60.0))
    other = RedisStorage(url_of("redis"), prefix=prefix)
    for _ in range(2):
        await other.give_back("lease-1", {DAY.slot: 4})
        (level,) = await other.peek("key/a", [DAY], now=time.time())
        assert (level.used, level.held) == (2, 0)
    await other.aclose()


async def test_the_take_of_a_request_that_went_away_is_undone(storage: RedisStorage) -> None:
    now = time.time()
    await granted(storage, asks(1, DAY), now=now)
    going = asyncio.create_task(storage.acquire("key/a", asks(50, DAY), lease=None, now=now))
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    # The next question comes after the answer to the first: they go one way, in order.
    await storage.peek("key/a", [DAY], now=now)
    (level,) = await storage.peek("key/a", [DAY], now=now)
    assert level.used == 1


async def test_what_is_owed_to_one_subject_goes_along_with_a_call_for_another(
    storage: RedisStorage, prefix: str
) -> None:
    looking = RedisStorage(url_of("redis"), prefix=prefix)
    storage.settle("key/b", [Change(DAY, 7, None)], now=time.time())
    await storage.peek("key/a", [DAY], now=time.time())
    deadline = time.monotonic() + 10
    while (await looking.peek("key/b", [DAY], now=time.time()))[0].used != 7:
        assert time.monotonic() < deadline
    await looking.aclose()


async def test_the_strategies_of_limits_work_with_it(prefix: str) -> None:
    storage: Any = storage_from_string(url_of("redis").replace("redis://", "ak-guard+redis://"), prefix=prefix)
    assert isinstance(storage, RedisStorage)
    limiter = MultiWindowRateLimiter(storage)
    assert [await limiter.hit(Window(2, 60), "user") for _ in range(3)] == [True, True, False]
    assert (await limiter.get_window_stats(Window(2, 60), "user")).remaining == 0
    assert [await storage.incr("page", 60, 2), await storage.incr("page", 60), await storage.get("page")] == [2, 3, 3]
    assert await storage.get_expiry("page") == pytest.approx(time.time() + 60, abs=2)
    await storage.clear("page")
    assert await storage.get("page") == 0
    assert await storage.check()
    await storage.reset()
    await storage.aclose()


async def test_reset_empties_one_prefix_and_no_other(prefix: str, plain: redis.Redis) -> None:
    odd = RedisStorage(url_of("redis"), prefix=f"{prefix}[a]*")
    other = RedisStorage(url_of("redis"), prefix=f"{prefix}a-and-more")
    for number in range(300):
        odd.settle(f"key/{number}", [Change(DAY, 1, None)], now=time.time())
    await odd.flush()
    await granted(other, asks(1, DAY), now=time.time())
    assert await odd.reset() == 300
    assert await odd.reset() == 0
    assert len(list(plain.scan_iter(f"{prefix}*"))) == 1
    assert await other.reset() == 1
    await odd.aclose()
    await other.aclose()


@pytest.mark.parametrize("prefix", ["", "a{b", "}"])
def test_a_prefix_that_would_break_the_slots_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisStorage("redis://127.0.0.1", prefix=prefix)
