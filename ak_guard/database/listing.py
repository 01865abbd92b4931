"""Lists of keys as queries: one for a page in any order, one for all counts.

A page is found in two steps: first the ids, which narrow indexes tell, then the whole rows of these few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import and_, case, exists, func, null, or_, select, union

from ak_guard.database.tables import keys, last_used, secrets
from ak_guard.listing import ALL_KEYS, EXPIRING_SECONDS, NO_ENVIRONMENT, KeyCounts, KeyFilter
from ak_guard.notation import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Row, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.listing import SortField, State, Walk

#: How far to look along an order for keys that match, before all that match are brought together instead.
_REACH: Final = 2_000
_NEVER: Final = 1e300
_ALL: Final = 2**62


async def walked(connection: AsyncConnection, where: KeyFilter, walk: Walk, now: float) -> list[Row[Any]]:
    """The rows of keys that a walk meets."""
    by_use = walk.order.field == "last_used"
    ids = await (_ids_by_use if by_use else _ids)(connection, where, walk, now)
    rows = (await connection.execute(select(keys).where(keys.c.id.in_(ids)))).all() if ids else []
    return sorted(rows, key=lambda row: ids.index(row.id))


async def _ids(connection: AsyncConnection, where: KeyFilter, walk: Walk, now: float) -> list[str]:
    value = _sorted_by(walk.order.field, connection.dialect.name)
    conditions = _conditions(where, now, in_sqlite=connection.dialect.name == "sqlite")
    query = select(keys.c.id).where(*conditions).limit(walk.limit)
    if walk.place is not None:
        query = query.where(_beyond(value, walk))
    turned = [value.is_(None), value, keys.c.id] if walk.order.may_miss else [value, keys.c.id]
    return await _found(connection, query.order_by(*_turned(turned, walk)))


async def _ids_by_use(connection: AsyncConnection, where: KeyFilter, walk: Walk, now: float) -> list[str]:
    """Those that were used along the index of last uses, and beside them those that never were, by id.

    Where few of those along the index match it would lead through nearly all of it for one page; so it is left after
    a while, or not taken.
    """
    if walk.matching is not None and walk.matching <= _REACH:
        return await _brought_together(connection, where, walk, now)
    reach = walk.reach or (None if where == ALL_KEYS else _REACH)
    turns = [True, False] if walk.descending else [False, True]
    place = walk.place
    if place is not None:
        turns = turns[turns.index(place.value is not None) :]
    ids: list[str] = []
    for used in turns:
        left = walk._replace(limit=walk.limit - len(ids), place=place)
        ids += await _found(connection, (_used if used else _never_used)(where, left, now, reach))
        if len(ids) == walk.limit:
            return ids
        if reach is not None and walk.reach is None:
            return await _brought_together(connection, where, walk, now)
        place = None
    return ids


def _used(where: KeyFilter, walk: Walk, now: float, reach: int | None) -> Select[Any]:
    near = select(last_used.c.key_id, last_used.c.at)
    if walk.place is not None:
        near = near.where(_further(last_used.c.at, last_used.c.key_id, walk))
    nearest = near.order_by(*_turned([last_used.c.at, last_used.c.key_id], walk)).limit(reach).subquery()
    # Not joined: a database that thinks it knows better would begin with the keys, and sort them all.
    there = exists().where(keys.c.id == nearest.c.key_id, *_conditions(where, now, nearest.c.at))
    query = select(nearest.c.key_id).where(there.correlate(nearest)).limit(walk.limit)
    return query.order_by(*_turned([nearest.c.at, nearest.c.key_id], walk))


def _never_used(where: KeyFilter, walk: Walk, now: float, reach: int | None) -> Select[Any]:
    near = select(keys.c.id)
    if walk.place is not None:
        near = near.where(keys.c.id < walk.place.key_id if walk.descending else keys.c.id > walk.place.key_id)
    query = near
    if reach is not None:
        nearest = near.order_by(*_turned([keys.c.id], walk)).limit(reach).subquery()
        query = select(keys.c.id).join(nearest, nearest.c.id == keys.c.id)
    query = query.where(~_presented(), *_conditions(where, now, null())).limit(walk.limit)
    return query.order_by(*_turned([keys.c.id], walk))


async def _brought_together(connection: AsyncConnection, where: KeyFilter, walk: Walk, now: float) -> list[str]:
    """All that match beside their last use, in order of that."""
    at = last_used.c.at
    query = select(keys.c.id).outerjoin(last_used, last_used.c.key_id == keys.c.id)
    in_sqlite = connection.dialect.name == "sqlite"
    # There those that are unused are found first, and the others not even looked up.
    last = None if in_sqlite and where.unused_days is not None else at
    query = query.where(*_conditions(where, now, last, in_sqlite=in_sqlite)).limit(walk.limit)
    if walk.place is not None:
        further_id = keys.c.id < walk.place.key_id if walk.descending else keys.c.id > walk.place.key_id
        if walk.place.value is None:
            beside = and_(at.is_(None), further_id)
            query = query.where(beside if walk.descending else or_(beside, at.is_not(None)))
        else:
            further = _further(at, keys.c.id, walk)
            query = query.where(or_(further, at.is_(None)) if walk.descending else further)
    return await _found(connection, query.order_by(*_turned([at.is_not(None), at, keys.c.id], walk)))


async def _found(connection: AsyncConnection, query: Select[Any]) -> list[str]:
    return list((await connection.execute(query)).scalars())


async def counted(connection: AsyncConnection, where: KeyFilter, now: float) -> KeyCounts:
    """How many match in each state, whatever state is asked for."""
    others = where._replace(state=None)
    in_sqlite = connection.dialect.name == "sqlite"
    by_use = where.used is not None or (where.unused_days is not None and not in_sqlite)
    few = where.unused_days is not None or where.searched_address is not None
    if not by_use and ((in_sqlite and not few) or others == KeyFilter(group=where.group)):
        return await _counted_in_ranges(connection, others, now)
    table = keys.outerjoin(last_used, last_used.c.key_id == keys.c.id) if by_use else keys
    last = last_used.c.at if by_use else None
    mine = list(_conditions(others, now, last, in_sqlite=in_sqlite))
    # As few as the others follow from: each is worked out for every key.
    works = keys.c.enabled.is_(True)
    states = (works, *(_in_state(state, now) for state in ("expired", "expiring", "endless")))
    numbers: list[Any] = [func.count(), *(func.count(case((state, 1))) for state in states)]
    query: Select[Any] = select(*numbers).select_from(table)
    total, enabled, expired, expiring, endless = (await connection.execute(query.where(*mine))).one()
    return KeyCounts(total, enabled - expired, total - enabled, expired, expiring, endless)


async def _counted_in_ranges(connection: AsyncConnection, others: KeyFilter, now: float) -> KeyCounts:
    """Each state by itself: together they are the index that begins with what they are told by, read once."""
    in_sqlite = connection.dialect.name == "sqlite"
    mine, later = list(_conditions(others, now, in_sqlite=in_sqlite)), now + EXPIRING_SECONDS
    states = [_in_state(state, now) for state in ("disabled", "expired", "expiring", "endless")]
    states.append(and_(keys.c.enabled.is_(True), keys.c.expires_at > later))
    parts = [select(func.count()).select_from(keys).where(*mine, state).scalar_subquery() for state in states]
    query: Select[Any] = select(*parts)
    disabled, expired, expiring, endless, others_active = (await connection.execute(query)).one()
    active = expiring + endless + others_active
    return KeyCounts(active + expired + disabled, active, disabled, expired, expiring, endless)


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
    if at is None:
        beside = and_(value.is_(None), keys.c.id < key_id if walk.descending else keys.c.id > key_id)
        return or_(beside, value.is_not(None)) if walk.descending else beside
    further = _further(value, keys.c.id, walk)
    return or_(further, value.is_(None)) if walk.order.may_miss and not walk.descending else further


def _further(value: ColumnElement[Any], identity: ColumnElement[str], walk: Walk) -> ColumnElement[bool]:
    """Whether a row that has a value comes after the walk's place, which has one."""
    at, key_id = walk.place or (None, "")
    # The first condition follows from the second, and is one that an index begins with: without it a page far within is
    # found by reading all pages before it.
    nearest = value <= at if walk.descending else value >= at
    further_id = identity < key_id if walk.descending else identity > key_id
    return and_(nearest, or_(value < at if walk.descending else value > at, and_(value == at, further_id)))


