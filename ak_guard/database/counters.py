"""The statements behind budgets: lock the counters of some subjects, read them, write what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, bindparam, delete, func, insert, select

from ak_guard.database.now import store_now
from ak_guard.database.tables import leases, settled, slots, windows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.database.dialects import Dialect

# Of each table, so many rows are swept at once: nobody waits for a long clean-up.
_SWEPT: Final = 100
# An id of settlements is needed until whoever sent them knows that they are there, however long it was cut off.
_SETTLED_SECONDS: Final = 30 * 86_400.0

_ONE_HOLDER: Final = and_(slots.c.subject == bindparam("of"), slots.c.worker == bindparam("at"))
_ONE_WINDOW: Final = and_(windows.c.subject == bindparam("of"), windows.c.slot == bindparam("at"))


class Counters:
    """Budgets over one connection. An empty slot is no window but a lock; see the dialects."""

    def __init__(self, connection: AsyncConnection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    async def now(self) -> float:
        """The store's time, in seconds since the epoch."""
        return await store_now(self._connection)

    async def lock(self, subjects: Iterable[str], now: float) -> None:
        """From here on these subjects are this transaction's alone. `now` is the local time."""
        if ordered := sorted(subjects):
            await self._dialect.lock(self._connection, ordered, now)

    async def windows(self, subjects: Iterable[str]) -> Sequence[Row[Any]]:
        """Their windows. After `lock`, as the last one who held it has left them.

        Whoever waited for a lock sees what the one who gave it up has committed, so the rows themselves need no locks:
        those could wait for others' rows where a database prefers to search the whole table.
        """
        query = select(windows).where(windows.c.subject.in_(sorted(subjects)), windows.c.slot != "")
        return (await self._connection.execute(query)).all()

    async def leases(self, subjects: Iterable[str], now: float) -> Sequence[Row[Any]]:
        """Leases that may still give back."""
        query = select(leases).where(leases.c.subject.in_(sorted(subjects)), leases.c.deadline > now)
        return (await self._connection.execute(query)).all()

    async def owners(self, lease_ids: Iterable[str]) -> set[str]:
        """The subjects of these leases, which never change."""
        query = select(leases.c.subject).where(leases.c.id.in_(sorted(lease_ids)))
        return set((await self._connection.execute(query)).scalars())

    async def holders(self, subjects: Iterable[str]) -> Sequence[Row[Any]]:
        """Who holds slots, or did until a short while ago."""
        query = select(slots).where(slots.c.subject.in_(sorted(subjects)))
        return (await self._connection.execute(query)).all()

    async def settled(self, ids: Sequence[str]) -> set[str]:
        """Which of these batches were written before."""
        return set((await self._connection.execute(select(settled.c.id).where(settled.c.id.in_(ids)))).scalars())

    async def save(
        self,
        *,
        kept: list[dict[str, Any]],
        gone: list[tuple[str, str]],
        begun: list[dict[str, Any]],
        ended: list[str],
        batches: list[dict[str, Any]],
        holders: list[dict[str, Any]],
    ) -> None:
        """Write windows, drop windows, begin and end leases, note slots, and the batches of settlements in all that."""
        if kept:
            await self._connection.execute(self._dialect.upsert(windows), kept)
        if gone:
            # One by one by primary key: a list of pairs would be searched for, and locked, in the whole table.
            one = [{"of": subject, "at": slot} for subject, slot in gone]
            await self._connection.execute(delete(windows).where(_ONE_WINDOW), one)
        if ended:
            await self._connection.execute(delete(leases).where(leases.c.id.in_(ended)))
        if begun:
            await self._connection.execute(insert(leases), begun)
        if batches:
            await self._connection.execute(insert(settled), batches)
        if holders:
            await self._connection.execute(self._dialect.upsert(slots), holders)

    async def sweep(self, told: float, now: float, known: Sequence[str]) -> None:
        """Remove some of what nobody needs any more, and of settled batches those that are `known` to be there.

        `told` rules windows and what comes of them, `now` slots: where guards are told the time, these still are not.
        """
        over = select(windows.c.subject, windows.c.slot).where(windows.c.keep_until <= told)
        # What is locked is in use again. Whoever waits for nobody cannot be part of a deadlock.
        over = over.order_by(windows.c.keep_until).limit(_SWEPT).with_for_update(skip_locked=True)
        found = [{"of": subject, "at": slot} for subject, slot in await self._connection.execute(over)]
        if found:
            still = and_(_ONE_WINDOW, windows.c.keep_until <= told)
            await self._connection.execute(delete(windows).where(still), found)
        left = select(slots.c.subject, slots.c.worker).where(slots.c.deadline <= now)
        left = left.order_by(slots.c.deadline).limit(_SWEPT).with_for_update(skip_locked=True)
        if gone := [{"of": subject, "at": worker} for subject, worker in await self._connection.execute(left)]:
            await self._connection.execute(delete(slots).where(_ONE_HOLDER, slots.c.deadline <= now), gone)
        for table, time, limit in ((leases, leases.c.deadline, told), (settled, settled.c.at, told - _SETTLED_SECONDS)):
            dead = (
                select(table.c.id).where(time <= limit).order_by(time).limit(_SWEPT).with_for_update(skip_locked=True)
            )
            ids = [*(await self._connection.execute(dead)).scalars(), *(known if table is settled else ())]
            if ids:
                await self._connection.execute(delete(table).where(table.c.id.in_(ids)))

    async def check(self) -> None:
        """Touch the table and count nothing."""
        await self._connection.execute(select(func.count()).select_from(windows).where(windows.c.subject == ""))

    async def clear(self) -> int:
        """Drop every counter of everybody; how many windows there were."""
        await self._connection.execute(delete(leases))
        await self._connection.execute(delete(slots))
        return (await self._connection.execute(delete(windows).where(windows.c.slot != ""))).rowcount
