"""A world for leases: time that passes only when nothing else can happen, one shared store, and workers before it."""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from fractions import Fraction
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ak_guard.budgets import Grant, MemoryStorage, MultiWindowSupport, Shortfall, Window
from ak_guard.budgets.leases import Leases
from ak_guard.budgets.ledger import Budget, Part
from ak_guard.budgets.receipt import Receipt, Shortage
from ak_guard.budgets.slots import Full
from ak_guard.budgets.take import take, take_at_once
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from ak_guard.budgets import Ask, Change, Lease, Level, Promise

# Divisible by many lengths of windows, and small, so that sums of seconds are nearly exact.
START = 1_008_000.0
HOUR = Window(1_000, 3_600)

Fault = Literal["request lost", "reply lost", "twice"]


class _Idle(selectors.DefaultSelector):
    """Where a loop would sleep, the time passes at once."""

    def __init__(self, pass_by: Callable[[float], None]) -> None:
        super().__init__()
        self._pass_by = pass_by

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("somebody waits for what will never happen")
        self._pass_by(max(0.0, timeout))
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own, which also can be moved on while everybody is paused."""

    def __init__(self) -> None:
        self.passed = 0.0
        super().__init__(_Idle(self.jump))
        self.faults: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.faults.append(context))

    def time(self) -> float:
        return self.passed

    def jump(self, seconds: float) -> None:
        self.passed += seconds


class Called(NamedTuple):
    subject: str
    asks: tuple[Ask, ...]
    lease: Lease | None

    @property
    def need(self) -> int:
        return self.asks[0].need


class Line(MultiWindowSupport):
    """What one worker sees of the shared store, which has a time of its own; faults happen here."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[Called] = []
        self.given_back: list[tuple[str, dict[str, int]]] = []
        self.settled: list[Change] = []
        self.faults: deque[Fault] = deque()
        self.away = False
        self.broken = False
        self.delay = 0.0
        #: While set and not open, calls wait here before they reach the store.
        self.gate: asyncio.Event | None = None
        self.busy: dict[str, int] = {}
        self.most_at_once = 0

    @property
    def promise(self) -> Promise:
        return self.world.store.promise

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        self.calls.append(Called(subject, tuple(asks), lease))
        self.busy[subject] = self.busy.get(subject, 0) + 1
        self.most_at_once = max(self.most_at_once, self.busy[subject])
        try:
            return await self._acquire(subject, asks, lease, now)
        finally:
            self.busy[subject] -= 1

    async def _acquire(self, subject: str, asks: Sequence[Ask], lease: Lease | None, now: float) -> Grant | Shortfall:
        fault = self.faults.popleft() if self.faults else None
        await self._way(fault == "request lost")
        if self.broken:
            raise ZeroDivisionError("a bug in a store")
        outcome = await self.world.acquire(subject, asks, lease, now)
        if fault == "twice":
            outcome = await self.world.acquire(subject, asks, lease, now)
        await self._way(fault == "reply lost")
        return outcome

    async def _way(self, lost: bool) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.delay:
            await asyncio.sleep(self.delay)
        if lost or self.away:
            raise BudgetError("the store is away")

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        self.given_back.append((lease_id, dict(unspent)))
        await self._way(lost=False)
        # As a shared store does by its own time.
        await self.world.store.peek("nobody", (), now=self.world.wall())
        await self.world.store.give_back(lease_id, unspent)

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        await self._way(lost=False)
        wall = self.world.wall()
        levels = await self.world.store.peek(subject, windows, now=wall, need=need)
        return [
            level._replace(
                start=None if level.start is None else level.start - wall + now,
                end=None if level.end is None else level.end - wall + now,
            )
            for level in levels
        ]

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        await self.world.store.restart(subject, windows)

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        if not self.away:
            self.settled.extend(changes)
            assert now == self.world.wall(), "what is settled came up just now"
            self.world.store.settle(subject, changes, now=now)

    async def forget(self, subject: str) -> None:
        await self.world.store.forget(subject)


