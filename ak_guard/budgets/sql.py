"""Counters in the database beside the keys: durable, and shared by every process that opens it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from limits.aio.storage import Storage

from ak_guard.budgets import rows
from ak_guard.budgets.base import Change, Grant, Level, Promise, Row, SettlesOnce, Shortfall, log
from ak_guard.budgets.book import Book
from ak_guard.budgets.lent import Open, held
from ak_guard.budgets.queue import Op, WriteQueue
from ak_guard.budgets.single import SingleCounters
from ak_guard.budgets.slots import Holder, SlotSupport
from ak_guard.database.counters import Counters
from ak_guard.database.dialects import was_undone
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ak_guard.budgets.base import Ask, Lease
    from ak_guard.budgets.queue import Batch, Owed
    from ak_guard.budgets.rows import Rows
    from ak_guard.budgets.slots import Share, Stake
    from ak_guard.budgets.windows import Window
    from ak_guard.database.engine import Database

# A transaction that the database undid for another one's sake is tried again so often.
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 0.02
# What is over is swept with every so many writes.
_SWEEP_EVERY: Final = 64


class SQLStorage(SingleCounters, Storage, SettlesOnce, SlotSupport):
    """A storage of `limits` in the database of the keys.

    Takes that arrive together share a transaction, which locks before it reads; so they are exact over any number of
    processes. They survive a restart. PostgreSQL and MariaDB decide by their own time; with `own_time=False`, and in
    SQLite, that of each call rules. `clock` rules the calls of `limits`' own strategies, which name no time.
    """

    STORAGE_SCHEME: list[str] | None = ["ak-guard+sql"]  # noqa: RUF012  # `limits` reads it so

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time, own_time: bool = True) -> None:
        super().__init__()
        self.database = database
        self._clock = clock
        self._own_time = own_time and database.dialect.own_time
        self._queue = WriteQueue(self._write, self._tidy)
        self._writes = 0
        self._told = 0.0
        self._known: list[str] = []

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

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        await self._queue.put(Op("give_back", lease_id=lease_id, unspent=unspent))

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        await self._queue.put(Op("restart", subject, slots=[window.slot for window in windows]))

    async def forget(self, subject: str) -> None:
        await self._queue.put(Op("restart", subject, slots=None))

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        self._queue.owe(subject, changes, now)

    async def settle_once(self, batch_id: str, owed: Sequence[Owed], *, known: Sequence[str]) -> None:
        self._known += known
        self._queue.owe_once(batch_id, owed)
        await self._queue.put(Op("flush"))

    async def flush(self) -> None:
        if self._queue.pending:
            await self._queue.put(Op("flush"))

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        return (await self._peek([(subject, windows)], now=now, need=need))[0]

    async def peek_many(self, subjects: Sequence[tuple[str, Sequence[Window]]], *, now: float) -> list[list[Level]]:
        return await self._peek(subjects, now=now, need=0)

    async def _peek(
        self, subjects: Sequence[tuple[str, Sequence[Window]]], *, now: float, need: int
    ) -> list[list[Level]]:
        await self.flush()
        async with self.database.read(BudgetError) as connection:
            counters = Counters(connection, self.database.dialect)
            book = await self._read(counters, {subject for subject, _ in subjects}, now)
        here = now if book.now is None else book.now
        leases: dict[str, list[Open]] = {}
        for lease in book.leases.values():
            leases.setdefault(lease.subject, []).append(lease)
        found = []
        for subject, windows in subjects:
            mine, lent = book.rows.get(subject, {}), leases.get(subject, [])
            levels = [
                rows.level(window, row, here, held=held(lent, subject, window.slot, row), need=need)
                for window, row in ((window, mine.get(window.slot)) for window in windows)
            ]
            found.append(levels if here == now else [rows.told(level, now - here) for level in levels])
        return found

    async def hold_slots(self, subject: str, stake: Stake, *, now: float) -> Share:
        found: Share = await self._queue.put(Op("hold", subject, now, stake=stake))
        return found

    async def held_slots(self, subjects: Sequence[str], *, now: float) -> list[int]:
        held = Counter[str]()
        async with self.database.read(BudgetError) as connection:
            counters = Counters(connection, self.database.dialect)
            at = await counters.now() if self._own_time else now
            for row in await counters.holders(subjects):
                held[row.subject] += row.held if at < row.deadline else 0
        return [held[subject] for subject in subjects]

    async def _write(self, batches: Sequence[Batch], ops: Sequence[Op]) -> list[Grant | Shortfall | Share | None]:
        for attempt in range(1, _TRIES + 1):
            try:
                outcomes = await self._write_once(batches, ops)
            except BudgetError as error:
                if attempt == _TRIES or not was_undone(error):
                    raise
                await asyncio.sleep(_PAUSE_SECONDS * attempt * random.random())  # noqa: S311  # spreads those who met
            else:
                break
        self._known += [batch.id for batch in batches if not batch.foreign]
        self._writes += 1
        self._told = max(self._told, _told(ops))
        return outcomes

    async def _write_once(self, batches: Sequence[Batch], ops: Sequence[Op]) -> list[Grant | Shortfall | Share | None]:
        async with self.database.write(BudgetError) as connection:
            counters = Counters(connection, self.database.dialect)
            subjects = {op.subject for op in ops if op.subject}
            subjects |= {settled.subject for batch in batches for settled in batch.owed}
            if returned := {op.lease_id for op in ops if op.lease_id}:
                subjects |= await counters.owners(returned)
            await counters.lock(subjects, time.time())
            # A transaction that may have written one of these batches held the same locks, so it has ended by now.
            unsure = [batch.id for batch in batches if batch.unsure]
            done = await counters.settled(unsure) if unsure else set()
            new = [batch for batch in batches if batch.id not in done]
            book = await self._read(counters, subjects, _told(ops))
            if crowded := {op.subject for op in ops if op.stake is not None}:
                for row in await counters.holders(crowded):
                    mine = book.holders.setdefault(row.subject, {})
                    mine[row.worker] = Holder(row.held, row.want, row.number, row.deadline)
            for batch in new:
                for settled in batch.owed:
                    book.settle(settled)
            outcomes = [book.do(op) for op in ops]
            await _save(counters, book, new)
            # What fails from here on fails at the commit.
            for batch in new:
                batch.unsure = True
        return outcomes

    async def _read(self, counters: Counters, subjects: set[str], told: float) -> Book:
        now = await counters.now() if self._own_time else None
        found: dict[str, Rows] = {}
        leases: dict[str, Open] = {}
        if subjects:
            for row in await counters.windows(subjects):
                end = math.inf if row.end is None else row.end
                found.setdefault(row.subject, {})[row.slot] = Row(row.start, end, row.generation, row.used, row.before)
            for row in await counters.leases(subjects, max(0.0, told) if now is None else now):
                leases[row.id] = Open(row.subject, row.worker, row.deadline, row.units)
        return Book(now, found, leases)

    async def _tidy(self) -> None:
        if self._writes < _SWEEP_EVERY:
            return
        self._writes, known, self._known = 0, self._known, []
        try:
            async with self.database.write(BudgetError) as connection:
                counters = Counters(connection, self.database.dialect)
                now = await counters.now()
                await counters.sweep(now if self._own_time else self._told, now, known)
        except BudgetError as error:
            # What is over stays for the next time, when somebody else may have swept it.
            log.warning("counters that are over were not swept: %s", error)

    # What `limits` asks of a storage

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return BudgetError

    def _time(self) -> float:
        return self._clock()

    async def _live(self, key: str, now: float) -> list[tuple[int, float]]:
        await self.flush()
        async with self.database.read(BudgetError) as connection:
            book = await self._read(Counters(connection, self.database.dialect), {key}, now)
        ahead = 0.0 if book.now is None else book.now - now
        return [(row.used, row.end - ahead) for row in book.rows.get(key, {}).values() if now + ahead < row.end]

    async def check(self) -> bool:
        try:
            async with self.database.read(BudgetError) as connection:
                await Counters(connection, self.database.dialect).check()
        except BudgetError:
            return False
        return True

    async def reset(self) -> int | None:
        async with self.database.write(BudgetError) as connection:
            return await Counters(connection, self.database.dialect).clear()


async def _save(counters: Counters, book: Book, batches: Sequence[Batch]) -> None:
    kept: list[dict[str, Any]] = []
    gone: list[tuple[str, str]] = []
    for subject, slot in sorted(book.touched):
        row = book.rows.get(subject, {}).get(slot)
        if row is None:
            gone.append((subject, slot))
            continue
        kept.append(
            {
                "subject": subject,
                "slot": slot,
                "generation": row.generation,
                "start": row.start,
                "end": _finite(row.end),
                "used": row.used,
                "before": row.before,
                "keep_until": _finite(rows.last_use(slot, row)),
            }
        )
    begun = [{"id": lease_id, **book.leases[lease_id]._asdict()} for lease_id in sorted(book.begun)]
    at = time.time() if book.now is None else book.now
    settled = [{"id": batch.id, "at": at} for batch in batches]
    staked = [
        {"subject": subject, "worker": worker, **book.holders[subject][worker]._asdict()}
        for subject, worker in sorted(book.staked)
    ]
    await counters.save(kept=kept, gone=gone, begun=begun, ended=sorted(book.ended), batches=settled, holders=staked)


def _told(ops: Sequence[Op]) -> float:
    """The latest time that a guard's clock has shown; slots are held by another one."""
    return max((op.now for op in ops if op.stake is None), default=0.0)


def _finite(moment: float) -> float | None:
    return None if math.isinf(moment) else moment
