"""What requests did, in the database: records packed by key, sums by hour and day, and when each key was last used."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, case, delete, exists, func, insert, select

from ak_guard.database.now import store_now
from ak_guard.database.tables import last_used, usage, usage_batches, usage_days, usage_hours
from ak_guard.errors import BackendError
from ak_guard.notation import DAY
from ak_guard.records import ADMITTED
from ak_guard.usage.packing import Packing, Places, unpacked
from ak_guard.usage.records import KeyUse, LastUsed
from ak_guard.usage.summaries import Sum, UsageSummary, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.database.engine import Database
    from ak_guard.usage.records import UsageRecord
    from ak_guard.usage.summaries import Period

log: Final = logging.getLogger(__name__)

# Requests go on in between.
_AT_ONCE: Final = 250
# The sums of days are small and are what a year is compared with; so is when a key was last used.
_DAYS_KEPT: Final = 400 * DAY
_BATCHES_KEPT: Final = DAY
#: So many rows of records are kept, however young: a busy service shall not fill its disk with them.
_ROWS_KEPT: Final = 2_000_000
_PRUNE_SECONDS: Final = 60.0
_PRUNED: Final = 500
_PRUNED_TIMES: Final = 40
_ROWS_READ: Final = 50
_PLACES_READ: Final = 2_000


class UsageTables:
    """Usage in one database. `kept` is for how many seconds records and the sums of hours stay."""

    def __init__(self, database: Database, kept: float) -> None:
        self._database = database
        self._kept = kept
        self._places = Places()
        merge = database.dialect.merge
        # Made once: to make one costs more than to run it.
        self._adding = (
            merge(usage_hours, _add_hours),
            merge(usage_days, _add_days),
            merge(last_used, _newest_use),
        )
        self._pruned = -math.inf

    async def add(self, batch_id: str, records: Sequence[UsageRecord]) -> None:
        """Write a batch, once."""
        packing = Packing(self._places)
        for at in range(0, len(records), _AT_ONCE):
            packing.add(records[at : at + _AT_ONCE])
            await asyncio.sleep(0)
        blocks = []
        for block in packing.blocks():
            blocks.append(block)
            await asyncio.sleep(0)
        async with self._database.write(BackendError) as connection:
            known = select(usage_batches.c.id).where(usage_batches.c.id == batch_id)
            if (await connection.execute(known)).first() is not None:
                return
            now = await store_now(connection)
            await connection.execute(insert(usage_batches).values(id=batch_id, at=now))
            if blocks:
                await connection.execute(insert(usage), blocks)
            # In one order, so that two writers never wait for one another.
            for adding, rows in zip(self._adding, _sums(packing), strict=True):
                if rows:
                    await connection.execute(adding, rows)
        if time.monotonic() >= self._pruned + _PRUNE_SECONDS:
            self._pruned = time.monotonic()
            await self._prune()

    async def summary(self, key_id: str | None, period: Period) -> UsageSummary:
        """What one key did, or everybody."""
        hours = usage_hours.c
        days = usage_days.c
        table = days if period.length == DAY else hours
        by_time = (
            select(table.start, table.code, func.sum(table.calls).label("calls"), func.sum(table.cost).label("cost"))
            .where(table.start >= period.since, table.start < period.until)
            .group_by(table.start, table.code)
        )
        calls = func.sum(hours.calls).label("calls")
        places = (
            select(
                hours.address,
                hours.route,
                hours.code,
                calls,
                func.sum(hours.cost).label("cost"),
                func.min(hours.first_at).label("first_at"),
                func.max(hours.last_at).label("last_at"),
            )
            .where(hours.start >= period.since, hours.start < period.until)
            .group_by(hours.address, hours.route, hours.code)
            .order_by(calls.desc())
            .limit(_PLACES_READ)
        )
        if key_id is not None:
            by_time = by_time.where(table.key_id == key_id)
            places = places.where(hours.key_id == key_id)
        async with self._database.read(BackendError) as connection:
            timed = [
                Sum(row.start, None, "", row.code, int(row.calls), int(row.cost), row.start, row.start)
                for row in await connection.execute(by_time)
            ]
            found = [_place(row) for row in await connection.execute(places)]
            first = {} if key_id is None else await self._first(connection, key_id)
        return summary(period, found, by_time=timed, first=first)

    async def busiest(self, period: Period, limit: int) -> list[KeyUse]:
        """The keys with the most calls, most first."""
        table = (usage_days if period.length == DAY else usage_hours).c
        calls = func.sum(table.calls).label("calls")
        refused = func.sum(case((table.code == ADMITTED, 0), else_=table.calls)).label("refused")
        query = (
            select(table.key_id, calls, refused, func.sum(table.cost).label("cost"))
            .where(table.start >= period.since, table.start < period.until)
            .group_by(table.key_id)
            .order_by(calls.desc(), table.key_id)
            .limit(limit)
        )
        async with self._database.read(BackendError) as connection:
            rows = await connection.execute(query)
            return [KeyUse(row.key_id, int(row.calls), int(row.refused), int(row.cost)) for row in rows]

    async def records(
        self, key_id: str | None, *, since: float, code: str | None, limit: int, before: str | None
    ) -> list[UsageRecord]:
        """Single requests, newest first, as they were written."""
        row_id, _, number = (before or "").partition("-")
        at_row = int(row_id) if row_id.isdecimal() else None
        at_number = int(number) if number.isdecimal() else 0
        found: list[UsageRecord] = []
        while len(found) < limit:
            query = select(usage).where(usage.c.last_at >= since).order_by(usage.c.id.desc()).limit(_ROWS_READ)
            if key_id is not None:
                query = query.where(usage.c.key_id == key_id)
            if code is not None:
                query = query.where(usage.c.codes.contains(f"|{code}|", autoescape=True))
            if at_row is not None:
                query = query.where(usage.c.id <= at_row)
            async with self._database.read(BackendError) as connection:
                rows = (await connection.execute(query)).all()
            for row in rows:
                packed = unpacked(row.key_id, row.id, row.records)
                inside = packed[:at_number] if row.id == at_row else packed
                found += [one for one in reversed(inside) if one.at >= since and (code is None or one.code == code)]
            if len(rows) < _ROWS_READ:
                break
            at_row, at_number = rows[-1].id, 0
        return found[:limit]

    async def last_used(self, ids: Sequence[str]) -> dict[str, LastUsed]:
        """When these keys were last presented, and from where."""
        async with self._database.read(BackendError) as connection:
            return await last_uses(connection, ids)

    async def calls_before(self, ids: Sequence[str], usual: Period) -> dict[str, dict[str, int]]:
        """See `ReadsUsage.calls_before`."""
        hours, last = usage_hours.c, last_used.c
        earlier = exists().where(hours.key_id == last.key_id, hours.start < usual.until, hours.address == last.address)
        strayed = select(last.key_id).where(
            last.key_id.in_(ids), last.at >= usual.until, last.address.is_not(None), ~earlier.correlate(last_used)
        )
        usually = (
            select(hours.key_id, hours.address, func.sum(hours.calls).label("calls"))
            .where(hours.start >= usual.since, hours.start < usual.until)
            .group_by(hours.key_id, hours.address)
        )
        async with self._database.read(BackendError) as connection:
            found: dict[str, dict[str, int]] = {key_id: {} for key_id in (await connection.execute(strayed)).scalars()}
            if found:
                for row in await connection.execute(usually.where(hours.key_id.in_(found))):
                    found[row.key_id][row.address] = int(row.calls)
        return found

    async def recorded(self) -> tuple[float, float] | None:
        """When the first and the last day begin of which there are sums."""
        start = usage_days.c.start
        # Each alone is read from the end of an index; both in one query, from the whole table.
        ends = select(select(func.min(start)).scalar_subquery(), select(func.max(start)).scalar_subquery())
        async with self._database.read(BackendError) as connection:
            first, last = (await connection.execute(ends)).one()
        return None if first is None else (float(first), float(last))

    async def _first(self, connection: AsyncConnection, key_id: str) -> dict[str, float]:
        first: dict[str, float] = {}
        for column in (usage_hours.c.address, usage_hours.c.route):
            query = select(column.label("name"), func.min(usage_hours.c.first_at).label("at"))
            rows = await connection.execute(query.where(usage_hours.c.key_id == key_id).group_by(column))
            first |= {row.name: row.at for row in rows}
        return first

    async def _prune(self) -> None:
        """Remove some of what has been kept for long enough, a little at a time; the next time, more."""
        try:
            async with self._database.read(BackendError) as connection:
                now = await store_now(connection)
                newest = (await connection.execute(select(func.max(usage.c.id)))).scalar() or 0
            for table, column, before in (
                (usage, usage.c.last_at, now - self._kept),
                (usage, usage.c.id, newest - _ROWS_KEPT),
                (usage_hours, usage_hours.c.start, now - self._kept),
                (usage_days, usage_days.c.start, now - _DAYS_KEPT),
                (last_used, last_used.c.at, now - _DAYS_KEPT),
                (usage_batches, usage_batches.c.at, now - _BATCHES_KEPT),
            ):
                for _ in range(_PRUNED_TIMES):
                    async with self._database.write(BackendError) as connection:
                        if await _remove(connection, table, column < before, column) < _PRUNED:
                            break
        except BackendError as error:
            # What is too old stays for the next time, when somebody else may have removed it.
            log.warning("usage that is too old was not removed: %s", error)


async def _remove(
    connection: AsyncConnection, table: Table, over: ColumnElement[bool], order: ColumnElement[Any]
) -> int:
    """Remove some of these rows, the oldest first; how many."""
    keys = list(table.primary_key.columns)
    # Whoever waits for nobody cannot be part of a deadlock.
    oldest = select(*keys).where(over).order_by(order).limit(_PRUNED).with_for_update(skip_locked=True)
    found = [
        {f"the_{key.name}": value for key, value in zip(keys, row, strict=True)}
        for row in await connection.execute(oldest)
    ]
    if found:
        mine = [key == bindparam(f"the_{key.name}") for key in keys]
        await connection.execute(delete(table).where(*mine, over), found)
    return len(found)


async def last_uses(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, LastUsed]:
    """When keys were last presented, and from where."""
    rows = await connection.execute(select(last_used).where(last_used.c.key_id.in_(ids)))
    return {row.key_id: LastUsed(datetime.fromtimestamp(row.at, UTC), row.address) for row in rows}


def _sums(packing: Packing) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """What is added to the hours, to the days, and to when keys were last used."""
    by_hour, by_day, last = packing.sums()
    hours = [
        {**hour._asdict(), "calls": calls, "cost": cost, "first_at": first, "last_at": last_at}
        for hour, (calls, cost, first, last_at) in sorted(by_hour.items())
    ]
    days = [{**day._asdict(), "calls": calls, "cost": cost} for day, (calls, cost) in sorted(by_day.items())]
    used = [{"key_id": key_id, "at": at, "address": ip} for key_id, (at, ip) in sorted(last.items())]
    return hours, days, used


def _place(row: Any) -> Sum:
    return Sum(
        int(row.first_at), row.address, row.route, row.code, int(row.calls), int(row.cost), row.first_at, row.last_at
    )


def _add_hours(new: Any) -> dict[str, Any]:
    return {
        **_add_days(new, usage_hours),
        "first_at": case((new.first_at < usage_hours.c.first_at, new.first_at), else_=usage_hours.c.first_at),
        "last_at": case((new.last_at > usage_hours.c.last_at, new.last_at), else_=usage_hours.c.last_at),
    }


def _add_days(new: Any, table: Any = usage_days) -> dict[str, Any]:
    return {"calls": table.c.calls + new.calls, "cost": table.c.cost + new.cost}


def _newest_use(new: Any) -> dict[str, Any]:
    newer = new.at >= last_used.c.at
    # MariaDB and MySQL set one column after the other, so the second sees the first: hence "or equal".
    return {
        "at": case((newer, new.at), else_=last_used.c.at),
        "address": case((newer, new.address), else_=last_used.c.address),
    }
