"""How a store is asked: for all who wait, in one call at a time, and what is lost on the way.

Each rule is named: without it in the code its test breaks.
"""

from __future__ import annotations

import asyncio

import pytest

from ak_guard.budgets import Window
from ak_guard.budgets.ledger import StoreAway
from ak_guard.budgets.receipt import Receipt
from tests.leases.world import HOUR, World, played, turn


@played
async def test_one_call_asks_for_all_who_wait(world: World) -> None:
    worker = world.worker(HOUR)
    taken = await asyncio.gather(*(worker.take(cost) for cost in (1, 2, 3, 4)))
    assert [call.need for call in worker.line.calls] == [10]
    assert all(isinstance(receipt, Receipt) for receipt in taken)


@played
async def test_one_call_at_a_time_for_a_subject(world: World) -> None:
    worker = world.worker(HOUR)
    worker.line.gate = asyncio.Event()
    waiting = [asyncio.ensure_future(worker.take(5))]
    await turn()
    waiting += [asyncio.ensure_future(worker.take(cost)) for cost in (6, 7)]
    await turn()
    assert len(worker.line.calls) == 1
    worker.line.gate.set()
    await asyncio.gather(*waiting)
    assert worker.line.most_at_once == 1
    assert [call.need for call in worker.line.calls] == [5, 13]


@played
async def test_different_keys_do_not_wait_for_each_other(world: World) -> None:
    worker = world.worker(HOUR)
    other = worker.budget_of((HOUR,), key="b")
    worker.line.gate = asyncio.Event()
    waiting = [asyncio.ensure_future(worker.take(1)), asyncio.ensure_future(worker.take(1, other))]
    await turn()
    assert {call.subject for call in worker.line.calls} == {"key/a", "key/b"}
    worker.line.gate.set()
    await asyncio.gather(*waiting)


@played
async def test_who_comes_now_does_not_go_before_who_is_being_served(world: World) -> None:
    worker = world.worker(Window(10, 3_600))
    worker.line.gate = asyncio.Event()
    first = asyncio.ensure_future(worker.take(10))
    await turn()
    worker.line.gate.set()
    await asyncio.sleep(0)
    # The store has answered; who waited has not run yet.
    assert worker.unspent() == 10
    assert not first.done()
    assert worker.at_once(1, worker.budget_of((Window(10, 3_600),))) is None
    assert isinstance(await first, Receipt)
    assert len(worker.line.calls) == 1


@played
async def test_who_comes_now_does_not_go_before_who_waits(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    waiting = asyncio.ensure_future(worker.take(200))
    await asyncio.sleep(0)
    assert worker.at_once(1, worker.budget_of((HOUR,))) is None
    newcomer = asyncio.ensure_future(worker.take(1, worker.budget_of((HOUR,))))
    order: list[str] = []
    waiting.add_done_callback(lambda _: order.append("who waited"))
    newcomer.add_done_callback(lambda _: order.append("who came"))
    await asyncio.gather(waiting, newcomer)
    await turn()
    assert order == ["who waited", "who came"]


@played
async def test_when_less_is_left_whole_requests_are_served_in_order(world: World) -> None:
    window = Window(10, 3_600)
    worker = world.worker(window)
    outcomes = await asyncio.gather(*(worker.take(cost) for cost in (6, 5, 3, 2)))
    assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True, False, True, False]
    assert await world.used(window) == 9
    assert outcomes[1].left == [1]


@played
async def test_the_first_of_equals_is_served(world: World) -> None:
    worker = world.worker(Window(10, 3_600))
    outcomes = await asyncio.gather(*(worker.take(6) for _ in range(3)))
    assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True, False, False]


@played
async def test_the_rest_is_asked_for_anew_when_others_were_quicker(world: World) -> None:
    window = Window(10, 3_600)
    worker, other = world.worker(window), world.worker(window)
    worker.line.gate = asyncio.Event()
    waiting = [asyncio.ensure_future(worker.take(cost)) for cost in (6, 3, 2)]
    await turn()
    worker.line.gate.set()
    worker.line.delay = 0.01
    await asyncio.sleep(0.015)
    await other.admit(4)  # after the first answer, before the second question arrives
    outcomes = await asyncio.gather(*waiting)
    assert [isinstance(outcome, Receipt) for outcome in outcomes] == [True, False, False]
    assert await world.used(window) == 10


@played
async def test_renewing_gives_back_and_takes_in_one_call(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    before = worker.line.calls[-1].lease
    await worker.admit(90)
    renewal = worker.line.calls[-1].lease
    assert before is not None
    assert renewal is not None
    assert (renewal.renews, dict(renewal.unspent)) == (before.id, {HOUR.slot: 89})
    assert renewal.id != before.id
    assert worker.line.given_back == []
    assert await world.used(HOUR) == 191 + worker.unspent()


@pytest.mark.parametrize("fault", ["request lost", "reply lost"])
def test_after_a_lost_call_the_take_is_spent_and_nothing_given_back_twice(fault: str) -> None:
    async def story(world: World) -> None:
        worker = world.worker(HOUR)
        await worker.hold_a_lease()
        worker.line.faults.append(fault)  # type: ignore[arg-type]
        with pytest.raises(StoreAway):
            await worker.take(200)
        after = await world.used(HOUR)
        assert after >= (190 if fault == "request lost" else 301)
        assert worker.unspent() == 0
        await worker.admit(1)
        asked = worker.line.calls[-1].lease
        assert asked is None or asked.renews == ""
        await asyncio.sleep(2)
        assert worker.line.given_back == [] or asked is not None
        assert await world.used(HOUR) == after + 1

    played(story)()


@played
async def test_a_call_that_arrives_twice_frees_nothing(world: World) -> None:
    worker = world.worker(HOUR)
    await worker.hold_a_lease()
    worker.line.faults.append("twice")
    await worker.admit(200)
    await worker.leases.aclose()
    assert await world.used(HOUR) >= 301


@played
async def test_a_store_that_does_not_answer_is_away(world: World) -> None:
    worker = world.worker(HOUR)
    worker.line.gate = asyncio.Event()
    with pytest.raises(StoreAway):
        await worker.take(1)
    assert world.loop.passed == pytest.approx(3.0, abs=0.01)


@played
async def test_a_fault_of_the_store_reaches_all_who_wait(world: World) -> None:
    worker = world.worker(HOUR)
    worker.line.broken = True
    outcomes = await asyncio.gather(*(worker.take(1) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
