"""Slots over several workers, rule by rule: exact, returned soon, renewed, lost to nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ak_guard.budgets.shared_slots import HOLD_SECONDS
from ak_guard.errors import BudgetError
from tests.leases.world import played
from tests.slots.world import IDLE_SECONDS, House, until_deadline

if TYPE_CHECKING:
    from tests.leases.world import World


@played
async def test_no_more_run_than_may_over_all_workers(world: World) -> None:
    house = House(world, workers=3, limit=4)
    entered = await asyncio.gather(*(worker.enter() for worker in house.workers for _ in range(5)))
    assert sum(entered) == house.running == 4


@played
async def test_the_next_one_enters_as_soon_as_one_has_ended_in_the_same_worker(world: World) -> None:
    house = House(world, workers=1, limit=1)
    (worker,) = house.workers
    assert await worker.enter()
    calls = len(worker.line.calls)
    for _ in range(50):
        worker.leave()
        assert await worker.enter()
    assert len(worker.line.calls) == calls


@played
async def test_a_slot_that_is_idle_here_is_not_refused_elsewhere(world: World) -> None:
    house = House(world, limit=1)
    for number in range(10):
        worker = house.workers[number % 2]
        assert await worker.enter()
        worker.leave()


@played
async def test_workers_that_take_turns_soon_wait_for_nothing(world: World) -> None:
    house = House(world, limit=1)
    for turn in range(20):
        if turn == 10:
            before = world.loop.passed
        worker = house.workers[turn % 2]
        assert await worker.enter()
        worker.leave()
        await asyncio.sleep(0.01)
    assert world.loop.passed - before < 0.2


@played
async def test_whoever_waits_enters_when_one_ends_in_another_worker(world: World) -> None:
    house = House(world, limit=1)
    first, second = house.workers
    assert await first.enter()
    waiting = asyncio.create_task(second.enter())
    await asyncio.sleep(0.1)
    first.leave()
    assert await waiting


@played
async def test_a_refusal_comes_soon_and_is_repeated_without_asking(world: World) -> None:
    house = House(world, limit=1)
    first, second = house.workers
    await first.enter()
    before = world.loop.passed
    assert not await second.enter()
    assert world.loop.passed - before < 0.5
    calls = len(second.line.calls)
    assert not any(await asyncio.gather(*(second.enter() for _ in range(100))))
    assert len(second.line.calls) == calls


@played
async def test_when_one_has_ended_here_the_refusal_is_over(world: World) -> None:
    house = House(world, limit=2)
    first, second = house.workers
    await first.enter()
    await second.enter()
    assert not await second.enter()
    second.leave()
    await asyncio.sleep(0.01)
    assert await second.enter()


@played
async def test_a_flood_of_refused_requests_asks_few_times_a_second(world: World) -> None:
    house = House(world, limit=1)
    first, second = house.workers
    await first.enter()
    until = world.loop.passed + 10
    while world.loop.passed < until:
        assert not await second.enter()
        await asyncio.sleep(0.001)
    assert len(second.line.calls) <= 10 * 10


@played
async def test_what_is_idle_goes_back_to_the_store(world: World) -> None:
    house = House(world, workers=1)
    (worker,) = house.workers
    for _ in range(3):
        assert await worker.enter()
    worker.leave()
    await asyncio.sleep(IDLE_SECONDS)
    assert await worker.held() == 2
    worker.leave()
    worker.leave()
    await asyncio.sleep(IDLE_SECONDS)
    assert await worker.held() == 0
    # And then there is nothing to do, nor to remember.
    calls = len(worker.line.calls)
    await until_deadline()
    assert len(worker.line.calls) == calls
    assert worker.slots._desks.get()._rooms == {}


@played
async def test_what_runs_is_renewed_however_long_it_runs(world: World) -> None:
    house = House(world)
    first, second = house.workers
    for _ in range(3):
        assert await first.enter()
    for _ in range(10):
        await until_deadline()
        assert not await second.enter()
    assert len(first.line.calls) < 10 * 5


@played
async def test_slots_of_a_worker_that_was_killed_free_themselves_at_the_deadline(world: World) -> None:
    house = House(world)
    first, second = house.workers
    for _ in range(3):
        await first.enter()
    first.line.away = True  # nobody renews any more
    await asyncio.sleep(HOLD_SECONDS - 1)
    assert not await second.enter()
    await until_deadline()
    assert all([await second.enter() for _ in range(3)])


@played
async def test_whoever_could_not_renew_lets_nobody_in_by_itself(world: World) -> None:
    house = House(world)
    first, second = house.workers
    for _ in range(3):
        await first.enter()
    first.line.away = True
    await until_deadline()
    for _ in range(3):
        assert await second.enter()
    first.leave()
    with pytest.raises(BudgetError):
        await first.enter()
    # When it is back the store knows what runs there, beside what others were given meanwhile.
    first.line.away = False
    assert not await first.enter()
    await asyncio.sleep(HOLD_SECONDS)
    assert await first.held() == house.running == 5
    for _ in range(3):
        second.leave()
    await asyncio.sleep(IDLE_SECONDS)
    assert await first.enter()
    assert not await second.enter()


@played
async def test_while_the_store_is_away_what_is_held_can_be_used(world: World) -> None:
    house = House(world, workers=1)
    (worker,) = house.workers
    await worker.enter()
    worker.line.away = True
    worker.leave()
    assert await worker.enter()
    with pytest.raises(BudgetError):
        await worker.enter()


@played
async def test_a_lost_reply_costs_nobody_a_slot(world: World) -> None:
    house = House(world, limit=2)
    first, second = house.workers
    first.line.faults.append("reply lost")
    with pytest.raises(BudgetError):
        await first.enter()
    await asyncio.sleep(1)
    assert await second.enter()
    assert await second.enter()
    assert not await first.enter()


@played
async def test_a_call_that_comes_late_gives_nobody_more_than_there_is(world: World) -> None:
    house = House(world, limit=2)
    first, second = house.workers
    first.line.faults.append("late")
    with pytest.raises(BudgetError):
        await first.enter()
    assert await first.enter()
    assert await first.enter()
    await asyncio.sleep(1)
    assert not await second.enter()


@played
async def test_a_raised_limit_lets_more_in_and_a_lowered_one_nobody_until_enough_have_ended(world: World) -> None:
    house = House(world, limit=2)
    first, second = house.workers
    assert await first.enter()
    assert await second.enter()
    first.limit = second.limit = 4
    await asyncio.sleep(0.5)
    assert await first.enter()
    assert await second.enter()
    first.limit = second.limit = 1
    for worker in (first, second, first):
        worker.leave()
        assert not await first.enter()
        assert not await second.enter()
        await asyncio.sleep(0.5)
    second.leave()
    assert await first.enter()
    assert not await second.enter()


@played
async def test_a_busy_worker_lets_nobody_in_while_others_run_as_many_as_a_lowered_limit(world: World) -> None:
    house = House(world, limit=6)
    first, second = house.workers
    for _ in range(3):
        assert await first.enter()
        assert await second.enter()
    await asyncio.sleep(HOLD_SECONDS)
    first.limit = second.limit = 2
    first.leave()
    first.leave()
    assert not await first.enter()


@played
async def test_who_goes_away_while_waiting_takes_nothing_along(world: World) -> None:
    house = House(world, limit=1)
    first, second = house.workers
    await first.enter()
    for pause in (0.0, 0.001, 0.002, 0.05, 0.1):
        waiting = asyncio.create_task(second.enter())
        await asyncio.sleep(pause)
        first.leave()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await first.enter()
    first.leave()
    await asyncio.sleep(IDLE_SECONDS)
    assert await first.held() == 0


@played
async def test_who_goes_away_in_the_moment_it_is_let_in_does_not_run(world: World) -> None:
    house = House(world, workers=1, limit=1)
    (worker,) = house.workers
    await worker.enter()
    waiting = asyncio.create_task(worker.enter())
    await asyncio.sleep(0.01)
    worker.leave()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await worker.enter()


@played
async def test_a_bug_in_a_store_is_told_and_leaves_nobody_waiting(world: World) -> None:
    house = House(world, workers=1)
    (worker,) = house.workers
    worker.line.broken = True
    with pytest.raises(BudgetError):
        await worker.enter()
    worker.line.broken = False
    assert await worker.enter()


@played
async def test_closing_returns_what_is_idle_and_calls_no_more(world: World) -> None:
    house = House(world, workers=1)
    (worker,) = house.workers
    await worker.enter()
    await worker.enter()
    worker.leave()
    await worker.slots.aclose()
    assert await worker.held() == 1
    calls = len(worker.line.calls)
    worker.leave()
    await asyncio.sleep(1)
    assert len(worker.line.calls) == calls
    # It can be used again.
    assert await worker.enter()


@played
async def test_what_is_idle_here_does_not_count_as_used(world: World) -> None:
    house = House(world)
    first, second = house.workers
    await first.enter()
    await first.enter()
    first.leave()
    assert await first.slots.used(["key/a"]) == [1]
    assert await second.slots.used(["key/a"]) == [2]
