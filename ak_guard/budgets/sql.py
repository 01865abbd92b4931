"""Counters in the database beside the keys: durable, and shared by every process that opens it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limits.aio.storage import Storage
from sqlalchemy import delete, func, or_, select, tuple_
from sqlalchemy.dialects.sqlite import insert

from ak_guard.budgets import rows
from ak_guard.budgets.base import Ask, Change, Grant, Lease, Level, MultiWindowSupport, Promise, Row, Shortfall
from ak_guard.budgets.queue import Op, Owed, WriteQueue
from ak_guard.budgets.windows import Window
from ak_guard.database.tables import leases, windows
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.budgets.rows import Rows
    from ak_guard.database.engine import Database


@dataclass(slots=True, eq=False)
class _State:
    """The rows and leases of one transaction, as they are read and as they become."""

    rows: dict[str, Rows]
    leases: dict[str, dict[str, Any]]
    now: float
    touched: set[tuple[str, str]] = field(default_factory=set)
    new_leases: set[str] = field(default_factory=set)
    ended_leases: set[str] = field(default_factory=set)


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
        self._queue = WriteQueue(self._write)

    @property
    def promise(self) -> Promise:
        return Promise(durable=True, shared=True)

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        op = Op("acquire", subject, now, asks=asks, lease=lease)
        try:
            # Shielded, so that a request that goes away leaves the answer to be undone and not a hole.
            outcome: Grant | Shortfall = await asyncio.shield(self._queue.put(op))
        except asyncio.CancelledError:
            self._queue.abandon(op)
            raise
        return outcome

    async def give_back(self, lease_id: str, unspent: dict[str, int]) -> None:
        await self._queue.put(Op("give_back", lease_id=lease_id, unspent=unspent))

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        await self._queue.put(Op("restart", subject, slots=[window.slot for window in windows]))

    async def forget(self, subject: str) -> None:
        await self._queue.put(Op("restart", subject, slots=None))

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        self._queue.owe(subject, changes, now)

    async def flush(self) -> None:
        if self._queue.pending:
            await self._queue.put(Op("flush"))

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        await self.flush()
        async with self.database.read(BudgetError) as connection:
            held = await _held(connection, subject, now)
            mine = (await _load(connection, {subject})).get(subject, {})
        return [
            rows.level(window, mine.get(window.slot), now, held=held.get(window.slot, 0), need=need)
            for window in windows
        ]

    async def _write(self, owed: Sequence[Owed], ops: Sequence[Op]) -> list[Grant | Shortfall | None]:
        async with self.database.write(BudgetError) as connection:
            state = await _read_state(connection, owed, ops)
            for settled in owed:
                _settle(state, settled)
            outcomes = [_apply(state, op) for op in ops]
            await _write_state(connection, state)
        return outcomes

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


async def _read_state(connection: AsyncConnection, owed: Sequence[Owed], ops: Sequence[Op]) -> _State:
    lease_ids = {op.lease_id for op in ops if op.lease_id}
    found: dict[str, dict[str, Any]] = {}
    if lease_ids:
        result = await connection.execute(select(leases).where(leases.c.id.in_(lease_ids)))
        found = {row.id: dict(row._mapping) for row in result}  # noqa: SLF001  # SQLAlchemy's public name for it
    subjects = {op.subject for op in ops if op.subject} | {settled.subject for settled in owed}
    subjects |= {lease["subject"] for lease in found.values()}
    now = max((op.now for op in ops), default=-math.inf)
    return _State(await _load(connection, subjects), found, now)


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


def _settle(state: _State, settled: Owed) -> None:
    mine = state.rows.setdefault(settled.subject, {})
    for change in settled.changes:
        if rows.change(mine, change, settled.now, _next_generation):
            state.touched.add((settled.subject, change.window.slot))


def _apply(state: _State, op: Op) -> Grant | Shortfall | None:
    """Do one thing to the rows as they stand in this transaction."""
    mine = state.rows.setdefault(op.subject, {})
    if op.kind == "acquire":
        return None if op.abandoned else _acquire(state, op, mine)
    if op.kind == "restart":
        for slot in list(mine) if op.slots is None else op.slots:
            mine.pop(slot, None)
            state.touched.add((op.subject, slot))
    elif op.kind == "give_back" and op.lease_id in state.leases:
        _give_back(state, op)
    return None


def _acquire(state: _State, op: Op, mine: Rows) -> Grant | Shortfall:
    outcome = rows.take(mine, op.asks, op.now, _next_generation)
    if isinstance(outcome, Grant):
        slots = [ask.window.slot for ask in op.asks]
        state.touched.update((op.subject, slot) for slot, units in zip(slots, outcome.taken, strict=True) if units)
        if op.lease is not None:
            units = list(zip(slots, outcome.taken, outcome.generations, strict=True))
            state.leases[op.lease.id] = {**op.lease._asdict(), "subject": op.subject, "units": units}
            state.new_leases.add(op.lease.id)
    return outcome


def _give_back(state: _State, op: Op) -> None:
    lease = state.leases.pop(op.lease_id)
    if op.lease_id in state.new_leases:
        state.new_leases.discard(op.lease_id)
    else:
        state.ended_leases.add(op.lease_id)
    for slot, taken, generation in lease["units"]:
        units = min(taken, op.unspent.get(slot, 0))
        if rows.give_back(state.rows.get(lease["subject"], {}), slot, units, generation):
            state.touched.add((lease["subject"], slot))


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
        await connection.execute(insert(leases), [state.leases[lease_id] for lease_id in sorted(state.new_leases)])
    if state.ended_leases:
        # A lease past its deadline counts as spent; its row goes with the next lease that ends.
        dead = leases.c.deadline <= state.now
        await connection.execute(delete(leases).where(or_(leases.c.id.in_(state.ended_leases), dead)))


_INSERT = insert(windows)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=[windows.c.subject, windows.c.slot],
    set_={column: _INSERT.excluded[column] for column in ("generation", "start", "end", "used", "before")},
)
