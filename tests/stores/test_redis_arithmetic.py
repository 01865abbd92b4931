"""The script inside Redis and rows.py are one arithmetic: whatever is done to both, they answer the same."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from ak_guard.budgets import Ask, Change, Grant, Lease, Quota, Window
from ak_guard.budgets.memory import MemoryStorage
from tests.stores.redis_server import corner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets import MultiWindowSupport
    from ak_guard.budgets.redis import RedisStorage

WINDOWS = (
    Window(100, 60),
    Window(230, 300),
    Window(25, 60, unit="requests"),
    Window(90, 3_600, anchor="calendar"),
    Window(170, 86_400, anchor="calendar", zone="Asia/Kolkata"),
    Window(60, 60, anchor="sliding"),
    Window(40, 7, anchor="sliding", unit="requests"),
    Quota(400),
)
START = 1_800_000_000.0

subsets = st.lists(st.sampled_from(WINDOWS), min_size=1, unique=True)
steps = st.one_of(
    st.tuples(st.just("take"), subsets, st.integers(0, 60), st.integers(0, 30)),
    st.tuples(st.just("lend"), subsets, st.integers(1, 60), st.integers(0, 30)),
    st.tuples(st.just("renew"), subsets, st.integers(1, 60), st.integers(0, 30)),
    st.tuples(st.just("give back"), st.just(list(WINDOWS)), st.integers(0, 60), st.just(0)),
    st.tuples(st.just("settle"), subsets, st.integers(-40, 40), st.just(0)),
    st.tuples(st.just("refund"), subsets, st.integers(-40, 40), st.integers(0, 5)),
    st.tuples(st.just("restart"), subsets, st.just(0), st.just(0)),
    st.tuples(st.just("forget"), st.just([]), st.just(0), st.just(0)),
    st.tuples(st.just("wait"), st.just([]), st.integers(0, 130_000_000), st.integers(0, 3)),
)


@dataclass
class Player:
    """One of the two: its storage, and what it was granted, because generations are names of each storage's own."""

    storage: MultiWindowSupport
    grants: list[dict[str, int]] = field(default_factory=list)
    lent: list[str] = field(default_factory=list)

    async def acquire(self, asks: Sequence[Ask], lease: Lease | None, now: float) -> tuple[object, ...]:
        outcome = await self.storage.acquire("key/a", asks, lease=lease, now=now)
        if not isinstance(outcome, Grant):
            return ("short", outcome.full, outcome.used, outcome.ends)
        slots = [ask.window.slot for ask in asks]
        self.grants.append({s: g for s, g in zip(slots, outcome.generations, strict=True) if g})
        if lease:
            self.lent.append(lease.id)
        return (outcome.taken, outcome.used, outcome.ends)

    async def do(self, number: int, step: tuple[str, list[Window], int, int], now: float) -> tuple[object, ...]:
        what, windows, amount, more = step
        asks = [Ask(w, amount if w.unit == "units" else min(1, amount), more) for w in windows]
        unspent = {window.slot: amount for window in WINDOWS}
        if what == "take":
            return await self.acquire(asks, None, now)
        if what == "lend":
            return await self.acquire(asks, Lease(f"lease-{number}", "w", 10.0), now)
        if what == "renew":
            old = self.lent.pop() if self.lent else "nobody"
            return await self.acquire(asks, Lease(f"lease-{number}", "w", 10.0, old, unspent), now)
        if what == "give back":
            await self.storage.give_back(self.lent.pop() if self.lent else "nobody", unspent)
        elif what == "settle":
            self.storage.settle("key/a", [Change(window, amount, None) for window in windows], now=now)
        elif what == "refund" and len(self.grants) > more:
            origin = self.grants[-1 - more]
            changes = [Change(w, amount, origin[w.slot]) for w in windows if w.slot in origin]
            self.storage.settle("key/a", changes, now=now)
        elif what == "restart":
            await self.storage.restart("key/a", windows)
        elif what == "forget":
            await self.storage.forget("key/a")
        return ()


async def play(story: list[tuple[str, list[Window], int, int]], redis: RedisStorage) -> None:
    players = Player(MemoryStorage()), Player(redis)
    now = START
    for number, step in enumerate(story):
        if step[0] == "wait":
            # Up to two minutes to the microsecond, or exactly to where windows end.
            now = [now + step[2] / 1e6, math.ceil(now / 60) * 60, math.ceil(now / 7) * 7, now + 300][step[3]]
        memory, script = [await player.do(number, step, now) for player in players]
        assert script == memory, step
        # What is held of a sliding window's last bucket is no part of the current one.
        shown = [
            [
                (window.slot, level.used, level.start, level.end, -1 if window.sliding else level.held)
                for window, level in zip(WINDOWS, levels, strict=True)
            ]
            for levels in [await player.storage.peek("key/a", WINDOWS, now=now, need=3) for player in players]
        ]
        assert shown[1] == shown[0], step


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=20))
def test_the_script_answers_like_the_rows(story: list[tuple[str, list[Window], int, int]]) -> None:
    async def in_a_corner() -> None:
        async with corner(own_time=False) as redis:
            await play(story, redis)

    asyncio.run(in_a_corner())


async def test_extra_ends_where_less_than_a_tenth_is_left() -> None:
    window = Window(1_000, 60)
    async with corner(own_time=False) as redis:
        await redis.acquire("key/a", [Ask(window, 899)], lease=None, now=START)
        takes = [await redis.acquire("key/a", [Ask(window, 1, 50)], lease=None, now=START) for _ in range(2)]
    assert [take.taken if isinstance(take, Grant) else None for take in takes] == [[11], [1]]
