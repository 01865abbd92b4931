"""Connections to the database: one pair of pools for each event loop, and a schema that brings itself up to date."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from alembic.util.exc import CommandError
from sqlalchemy import Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ak_guard.database.tables import HEAD
from ak_guard.errors import AkGuardError, BackendError, ConfigurationError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.engine import URL

# How long a writer waits for another one, and a migration for another process's migration.
_BUSY_SECONDS: Final = 5.0
_MIGRATION_SECONDS: Final = 30.0
_READERS: Final = 4


class _Pools:
    """Of one event loop. SQLite knows one writer at a time, so writers queue for one connection."""

    def __init__(self, url: URL) -> None:
        self.readers = _engine(url, "BEGIN", _READERS)
        self.writer = _engine(url, "BEGIN IMMEDIATE", 1)

    async def dispose(self) -> None:
        await self.readers.dispose()
        await self.writer.dispose()


class Database:
    """A SQLite database by URL. Opening it touches nothing; the first use creates or upgrades the schema.

    Writes begin with BEGIN IMMEDIATE: what was read stays true until the commit. WAL with synchronous=NORMAL keeps the
    file whole through a crash; losing power may lose the last moments of commits.
    """

    def __init__(self, url: str) -> None:
        self.url: URL = _checked_url(url)
        self._pools = PerLoop(lambda: _Pools(self.url.set(drivername="sqlite+aiosqlite")), keep=True)
        self._current = False
        self._migrating = threading.Lock()

    async def start(self) -> None:
        """Bring the schema up to date, once. Raises `BackendError` when the file cannot be opened."""
        if not self._current:
            await asyncio.to_thread(self._migrate)

    @asynccontextmanager
    async def read(self, failure: type[AkGuardError]) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one state of the database. What the driver raises becomes a `failure`."""
        async with self._connection(write=False, failure=failure) as connection:
            yield connection

    @asynccontextmanager
    async def write(self, failure: type[AkGuardError]) -> AsyncIterator[AsyncConnection]:
        """A transaction that no other writer can come between; committed at the end, or not at all."""
        async with self._connection(write=True, failure=failure) as connection:
            yield connection

    @asynccontextmanager
    async def _connection(self, *, write: bool, failure: type[AkGuardError]) -> AsyncIterator[AsyncConnection]:
        try:
            await self.start()
            for pools in self._pools.abandoned():
                await pools.dispose()
            pools = self._pools.get()
            async with (pools.writer if write else pools.readers).begin() as connection:
                yield connection
        except BackendError as error:
            raise failure(str(error)) from error
        except (SQLAlchemyError, OSError, JSONDecodeError) as error:
            # The driver's text may hold parameters; only its kind is told.
            raise failure(f"the database failed ({type(error).__name__})") from error

    async def aclose(self) -> None:
        """Close every connection, also those of loops that are gone. The next use looks at the schema again."""
        self._current = False
        for pools in self._pools.drain():
            await pools.dispose()

    def _migrate(self) -> None:
        with self._migrating:
            if self._current:
                return
            folder = Path(str(self.url.database)).parent
            if not folder.is_dir():
                raise ConfigurationError(
                    f"backend: the folder {str(folder)!r} of the database does not exist; create it"
                )
            engine = create_engine(self.url, connect_args={"timeout": _MIGRATION_SECONDS})
            _begin_with(engine, "BEGIN IMMEDIATE")
            try:
                upgrade(engine)
            except (SQLAlchemyError, OSError, CommandError) as error:
                raise BackendError(f"cannot open the database {self.url.database}: {_cause(error)}") from error
            finally:
                engine.dispose()
            self._current = True


def upgrade(engine: Engine) -> None:
    """Run the migrations that are missing, in one transaction, so that two starters do not meet half-way."""
    with engine.begin() as connection:
        if inspect(connection).has_table("ak_alembic"):
            found = connection.execute(text("SELECT version_num FROM ak_alembic")).scalar()
            if found == HEAD:
                return
        # Alembic is slow to import and seldom needed.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _checked_url(text_: str) -> URL:
    try:
        url = make_url(text_)
    except ArgumentError:
        raise ConfigurationError("backend: the URL cannot be read; write sqlite:///keys.db") from None
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"backend: {url.get_backend_name()} is not supported yet; keys can be stored in SQLite: sqlite:///keys.db"
        )
    if url.host:
        raise ConfigurationError("backend: sqlite has no host; write three slashes before the file: sqlite:///keys.db")
    if url.database in {None, "", ":memory:"}:
        raise ConfigurationError("backend: sqlite needs a file, such as sqlite:///keys.db; for memory write memory://")
    return url.set(drivername="sqlite")


def _engine(url: URL, begin: str, size: int) -> AsyncEngine:
    # Parameters are digests and rules: they stay out of logs and errors.
    engine = create_async_engine(
        url, pool_size=size, max_overflow=0, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True
    )
    _begin_with(engine.sync_engine, begin)
    return engine


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


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error)
