"""Charges and refunds afterwards, and several budgets at once.

Each rule is named: without it in the code its test breaks.
"""

from __future__ import annotations

import asyncio

from ak_guard.budgets import Window
from ak_guard.budgets.receipt import Shortage
from tests.leases.world import HOUR, START, World, played

# Settlement


@played
async def test_a_charge_is_paid_from_what_is_held(world: World) -> None:
    worker = world.worker(HOUR)
    receipt = await worker.hold_a_lease()
    receipt.charge(10)
    assert worker.line.settled == []
    assert worker.unspent() == 79
    await worker.leases.aclose()
    assert await world.used(HOUR) == 111


@played
async def test_a_charge_above_what_is_held_is_a_debt_to_the_store(world: World) -> None:
    worker = world.worker(HOUR)
    receipt = await worker.hold_a_lease()
    receipt.charge(2_000)
    assert [change.units for change in worker.line.settled] == [2_000 - 89]
    await worker.leases.aclose()
    assert await world.used(HOUR) == 2_101
    assert isinstance(await world.worker(HOUR).take(1), Shortage)


@played
async def test_a_charge_without_anything_held_goes_to_the_store(world: World) -> None:
    worker = world.worker(HOUR)
    receipt = await worker.admit(5)
    receipt.charge(7)
    assert await world.used(HOUR) == 12


@played
async def test_a_refund_goes_into_the_lease_it_came_from(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    receipt = await worker.admit(20)
    receipt.charge(-15)
    assert worker.line.settled == []
    assert worker.unspent() == 84
    await worker.leases.aclose()
    assert await world.used(HOUR) == 106


@played
async def test_a_refund_that_no_lease_here_has_room_for_goes_to_the_store(world: World) -> None:
    """What comes back under a lease is at most what was taken under it: the rest would be lost with it."""
    worker = world.worker(HOUR)
    receipt = await worker.admit(100)
    await worker.admit(1)
    receipt.charge(-100)
    await worker.leases.aclose()
    assert await world.used(HOUR) == 1


@played
async def test_a_refund_is_back_within_a_lease_time_where_nothing_is_held(world: World) -> None:
    worker = world.worker(HOUR)
    receipt = await worker.admit(5)
    await asyncio.sleep(0.3)
    receipt.charge(-3)
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 2


@played
async def test_a_refund_that_waits_to_be_brought_back_counts_as_not_used(world: World) -> None:
    worker = world.worker(HOUR)
    receipt = await worker.admit(5)
    receipt.charge(-4)
    # Nothing else comes to its turn for longer than any lease would last.
    world.loop.jump(2.5)
    (level,) = await worker.leases.peek("key/a", (HOUR,), now=world.wall())
    assert (level.used, level.held) == (1, 0)


@played
async def test_a_refund_is_not_lost_when_more_is_asked_for(world: World) -> None:
    worker = world.worker(HOUR)
    receipt = await worker.admit(5)
    receipt.charge(-3)
    await worker.admit(9)
    await worker.leases.aclose()
    assert await world.used(HOUR) == 11


@played
async def test_those_for_whom_nothing_is_left_are_told_when_their_own_cost_passes(world: World) -> None:
    window = Window(200, 86_400, anchor="sliding")
    worker = world.worker(window)
    await worker.admit(195)
    outcomes = await asyncio.gather(*(worker.take(1) for _ in range(14)))
    refused = [outcome for outcome in outcomes if isinstance(outcome, Shortage)]
    assert len(refused) == 9
    # Not when all who asked together would pass, which is an hour later.
    assert {round(shortage.ends[0]) for shortage in refused} == {window.bounds(START)[1]}


# Several budgets


GROUP = Window(100, 3_600, name="shared")


@played
async def test_a_refusal_by_the_group_takes_nothing_from_the_key(world: World) -> None:
    worker = world.worker(HOUR, shared=(GROUP,))
    await worker.admit(95, worker.budget_of((HOUR,), (GROUP,), key="b"))
    refused = [await worker.refuse(cost) for cost in (6, 7, 8, 9)]
    assert [shortage.left for shortage in refused] == [[1_000, 5]] * 4
    assert [shortage.full for shortage in refused] == [[1]] * 4
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 0
    assert await world.used(GROUP, "group/g") == 95


@played
async def test_a_refusal_by_the_key_takes_nothing_from_the_group(world: World) -> None:
    small = Window(5, 3_600)
    worker = world.worker(small, shared=(GROUP,))
    for cost in (6, 7, 8, 9):
        assert (await worker.refuse(cost)).full == [0]
    await asyncio.sleep(1.2)
    assert await world.used(GROUP, "group/g") == 0


@played
async def test_a_refusal_leaves_the_purse_of_the_other_budget_as_it_was(world: World) -> None:
    worker = world.worker(HOUR, shared=(GROUP,))
    await worker.hold_a_lease(50)
    await world.worker(GROUP, key="x").leases.store.restart("group/g", (GROUP,))
    other = world.worker(HOUR, shared=(GROUP,), key="b")
    await other.admit(99)
    held = worker.unspent()
    assert held > 40
    await asyncio.sleep(0.76)
    await worker.refuse(10)
    await asyncio.sleep(1.2)
    assert await world.used(HOUR) == 51
