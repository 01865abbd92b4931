"""Sliding windows: two buckets aligned to the epoch, the older one weighted and floored."""

from __future__ import annotations

import copy
import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import Limit
from ak_guard.budgets import Ask, Change, Grant, Shortfall, Window, rows
from ak_guard.notation import DAY, MAX_AMOUNT
from tests.pure.support import examples

# A boundary of each bucket length used here.
EPOCH = 1_800_000_000.0
MINUTE = Window.of(Limit.parse("10/1m sliding"))


class Counter:
    def __init__(self, window: Window) -> None:
        self.window = window
        self.rows: rows.Rows = {}
        self.next = itertools.count(1).__next__

    def take(self, cost: int, at: float) -> Grant | Shortfall:
        return rows.take(self.rows, [Ask(self.window, cost)], EPOCH + at, self.next)

    def used(self, at: float) -> int:
        return rows.level(self.window, self.rows.get(self.window.slot), EPOCH + at).used


def full_minute(*, at: float = 0.0) -> Counter:
    counter = Counter(MINUTE)
    assert counter.take(10, at)
    return counter


@pytest.mark.parametrize(
    ("at", "used"),
    [
        (0, 10),
        (59.999, 10),
        (60, 10),
        (60.001, 9),
        (65.999, 9),
        (66, 9),
        (66.001, 8),
        (90, 5),
        (113.999, 1),
        (114, 1),
        (114.001, 0),
        (119.999, 0),
        (120, 0),
        (999, 0),
    ],
)
def test_the_bucket_before_counts_by_the_share_that_is_still_inside_floored(at: float, used: int) -> None:
    assert full_minute().used(at) == used


@pytest.mark.parametrize(("cost", "first"), [(1, 60.0), (2, 66.0), (5, 84.0), (9, 108.0), (10, 114.0)])
def test_a_cost_fits_just_after_the_floor_makes_room_for_it(cost: int, first: float) -> None:
    counter = full_minute(at=30.0)
    refused = counter.take(cost, 30.0)
    assert isinstance(refused, Shortfall)
    assert refused.ends == [pytest.approx(EPOCH + first, abs=1e-5)]
    assert not counter.take(cost, first)
    assert counter.take(cost, first + 0.001)


def test_a_bucket_without_any_use_in_between_leaves_nothing_to_weigh() -> None:
    counter = full_minute()
    assert counter.take(0, 70)
    assert not counter.take(10, 61)
    assert counter.take(10, 120)


def test_a_refusal_in_the_next_bucket_does_not_forget_the_one_before() -> None:
    counter = full_minute()
    assert not counter.take(10, 61)
    assert not counter.take(10, 62)
    assert counter.used(62) == 9


def test_the_generation_changes_with_the_bucket() -> None:
    counter = full_minute()
    (first,) = [row.generation for row in counter.rows.values()]
    taken = counter.take(1, 61)
    assert isinstance(taken, Grant)
    assert taken.generations != [first]
    assert not rows.change(counter.rows, Change(MINUTE, -5, first), EPOCH + 62, counter.next)


def test_what_is_given_back_is_not_weighed_afterwards() -> None:
    counter = full_minute()
    (row,) = counter.rows.values()
    assert rows.change(counter.rows, Change(MINUTE, -6, row.generation), EPOCH + 30, counter.next)
    assert counter.used(30) == 4
    assert counter.used(90) == 2


def test_a_grant_tells_when_one_more_unit_frees() -> None:
    counter = Counter(MINUTE)
    grant = counter.take(4, 0)
    assert isinstance(grant, Grant)
    assert grant.ends == [pytest.approx(EPOCH + 60, abs=1e-5)]
    assert counter.used(60.001) == 3


def test_a_sliding_row_is_kept_one_length_longer_than_its_bucket() -> None:
    counter = full_minute()
    (row,) = counter.rows.values()
    assert rows.last_use(MINUTE.slot, row) == EPOCH + 120


COSTS = st.integers(1, 30)
STEPS = st.lists(st.tuples(st.integers(0, 300 * 1_024).map(lambda ticks: ticks / 1_024), COSTS), max_size=25)


@given(st.integers(1, 40), st.sampled_from([1, 7, 60, 100]), STEPS)
@examples(300)
def test_every_decision_is_that_of_exact_fractions(amount: int, seconds: int, steps: list[tuple[float, int]]) -> None:
    counter = Counter(Window(amount, seconds, anchor="sliding"))
    spent: dict[int, int] = {}
    at = 0.0
    for by, cost in steps:
        at += by
        bucket, into = divmod(Fraction(EPOCH + at), seconds)
        share = math.floor(spent.get(bucket - 1, 0) * (1 - into / seconds))
        used = spent.get(bucket, 0) + share
        assert bool(counter.take(cost, at)) == (used + cost <= amount)
        if used + cost <= amount:
            spent[bucket] = spent.get(bucket, 0) + cost
            used += cost
        assert counter.used(at) == used


@given(st.integers(1, 40), st.sampled_from([1, 7, 60, 100]), STEPS)
@examples(300)
def test_no_true_window_ever_holds_more_than_twice_the_limit(
    amount: int, seconds: int, steps: list[tuple[float, int]]
) -> None:
    counter = Counter(Window(amount, seconds, anchor="sliding"))
    taken: list[tuple[float, int]] = []
    at = 0.0
    for by, cost in steps:
        at += by
        if counter.take(cost, at):
            taken.append((at, cost))
    for begin, _ in taken:
        assert sum(cost for when, cost in taken if begin <= when < begin + seconds) <= 2 * amount


@given(
    st.integers(1, 20) | st.integers(1, MAX_AMOUNT),
    st.sampled_from([1, 7, 60, 18_000, DAY, 7 * DAY, 30 * DAY, 3_660 * DAY]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 2),
    st.data(),
)
@examples(300)
def test_the_told_time_is_right_to_the_millisecond_whatever_the_amount_and_length(
    amount: int, seconds: int, first: float, later: float, data: st.DataObject
) -> None:
    """Also when settlements have passed the limit."""
    counter = Counter(Window(amount, seconds, anchor="sliding"))
    assert counter.take(data.draw(st.integers(1, amount)), first * seconds)
    debt = data.draw(st.integers(0, 3 * amount))
    rows.change(counter.rows, Change(counter.window, debt, None), EPOCH + first * seconds, counter.next)
    cost = data.draw(st.integers(1, amount))
    at = (first + later) * seconds
    refused = counter.take(cost, at)
    if isinstance(refused, Shortfall):
        free = refused.ends[0] - EPOCH
        assert free > at
        assert copy.deepcopy(counter).take(cost, free)
        if free - 0.001 > at:
            assert not copy.deepcopy(counter).take(cost, free - 0.001)
