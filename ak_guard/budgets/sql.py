"""Counters in the database beside the keys: durable, and shared by every process that opens it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from limits.aio.storage import Storage
from sqlalchemy import delete, func, or_, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from ak_guard.budgets import rows
from ak_guard.budgets.base import Ask, Change, Grant, Lease, Level, MultiWindowSupport, Promise, Row, Shortfall
from ak_guard.budgets.windows import Window
from ak_guard.database.tables import leases, windows
from ak_guard.errors import BudgetError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.budgets.rows import Rows
    from ak_guard.database.engine import Database

# Takes that wait for the same writer are decided in one transaction; more than this many would hold others up.
_BATCH: Final = 256


@dataclass(slots=True, eq=False)
class _Op:
    """One thing to do in the next transaction. `done` is None for settlements, which nobody waits for."""

    kind: str
    subject: str = ""
    now: float = -math.inf
    asks: Sequence[Ask] = ()
    lease: Lease | None = None
    lease_id: str = ""
    unspent: dict[str, int] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    slots: Sequence[str] | None = None
    abandoned: bool = False
    done: asyncio.Future[Any] | None = None


@dataclass(slots=True, eq=False)
class _Queue:
    """What one event loop has to write, and the task that is writing."""

    ops: list[_Op] = field(default_factory=list)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class _State:
    """The rows and leases of one transaction, as they are read and as they become."""

    rows: dict[str, Rows]
    leases: dict[str, Any]
    now: float
    touched: set[tuple[str, str]] = field(default_factory=set)
    new_leases: list[dict[str, Any]] = field(default_factory=list)
    ended_leases: list[str] = field(default_factory=list)


class SQLStorage(Storage, MultiWindowSupport):
    """A storage of `limits` in the database of the keys.

    Takes that arrive together share a transaction, which locks before it reads; so they are exact over any number of
    processes. They survive a restart.
    """

    STORAGE_SCHEME: list[str] | None = ["ak-guard+sql"]  # noqa: RUF012  # `limits` reads it so

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.database = database
        self._clock = clock
        self._queues = PerLoop(_Queue)
        self._away = False

    @property
    def promise(self) -> Promise:
        return Promise(durable=True, shared=True)

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        op = _Op("acquire", subject, now, asks=asks, lease=lease)
        try:
            # Shielded, so that a request that goes away leaves the answer to be undone and not a hole.
            outcome: Grant | Shortfall = await asyncio.shield(self._put(op))
        except asyncio.CancelledError:
            if lease is None:
                self._undo(op)
            raise
        return outcome

    async def give_back(self, lease_id: str, unspent: dict[str, int]) -> None:
        await self._put(_Op("give_back", lease_id=lease_id, unspent=unspent))

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        await self._put(_Op("restart", subject, slots=[window.slot for window in windows]))

    async def forget(self, subject: str) -> None:
        await self._put(_Op("restart", subject, slots=None))

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        self._queues.get().ops.append(_Op("settle", subject, now, changes=changes))

    async def flush(self) -> None:
        queue = self._queues.get()
        if queue.ops or queue.task:
            await self._put(_Op("flush"))

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        await self.flush()
        async with self.database.read(BudgetError) as connection:
            held = await _held(connection, subject, now)
            mine = (await _load(connection, {subject})).get(subject, {})
        return [
            rows.level(window, mine.get(window.slot), now, held=held.get(window.slot, 0), need=need)
            for window in windows
        ]

    async def aclose(self) -> None:
        """Write what is still to be written. The database belongs to the backend, which closes it."""
        await self.flush()

    def _put(self, op: _Op) -> asyncio.Future[Any]:
        queue = self._queues.get()
        for gone in self._queues.abandoned():
            # Whoever waited is gone with its loop; what was charged is not.
            queue.ops += [left for left in gone.ops if left.done is None]
        op.done = asyncio.get_running_loop().create_future()
        queue.ops.append(op)
        self._write_soon(queue)
        return op.done

    def _write_soon(self, queue: _Queue) -> None:
        if queue.task is None:
            queue.task = asyncio.create_task(self._write_all(queue))

    def _undo(self, op: _Op) -> None:
        """The request went away while its take was being written: give back what it got, or will get.

        A take under a lease is given back by whoever holds the lease.
        """
        op.abandoned = True
        if op.done is not None and op.done.done() and op.done.exception() is None:
            queue = self._queues.get()
            queue.ops[:0] = _refund(op, op.done.result())
            self._write_soon(queue)

    async def _write_all(self, queue: _Queue) -> None:
        try:
            # Settlements alone wait for the next call when the store is away, instead of hammering it.
            while any(op.done is not None for op in queue.ops) or (queue.ops and not self._away):
                batch, queue.ops = queue.ops[:_BATCH], queue.ops[_BATCH:]
                await self._write(queue, batch)
        finally:
            queue.task = None

    async def _write(self, queue: _Queue, batch: list[_Op]) -> None:
        try:
            async with self.database.write(BudgetError) as connection:
                state = await _read_state(connection, batch)
                outcomes = [_apply(state, op) for op in batch]
                await _write_state(connection, state)
        except BaseException as error:
            self._away = True
            # Nobody waits for a settlement, so it must not be lost: it is tried again with the next transaction.
            queue.ops[:0] = [op for op in batch if op.done is None]
            for op in batch:
                if op.done is not None and not op.done.done():
                    op.done.set_exception(error if isinstance(error, Exception) else BudgetError("interrupted"))
            if not isinstance(error, Exception):
                raise
        else:
            self._away = False
            # First in the next transaction, so that nobody is refused for want of what a lost request holds.
            queue.ops[:0] = [
                refund for op, got in zip(batch, outcomes, strict=True) if op.abandoned for refund in _refund(op, got)
            ]
            for op, outcome in zip(batch, outcomes, strict=True):
                if op.done is not None and not op.done.done():
                    op.done.set_result(outcome)

    # What `limits`' own strategies ask for: one counter per key, beginning with its first hit.

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return BudgetError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        window = Window(amount, expiry)
        self.settle(key, [Change(window, amount, None)], now=self._clock())
        return (await self.peek(key, [window], now=self._clock()))[0].used

    async def get(self, key: str) -> int:
        return sum(row.used for row in await self._live(key))

    async def get_expiry(self, key: str) -> float:
        return max((row.end for row in await self._live(key)), default=self._clock())

    async def _live(self, key: str) -> list[Row]:
        await self.flush()
        async with self.database.read(BudgetError) as connection:
            mine = (await _load(connection, {key})).get(key, {})
        return [row for row in mine.values() if self._clock() < row.end]

    async def check(self) -> bool:
        try:
            async with self.database.read(BudgetError) as connection:
                await connection.execute(select(func.count()).select_from(windows).where(windows.c.subject == ""))
        except BudgetError:
            return False
        return True

    async def reset(self) -> int | None:
        async with self.database.write(BudgetError) as connection:
            await connection.execute(delete(leases))
            return (await connection.execute(delete(windows))).rowcount

    async def clear(self, key: str) -> None:
        await self.forget(key)


def _next_generation() -> int:
    # Random, so that a row swept away and begun anew never meets an old lease.
    return random.getrandbits(62) + 1  # names a window, guards nothing


def _refund(op: _Op, outcome: Grant | Shortfall | None) -> list[_Op]:
    """What gives a take back."""
    if not isinstance(outcome, Grant):
        return []
    parts = zip(op.asks, outcome.taken, outcome.generations, strict=True)
    changes = [Change(ask.window, -units, generation) for ask, units, generation in parts]
    return [_Op("settle", op.subject, op.now, changes=changes)]


async def _read_state(connection: AsyncConnection, batch: list[_Op]) -> _State:
    lease_ids = {op.lease_id for op in batch if op.lease_id}
    found: dict[str, Any] = {}
    if lease_ids:
        result = await connection.execute(select(leases).where(leases.c.id.in_(lease_ids)))
        found = {row.id: row for row in result}
    subjects = {op.subject for op in batch if op.subject} | {row.subject for row in found.values()}
    return _State(await _load(connection, subjects), found, max(op.now for op in batch))


async def _load(connection: AsyncConnection, subjects: set[str]) -> dict[str, Rows]:
    if not subjects:
        return {}
    loaded: dict[str, Rows] = {}
    for row in await connection.execute(select(windows).where(windows.c.subject.in_(subjects))):
        end = math.inf if row.end is None else row.end
        loaded.setdefault(row.subject, {})[row.slot] = Row(row.start, end, row.generation, row.used, row.before)
    return loaded


async def _held(connection: AsyncConnection, subject: str, now: float) -> dict[str, int]:
    held: dict[str, int] = {}
    query = select(leases.c.units).where(leases.c.subject == subject, leases.c.deadline > now)
    for (units,) in await connection.execute(query):
        for slot, amount, _ in units:
            held[slot] = held.get(slot, 0) + amount
    return held


def _apply(state: _State, op: _Op) -> Grant | Shortfall | None:
    """Do one thing to the rows as they stand in this transaction."""
    mine = state.rows.setdefault(op.subject, {})
    if op.kind == "acquire":
        return None if op.abandoned else _acquire(state, op, mine)
    if op.kind == "settle":
        for settled in op.changes:
            if rows.change(mine, settled, op.now, _next_generation):
                state.touched.add((op.subject, settled.window.slot))
    elif op.kind == "restart":
        for slot in list(mine) if op.slots is None else op.slots:
            mine.pop(slot, None)
            state.touched.add((op.subject, slot))
    elif op.kind == "give_back" and op.lease_id in state.leases:
        _give_back(state, op)
    return None


def _acquire(state: _State, op: _Op, mine: Rows) -> Grant | Shortfall:
    outcome = rows.take(mine, op.asks, op.now, _next_generation)
    if isinstance(outcome, Grant):
        slots = [ask.window.slot for ask in op.asks]
        state.touched.update((op.subject, slot) for slot, units in zip(slots, outcome.taken, strict=True) if units)
        if op.lease is not None:
            lease = {"id": op.lease.id, "worker": op.lease.worker, "deadline": op.lease.deadline}
            units = list(zip(slots, outcome.taken, outcome.generations, strict=True))
            state.new_leases.append({**lease, "subject": op.subject, "units": units})
    return outcome


def _give_back(state: _State, op: _Op) -> None:
    lease = state.leases.pop(op.lease_id)
    state.ended_leases.append(op.lease_id)
    for slot, taken, generation in lease.units:
        units = min(taken, op.unspent.get(slot, 0))
        if rows.give_back(state.rows.get(lease.subject, {}), slot, units, generation):
            state.touched.add((lease.subject, slot))


async def _write_state(connection: AsyncConnection, state: _State) -> None:
    kept, gone = [], []
    for subject, slot in state.touched:
        row = state.rows.get(subject, {}).get(slot)
        if row is None:
            gone.append((subject, slot))
            continue
        kept.append(
            {
                "subject": subject,
                "slot": slot,
                "generation": row.generation,
                "start": row.start,
                "end": None if math.isinf(row.end) else row.end,
                "used": row.used,
                "before": row.before,
            }
        )
    if kept:
        await connection.execute(_UPSERT, kept)
    if gone:
        await connection.execute(delete(windows).where(tuple_(windows.c.subject, windows.c.slot).in_(gone)))
    if state.new_leases:
        await connection.execute(insert(leases), state.new_leases)
    if state.ended_leases:
        # A lease past its deadline counts as spent; its row goes with the next lease that ends.
        dead = leases.c.deadline <= state.now
        await connection.execute(delete(leases).where(or_(leases.c.id.in_(state.ended_leases), dead)))


_INSERT = insert(windows)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=[windows.c.subject, windows.c.slot],
    set_={column: _INSERT.excluded[column] for column in ("generation", "start", "end", "used", "before")},
)
