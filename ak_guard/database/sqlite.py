"""SQLite: a file, one writer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ak_guard.database.dialects import Dialect, merging, replacing
from ak_guard.database.migrate import upgrade
from ak_guard.database.sqlite_connection import Connections
from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
    from sqlalchemy.sql.dml import Insert

# How long a writer waits for another one, and a migration for another process's migration.
_BUSY_SECONDS: Final = 5.0
_MIGRATION_SECONDS: Final = 30.0
_READERS: Final = 4


class SQLite(Dialect):
    """Writes begin with BEGIN IMMEDIATE: what was read stays true until the commit.

    WAL with synchronous=NORMAL keeps the file whole through a crash; losing power may lose the last moments of commits.
    """

    # One machine has one time, which is also the callers'.
    own_time: ClassVar[bool] = False

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        self._connections = Connections()

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        self._connections.leave(loop)

    def check(self) -> None:
        folder = Path(str(self.url.database)).parent
        if not folder.is_dir():
            raise ConfigurationError(f"backend: the folder {str(folder)!r} of the database does not exist; create it")

    def readers(self) -> AsyncEngine:
        return self._pool("BEGIN", _READERS)

    def writers(self) -> AsyncEngine:
        # Writers queue here for one connection instead of being told that the file is busy.
        return self._pool("BEGIN IMMEDIATE", 1)

    def asked(self) -> Engine:
        # One statement sees one state of the database, so nothing is to begin or to commit.
        return create_engine(
            self.url.set(drivername="sqlite"),
            pool_size=_READERS,
            max_overflow=0,
            isolation_level="AUTOCOMMIT",
            connect_args={"timeout": _BUSY_SECONDS},
            hide_parameters=True,
        )

    def _pool(self, begin: str, size: int) -> AsyncEngine:
        # Parameters are digests and rules: they stay out of logs and errors.
        engine = create_async_engine(
            self.url,
            pool_size=size,
            max_overflow=0,
            connect_args={"timeout": _BUSY_SECONDS, "async_creator_fn": self._connections.connect},
            hide_parameters=True,
        )
        _begin_with(engine.sync_engine, begin)
        return engine

    def line(self) -> AsyncEngine:
        return create_async_engine(
            self.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"async_creator_fn": self._connections.connect},
            hide_parameters=True,
        )

    def migrate(self) -> None:
        url = self.url.set(drivername="sqlite")
        engine = create_engine(url, connect_args={"timeout": _MIGRATION_SECONDS}, hide_parameters=True)
        _begin_with(engine, "BEGIN IMMEDIATE")
        try:
            with engine.begin() as connection:
                upgrade(connection)
        finally:
            engine.dispose()

    async def lock(self, connection: AsyncConnection, subjects: Sequence[str], now: float) -> None:
        """Nothing to do: who writes is alone."""

    def upsert(self, table: Table) -> Insert:
        upsert: Insert = replacing(insert(table), table)
        return upsert

    def merge(self, table: Table, merged: Callable[[Any], dict[str, Any]]) -> Insert:
        merge: Insert = merging(insert(table), table, merged)
        return merge


def _begin_with(engine: Engine, begin: str) -> None:
    def on_connect(connection: Any, _: object) -> None:
        # The driver must not begin transactions by itself: it would read before it locks.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
