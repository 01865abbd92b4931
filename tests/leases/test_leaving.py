"""Requests that go away, workers that die, and what people see of leases.

Each rule is named: without it in the code its test breaks.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import pytest

from ak_guard.budgets import Change, Leases, MemoryStorage, Window
from ak_guard.budgets.ledger import StoreAway
from ak_guard.budgets.receipt import Receipt, Shortage
from tests.leases.world import HOUR, START, World, played, turn

# Who goes away


@played
async def test_who_leaves_while_waiting_takes_nothing_from_those_who_stay(world: World) -> None:
    worker = world.worker(HOUR)
    worker.line.gate = asyncio.Event()
    leaving, staying = (asyncio.ensure_future(worker.take(cost)) for cost in (5, 7))
    await turn()
    leaving.cancel()
    await turn()
    worker.line.gate.set()
    assert isinstance(await staying, Receipt)
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 7


@played
async def test_who_leaves_strands_nothing_beyond_a_lease_time(world: World) -> None:
    worker = world.worker(HOUR)
    worker.line.gate = asyncio.Event()
    leaving = asyncio.ensure_future(worker.take(5))
    await turn()
    leaving.cancel()
    await turn()
    worker.line.gate.set()
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 0


@played
async def test_what_was_taken_for_who_left_is_not_lost_when_more_is_asked_for(world: World) -> None:
    worker = world.worker(HOUR)
    worker.line.gate = asyncio.Event()
    leaving = asyncio.ensure_future(worker.take(5))
    await turn()
    worker.line.gate.set()
    await asyncio.sleep(0)
    leaving.cancel()  # the store has answered
    await turn()
    await worker.admit(6)
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 6


@played
async def test_who_leaves_during_the_wait_for_others_holds_up_nobody(world: World) -> None:
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()
    leaving = asyncio.ensure_future(worker.take(890))
    staying = asyncio.ensure_future(worker.take(890))
    await asyncio.sleep(0.2)
    leaving.cancel()
    assert isinstance(await staying, Receipt)
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 991


@played
async def test_who_leaves_while_limits_change_loses_nothing(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    worker.line.gate = asyncio.Event()
    leaving = asyncio.ensure_future(worker.take(1, worker.budget_of((Window(2_000, 3_600),))))
    await turn()
    leaving.cancel()
    await turn()
    worker.line.gate.set()
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 101


@played
async def test_another_threads_loop_spends_nothing_from_here(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    await turn()
    await worker.admit(1)
    seen: list[object] = []

    async def elsewhere() -> None:
        seen.append(worker.at_once(1))

    def run() -> None:
        asyncio.run(elsewhere())

    assert worker.budget.parts[0].purse is not None
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [None]
    assert worker.unspent() == 88


# What people see


@played
async def test_what_is_held_here_and_unspent_counts_as_not_used(world: World) -> None:
    worker, other = world.worker(HOUR), world.worker(HOUR)
    await worker.hold_a_lease()
    (here,) = await worker.leases.peek("key/a", (HOUR,), now=world.wall())
    (there,) = await other.leases.peek("key/a", (HOUR,), now=world.wall())
    assert (here.used, here.held) == (101, 0)
    assert (there.used, there.held) == (190, 90)


@played
async def test_what_is_held_of_a_window_that_is_gone_is_not_subtracted(world: World) -> None:
    worker, other = world.worker(HOUR), world.worker(HOUR)
    await worker.hold_a_lease()
    await world.store.restart("key/a", (HOUR,))
    await other.admit(7)
    (level,) = await worker.leases.peek("key/a", (HOUR,), now=world.wall())
    assert level.used == 7


@played
async def test_what_was_held_by_a_dead_lease_counts_as_used(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    world.loop.jump(2.5)
    (level,) = await worker.leases.peek("key/a", (HOUR,), now=world.wall())
    assert (level.used, level.held) == (190, 0)


@played
async def test_leases_go_on_while_the_store_is_away(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    worker.line.away = True
    for _ in range(50):
        await worker.admit(1)
    world.loop.jump(0.8)
    with pytest.raises(StoreAway):
        await worker.take(1)
    worker.line.away = False
    await worker.admit(1)


@played
async def test_a_killed_worker_loses_at_most_its_lease(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    worker.line.away = True
    await asyncio.sleep(3)
    assert await world.used(HOUR) == 190


@played
async def test_a_used_up_key_costs_at_most_a_call_a_second(world: World) -> None:
    worker = world.worker(Window(10, 3_600))
    await worker.admit(10)
    before = len(worker.line.calls)
    while world.loop.passed < 5:
        await worker.refuse(1)
        await asyncio.sleep(0.01)
    assert len(worker.line.calls) - before <= 6


@played
async def test_a_used_up_key_costs_no_more_when_many_come_at_once(world: World) -> None:
    worker = world.worker(Window(10, 3_600))
    await worker.admit(10)
    before = len(worker.line.calls)
    worker.line.delay = 0.005
    coming: list[asyncio.Future[Receipt | Shortage]] = []
    while world.loop.passed < 2:
        coming.append(asyncio.ensure_future(worker.take(1)))
        await asyncio.sleep(0.001)
    outcomes = await asyncio.gather(*coming)
    assert all(isinstance(outcome, Shortage) for outcome in outcomes)
    assert len(worker.line.calls) - before <= 3


@played
async def test_who_waits_for_a_key_that_others_drain_is_refused_after_one_lease_time(world: World) -> None:
    """Others hold leases again and again; that does not keep anybody waiting."""
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()

    async def drain() -> None:
        while True:
            await holder.take(1)
            await asyncio.sleep(0.01)

    draining = asyncio.ensure_future(drain())
    began = world.loop.passed
    await worker.refuse(950)
    draining.cancel()
    assert world.loop.passed - began < 1.1


@played
async def test_accounts_are_bounded_in_number_however_many_keys_call(
    world: World,
) -> None:
    worker = world.worker(HOUR)
    for key in range(5_000):
        await worker.admit(1, worker.budget_of([HOUR], key=f"{key}"))
        await asyncio.sleep(0.001)
    (desk,) = worker.leases._desks.values()
    assert len(desk.held) < 4_200


@played
async def test_an_account_that_nobody_uses_is_forgotten(world: World) -> None:
    worker = world.worker(HOUR)
    for number in range(50):
        await worker.admit(1, worker.budget_of((HOUR,), key=f"old{number}"))
    await asyncio.sleep(11)
    for number in range(30):
        await worker.admit(1, worker.budget_of((HOUR,), key=f"new{number}"))
    (desk,) = worker.leases._desks.values()
    assert len(desk.held) == 30


def test_nothing_is_begun_while_the_event_loop_is_being_closed(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[str] = []
    kept: list[Leases] = []

    class Slow(MemoryStorage):
        async def flush(self) -> None:
            begun.append("flush")
            await asyncio.sleep(60)

    async def leave() -> None:
        kept.append(Leases(Slow()))
        kept[0].settle("key/a", [Change(HOUR, 1, None)], now=START)
        # The loop waits for its threads after it has cancelled its tasks, for longer than settlements wait.
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.4)

    asyncio.run(leave())
    kept.clear()
    gc.collect()
    assert begun == []
    assert caplog.text == ""
