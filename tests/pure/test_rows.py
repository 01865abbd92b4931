"""The arithmetic of windows: all or nothing, exact ends, generations."""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING

from hypothesis import assume, given
from hypothesis import strategies as st

from ak_guard import Limit
from ak_guard.budgets import Ask, Change, Grant, Quota, Shortfall, Window, rows
from ak_guard.notation import DAY, MAX_AMOUNT
from tests.pure.support import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = 1_800_000_000.0
HOUR = 3_600
FIVE_HOURS = Window.of(Limit.parse("10/5h"))
DAILY = Window.of(Limit.parse("20/1d"))
CALENDAR = Window.of(Limit.parse("20/1d calendar Asia/Kolkata"))
REQUESTS = Window.of(Limit.parse("3 requests/1d"))
QUOTA = Quota(25)


class Counters:
    """The rows of one subject and a source of generations."""

    def __init__(self) -> None:
        self.rows: rows.Rows = {}
        self.next = itertools.count(1).__next__

    def take(self, asks: Sequence[Ask], now: float = NOW) -> Grant | Shortfall:
        return rows.take(self.rows, asks, now, self.next)

    def granted(self, asks: Sequence[Ask], now: float = NOW) -> Grant:
        grant = self.take(asks, now)
        assert isinstance(grant, Grant)
        return grant

    def short(self, asks: Sequence[Ask], now: float = NOW) -> Shortfall:
        short = self.take(asks, now)
        assert isinstance(short, Shortfall)
        return short

    def change(self, window: Window, units: int, generation: int | None = None, now: float = NOW) -> bool:
        return rows.change(self.rows, Change(window, units, generation), now, self.next)

    def used(self, *windows: Window, now: float = NOW) -> list[int]:
        return [rows.level(window, self.rows.get(window.slot), now).used for window in windows]

    def seen(self) -> dict[str, tuple[float, float, int, int, int]]:
        return {slot: (row.start, row.end, row.generation, row.used, row.before) for slot, row in self.rows.items()}


def asks(need: int, *windows: Window, extra: int = 0) -> list[Ask]:
    return [Ask(window, need, extra) for window in windows]


def test_a_take_counts_in_every_window() -> None:
    counters = Counters()
    grant = counters.granted([*asks(3, FIVE_HOURS, DAILY, QUOTA), Ask(REQUESTS, 1)])
    assert grant.taken == [3, 3, 3, 1]
    assert grant.used == [3, 3, 3, 1]
    assert grant.ends == [NOW + 5 * HOUR, NOW + DAY, math.inf, NOW + DAY]
    assert counters.used(FIVE_HOURS, DAILY, QUOTA, REQUESTS) == [3, 3, 3, 1]


def test_a_refusal_changes_nothing_and_names_all_that_is_full() -> None:
    counters = Counters()
    counters.granted(asks(10, FIVE_HOURS, DAILY))
    counters.granted(asks(10, DAILY))
    before = counters.seen()
    short = counters.short(asks(1, QUOTA, DAILY, CALENDAR, FIVE_HOURS), NOW + 5)
    assert short.full == [1, 3]
    assert short.used == [0, 20, 0, 10]
    assert short.ends[1] == NOW + DAY
    assert short.ends[3] == NOW + 5 * HOUR
    assert counters.seen() == before


def test_a_window_is_free_again_exactly_at_its_end() -> None:
    counters = Counters()
    counters.granted(asks(10, FIVE_HOURS))
    assert not counters.take(asks(1, FIVE_HOURS), NOW + 5 * HOUR - 0.001)
    assert counters.take(asks(10, FIVE_HOURS), NOW + 5 * HOUR)


def test_the_next_first_use_window_begins_with_the_next_use() -> None:
    counters = Counters()
    counters.granted(asks(1, FIVE_HOURS))
    assert counters.granted(asks(1, FIVE_HOURS), NOW + 50_000).ends == [NOW + 50_000 + 5 * HOUR]


def test_a_whole_limit_fits_and_one_more_never_does() -> None:
    assert Counters().take(asks(10, FIVE_HOURS))
    assert not Counters().take(asks(11, FIVE_HOURS))
    assert not Counters().take(asks(26, QUOTA))
    assert not Counters().take(asks(1, Quota(0)))


def test_a_cost_of_nothing_passes_full_windows_and_starts_none() -> None:
    counters = Counters()
    assert counters.granted(asks(0, FIVE_HOURS, Quota(0))).used == [0, 0]
    assert counters.seen() == {}
    counters.granted(asks(10, FIVE_HOURS))
    assert counters.granted(asks(0, FIVE_HOURS)).used == [10]


