"""What came from a window goes back into that one only; limits that change.

Each rule is named: without it in the code its test breaks.
"""

from __future__ import annotations

import asyncio

import pytest

from ak_guard.budgets import Window
from ak_guard.budgets.receipt import Receipt
from tests.leases.world import HOUR, World, played, turn

# Only into the window it came from


@pytest.mark.parametrize("how", ["restart", "roll-over", "the same start"])
def test_a_lease_of_a_window_that_is_gone_gives_nothing_back(how: str) -> None:
    async def story(world: World) -> None:
        calendar = how == "the same start"
        window = (
            Window(1_000, 3_600, anchor="calendar") if calendar else Window(1_000, 1 if how != "restart" else 3_600)
        )
        worker, other = world.worker(window), world.worker(window)
        await worker.hold_a_lease()
        assert worker.unspent() > 0
        if how == "roll-over":
            world.loop.jump(1.0)
        else:
            await world.store.restart("key/a", (window,))
        await other.admit(150)
        await worker.leases.aclose()
        assert worker.line.given_back
        assert await world.used(window) == 150

    played(story)()


@played
async def test_a_refund_after_the_roll_over_is_dropped(world: World) -> None:
    window = Window(1_000, 10)
    worker = world.worker(window)
    old = await worker.admit(50)
    world.loop.jump(10)
    await worker.hold_a_lease(100)
    await worker.admit(60)
    held = worker.unspent()
    assert held > 0
    old.charge(-50)
    assert worker.unspent() == held
    await worker.leases.aclose()
    assert await world.used(window) == 161


@played
async def test_a_refund_from_before_a_restart_elsewhere_is_dropped(world: World) -> None:
    worker = world.worker(HOUR)
    old = await worker.admit(10)
    await world.store.restart("key/a", (HOUR,))
    await asyncio.sleep(1)
    await worker.hold_a_lease(50)
    await worker.admit(20)
    old.charge(-10)
    await worker.leases.aclose()
    assert await world.used(HOUR) == 71


@played
async def test_a_restart_here_lets_go_of_what_is_held(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    await worker.leases.restart("key/a", (HOUR,))
    assert worker.unspent() == 0
    await worker.admit(3)
    await worker.leases.aclose()
    assert await world.used(HOUR) == 3


# Limits that change


@played
async def test_changed_limits_close_what_is_held_under_the_old_ones(world: World) -> None:
    raised = Window(2_000, 3_600)
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    held = worker.line.calls[-1].lease
    receipt = await worker.admit(950, worker.budget_of((raised,)))
    assert held is not None
    assert worker.line.given_back == [(held.id, {HOUR.slot: 89})]
    assert receipt.left == [2_000 - 1_051]
    await worker.leases.aclose()
    assert await world.used(raised) == 1_051


@played
async def test_lowered_limits_bind_at_once(world: World) -> None:
    lowered = Window(150, 3_600)
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    budget = worker.budget_of((lowered,))
    assert worker.at_once(1, budget) is None
    outcomes = [await worker.take(10, budget) for _ in range(10)]
    assert sum(isinstance(outcome, Receipt) for outcome in outcomes) == 4
    assert await world.used(lowered) == 141


@played
async def test_a_call_under_way_is_awaited_before_limits_change(world: World) -> None:
    raised = Window(2_000, 3_600)
    worker = world.worker(HOUR)
    worker.line.gate = asyncio.Event()
    old = asyncio.ensure_future(worker.take(400))
    await turn()
    new = asyncio.ensure_future(worker.take(300, worker.budget_of((raised,))))
    await turn()
    assert len(worker.line.calls) == 1
    worker.line.gate.set()
    await asyncio.gather(old, new)
    await worker.leases.aclose()
    assert await world.used(raised) == 700
    assert worker.line.most_at_once == 1
