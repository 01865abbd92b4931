"""Budgets against a naive model: whatever the order of takes, give-backs, settlements, restarts and time."""

from __future__ import annotations

import asyncio
import math
import tempfile
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ak_guard.budgets import Ask, Change, Grant, Lease, MemoryStorage, MultiWindowSupport, Quota, Window
from ak_guard.budgets.redis import RedisStorage
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database.engine import Database
from tests.services import url_of

if TYPE_CHECKING:
    from tests.databases import Databases

WINDOWS = (
    Window(7, 60),
    Window(11, 300),
    Window(5, 60, unit="requests"),
    Window(9, 3_600, anchor="calendar"),
    Window(13, 60, anchor="sliding"),
    Quota(40),
)
START = 1_800_000_000.0


@dataclass
class Model:
    """Every take is written down; what is used is summed up anew for each question."""

    #: slot -> when the current first-use window began
    began: dict[str, float] = field(default_factory=dict)
    #: (slot, when, units)
    takes: list[tuple[str, float, int]] = field(default_factory=list)

    def bounds(self, window: Window, now: float) -> tuple[float, float]:
        if isinstance(window, Quota):
            return -math.inf, math.inf
        if window.anchor == "first-use":
            begin = self.began.get(window.slot, -math.inf)
            return (begin, begin + window.seconds) if now < begin + window.seconds else (now, now + window.seconds)
        length = window.seconds
        return now // length * length, now // length * length + length

    def used(self, window: Window, now: float) -> int:
        start, end = self.bounds(window, now)
        used = self._sum(window, start, end)
        if window.sliding:
            before = self._sum(window, start - window.seconds, start)
            used += math.floor(before * (end - now) / window.seconds)
        return used

    def take(self, window: Window, now: float, units: int) -> None:
        start, _ = self.bounds(window, now)
        if window.anchor == "first-use" and not isinstance(window, Quota):
            self.began[window.slot] = start
        self.takes.append((window.slot, now, units))

    def drop(self, window: Window) -> None:
        self.takes = [take for take in self.takes if take[0] != window.slot]
        self.began.pop(window.slot, None)

    def _sum(self, window: Window, start: float, end: float) -> int:
        return sum(units for slot, when, units in self.takes if slot == window.slot and start <= when < end)


subsets = st.lists(st.sampled_from(WINDOWS), min_size=1, unique=True)
steps: st.SearchStrategy[tuple[str, list[Window], int]] = st.one_of(
    st.tuples(st.just("take"), subsets, st.integers(0, 9)),
    st.tuples(st.just("lease and give back"), subsets, st.integers(1, 9)),
    st.tuples(st.just("settle"), subsets, st.integers(1, 5)),
    st.tuples(st.just("restart"), subsets, st.just(0)),
    st.tuples(st.just("wait"), st.just([]), st.sampled_from([0, 1, 29, 31, 60, 61, 240, 3_600])),
)


async def play(  # noqa: C901  # one branch a kind of step
    storage: MultiWindowSupport, story: list[tuple[str, list[Window], int]]
) -> None:
    model, now = Model(), START
    for number, (what, windows, amount) in enumerate(story):
        asks = [Ask(window, amount if window.unit == "units" else min(1, amount)) for window in windows]
        if what == "wait":
            now += amount
        elif what == "take":
            outcome = await storage.acquire("key/a", asks, lease=None, now=now)
            full = [
                index
                for index, (window, need, _) in enumerate(asks)
                if need and model.used(window, now) + need > window.amount
            ]
            assert bool(outcome) == (not full)
            if isinstance(outcome, Grant):
                for window, need, _ in asks:
                    if need:
                        model.take(window, now, need)
            else:
                assert outcome.full == full
        elif what == "lease and give back":
            lease = Lease(f"lease-{number}", "worker", 10.0)
            await storage.acquire("key/a", asks, lease=lease, now=now)
            await storage.give_back(lease.id, {ask.window.slot: ask.need for ask in asks})
        elif what == "settle":
            storage.settle("key/a", [Change(window, amount, None) for window in windows], now=now)
            for window in windows:
                model.take(window, now, amount)
        else:
            await storage.restart("key/a", windows)
            for window in windows:
                model.drop(window)
        levels = await storage.peek("key/a", WINDOWS, now=now)
        assert [level.used for level in levels] == [model.used(window, now) for window in WINDOWS], (what, number)
        assert [level.held for level in levels] == [0] * len(WINDOWS)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_counters_in_memory_agree_with_the_model(story: list[tuple[str, list[Window], int]]) -> None:
    asyncio.run(play(MemoryStorage(), story))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=15))
def test_counters_in_sqlite_agree_with_the_model(story: list[tuple[str, list[Window], int]]) -> None:
    async def in_a_file_of_its_own(folder: str) -> None:
        database = Database(f"sqlite:///{folder}/keys.db")
        try:
            await play(SQLStorage(database), story)
        finally:
            await database.aclose()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(in_a_file_of_its_own(folder))


@pytest.mark.parametrize("service", ["postgres", "mysql"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=st.lists(steps, max_size=15))
def test_counters_on_a_server_agree_with_the_model(
    databases: Databases, service: str, story: list[tuple[str, list[Window], int]]
) -> None:
    async def in_a_database_of_its_own(url: str) -> None:
        database = Database(url)
        try:
            await play(SQLStorage(database, own_time=False), story)
        finally:
            await database.aclose()

    with databases.migrated(service) as url:
        asyncio.run(in_a_database_of_its_own(url))


@settings(max_examples=50, deadline=None)
@given(st.lists(steps, max_size=25))
def test_counters_in_redis_agree_with_the_model(story: list[tuple[str, list[Window], int]]) -> None:
    async def under_a_prefix_of_its_own() -> None:
        storage = RedisStorage(url_of("redis"), prefix=f"ak-test-{uuid.uuid4().hex}", own_time=False)
        try:
            await play(storage, story)
        finally:
            await storage.reset()
            await storage.aclose()

    asyncio.run(under_a_prefix_of_its_own())


@settings(max_examples=100, deadline=None)
@given(
    costs=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    amounts=st.lists(st.integers(1, 60), min_size=1, max_size=3),
)
def test_at_once_or_one_by_one_the_sum_never_passes_the_smallest_limit(costs: list[int], amounts: list[int]) -> None:
    windows = [Window(amount, 60 * (index + 1)) for index, amount in enumerate(amounts)]
    storage = MemoryStorage()

    async def all_at_once() -> list[bool]:
        calls = (storage.acquire("k", [Ask(w, cost) for w in windows], lease=None, now=START) for cost in costs)
        return [bool(outcome) for outcome in await asyncio.gather(*calls)]

    admitted = asyncio.run(all_at_once())
    spent = 0
    for cost, passed in zip(costs, admitted, strict=True):
        assert passed == (spent + cost <= min(amounts))
        spent += cost if passed else 0
