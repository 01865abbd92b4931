"""What waits to be written to the database: takes that somebody waits for, and settlements that nobody waits for."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ak_guard.budgets.base import Ask, Change, Grant, Lease, refunds
from ak_guard.errors import BudgetError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ak_guard.budgets.slots import Stake

log: Final = logging.getLogger(__name__)

# Takes that wait for the same writer are decided in one transaction; more than this many would hold others up.
_BATCH: Final = 256
# Settlements of one transaction: an outage may have left more than one statement can name.
_OWED: Final = 500
# More batches than this are not left in doubt: what is owed beyond them waits, merged, until it is known of these.
_UNSURE: Final = 8


@dataclass(slots=True, eq=False)
class Op:
    """One thing that somebody waits for. `slots` None means all slots of the subject."""

    kind: str
    subject: str = ""
    now: float = -math.inf
    asks: Sequence[Ask] = ()
    lease: Lease | None = None
    lease_id: str = ""
    stake: Stake | None = None
    unspent: Mapping[str, int] = field(default_factory=dict)
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
class Batch:
    """Settlements that are written together, once, under an id.

    `unsure` once a transaction with them was about to be committed: until an answer comes they may be there already.
    """

    owed: list[Owed]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    unsure: bool = False
    #: Whether somebody else chose the id, and may send the batch again.
    foreign: bool = False


@dataclass(slots=True, eq=False)
class _Waiting:
    """Of one event loop: what its requests wait for, and the task that writes it."""

    ops: list[Op] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def is_over(self, task: asyncio.Task[None]) -> None:
        """Whoever still waits for a task that was cancelled, perhaps before it began, is told."""
        if task.cancelled():
            failed, self.ops, self.task = self.ops, [], None
            for op in failed:
                _fail(op, asyncio.CancelledError())


class WriteQueue:
    """Bring takes and settlements to `write`, many in one call, settlements first.

    Settlements may come from any thread and outlive their event loop. While the store is away they are merged and kept,
    and go along with the next call; those of a call of which nobody knows whether it was written go again as they were.
    After a call has been answered, `tidy` may do what nobody waits for.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Batch], Sequence[Op]], Awaitable[Sequence[Any]]],
        tidy: Callable[[], Awaitable[None]],
    ) -> None:
        self._write = write
        self._tidy = tidy
        self._waiting = PerLoop(_Waiting)
        self._owed: dict[tuple[str, str, int | None], tuple[Change, float]] = {}
        self._unsure: list[Batch] = []
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

    def owe_once(self, batch_id: str, owed: Sequence[Owed]) -> None:
        """Add settlements under an id of somebody else, who may have sent them before."""
        with self._lock:
            # Of those that are being written now, the next transaction finds out by itself.
            if all(batch.id != batch_id for batch in self._unsure):
                self._unsure.append(Batch(list(owed), batch_id, unsure=True, foreign=True))

    @property
    def pending(self) -> bool:
        """Whether anything is still to be written for the running loop."""
        waiting = self._waiting.get()
        return bool(self._owed or self._unsure or waiting.ops or waiting.task)

    def abandon(self, op: Op) -> None:
        """Whoever waited for a take went away: give back what it got, or will get."""
        op.abandoned = True
        if op.done.done() and not op.done.cancelled() and op.done.exception() is None:
            self._refund(op, op.done.result())
            self._start(self._waiting.get())

    def _start(self, waiting: _Waiting) -> None:
        if waiting.task is None:
            waiting.task = asyncio.create_task(self._run(waiting))
            waiting.task.add_done_callback(waiting.is_over)

    async def _run(self, waiting: _Waiting) -> None:
        try:
            # Settlements alone wait for the next call when the store is away, instead of hammering it.
            while waiting.ops or ((self._owed or self._unsure) and not self._away):
                batches = self._take_owed()
                # Nobody takes before everything that was charged until now is counted.
                more = bool(self._owed)
                ops, waiting.ops = ([], waiting.ops) if more else (waiting.ops[:_BATCH], waiting.ops[_BATCH:])
                await self._write_one(waiting, batches, ops)
                await self._tidy()
        finally:
            waiting.task = None

    def _take_owed(self) -> list[Batch]:
        with self._lock:
            batches, self._unsure = self._unsure, []
            first = list(itertools.islice(self._owed, _OWED if len(batches) < _UNSURE else 0))
            taken = [(subject, *self._owed.pop((subject, slot, at))) for subject, slot, at in first]
        if taken:
            batches.append(Batch([Owed(subject, (change,), now) for subject, change, now in taken]))
        return batches

    async def _write_one(self, waiting: _Waiting, batches: list[Batch], ops: list[Op]) -> None:
        if not (batches or ops):
            return  # another loop has taken them
        try:
            outcomes = await self._write(batches, ops)
        except BaseException as error:
            self._away = isinstance(error, BudgetError)
            self._keep(batches, error)
            # Everybody who waits is told now: what could not be written for one will not be written for the next.
            failed, waiting.ops = [*ops, *waiting.ops], []
            for op in failed:
                _fail(op, error)
            if not isinstance(error, Exception):
                raise
            return
        self._away = False
        for op, outcome in zip(ops, outcomes, strict=True):
            if op.abandoned:
                self._refund(op, outcome)
            if not op.done.done():
                op.done.set_result(outcome)

    def _keep(self, batches: list[Batch], error: BaseException) -> None:
        """What was not written is owed again; what may have been written keeps its id, under which it counts once."""
        if isinstance(error, Exception) and not isinstance(error, BudgetError):
            count = sum(len(batch.owed) for batch in batches)
            log.error("%d settlements could not be written and are dropped", count, exc_info=error)
            return
        with self._lock:
            self._unsure = [*(batch for batch in batches if batch.unsure), *self._unsure]
        for batch in batches:
            for settled in () if batch.unsure else batch.owed:
                self.owe(settled.subject, settled.changes, settled.now)

    def _refund(self, op: Op, outcome: object) -> None:
        if not isinstance(outcome, Grant):
            return
        if op.lease is None:
            self.owe(op.subject, refunds(op.asks, outcome), op.now)
            return
        unspent = {ask.window.slot: units for ask, units in zip(op.asks, outcome.taken, strict=True)}
        returned = Op("give_back", op.subject, lease_id=op.lease.id, unspent=unspent, abandoned=True)
        self._waiting.get().ops.append(returned)


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