def _turned(columns: Iterable[ColumnElement[Any]], walk: Walk) -> list[ColumnElement[Any]]:
    return [column.desc() if walk.descending else column for column in columns]


def _presented(*how: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(last_used.c.key_id == keys.c.id, *how).correlate(keys)


def _conditions(
    where: KeyFilter, now: float, last: ColumnElement[Any] | None = None, *, in_sqlite: bool = False
) -> Iterable[ColumnElement[bool]]:
    """What a key must be. `last` is its last use where a query has it beside the key."""
    if where.search is not None:
        yield _found_by(where.search, where.searched_address, in_sqlite=in_sqlite)
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
        presented = _presented() if last is None else last.is_not(None)
        yield presented if where.used else ~presented
    if where.unused_days is not None:
        yield _unused(now - where.unused_days * DAY, last, in_sqlite=in_sqlite)
    if where.state is not None:
        yield _in_state(where.state, now)


def _found_by(text: str, address: str | None, *, in_sqlite: bool) -> ColumnElement[bool]:
    part = text.casefold()
    called = select(last_used.c.key_id).where(last_used.c.address == address)
    if not in_sqlite:
        ways = [keys.c.folded.contains(part, autoescape=True), keys.c.id == text]
        return or_(*ways, keys.c.id.in_(called)) if address is not None else or_(*ways)
    # Its LIKE compares letter by letter, without case.
    if address is None:
        return or_(func.instr(keys.c.folded, part) > 0, keys.c.id == text)
    # Both together first: it would look into the second for every key.
    other = keys.alias()
    return keys.c.id.in_(union(select(other.c.id).where(func.instr(other.c.folded, part) > 0), called))


def _unused(before: float, last: ColumnElement[Any] | None, *, in_sqlite: bool) -> ColumnElement[bool]:
    created, at = keys.c.created_at, last_used.c.at
    if last is not None:
        return and_(created < before, or_(last.is_(None), last < before))
    if not in_sqlite:
        return and_(created < before, ~_presented(at >= before))
    # SQLite looks up the last use of each key, unless two indexes in the same order can be read side by side: the limit
    # keeps it from leaving the order out, and the sum from going by age instead.
    never = select(keys.c.id).except_(select(last_used.c.key_id)).order_by("id").limit(_ALL)
    before_that = select(last_used.c.key_id).where(at < before)
    return and_(created + 0 < before, or_(keys.c.id.in_(never), keys.c.id.in_(before_that)))


def _in_state(state: State, now: float) -> ColumnElement[bool]:
    ends = keys.c.expires_at
    conditions: dict[State, ColumnElement[bool]] = {
        # In one piece: SQLite looks up one by one whatever either half of an "or" finds.
        "active": func.coalesce(ends, _NEVER) > now,
        "expired": ends <= now,
        "expiring": and_(ends > now, ends <= now + EXPIRING_SECONDS),
        "endless": ends.is_(None),
    }
    return keys.c.enabled.is_(False) if state == "disabled" else and_(keys.c.enabled.is_(True), conditions[state])
