"""Redis stops, hangs, forgets its scripts or loses an answer: nothing is taken twice and no settlement is lost."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from ak_guard.budgets import Ask, Change, Grant, Lease, Window
from ak_guard.budgets.redis import RedisStorage
from ak_guard.errors import BudgetError
from tests.stores.redis_server import Server, wire_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.stores.redis_server import Wire

DAY = Window(1_000, 86_400)
CALENDAR = Window(1_000, 86_400, anchor="calendar")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path)
    running.start()
    yield running
    running.kill()


@pytest.fixture
async def storage(server: Server) -> AsyncIterator[RedisStorage]:
    store = RedisStorage(server.url)
    yield store
    await store.aclose()


@pytest.fixture
async def wire(server: Server) -> AsyncIterator[Wire]:
    async with wire_to(server) as between:
        yield between


@pytest.fixture
async def far(wire: Wire) -> AsyncIterator[RedisStorage]:
    """A storage behind a wire that can lose answers."""
    store = RedisStorage(wire.url)
    yield store
    wire.lossy = False
    await store.aclose()


async def take(storage: RedisStorage, units: int, subject: str = "key/a", lease: Lease | None = None) -> bool:
    return isinstance(await storage.acquire(subject, [Ask(DAY, units)], lease=lease, now=time.time()), Grant)


async def used(storage: RedisStorage, subject: str = "key/a", window: Window = DAY) -> int:
    (level,) = await storage.peek(subject, [window], now=time.time())
    return level.used


async def test_away_and_back(server: Server, storage: RedisStorage) -> None:
    assert await take(storage, 5)
    server.kill()
    for _ in range(3):
        with pytest.raises(BudgetError) as failure:
            await take(storage, 7)
        assert str(server.port) not in str(failure.value)
    with pytest.raises(BudgetError):
        await storage.peek("key/a", [DAY], now=time.time())
    with pytest.raises(BudgetError):
        await storage.reset()
    assert not await storage.check()
    server.start()
    assert await storage.check()
    assert await take(storage, 1)
    assert await used(storage) == 6


async def test_what_was_charged_while_the_server_was_away_is_counted_once_when_it_is_back(
    server: Server, storage: RedisStorage
) -> None:
    assert await take(storage, 5)
    server.kill()
    for _ in range(10):
        storage.settle("key/a", [Change(DAY, 3, None), Change(CALENDAR, 3, None)], now=time.time())
        storage.settle("key/b", [Change(DAY, 1, None)], now=time.time())
        with pytest.raises(BudgetError):
            await take(storage, 1)
        with pytest.raises(BudgetError):
            await storage.flush()
    server.start()
    await storage.flush()
    await storage.flush()
    assert await used(storage) == 35
    assert await used(storage, window=CALENDAR) == 30
    assert await used(storage, "key/b") == 10


async def test_closing_while_the_server_is_away_is_logged_and_not_raised(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    storage = RedisStorage(server.url)
    assert await take(storage, 5)
    server.kill()
    storage.settle("key/a", [Change(DAY, 3, None)], now=time.time())
    await storage.aclose()
    assert "could not be written" in caplog.text


async def test_a_server_that_hangs_is_given_up_and_what_it_did_later_is_not_repeated(
    server: Server, storage: RedisStorage
) -> None:
    assert await take(storage, 5)
    storage.settle("key/a", [Change(DAY, 10, None)], now=time.time())
    server.freeze()
    before = time.monotonic()
    with pytest.raises(BudgetError):
        await take(storage, 100)
    assert time.monotonic() - before < 4
    server.thaw()
    # The take and the settlement were received, and are done once the server goes on; neither is sent again.
    assert await used(storage) == 115


async def test_a_take_whose_answer_is_lost_is_told_and_not_made_twice(wire: Wire, far: RedisStorage) -> None:
    assert await take(far, 5)
    sent, wire.lossy = wire.scripts, True
    with pytest.raises(BudgetError):
        await take(far, 7)
    wire.lossy = False
    assert wire.scripts == sent + 1
    assert await used(far) == 12


async def test_a_settlement_whose_answer_is_lost_is_counted_once(wire: Wire, far: RedisStorage) -> None:
    assert await take(far, 5)
    wire.lossy = True
    for _ in range(3):
        far.settle("key/a", [Change(DAY, 10, None)], now=time.time())
        with pytest.raises(BudgetError):
            await far.flush()
    with pytest.raises(BudgetError):
        await take(far, 7)
    wire.lossy = False
    far.settle("key/a", [Change(DAY, 100, None)], now=time.time())
    assert await take(far, 1000 - 5 - 30 - 100)
    assert not await take(far, 1)
    assert await used(far) == 1_000


async def test_a_lease_whose_give_back_was_not_confirmed_gives_nothing_back_again(
    wire: Wire, far: RedisStorage
) -> None:
    assert await take(far, 50, lease=Lease("lease-1", "worker", 60.0))
    wire.lossy = True
    with pytest.raises(BudgetError):
        await far.give_back("lease-1", {DAY.slot: 40})
    wire.lossy = False
    assert await used(far) == 10
    await far.give_back("lease-1", {DAY.slot: 40})
    assert await used(far) == 10


async def test_a_server_that_lost_its_scripts_is_told_them_again(server: Server, storage: RedisStorage) -> None:
    assert await take(storage, 5)
    assert "OK" in server.ask("SCRIPT", "FLUSH")
    outcomes = await asyncio.gather(*(take(storage, 1, f"key/{number % 3}") for number in range(30)))
    assert all(outcomes)
    assert [await used(storage, f"key/{number}") for number in range(3)] == [10, 10, 10]
    assert await used(storage) == 5


async def test_one_broken_subject_does_not_disturb_the_others(server: Server, storage: RedisStorage) -> None:
    assert "OK" in server.ask("SET", "ak_guard:{key/odd}:w", "no-hash")
    odd, fine = await asyncio.gather(take(storage, 1, "key/odd"), take(storage, 1), return_exceptions=True)
    assert isinstance(odd, BudgetError)
    assert fine is True
