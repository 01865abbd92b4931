"""Workers before one store of slots, in a world whose time passes only when nothing else can happen."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, Literal

from ak_guard.budgets.gate import Gate
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.budgets.shared_slots import HOLD_SECONDS, SharedSlots
from ak_guard.budgets.slots import Share, Slot, SlotSupport
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.slots import Stake
    from tests.leases.world import World

#: So long after the last request has ended at most, nothing is held any more by a worker that lives.
IDLE_SECONDS: Final = 0.5
SUBJECT: Final = "key/a"

Fault = Literal["request lost", "reply lost", "late"]


class Store(SlotSupport):
    """What all share: for each worker what it holds, in which call it said so, and until when."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rows: dict[str, tuple[int, int, float]] = {}
        self.lacking: set[str] = set()

    async def hold_slots(self, subject: str, stake: Stake, *, now: float) -> Share:
        assert subject == SUBJECT
        assert stake.floor <= stake.want
        now = self.world.wall()
        others = sum(held for at, (held, _, end) in self.rows.items() if at != stake.worker and now < end)
        if stake.number > self.rows.get(stake.worker, (0, 0, 0.0))[1]:
            held = max(stake.floor, min(stake.want, stake.limit - others))
            self.rows[stake.worker] = (held, stake.number, now + stake.seconds)
            self.lacking.discard(stake.worker)
            if stake.want > held:
                self.lacking.add(stake.worker)
            return Share(held, others, bool(self.lacking - {stake.worker}))
        return Share(stake.floor, others)

    async def held_slots(self, subjects: Sequence[str], *, now: float) -> list[int]:
        return [sum(held for held, _, end in self.rows.values() if now < end) for _ in subjects]


class Line(SlotSupport):
    """The way of one worker to the store, on which calls may be lost, or come long after whoever made them gave up."""

    def __init__(self, world: World, store: Store) -> None:
        self.world = world
        self.store = store
        self.calls: list[Stake] = []
        self.faults: deque[Fault] = deque()
        self.away = False
        self.broken = False
        self._late: set[asyncio.Task[None]] = set()

    async def hold_slots(self, subject: str, stake: Stake, *, now: float) -> Share:
        self.calls.append(stake)
        fault = self.faults.popleft() if self.faults else None
        await asyncio.sleep(0.001)
        if self.broken:
            raise ZeroDivisionError("a bug in a store")
        if self.away or fault == "request lost":
            raise BudgetError("the store is away")
        if fault == "late":
            task = asyncio.create_task(self._much_later(subject, stake))
            self._late.add(task)
            raise BudgetError("the store did not answer")
        answer = await self.store.hold_slots(subject, stake, now=now)
        if fault == "reply lost":
            raise BudgetError("the connection was closed")
        await asyncio.sleep(0.001)
        return answer

    async def _much_later(self, subject: str, stake: Stake) -> None:
        await asyncio.sleep(0.7)
        await self.store.hold_slots(subject, stake, now=self.world.wall())

    async def held_slots(self, subjects: Sequence[str], *, now: float) -> list[int]:
        return await self.store.held_slots(subjects, now=now)


class Worker:
    """One process: its slots, and the requests that run in it."""

    def __init__(self, world: World, store: Store, limit: int) -> None:
        self.line = Line(world, store)
        self.slots = SharedSlots(self.line, clock=world.monotonic, wall=world.wall)
        self.limit = limit
        self.running: list[Slot] = []
        self._world = world

    async def enter(self) -> bool:
        """A request comes; whether it runs."""
        slot = await Gate(MemoryStorage(), self.slots, SUBJECT, self.limit).enter()
        if isinstance(slot, Slot):
            self.running.append(slot)
        return isinstance(slot, Slot)

    def leave(self) -> None:
        """The request that has run longest ends."""
        self.running.pop(0).leave()

    async def held(self) -> int:
        """What the store believes that everybody holds."""
        (held,) = await self.line.held_slots([SUBJECT], now=self._world.wall())
        return held


class House:
    """Some workers over one store."""

    def __init__(self, world: World, workers: int = 2, limit: int = 3) -> None:
        self.world = world
        self.store = Store(world)
        self.limit = limit
        self.workers = [Worker(world, self.store, limit) for _ in range(workers)]

    def another(self) -> Worker:
        self.workers.append(Worker(self.world, self.store, self.limit))
        return self.workers[-1]

    @property
    def running(self) -> int:
        return sum(len(worker.running) for worker in self.workers)


async def until_deadline() -> None:
    """Let so much time pass that what is not renewed ends."""
    await asyncio.sleep(HOLD_SECONDS + 0.01)
