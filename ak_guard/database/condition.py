"""What state a database is in, looked at without changing it: its schema, its clock, and rows that nobody can read."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from sqlalchemy import inspect, select, text

from ak_guard.database.now import store_now
from ak_guard.database.tables import HEAD, groups, keys, secrets
from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Connection, Row
    from sqlalchemy.engine import URL

    from ak_guard.database.engine import Database
    from ak_guard.records import ApiKey, Group

T = TypeVar("T")


class Condition(NamedTuple):
    """`schema` is the revision it has, None before its first use, and `wanted` the one that this version needs.

    `skew` is how far its clock is ahead of ours, in seconds; None where both are of one machine. `unreadable` tells of
    rows whose rules cannot be read, `unpeppered` are ids of keys with a secret that is stored without a pepper, and
    `keys` and `groups` what could be read.
    """

    schema: str | None
    wanted: str = HEAD
    skew: float | None = None
    unreadable: tuple[str, ...] = ()
    unpeppered: frozenset[str] = frozenset()
    keys: tuple[ApiKey, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def current(self) -> bool:
        """Whether the rows are those that this version knows."""
        return self.schema == self.wanted


async def condition(
    database: Database, key_of: Callable[[Row[Any]], ApiKey], group_of: Callable[[Row[Any]], Group]
) -> Condition:
    """Look at a database; `key_of` and `group_of` read a row, or raise `BackendError`.

    Raises `BackendError` when it cannot be reached.
    """
    if await asyncio.to_thread(_is_missing, database.url):
        return Condition(None)
    async with database.read(BackendError, as_it_is=True) as connection:
        schema = await connection.run_sync(_schema)
        skew = None
        if database.dialect.own_time:
            asked = time.time()
            theirs = await store_now(connection)
            skew = theirs - (asked + time.time()) / 2
        if schema != HEAD:
            return Condition(schema, skew=skew)
        unreadable: list[str] = []
        found_keys = _readable(await connection.execute(select(keys)), key_of, unreadable)
        found_groups = _readable(await connection.execute(select(groups)), group_of, unreadable)
        bare = await connection.execute(select(secrets.c.key_id).where(secrets.c.pepper_id.is_(None)))
        return Condition(
            schema, HEAD, skew, tuple(unreadable), frozenset(bare.scalars()), tuple(found_keys), tuple(found_groups)
        )


def _readable(rows: Iterable[Row[Any]], read: Callable[[Row[Any]], T], unreadable: list[str]) -> list[T]:
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except BackendError as error:
            unreadable.append(str(error))
    return found


def _is_missing(url: URL) -> bool:
    # To connect would make an empty file. With `uri=true` the driver reads more than a path from it.
    return url.get_backend_name() == "sqlite" and "uri" not in url.query and not Path(str(url.database)).exists()


def _schema(connection: Connection) -> str | None:
    if not inspect(connection).has_table("ak_alembic"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM ak_alembic")).scalar()
    return found