class Worker:
    """A process with its leases, that serves one key and its group."""

    def __init__(self, world: World, windows: Sequence[Window], shared: Sequence[Window] = (), key: str = "a") -> None:
        self.world = world
        self.line = Line(world)
        self.leases = Leases(self.line, clock=world.monotonic, wall=world.wall)
        self.budget = self.budget_of(windows, shared, key)

    def budget_of(self, windows: Sequence[Window], shared: Sequence[Window] = (), key: str = "a") -> Budget:
        parts = (Part(self.leases, f"key/{key}", windows), Part(self.leases, "group/g", shared))
        return Budget(parts, Fraction(1), self.world.wall)

    def at_once(self, cost: int, budget: Budget | None = None) -> Receipt | Shortage | None:
        return take_at_once(budget or self.budget, cost, cost, self.world.wall())

    async def take(self, cost: int, budget: Budget | None = None) -> Receipt | Shortage:
        outcome: Receipt | Shortage | Full | None = self.at_once(cost, budget)
        if outcome is None:
            outcome = await take(budget or self.budget, cost, cost, self.world.wall())
        assert not isinstance(outcome, Full)
        return outcome

    async def admit(self, cost: int, budget: Budget | None = None) -> Receipt:
        outcome = await self.take(cost, budget)
        assert isinstance(outcome, Receipt)
        return outcome

    async def refuse(self, cost: int, budget: Budget | None = None) -> Shortage:
        outcome = await self.take(cost, budget)
        assert isinstance(outcome, Shortage)
        return outcome

    async def hold_a_lease(self, spent: int = 100) -> Receipt:
        """Spend so much that the next request, of 1, brings a lease; what that holds is up to the store."""
        await self.admit(spent)
        return await self.admit(1)

    def unspent(self) -> int:
        """What is held and can still be spent."""
        held = [desk.held.get(self.budget.parts[0].subject) for desk in self.leases._desks.values()]
        account = held[0].account if held and held[0] is not None else None
        return account.purse.units if account is not None and account.purse is not None and account.is_open else 0


class World:
    """One store, and the time of everybody."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.store = MemoryStorage(clock=self.wall)
        #: (subject, slot, generation) -> the largest amount by which the store granted anything in it
        self.ceilings: dict[tuple[str, str, int], int] = {}

    def wall(self) -> float:
        return START + self.loop.passed

    def monotonic(self) -> float:
        return 500.0 + self.loop.passed

    def worker(self, *windows: Window, shared: Sequence[Window] = (), key: str = "a") -> Worker:
        return Worker(self, windows or (Window(1_000, 3_600),), shared, key)

    async def acquire(self, subject: str, asks: Sequence[Ask], lease: Lease | None, now: float) -> Grant | Shortfall:
        """By the store's own time, told in the caller's."""
        wall = self.wall()
        outcome = await self.store.acquire(subject, asks, lease=lease, now=wall)
        if isinstance(outcome, Grant):
            for ask, generation in zip(asks, outcome.generations, strict=True):
                known = self.ceilings.get((subject, ask.window.slot, generation), 0)
                self.ceilings[subject, ask.window.slot, generation] = max(known, ask.window.amount)
        ends = [end - wall + now for end in outcome.ends]
        if isinstance(outcome, Shortfall) and outcome.retry_at is not None:
            return outcome._replace(ends=ends, retry_at=outcome.retry_at - wall + now)
        return outcome._replace(ends=ends)

    async def used(self, window: Window, subject: str = "key/a") -> int:
        (level,) = await self.store.peek(subject, (window,), now=self.wall())
        return level.used


async def turn(times: int = 20) -> None:
    """Let everything happen that needs no time."""
    for _ in range(times):
        await asyncio.sleep(0)


def play(story: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Run a story in a world of its own. What fails behind its back fails it."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        runner.run(story(World(loop)))
        assert loop.faults == []


def played(story: Callable[[World], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Make a test of a story."""

    @wraps(story)
    def test() -> None:
        play(story)

    # pytest would ask for the world as a fixture.
    del test.__wrapped__
    return test