HUNDRED = Window(100, 60)
THOUSAND = Window(1_000, 300)
FEW_REQUESTS = Window(50, 60, unit="requests")


def test_extra_is_at_most_a_tenth_of_what_the_need_leaves() -> None:
    counters = Counters()
    assert counters.granted(asks(2, HUNDRED, extra=5)).taken == [7]
    assert counters.granted(asks(3, HUNDRED, extra=50)).taken == [12]
    assert counters.used(HUNDRED) == [19]


def test_there_is_no_extra_once_less_than_a_tenth_of_the_limit_is_left() -> None:
    counters = Counters()
    counters.granted(asks(89, HUNDRED))
    assert counters.granted(asks(1, HUNDRED, extra=5)).taken == [2]
    assert counters.granted(asks(1, HUNDRED, extra=5)).taken == [1]


def test_windows_of_one_unit_get_the_extra_of_the_fullest() -> None:
    counters = Counters()
    everything = [*asks(1, HUNDRED, THOUSAND, extra=60), Ask(FEW_REQUESTS, 1, 60)]
    assert counters.granted(everything).taken == [10, 10, 5]


def test_a_generation_lasts_as_long_as_its_window() -> None:
    counters = Counters()
    first = counters.granted(asks(1, FIVE_HOURS, DAILY)).generations
    assert counters.granted(asks(1, FIVE_HOURS, DAILY), NOW + 60).generations == first
    later = counters.granted(asks(1, FIVE_HOURS, DAILY), NOW + 5 * HOUR).generations
    assert later[0] != first[0]
    assert later[1] == first[1]


def test_no_two_windows_share_a_generation_even_at_the_same_moment() -> None:
    counters = Counters()
    seen = [
        generation
        for at in (0, 5 * HOUR, DAY)
        for generation in counters.granted(asks(1, FIVE_HOURS), NOW + at).generations
    ]
    counters.rows.clear()
    seen += counters.granted(asks(1, FIVE_HOURS), NOW + DAY).generations
    assert len(set(seen)) == 4
    assert 0 not in seen


def test_a_late_give_back_reaches_only_the_window_it_was_taken_from() -> None:
    counters = Counters()
    (first,) = counters.granted(asks(4, FIVE_HOURS)).generations
    assert counters.change(FIVE_HOURS, -1, first)
    assert counters.used(FIVE_HOURS) == [3]
    counters.granted(asks(5, FIVE_HOURS), NOW + 5 * HOUR)
    assert not counters.change(FIVE_HOURS, -3, first, NOW + 5 * HOUR)
    assert counters.used(FIVE_HOURS, now=NOW + 5 * HOUR) == [5]
    assert not counters.change(DAILY, -3, first)


def test_a_settlement_may_pass_the_limit_and_then_nothing_fits_until_reset() -> None:
    counters = Counters()
    counters.granted(asks(1, FIVE_HOURS))
    assert counters.change(FIVE_HOURS, 50)
    assert counters.short(asks(1, FIVE_HOURS)).used == [51]
    assert counters.take(asks(10, FIVE_HOURS), NOW + 5 * HOUR)


def test_a_settlement_without_a_generation_counts_in_the_current_window() -> None:
    counters = Counters()
    counters.granted(asks(4, FIVE_HOURS))
    assert counters.change(FIVE_HOURS, 2, now=NOW + 6 * HOUR)
    assert counters.used(FIVE_HOURS, now=NOW + 6 * HOUR) == [2]
    assert counters.granted(asks(1, FIVE_HOURS), NOW + 7 * HOUR).ends == [NOW + 11 * HOUR]


def test_giving_back_never_makes_a_counter_negative() -> None:
    counters = Counters()
    (generation,) = counters.granted(asks(4, FIVE_HOURS)).generations
    counters.change(FIVE_HOURS, -9, generation)
    assert counters.used(FIVE_HOURS) == [0]
    assert not counters.take(asks(11, FIVE_HOURS))


def test_a_changed_amount_keeps_what_was_used() -> None:
    counters = Counters()
    counters.granted(asks(8, FIVE_HOURS))
    assert counters.short(asks(1, Window.of(Limit.parse("5/5h")))).used == [8]
    assert counters.granted(asks(1, Window.of(Limit.parse("9/5h")))).used == [9]


def test_a_clock_that_steps_back_opens_nothing() -> None:
    counters = Counters()
    counters.granted(asks(10, FIVE_HOURS, Window.of(Limit.parse("10/1m sliding"))))
    assert counters.short(asks(1, FIVE_HOURS, Window.of(Limit.parse("10/1m sliding"))), NOW - 100).full == [0, 1]


