"""Keys in a SQL database: `SQLBackend("sqlite:///keys.db")`, or one in PostgreSQL, MariaDB or MySQL."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from ak_guard.audit import Entered, entered
from ak_guard.backends.base import Found, replaced_already
from ak_guard.backends.feeds import Feeds
from ak_guard.backends.peppers import Peppers
from ak_guard.backends.users import Users
from ak_guard.backends.watch import Listeners
from ak_guard.backends.workers import follow_all, listed
from ak_guard.budgets.leases import Leases
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database import audit as trail
from ak_guard.database.admin_tokens import SQLTokens
from ak_guard.database.bulletin import DatabaseBulletin
from ak_guard.database.changes import announce
from ak_guard.database.condition import Condition, condition
from ak_guard.database.engine import Database
from ak_guard.database.listing import counted, old_secrets, walked
from ak_guard.database.records import GROUP_COLUMNS, columns_of, datetime_of, group_beside, group_of, key_of, seconds_of
from ak_guard.database.requests import enter_once
from ak_guard.database.tables import admin_tokens, groups, keys, secrets
from ak_guard.database.usage import UsageTables, last_uses
from ak_guard.errors import BackendError, ConfigurationError, InputError, NotFound
from ak_guard.listing import ListedKey, folded
from ak_guard.notation import parse_duration
from ak_guard.versions import refuse_changed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
    from datetime import timedelta

    from sqlalchemy import Select, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.audit import AuditEntry, AuditFilter, Note
    from ak_guard.backends.bulletin import SharedBulletin
    from ak_guard.backends.tokens import TokenStore
    from ak_guard.backends.workers import Confirmation, Worker
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.listing import KeyCounts, KeyFilter, Walk
    from ak_guard.records import ApiKey, Group
    from ak_guard.usage.records import KeyUse, LastUsed, UsageRecord
    from ak_guard.usage.summaries import Period, UsageSummary

log: Final = logging.getLogger(__name__)

_USAGE_KEPT: Final = "30d"
_NEVER: Final[tuple[None, None]] = (None, None)


class SQLBackend:
    """Keys, their digests, groups and budgets in one database. The schema keeps itself up to date.

    `pepper` is one secret or several, newest first (default: `AK_GUARD_PEPPER`, separated by commas): digests are then
    stored under HMAC-SHA-256, and those under an older pepper, or under none, still match and move to the newest when
    their key is next created, rotated or found. Raises `ConfigurationError` for a URL or pepper that cannot work.

    Budgets are counted by the time of PostgreSQL or MariaDB, because the clocks of many machines differ; with
    `own_time=False` the guard's own clock rules there too, as a test with a clock to move needs it.

    Records of requests and their sums by hour are kept for `usage_kept` (default: `AK_GUARD_USAGE_KEPT`, else 30 days),
    of the records no more than the newest two million rows; sums by day for 400 days.
    """

    keeps_usage_durably = True

    def __init__(
        self,
        url: str,
        *,
        pepper: str | Iterable[str] | None = None,
        own_time: bool = True,
        usage_kept: str | timedelta | None = None,
    ) -> None:
        self._peppers = Peppers(pepper)
        self._held = _held(self._peppers.stored(bytes(32)))
        self.database: Database = Database(url)
        leases = Leases(SQLStorage(self.database, own_time=own_time))
        self.counters: MultiWindowSupport = leases
        self.bulletin: SharedBulletin = (bulletin := DatabaseBulletin(self.database))
        self._listeners = Listeners(leases.drop, bulletin.heard)
        self._feeds = Feeds(self.bulletin, self._listeners)
        self._users = Users()
        renew = partial(self._move_to_newest_pepper, admin_tokens)
        self.tokens: TokenStore = SQLTokens(self.database, self._peppers.stored, renew)
        kept = usage_kept or os.environ.get("AK_GUARD_USAGE_KEPT") or _USAGE_KEPT
        self._usage = UsageTables(self.database, parse_duration(kept, "usage_kept"))

    @property
    def peppered(self) -> bool:
        return bool(self._peppers)

    async def start(self) -> None:
        """Enter as one more user and bring the schema up to date."""
        self._users.enter()
        try:
            await self.database.start()
        except ConfigurationError:
            self._users.turn_back()
            raise
        self._feeds.start()

    async def aclose(self) -> None:
        """Leave; the last user closes every connection."""
        if await self._users.leave():
            await self._feeds.aclose()
            await self.counters.aclose()
            await self.database.aclose()

    def before_close(self, finish: Callable[[], Awaitable[None]]) -> None:
        self._users.before_close(finish)

    def watch(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        return self._listeners.add(listener)

    def guarded(self, *, stale: float, counters: str) -> None:
        self._feeds.guarded(stale, counters)

    async def touch(self, key_id: str) -> None:
        async with self.database.write(BackendError) as connection:
            await announce(connection, key_id)
        self._listeners.tell(key_id)

    async def note(self, note: Note, *, key_id: str | None, subject: str) -> None:
        made = Entered(note.at, note.actor, note.action, key_id, subject, {}, dict(note.about))
        async with self.database.write(BackendError) as connection:
            await trail.add(connection, made)

    async def audit(self, where: AuditFilter, *, limit: int, before: int | None) -> list[AuditEntry]:
        async with self.database.read(BackendError) as connection:
            return await trail.entries(connection, where, limit=limit, before=before)

    async def add_usage(self, batch_id: str, records: Sequence[UsageRecord]) -> None:
        await self._usage.add(batch_id, records)

    async def usage(self, key_id: str | None, period: Period) -> UsageSummary:
        return await self._usage.summary(key_id, period)

    async def records(
        self, key_id: str | None, *, since: float, code: str | None, limit: int, before: str | None
    ) -> list[UsageRecord]:
        return await self._usage.records(key_id, since=since, code=code, limit=limit, before=before)

    async def busiest(self, period: Period, *, limit: int) -> list[KeyUse]:
        return await self._usage.busiest(period, limit)

    async def last_used(self, ids: Sequence[str]) -> dict[str, LastUsed]:
        return await self._usage.last_used(ids)

    async def calls_before(self, ids: Sequence[str], usual: Period) -> dict[str, dict[str, int]]:
        return await self._usage.calls_before(ids, usual)

    async def recorded(self) -> tuple[float, float] | None:
        return await self._usage.recorded()

    async def workers(self) -> list[Worker]:
        return await listed(self.bulletin)

    async def confirm(self, *, timeout: float) -> Confirmation:  # noqa: ASYNC109  # late is an answer, not an error
        return await follow_all(self.bulletin, timeout=timeout)

    async def condition(self) -> Condition:
        """What state the database is in; nothing of it is changed. Raises `BackendError` when it cannot be reached."""
        # With connections of its own, because nobody has started these.
        database = Database(self.database.url.render_as_string(hide_password=False))
        try:
            return await condition(database, key_of, group_of)
        finally:
            await database.aclose()

    async def find(self, digest: bytes) -> Found | None:
        stored: dict[str | None, bytes] = dict(self._peppers.stored(digest))
        await self._feeds.ready()
        found = await self.database.ask(
            BackendError, self._held, dict(zip(_places(stored), stored.values(), strict=True))
        )
        # The database compared digests of 32 bytes, not texts; which of them matched, the pepper's name tells.
        for row in found:
            if row.pepper_id in stored:
                if row.pepper_id != self._peppers.newest:
                    await self._move_to_newest_pepper(secrets, stored[row.pepper_id], digest)
                return Found(key_of(row), group_beside(row), row.valid_until)
        return None

    async def insert(self, key: ApiKey, digest: bytes, *, note: Note) -> None:
        async with self.database.write(BackendError) as connection:
            if note.once is not None:
                await enter_once(connection, note.once, key.id, note.at)
            await self._refuse_taken(connection, digest)
            if key.replaces is not None:
                await self._replace(connection, key.replaces, key.id, note)
            await connection.execute(insert(keys).values(id=key.id, **columns_of(key)))
            await self._insert_secret(connection, key, digest)
            await trail.add(connection, entered(note, None, key))
            await announce(connection, key.id)
        self._listeners.tell(key.id)

    async def get(self, key_id: str) -> ApiKey:
        async with self.database.read(BackendError) as connection:
            row = (await connection.execute(select(keys).where(keys.c.id == key_id))).first()
        if row is None:
            raise NotFound(f"no key has the id {key_id!r}")
        return key_of(row)

    async def walk(self, where: KeyFilter, walk: Walk, *, now: float) -> list[ListedKey]:
        async with self.database.read(BackendError) as connection:
            rows = await walked(connection, where, walk, now)
            old = await old_secrets(connection, [row.id for row in rows], now) if rows else {}
            used = await last_uses(connection, [row.id for row in rows]) if rows else {}
        last = [used.get(row.id, _NEVER) for row in rows]
        return [
            ListedKey(key_of(row), at, ip, datetime_of(old.get(row.id)))
            for row, (at, ip) in zip(rows, last, strict=True)
        ]

    async def count(self, where: KeyFilter, *, now: float) -> KeyCounts:
        async with self.database.read(BackendError) as connection:
            return await counted(connection, where, now)

    async def change(self, key_id: str, changes: Mapping[str, Any], *, note: Note) -> ApiKey:
        mine = keys.c.id == key_id
        async with self.database.write(BackendError) as connection:
            current = await self._locked(connection, key_id, note)
            changed = replace(current, **changes)
            columns = {_COLUMN_OF.get(field, field) for field in changes} | {"folded", "environment"}
            values = {column: value for column, value in columns_of(changed).items() if column in columns}
            await connection.execute(update(keys).where(mine).values(**values))
            await trail.add(connection, entered(note, current, changed))
            await announce(connection, key_id)
        self._listeners.tell(key_id)
        return changed

    async def delete(self, key_id: str, *, note: Note) -> None:
        async with self.database.write(BackendError) as connection:
            current = await self._locked(connection, key_id, note)
            await connection.execute(delete(keys).where(keys.c.id == key_id))
            await trail.add(connection, entered(note, current, None))
            await announce(connection, key_id)
        self._listeners.tell(key_id)

    async def add_secret(self, key: ApiKey, digest: bytes, *, old_until: float, note: Note) -> ApiKey:
        mine = secrets.c.key_id == key.id
        later = or_(secrets.c.valid_until.is_(None), secrets.c.valid_until > old_until)
        async with self.database.write(BackendError) as connection:
            await self._refuse_taken(connection, digest)
            current = await self._locked(connection, key.id, note)
            renewed = replace(current, hint=key.hint, updated_at=key.updated_at)
            changed = {"hint": renewed.hint, "folded": folded(renewed), "updated_at": seconds_of(renewed.updated_at)}
            await connection.execute(update(keys).where(keys.c.id == key.id).values(**changed))
            await connection.execute(update(secrets).where(mine, later).values(valid_until=old_until))
            await self._insert_secret(connection, key, digest)
            await trail.add(connection, entered(note, current, renewed))
            await announce(connection, key.id)
        self._listeners.tell(key.id)
        return renewed

    async def get_group(self, name: str) -> Group:
        async with self.database.read(BackendError) as connection:
            row = (await connection.execute(select(groups).where(groups.c.name == name))).first()
        if row is None:
            raise NotFound(f"no group is named {name!r}")
        return group_of(row)

    async def list_groups(self) -> list[Group]:
        async with self.database.read(BackendError) as connection:
            found = await connection.execute(select(groups).order_by(groups.c.name))
            return [group_of(row) for row in found]

    async def put_group(self, group: Group, *, create: bool, note: Note) -> None:
        values = {
            "routes": list(group.routes),
            "limits": [str(limit) for limit in group.limits],
            "shared_limits": [str(limit) for limit in group.shared_limits],
            "multiplier": str(group.multiplier),
            "enabled": group.enabled,
        }
        before: Group | None = None
        async with self.database.write(BackendError) as connection:
            if create:
                try:
                    await connection.execute(insert(groups).values(name=group.name, **values))
                except IntegrityError:
                    raise InputError("name", f"a group named {group.name!r} exists already") from None
            else:
                before = await _locked_group(connection, group.name, note)
                await connection.execute(update(groups).where(groups.c.name == group.name).values(**values))
            await trail.add(connection, entered(note, before, group))
            await announce(connection, None)
        self._listeners.tell(None)

    async def delete_group(self, name: str, *, note: Note) -> None:
        async with self.database.write(BackendError) as connection:
            before = await _locked_group(connection, name, note)
            await connection.execute(delete(groups).where(groups.c.name == name))
            await trail.add(connection, entered(note, before, None))
            await announce(connection, None)
        self._listeners.tell(None)

    async def _locked(self, connection: AsyncConnection, key_id: str, note: Note) -> ApiKey:
        """The key as it is, and stays until this transaction has ended; raises `Conflict` if it is not as expected."""
        row = (await connection.execute(select(keys).where(keys.c.id == key_id).with_for_update())).first()
        if row is None:
            raise NotFound(f"no key has the id {key_id!r}")
        current = key_of(row)
        refuse_changed(current, note.version)
        return current

    async def _replace(self, connection: AsyncConnection, old_id: str, new_id: str, note: Note) -> None:
        """Note at a key which one comes in its place. Two who do so at once see one another here."""
        old = await self._locked(connection, old_id, note)
        there = select(keys.c.id).where(keys.c.id == old.replaced_by)
        if (await connection.execute(there)).first() is not None:
            raise replaced_already(old)
        await connection.execute(update(keys).where(keys.c.id == old_id).values(replaced_by=new_id))

    async def _refuse_taken(self, connection: AsyncConnection, digest: bytes) -> None:
        stored = [value for _, value in self._peppers.stored(digest)]
        if (await connection.execute(select(secrets.c.key_id).where(secrets.c.digest.in_(stored)))).first():
            raise InputError("key", "is already in use")

    async def _insert_secret(self, connection: AsyncConnection, key: ApiKey, digest: bytes) -> None:
        name, stored = self._peppers.stored(digest)[0]
        created = seconds_of(key.updated_at)
        new = insert(secrets).values(digest=stored, pepper_id=name, key_id=key.id, created_at=created)
        try:
            await connection.execute(new)
        except IntegrityError:
            # Two who create the same key at once have both seen that it is not taken.
            raise InputError("key", "is already in use") from None

    async def _move_to_newest_pepper(self, table: Table, old: bytes, digest: bytes) -> None:
        name, stored = self._peppers.stored(digest)[0]
        newest = update(table).where(table.c.digest == old).values(digest=stored, pepper_id=name)
        try:
            async with self.database.write(BackendError) as connection:
                await connection.execute(newest)
        except BackendError:
            log.warning("a secret could not be moved to the newest pepper; it still matches and is tried again")


_COLUMN_OF = {"group": "group_name"}


def _places(stored: Collection[object]) -> list[str]:
    return [f"digest_{number}" for number in range(len(stored))]


def _held(stored: Collection[object]) -> Select[Any]:
    """Who holds any of so many digests. Built once: to build it costs about what it takes to ask."""
    return (
        select(secrets.c.pepper_id, secrets.c.valid_until, keys, *GROUP_COLUMNS)
        .join(keys, keys.c.id == secrets.c.key_id)
        .outerjoin(groups, groups.c.name == keys.c.group_name)
        .where(or_(*(secrets.c.digest == bindparam(place) for place in _places(stored))))
    )


async def _locked_group(connection: AsyncConnection, name: str, note: Note) -> Group:
    row = (await connection.execute(select(groups).where(groups.c.name == name).with_for_update())).first()
    if row is None:
        raise NotFound(f"no group is named {name!r}")
    current = group_of(row)
    refuse_changed(current, note.version)
    return current
