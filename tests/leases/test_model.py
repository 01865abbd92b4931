"""Leases against a model: whatever the interleaving of workers, faults and time, no window is overspent.

Everything runs in time that passes only when nothing else can happen, so each example is the same whenever it is run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ak_guard.budgets import Quota, Window
from ak_guard.budgets.ledger import StoreAway
from ak_guard.budgets.receipt import Receipt
from tests.leases.world import Worker, World, play, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WORKERS = 3
# What no schedule lives long enough to see the end of, and what rolls over many times.
LONG = (3_600, 7_200)
BRIEF = (2, 3)


class Op(NamedTuple):
    kind: Literal[
        "take",
        "burst",
        "hold",
        "cancel",
        "settle",
        "sleep",
        "turn",
        "pause",
        "restart",
        "reset",
        "fault",
        "delay",
        "die",
        "limits",
    ]
    worker: int
    amount: int
    seconds: float


@dataclass(eq=False)
class Kept:
    """A request that was let through, and the worker that did it."""

    worker: Worker
    receipt: Receipt
    taken: int
    settled: bool = False

    @property
    def counted(self) -> int:
        """What of the take itself is still charged; what came on top may belong to a later window."""
        return min(self.taken, self.receipt.charged)


@dataclass(eq=False)
class Run:
    world: World
    lengths: tuple[int, int]
    amounts: tuple[int, int, int]
    #: Whether each unit must be accounted for at the end: nothing was lost on purpose.
    exact: bool = True
    workers: list[Worker] = field(default_factory=list)
    dead: list[Worker] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    refused: int = 0
    away: int = 0

    def windows(self) -> tuple[Window, ...]:
        short, long, quota = self.amounts
        return (
            Window(short, self.lengths[0]),
            Window(long, self.lengths[1], anchor="calendar"),
            Window(long, self.lengths[0], unit="requests"),
            Quota(quota),
        )

    def shared(self) -> tuple[Window, ...]:
        return (Window(self.amounts[1] * 2, self.lengths[0], name="g"),)

    def hire(self) -> Worker:
        return self.world.worker(*self.windows(), shared=self.shared())

    async def step(self, op: Op) -> None:
        worker = self.workers[op.worker]
        if op.kind in {"take", "burst"}:
            costs = [op.amount] if op.kind == "take" else [1] * min(30, op.amount * 3)
            self.tasks += [asyncio.ensure_future(self._request(worker, cost)) for cost in costs]
        elif op.kind == "hold":
            self.tasks.append(asyncio.ensure_future(self._several(worker, (30, op.amount, 1))))
        elif op.kind == "cancel":
            await turn(3)  # so that some have begun to wait
            waiting = [task for task in self.tasks if not task.done()]
            for task in waiting[op.amount % 3 :: 2]:
                task.cancel()
        elif op.kind == "settle":
            self._settle(op)
        elif op.kind == "sleep":
            await asyncio.sleep(op.seconds)
        elif op.kind == "turn":
            await turn(op.amount % 5)
        elif op.kind == "delay":
            worker.line.delay = op.seconds / 60
        else:
            await self._trouble(op, worker)

    async def _trouble(self, op: Op, worker: Worker) -> None:
        if op.kind == "limits":
            short, long, quota = self.amounts
            self.amounts = (max(1, short + op.amount - 15), long, max(1, quota + op.amount - 15))
            # Each worker hears of it when it does; here only one has, so far.
            worker.budget = worker.budget_of(self.windows(), self.shared())
            return
        self.exact = False
        if op.kind == "pause":
            self.world.loop.jump(op.seconds)
        elif op.kind == "restart":
            # By another process, whose change arrives here or does not.
            for part in worker.budget.parts:
                await self.world.store.restart(part.subject, part.windows)
            if op.amount % 2:
                worker.leases.drop("a")
        elif op.kind == "reset":
            await worker.leases.restart("key/a", worker.budget.parts[0].windows)
        elif op.kind == "fault":
            worker.line.faults.append(("request lost", "reply lost", "twice")[op.amount % 3])
        elif op.kind == "die":
            worker.line.away = True
            self.dead.append(worker)
            self.workers[op.worker] = self.hire()

    async def _several(self, worker: Worker, costs: Sequence[int]) -> None:
        """One after the other, so that the key is quick enough to be given a lease."""
        for cost in costs:
            await self._request(worker, cost)

    async def _request(self, worker: Worker, cost: int) -> None:
        try:
            outcome = await worker.take(cost)
        except StoreAway:
            self.away += 1
            return
        if isinstance(outcome, Receipt):
            self.kept.append(Kept(worker, outcome, outcome.charged))
        else:
            self.refused += 1

    def _settle(self, op: Op) -> None:
        """Each request is settled once, down or up: an extra charge and its refund may meet different windows."""
        alive = [kept for kept in self.kept if not kept.settled and kept.worker not in self.dead]
        if not alive:
            return
        kept = alive[op.amount % len(alive)]
        kept.settled = True
        kept.receipt.charge(op.amount if op.seconds > 1 else -min(kept.taken, op.amount))

    def check(self) -> None:
        """No generation of any window was overspent, and the store has counted all that was let through."""
        counted: dict[tuple[str, str, int], int] = {}
        for kept in self.kept:
            for part, generations in zip(kept.receipt.budget.parts, kept.receipt._generations or (), strict=True):
                for window, generation in zip(part.windows, generations, strict=True):
                    place = (part.subject, window.slot, generation)
                    counted[place] = counted.get(place, 0) + (kept.counted if window.unit == "units" else 1)
        for place, units in counted.items():
            assert units <= self.world.ceilings[place], f"{place} was overspent"
            subject, slot, generation = place
            row = self.world.store._rows(subject).get(slot)
            if row is not None and row.generation == generation:
                assert units <= row.used, f"{place} is counted too low"

    async def finish(self) -> None:
        for worker in self.workers:
            worker.line.faults.clear()
        await asyncio.wait_for(asyncio.gather(*self.tasks, return_exceptions=True), 60)
        self.check()
        for worker in self.workers:
            await worker.leases.aclose()
        await asyncio.sleep(1.2)
        self.check()
        if not self.exact:
            return
        assert self.away == 0
        for part in self.workers[0].budget.parts:
            levels = await self.world.store.peek(part.subject, part.windows, now=self.world.wall())
            charged = sum(kept.receipt.charged for kept in self.kept)
            for window, level in zip(part.windows, levels, strict=True):
                assert level.held == 0
                assert level.used == (charged if window.unit == "units" else len(self.kept)), window.name


def _run(lengths: tuple[int, int], amounts: tuple[int, int, int], ops: Sequence[Op]) -> None:
    async def story(world: World) -> None:
        run = Run(world, lengths, amounts, exact=lengths == LONG)
        run.workers = [run.hire() for _ in range(WORKERS)]
        for worker in run.workers:
            worker.line.delay = 0.002
        for op in ops:
            await run.step(op)
            run.check()
        await run.finish()

    play(story)


def _ops(*kinds: str) -> st.SearchStrategy[list[Op]]:
    one = st.builds(
        Op,
        st.sampled_from(kinds),
        st.integers(0, WORKERS - 1),
        st.integers(1, 30),
        st.sampled_from([0.01, 0.1, 0.3, 0.76, 1.0, 1.5, 2.1]),
    )
    return st.lists(one, min_size=5, max_size=60)


AMOUNTS = st.tuples(st.integers(5, 1_500), st.integers(50, 2_000), st.integers(100, 3_000))
BOUNDED: Callable[..., Callable[..., None]] = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
QUIET = ("take", "take", "hold", "hold", "burst", "settle", "sleep", "turn", "cancel", "delay")
TROUBLE = (*QUIET, "pause", "restart", "reset", "fault", "die", "limits")


@BOUNDED
@given(AMOUNTS, _ops(*QUIET))
def test_where_nothing_fails_each_unit_is_accounted_for(amounts: tuple[int, int, int], ops: list[Op]) -> None:
    _run(LONG, amounts, ops)


@BOUNDED
@given(AMOUNTS, _ops(*TROUBLE))
def test_whatever_fails_nothing_is_overspent(amounts: tuple[int, int, int], ops: list[Op]) -> None:
    _run(LONG, amounts, ops)


@BOUNDED
@given(AMOUNTS, _ops(*TROUBLE))
def test_windows_that_roll_over_are_not_overspent(amounts: tuple[int, int, int], ops: list[Op]) -> None:
    _run(BRIEF, amounts, [op for op in ops if op.kind != "settle" or op.seconds <= 1])
