"""When there is not enough: who waits, for how long, and what is remembered of it.

Each rule is named: without it in the code its test breaks.
"""

from __future__ import annotations

import asyncio

import pytest

from ak_guard.budgets import Window
from tests.leases.world import HOUR, START, World, played, turn


@played
async def test_who_waits_for_what_others_hold_gets_it(world: World) -> None:
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()  # 190 used, of which 89 come back
    await worker.admit(850)
    assert 0.5 < world.loop.passed < 1.1
    assert await world.used(HOUR) == 951


@played
async def test_who_waited_once_is_refused(world: World) -> None:
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()
    refused = await worker.refuse(950)
    assert 0.5 < world.loop.passed < 1.1
    assert len(worker.line.calls) == 2
    assert refused.left == [899]


@played
async def test_who_waits_for_what_others_hold_goes_on_at_once_when_the_window_is_reset(world: World) -> None:
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()
    waiting = asyncio.create_task(worker.admit(850))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    # As another process does, which tells of it by the feed.
    await world.store.restart("key/a", [HOUR])
    before = world.loop.passed
    worker.leases.drop("a")
    await waiting
    assert world.loop.passed == before


@played
async def test_news_that_helps_nobody_makes_no_wait_longer(world: World) -> None:
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()
    before = world.loop.passed
    waiting = asyncio.create_task(worker.refuse(950))
    while not waiting.done():
        await asyncio.sleep(0.1)
        worker.leases.drop("a")
    assert 0.5 < world.loop.passed - before < 1.2


@played
async def test_nobody_waits_where_nobody_holds_anything(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.admit(600)
    await worker.refuse(500)
    assert world.loop.passed == 0


@played
async def test_a_wait_does_not_end_before_a_lease_that_is_never_given_back(world: World) -> None:
    """What a dead worker held is then known to be spent, so the answer after the wait is final."""
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()
    holder.line.away = True
    refused = await worker.refuse(850)
    assert world.loop.passed >= 1.0
    assert refused.left == [810]


@pytest.mark.parametrize("cost", [600, 1])
def test_a_refusal_is_remembered_for_a_second_at_most(cost: int) -> None:
    async def story(world: World) -> None:
        worker, other = world.worker(HOUR), world.worker(HOUR)
        await other.admit(1_001 - cost)
        calls = len(worker.line.calls)
        for _ in range(5):
            await worker.refuse(cost)
            await asyncio.sleep(0.15)
        assert len(worker.line.calls) == calls + 1
        await world.store.restart("key/a", (HOUR,))
        await worker.refuse(cost)
        await asyncio.sleep(0.3)
        await worker.admit(cost)

    played(story)()


@played
async def test_a_cost_that_fits_is_asked_for_after_one_that_did_not(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.admit(600)
    await worker.refuse(500)
    await worker.admit(400)


@played
async def test_a_refusal_is_not_believed_beyond_the_end_of_the_window(world: World) -> None:
    worker = world.worker(Window(10, 10))
    await worker.admit(10)
    await asyncio.sleep(9.9)
    await worker.refuse(1)
    world.loop.jump(0.101)
    await worker.admit(1)


@pytest.mark.parametrize("cost", [600, 1])
@pytest.mark.parametrize("named", ["a", None])
def test_a_reset_is_seen_at_once_when_the_change_feed_names_the_key(cost: int, named: str | None) -> None:
    async def story(world: World) -> None:
        worker, other = world.worker(HOUR), world.worker(HOUR)
        await other.admit(1_001 - cost)
        await worker.refuse(cost)
        await turn()
        await world.store.restart("key/a", (HOUR,))
        await worker.refuse(cost)
        worker.leases.drop("another")
        await worker.refuse(cost)
        worker.leases.drop(named)
        await worker.admit(cost)
        assert world.loop.passed == 0

    played(story)()


@pytest.mark.parametrize("cost", [600, 1])
def test_an_own_refund_is_seen_at_once(cost: int) -> None:
    async def story(world: World) -> None:
        worker = world.worker(HOUR)
        receipt = await worker.admit(1_001 - cost)
        await worker.refuse(cost)
        await turn()
        receipt.charge(-receipt.cost)
        await worker.admit(cost)

    played(story)()


@played
async def test_the_end_of_a_window_is_told_as_it_is_after_a_wait(world: World) -> None:
    holder, worker = world.worker(HOUR), world.worker(HOUR)
    await holder.hold_a_lease()
    await worker.refuse(950)  # waits for what the holder has
    refused = await worker.refuse(950)
    assert refused.ends == pytest.approx([START + 3_600], abs=0.02)
