"""Each rule of leases, named: without it in the code its test breaks."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ak_guard.budgets import Window
from ak_guard.budgets.ledger import StoreAway
from ak_guard.budgets.receipt import Receipt, Shortage
from tests.leases.world import START, World, played, turn

HOUR = Window(1_000, 3_600)


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
    world.loop.jump(1.5)
    assert worker.at_once(1) is None
    await worker.admit(1)
    # What was held is spent for the store, and was not spent here.
    assert worker.line.calls[-1].need == 1
    assert await world.used(HOUR) >= 191


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


# Asking the store


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


# When it is not enough


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
    world.loop.jump(1.5)
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
async def test_an_account_that_nobody_uses_is_forgotten(world: World) -> None:
    worker = world.worker(HOUR)
    for number in range(50):
        await worker.admit(1, worker.budget_of((HOUR,), key=f"old{number}"))
    await asyncio.sleep(11)
    for number in range(30):
        await worker.admit(1, worker.budget_of((HOUR,), key=f"new{number}"))
    (desk,) = worker.leases._desks.values()
    assert len(desk.held) == 30