def test_a_level_tells_what_is_used_and_when_it_frees() -> None:
    counters = Counters()
    assert rows.level(FIVE_HOURS, None, NOW)[:4] == (0, 0, None, None)
    counters.granted(asks(4, FIVE_HOURS, QUOTA))
    row = counters.rows[FIVE_HOURS.slot]
    assert rows.level(FIVE_HOURS, row, NOW + 60, held=2)[:4] == (4, 2, NOW, NOW + 5 * HOUR)
    assert rows.level(FIVE_HOURS, row, NOW + 5 * HOUR)[:4] == (0, 0, None, None)
    assert rows.level(QUOTA, counters.rows[QUOTA.slot], NOW + 1e9)[:4] == (4, 0, NOW, None)


WINDOWS = st.builds(
    lambda amount, seconds, anchor, zone: Window(amount, seconds, anchor=anchor, zone=zone),
    st.integers(1, 12) | st.integers(1, MAX_AMOUNT),
    st.sampled_from([1, 7, 60, 900, HOUR, 5 * HOUR, DAY, 7 * DAY]),
    st.sampled_from(["first-use", "sliding", "calendar"]),
    st.sampled_from(["UTC", "Asia/Kolkata"]),
)
SETS = st.lists(WINDOWS, min_size=1, max_size=4, unique_by=lambda window: window.slot)
MOVES = st.one_of(
    st.just(0.0), st.floats(0, 5), st.floats(0, 4_000), st.floats(0, 2 * DAY), st.sampled_from([60.0, 3_600.0])
)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Window], list[tuple[float, int]]]:
    """Windows, and costs that can each pass with the time that goes by before them."""
    windows = draw(SETS)
    least = min(window.amount for window in windows)
    cost = st.integers(1, min(4, least)) | st.integers(1, least) | st.just(least)
    return windows, draw(st.lists(st.tuples(MOVES, cost), min_size=1, max_size=12))


@given(stories())
@examples(300)
def test_a_refused_cost_passes_exactly_when_it_was_told_and_not_a_moment_before(
    story: tuple[list[Window], list[tuple[float, int]]],
) -> None:
    windows, steps = story
    counters, now = Counters(), NOW
    for by, cost in steps:
        now += by
        before = counters.seen()
        outcome = counters.take(asks(cost, *windows), now)
        if isinstance(outcome, Grant):
            assert outcome.used == counters.used(*windows, now=now)
            assert all(used <= window.amount for used, window in zip(outcome.used, windows, strict=True))
            continue
        assert counters.seen() == before
        free = max(outcome.ends[index] for index in outcome.full)
        assert free > now
        if free - 0.001 > now:
            assert not copy.deepcopy(counters).take(asks(cost, *windows), free - 0.001)
        assert copy.deepcopy(counters).take(asks(cost, *windows), free)
        for index in outcome.full:
            alone = asks(cost, windows[index])
            assert copy.deepcopy(counters).take(alone, outcome.ends[index])


@given(stories(), st.floats(0, 2 * DAY))
@examples(300)
def test_a_level_tells_when_a_cost_would_fit(story: tuple[list[Window], list[tuple[float, int]]], later: float) -> None:
    windows, steps = story
    counters, now = Counters(), NOW
    for by, cost in steps:
        now += by
        counters.take(asks(cost, *windows), now)
    now += later
    cost = steps[-1][1]
    for window in windows:
        level = rows.level(window, counters.rows.get(window.slot), now, need=cost)
        fits = level.used + cost <= window.amount
        assert bool(copy.deepcopy(counters).take(asks(cost, window), now)) == fits
        if not fits:
            assert level.end is not None
            assert copy.deepcopy(counters).take(asks(cost, window), level.end)
            if level.end - 0.001 > now:
                assert not copy.deepcopy(counters).take(asks(cost, window), level.end - 0.001)


@given(stories())
@examples(300)
def test_no_first_use_or_calendar_window_ever_grants_more_than_its_limit(
    story: tuple[list[Window], list[tuple[float, int]]],
) -> None:
    windows, steps = story
    assume(any(not window.sliding for window in windows))
    counters, now = Counters(), NOW
    spent: dict[tuple[str, int], int] = {}
    for by, cost in steps:
        now += by
        outcome = counters.take(asks(cost, *windows), now)
        if isinstance(outcome, Grant):
            for window, generation, end in zip(windows, outcome.generations, outcome.ends, strict=True):
                spent[window.slot, generation] = spent.get((window.slot, generation), 0) + cost
                assert window.sliding or now < end <= now + window.seconds + HOUR
    amounts = {window.slot: window.amount for window in windows}
    assert all(total <= amounts[slot] for (slot, _), total in spent.items())
