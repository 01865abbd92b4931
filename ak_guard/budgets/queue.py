"""What waits to be written to the database: takes that somebody waits for, and settlements that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ak_guard.budgets.base import Ask, Change, Grant, Lease
from ak_guard.errors import BudgetError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

log: Final = logging.getLogger(__name__)

# Takes that wait for the same writer are decided in one transaction; more than this many would hold others up.
_BATCH: Final = 256


@dataclass(slots=True, eq=False)
class Op:
    """One thing that somebody waits for. `slots` None means all of a subject's."""

    kind: str
    subject: str = ""
    now: float = -math.inf
    asks: Sequence[Ask] = ()
    lease: Lease | None = None
    lease_id: str = ""
    unspent: dict[str, int] = field(default_factory=dict)
    slots: Sequence[str] | None = None
    abandoned: bool = False
    done: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(frozen=True, slots=True)
class Owed:
    """Settlements of one subject, in order."""

    subject: str
    changes: tuple[Change, ...]
    now: float


@dataclass(slots=True, eq=False)
class _Waiting:
    """Of one event loop: what its requests wait for, and the task that writes it."""

    ops: list[Op] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


class WriteQueue:
    """Bring takes and settlements to `write`, many in one call, settlements first.

    Settlements may come from any thread and outlive their event loop. While the store is away they are merged and kept,
    and go along with the next call.
    """

    def __init__(self, write: Callable[[Sequence[Owed], Sequence[Op]], Awaitable[Sequence[Any]]]) -> None:
        self._write = write
        self._waiting = PerLoop(_Waiting)
        self._owed: dict[tuple[str, str, int | None], tuple[Change, float]] = {}
        self._lock = threading.Lock()
        self._away = False

    def put(self, op: Op) -> asyncio.Future[Any]:
        """Add something to wait for."""
        waiting = self._waiting.get()
        waiting.ops.append(op)
        self._start(waiting)
        return op.done

    def owe(self, subject: str, changes: Sequence[Change], now: float) -> None:
        """Add a settlement. It is written with whatever is written next."""
        with self._lock:
            for change in changes:
                at = (subject, change.window.slot, change.generation)
                before, _ = self._owed.get(at, (None, now))
                units = change.units + (before.units if before else 0)
                self._owed[at] = (Change(change.window, units, change.generation), now)

    @property
    def pending(self) -> bool:
        """Whether anything is still to be written for the running loop."""
        waiting = self._waiting.get()
        return bool(self._owed or waiting.ops or waiting.task)

    def abandon(self, op: Op) -> None:
        """Whoever waited for a take went away: give back what it got, or will get."""
        op.abandoned = True
        if op.done.done() and not op.done.cancelled() and op.done.exception() is None:
            self._refund(op, op.done.result())
            self._start(self._waiting.get())

    def _start(self, waiting: _Waiting) -> None:
        if waiting.task is None:
            waiting.task = asyncio.create_task(self._run(waiting))

    async def _run(self, waiting: _Waiting) -> None:
        try:
            # Settlements alone wait for the next call when the store is away, instead of hammering it.
            while waiting.ops or (self._owed and not self._away):
                batch, waiting.ops = waiting.ops[:_BATCH], waiting.ops[_BATCH:]
                await self._write_batch(waiting, batch)
        finally:
            waiting.task = None

    async def _write_batch(self, waiting: _Waiting, batch: list[Op]) -> None:
        with self._lock:
            taken, self._owed = self._owed, {}
        owed = [Owed(subject, (change,), now) for (subject, _, _), (change, now) in taken.items()]
        try:
            outcomes = await self._write(owed, batch)
        except BaseException as error:
            self._away = isinstance(error, BudgetError)
            if isinstance(error, BudgetError) or not isinstance(error, Exception):
                for settled in owed:
                    self.owe(settled.subject, settled.changes, settled.now)
            else:
                log.exception("%d settlements could not be written and are dropped", len(owed))
            # Everybody who waits is told now: what could not be written for one will not be written for the next.
            failed, waiting.ops = [*batch, *waiting.ops], []
            for op in failed:
                _fail(op, error)
            if not isinstance(error, Exception):
                raise
            return
        self._away = False
        for op, outcome in zip(batch, outcomes, strict=True):
            if op.abandoned:
                self._refund(op, outcome)
            if not op.done.done():
                op.done.set_result(outcome)

    def _refund(self, op: Op, outcome: object) -> None:
        # A take under a lease is given back by whoever holds the lease.
        if isinstance(outcome, Grant) and op.lease is None:
            parts = zip(op.asks, outcome.taken, outcome.generations, strict=True)
            self.owe(op.subject, [Change(ask.window, -units, generation) for ask, units, generation in parts], op.now)


def _fail(op: Op, error: BaseException) -> None:
    if op.done.done():
        return
    if isinstance(error, BudgetError):
        op.done.set_exception(error)
    else:
        failure = BudgetError("budgets could not be written")
        failure.__cause__ = error
        op.done.set_exception(failure)
    if op.abandoned:
        op.done.exception()  # nobody else will look
