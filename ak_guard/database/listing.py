"""Lists of keys as queries: one for a page in any order, one for all counts. Each reads the table once at most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, case, exists, func, or_, select

from ak_guard.database.tables import keys, last_used, secrets
from ak_guard.listing import EXPIRING_SECONDS, NO_ENVIRONMENT, STATES, KeyCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.listing import KeyFilter, SortField, State, Walk


async def walked(connection: AsyncConnection, where: KeyFilter, walk: Walk, now: float) -> list[Row[Any]]:
    """The rows of keys that a walk meets."""
    if walk.order.field == "last_used":
        return await _walked_by_use(connection, where, walk, now)
    value = _sorted_by(walk.order.field, connection.dialect.name)
    query = select(keys).where(*_conditions(where, now)).limit(walk.limit)
    if walk.place is not None:
        query = query.where(_beyond(value, walk))
    turned = [value.is_(None), value, keys.c.id] if walk.order.may_miss else [value, keys.c.id]
    return list((await connection.execute(query.order_by(*_turned(turned, walk)))).all())


async def _walked_by_use(connection: AsyncConnection, where: KeyFilter, walk: Walk, now: float) -> list[Row[Any]]:
    """Those that were used along the index of last uses, and beside them those that never were, by id."""
    used = select(keys).join(last_used, last_used.c.key_id == keys.c.id)
    used = used.order_by(*_turned([last_used.c.at, last_used.c.key_id], walk))
    never = select(keys).where(~_presented()).order_by(*_turned([keys.c.id], walk))
    parts = {True: used, False: never}
    turns = [True, False] if walk.descending else [False, True]
    if walk.place is not None:
        at, key_id = walk.place
        first = at is not None
        turns = turns[turns.index(first) :]
        further_id = keys.c.id < key_id if walk.descending else keys.c.id > key_id
        parts[first] = parts[first].where(_beyond(last_used.c.at, walk) if first else further_id)
    rows: list[Row[Any]] = []
    for turn in turns:
        left = walk.limit - len(rows)
        if left:
            rows += (await connection.execute(parts[turn].where(*_conditions(where, now)).limit(left))).all()
    return rows


async def counted(connection: AsyncConnection, where: KeyFilter, now: float) -> KeyCounts:
    """How many match in each state, whatever state is asked for."""
    numbers = [func.coalesce(func.sum(case((_in_state(state, now), 1), else_=0)), 0) for state in STATES]
    query: Select[Any] = select(func.count(), *numbers).select_from(keys)
    row = (await connection.execute(query.where(*_conditions(where._replace(state=None), now)))).one()
    return KeyCounts(*(int(number) for number in row))


async def old_secrets(connection: AsyncConnection, key_ids: Iterable[str], now: float) -> dict[str, float]:
    """Until when the last secret that was rotated out works, by key; keys with none are left out."""
    latest = func.max(secrets.c.valid_until).label("until")
    mine = secrets.c.key_id.in_(list(key_ids))
    query = select(secrets.c.key_id, latest).where(mine, secrets.c.valid_until > now).group_by(secrets.c.key_id)
    return {row.key_id: row.until for row in await connection.execute(query)}


def _sorted_by(field: SortField, dialect: str) -> ColumnElement[Any]:
    columns: dict[str, ColumnElement[Any]] = {
        # By code points as everywhere else; the collation of a PostgreSQL is its administrator's choice.
        "name": keys.c.folded.collate("C") if dialect == "postgresql" else keys.c.folded,
        "created": keys.c.created_at,
        "updated": keys.c.updated_at,
        "expires": keys.c.expires_at,
        "quota": keys.c.quota,
    }
    return columns[field]


def _beyond(value: ColumnElement[Any], walk: Walk) -> ColumnElement[bool]:
    """Whether a row comes after the walk's place. A missing value is the greatest."""
    at, key_id = walk.place or (None, "")
    further_id = keys.c.id < key_id if walk.descending else keys.c.id > key_id
    if at is None:
        beside = and_(value.is_(None), further_id)
        return or_(beside, value.is_not(None)) if walk.descending else beside
    # The first condition follows from the second, and is one that an index begins with: without it a page far within is
    # found by reading all pages before it.
    nearest = value <= at if walk.descending else value >= at
    further = and_(nearest, or_(value < at if walk.descending else value > at, and_(value == at, further_id)))
    return or_(further, value.is_(None)) if walk.order.may_miss and not walk.descending else further


def _turned(columns: Iterable[ColumnElement[Any]], walk: Walk) -> list[ColumnElement[Any]]:
    return [column.desc() if walk.descending else column for column in columns]


def _presented() -> ColumnElement[bool]:
    # Correlated by name: where last uses are what is walked along, they are meant anew in here.
    return exists().where(last_used.c.key_id == keys.c.id).correlate(keys)


def _conditions(where: KeyFilter, now: float) -> Iterable[ColumnElement[bool]]:
    if where.search is not None:
        named = keys.c.folded.contains(where.search.casefold(), autoescape=True)
        yield or_(named, keys.c.id == where.search)
    if where.group is not None:
        yield keys.c.group_name == where.group
    if where.enabled is not None:
        yield keys.c.enabled.is_(where.enabled)
    if where.owner is not None:
        yield keys.c.owner == where.owner
    if where.ids is not None:
        yield keys.c.id.in_(where.ids)
    if where.environment is not None:
        environment = keys.c.environment
        yield environment.is_(None) if where.environment == NO_ENVIRONMENT else environment == where.environment
    if where.used is not None:
        yield _presented() if where.used else ~_presented()
    if where.state is not None:
        yield _in_state(where.state, now)


def _in_state(state: State, now: float) -> ColumnElement[bool]:
    ends = keys.c.expires_at
    conditions: dict[State, ColumnElement[bool]] = {
        "active": or_(ends.is_(None), ends > now),
        "expired": ends <= now,
        "expiring": and_(ends > now, ends <= now + EXPIRING_SECONDS),
        "endless": ends.is_(None),
    }
    return keys.c.enabled.is_(False) if state == "disabled" else and_(keys.c.enabled.is_(True), conditions[state])
