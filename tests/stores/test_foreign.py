"""Any other storage of `limits` works, with the weaker promise of its docstring."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from limits import parse
from limits.aio.storage import MemoryStorage as LimitsMemory
from limits.aio.storage import Storage
from limits.errors import StorageError
from limits.storage import MemoryStorage as SyncMemory

from ak_guard import ApiKeyMiddleware, BudgetError, ConfigurationError, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.budgets import Change, ForeignStorage, MemoryStorage, MultiWindowRateLimiter, Window, counters_from
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from ak_guard.testing import ManualClock


@pytest.mark.parametrize("limits", ["async+memory://", LimitsMemory()])
async def test_windows_hold_on_the_memory_storage_of_limits(limits: Any) -> None:
    backend = MemoryBackend()
    keys = KeyManager(backend, limits=limits)
    issued = await keys.create("prod-api", limits=["5/1m", "3/1d calendar", "100/1h sliding"], quota=50)
    app = ApiKeyMiddleware(echo_app(), backend=backend, limits=limits)
    async with client_for(app) as client:
        answers = await asyncio.gather(*(client.get("/", headers=bearer(issued.secret)) for _ in range(40)))
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(200), statuses.count(429)) == (3, 37)
        refused = (await client.get("/", headers=bearer(issued.secret))).json()
        assert (refused["code"], refused["violated-policies"]) == ("rate_limit_exceeded", ["1d-calendar"])


async def test_charge_and_reset_on_a_foreign_storage() -> None:
    backend, storage = MemoryBackend(), LimitsMemory()
    keys = KeyManager(backend, limits=storage)
    issued = await keys.create("prod-api", limits=["10/1h", "10/1h sliding"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["ak_guard"].charge(6)
        await echo_app()(scope, receive, send)

    async with client_for(ApiKeyMiddleware(app, backend=backend, limits=storage)) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).json()["remaining"] == 3
    assert [window.used for window in (await keys.status(issued.key.id)).windows] == [7, 7]
    await keys.reset(issued.key.id, limits=True)
    assert [window.used for window in (await keys.status(issued.key.id)).windows] == [0, 0]


class Elsewhere(LimitsMemory):
    """A storage over a network: others go on while it answers."""

    STORAGE_SCHEME = None  # type: ignore[assignment]  # not to be found by URI

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        await asyncio.sleep(0)
        return await super().incr(key, expiry, amount)


async def test_what_requests_charge_at_the_same_time_is_counted_once() -> None:
    backend, storage = MemoryBackend(), Elsewhere()
    keys = KeyManager(backend, limits=storage)
    issued = await keys.create("prod-api", limits=["1000/1h"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["ak_guard"].charge(3)
        await echo_app()(scope, receive, send)

    async with client_for(ApiKeyMiddleware(app, backend=backend, limits=storage)) as client:
        for _ in range(2):
            answers = await asyncio.gather(*(client.get("/", headers=bearer(issued.secret)) for _ in range(6)))
            assert [answer.status_code for answer in answers] == [200] * 6
    assert (await keys.status(issued.key.id)).windows[0].used == 12 * 4


class Counting(Elsewhere):
    """Counts how often it is told to count; while it is away each attempt fails when `gate` opens."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: asyncio.Event | None = None
        self.attempts = 0

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        self.attempts += 1
        if self.gate is not None:
            await self.gate.wait()
            raise StorageError(OSError("timed out"))
        return await super().incr(key, expiry, amount)


async def test_many_charges_to_one_window_are_counted_in_one_step() -> None:
    counting = Counting()
    storage, window = ForeignStorage(counting), Window(10_000, 3_600)
    for number in range(2_000):
        storage.settle(f"key/{number % 2}", [Change(window, 2, None)], now=1_800_000_000.0 + number)
    await storage.flush()
    assert counting.attempts == 2
    assert [(await storage.peek(f"key/{number}", [window], now=0.0))[0].used for number in (0, 1)] == [2_000, 2_000]


async def test_whoever_waits_for_a_storage_that_is_away_fails_with_the_first_attempt_and_nothing_is_lost() -> None:
    counting = Counting()
    storage, window = ForeignStorage(counting), Window(10_000, 3_600)
    storage.settle("key/a", [Change(window, 5, None)], now=0.0)
    counting.gate = asyncio.Event()
    asked = [asyncio.create_task(storage.peek("key/a", [window], now=0.0)) for _ in range(20)]
    for _ in range(100):
        await asyncio.sleep(0)
    counting.gate.set()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BudgetError}
    assert counting.attempts == 1
    counting.gate = None
    assert (await storage.peek("key/a", [window], now=0.0))[0].used == 5


