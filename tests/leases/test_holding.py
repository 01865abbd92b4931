"""How much a worker holds, and for how long.

Each rule is named: without it in the code its test breaks.
"""

from __future__ import annotations

import asyncio

import pytest

from ak_guard.budgets import Window
from ak_guard.budgets.receipt import Receipt
from tests.leases.world import HOUR, World, played, turn

# How much is held


@played
async def test_a_worker_holds_at_most_a_tenth_of_what_is_left(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease(100)
    assert worker.unspent() == 89  # of the 899 that were left
    assert await world.used(HOUR) == 190


@played
async def test_nothing_is_held_once_less_than_a_tenth_is_left(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease(920)
    assert worker.unspent() == 0
    assert await world.used(HOUR) == 921


@played
async def test_no_more_is_held_than_the_key_spends_in_a_lease_time(world: World) -> None:
    window = Window(1_000_000, 3_600)
    worker = world.worker(window)
    await worker.hold_a_lease(100)
    assert await world.used(window) == 100 + 1 + 100


@played
async def test_a_slow_key_holds_nothing(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease(10)
    assert await world.used(HOUR) == 11
    assert [call.lease for call in worker.line.calls] == [None, None]


@played
async def test_requests_are_held_in_the_measure_of_units(world: World) -> None:
    units, requests = Window(10_000, 3_600), Window(10_000, 3_600, unit="requests")
    worker = world.worker(units, requests)
    await worker.admit(100)
    await worker.admit(10)
    asked = worker.line.calls[-1].asks
    assert [(ask.need, ask.extra) for ask in asked] == [(10, 100), (1, 10)]


# For how long


@pytest.mark.parametrize("anchor", ["first-use", "calendar", "sliding"])
def test_a_lease_ends_with_its_window_or_bucket(anchor: str) -> None:
    async def story(world: World) -> None:
        worker = world.worker(Window(100_000, 10, anchor=anchor))  # type: ignore[arg-type]
        await worker.admit(1)
        await asyncio.sleep(9.8)
        await worker.hold_a_lease(500)
        assert worker.unspent() > 0
        world.loop.jump(0.25)
        calls = len(worker.line.calls)
        assert worker.at_once(1) is None
        await worker.admit(1)
        assert len(worker.line.calls) == calls + 1

    played(story)()


@played
async def test_a_lease_ends_with_the_earliest_of_several_windows(world: World) -> None:
    worker = world.worker(Window(100_000, 3_600), Window(100_000, 10))
    await worker.admit(1)
    await asyncio.sleep(9.8)
    await worker.hold_a_lease(500)
    world.loop.jump(0.25)
    assert worker.at_once(1) is None


@played
async def test_a_worker_that_was_paused_spends_nothing_from_a_dead_lease(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    world.loop.jump(2.5)
    assert worker.at_once(1) is None
    await worker.admit(1)
    # What was held is spent for the store, and was not spent here.
    assert worker.line.calls[-1].need == 1
    assert await world.used(HOUR) >= 191


@played
async def test_a_worker_that_stalls_brings_back_what_it_may_not_spend_any_more(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    world.loop.jump(1.5)
    assert worker.at_once(1) is None
    await asyncio.sleep(0.2)
    assert await world.used(HOUR) == 101


@played
async def test_a_reply_that_comes_too_late_is_not_spent(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    worker.line.gate = asyncio.Event()
    waiting = asyncio.ensure_future(worker.take(200))
    await turn()
    world.loop.jump(1.5)
    worker.line.gate.set()
    assert isinstance(await waiting, Receipt)
    # Asked once more, because the first grant was past its time when it came.
    assert [call.need for call in worker.line.calls[-2:]] == [200, 200]


@played
async def test_an_idle_worker_gives_its_lease_back_within_a_lease_time(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    await asyncio.sleep(1.0)
    assert await world.used(HOUR) == 101


@played
async def test_a_finished_worker_gives_its_lease_back_at_once(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    await worker.leases.aclose()
    assert world.loop.passed == 0.0
    assert await world.used(HOUR) == 101