class Failing(LimitsMemory):
    """A storage whose server is away."""

    STORAGE_SCHEME = None  # type: ignore[assignment]  # not to be found by URI

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return (ConnectionError,)

    async def get(self, key: str) -> int:
        raise ConnectionError("away")


async def test_a_foreign_storage_that_is_away_answers_503() -> None:
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api", limits=["5/1m"])
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend, limits=Failing())) as client:
        answer = await client.get("/", headers=bearer(issued.secret))
    assert (answer.status_code, answer.json()["code"]) == (503, "limits_unavailable")


def test_a_storage_that_would_block_the_loop_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not an async storage"):
        ForeignStorage(SyncMemory())  # type: ignore[arg-type]  # wrong on purpose


def test_memory_is_ours() -> None:
    assert isinstance(counters_from("memory://"), MemoryStorage)
    own = MemoryStorage()
    assert counters_from(own) is own


@pytest.fixture(params=["ours"])
def limiter(clock: ManualClock) -> MultiWindowRateLimiter:
    return MultiWindowRateLimiter(MemoryStorage(clock=clock), clock=clock)


async def test_the_strategy_speaks_the_language_of_limits(limiter: MultiWindowRateLimiter, clock: ManualClock) -> None:
    item = parse("3/minute")
    assert await limiter.test(item, "user", "a", cost=3)
    assert await limiter.hit(item, "user", "a", cost=2)
    assert not await limiter.hit(item, "user", "a", cost=2)
    stats = await limiter.get_window_stats(item, "user", "a")
    assert (stats.remaining, stats.reset_time) == (1, clock() + 60)
    assert await limiter.hit_all([item, Window(1, 3_600)], "user", "a")
    assert not await limiter.hit_all([Window(9, 60), Window(1, 3_600)], "user", "a")
    await limiter.clear(item, "user", "a")
    assert (await limiter.get_window_stats(item, "user", "a")).remaining == 3


async def test_a_window_of_requests_is_tested_as_it_is_hit_whatever_the_cost(limiter: MultiWindowRateLimiter) -> None:
    window = Window(2, 60, unit="requests")
    for free in (True, True, False):
        assert await limiter.test(window, "user", cost=5) is free
        assert await limiter.test(window, "user", cost=0)
        assert await limiter.hit(window, "user", cost=5) is free


async def test_our_memory_serves_the_strategies_of_limits(clock: ManualClock) -> None:
    from limits.aio.strategies import FixedWindowRateLimiter  # noqa: PLC0415  # named apart from ours

    storage: Storage = MemoryStorage(clock=clock)
    limiter = FixedWindowRateLimiter(storage)
    item = parse("2/minute")
    assert [await limiter.hit(item, "a") for _ in range(3)] == [True, True, False]
    assert (await limiter.get_window_stats(item, "a")).reset_time == clock() + 60
    clock.move(60)
    assert await limiter.hit(item, "a")
    assert await storage.check()
    assert await storage.reset() == 1
    assert (await limiter.get_window_stats(item, "a")).remaining == 2


def test_a_storage_of_one_window_cannot_drive_the_strategy() -> None:
    with pytest.raises(ConfigurationError, match="in one step"):
        MultiWindowRateLimiter(LimitsMemory())


async def test_ended_windows_are_forgotten_without_a_sweep_over_all(clock: ManualClock) -> None:
    storage = MemoryStorage(clock=clock)
    limiter = MultiWindowRateLimiter(storage, clock=clock)
    for number in range(300):
        await limiter.hit_all([Window(1, 30), Window(5, 60, anchor="sliding")], f"key/{number}")
    clock.move(300)
    for number in range(300):
        await limiter.hit_all([Window(1, 30)], f"new/{number}")
    assert len(storage._subjects) == 300


async def test_stopping_while_the_storage_is_away_goes_on_stopping(caplog: pytest.LogCaptureFixture) -> None:
    class Away(LimitsMemory):
        STORAGE_SCHEME = None  # type: ignore[assignment]  # not to be found by URI

        @property
        def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
            return (ConnectionError,)

        async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
            raise ConnectionError("away")

    storage = ForeignStorage(Away())
    storage.settle("key/a", [Change(Window(5, 60), 1, None)], now=0.0)
    await storage.aclose()
    assert "could not be written" in caplog.text
