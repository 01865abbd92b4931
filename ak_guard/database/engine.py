"""Connections to the database: one pair of pools for each event loop, and a schema that brings itself up to date."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ak_guard.database.address import checked_url
from ak_guard.database.migrate import Unmigrated
from ak_guard.errors import AkGuardError, BackendError, ConfigurationError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from sqlalchemy import Engine, Row, Select
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from ak_guard.database.dialects import Dialect


class _Pools:
    """Of one event loop. Readers never wait for a writer."""

    def __init__(self, dialect: Dialect) -> None:
        self.readers: AsyncEngine = dialect.readers()
        self.writers: AsyncEngine = dialect.writers()
        self.asked: Engine | None = dialect.asked()
        self._loop = asyncio.get_running_loop()
        self._dialect = dialect

    async def dispose(self) -> None:
        """Close every connection, from whichever loop."""
        bound = self._dialect.bound
        if bound and self._loop is not asyncio.get_running_loop() and not self._loop.is_closed():
            with suppress(RuntimeError):  # closed just now
                self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self.dispose()))
            return
        # Nobody can talk over a socket whose loop was closed; it goes when it is collected.
        close = not (bound and self._loop.is_closed())
        await self.readers.dispose(close=close)
        await self.writers.dispose(close=close)
        if self.asked is not None:
            self.asked.dispose()
        if self._loop.is_closed():
            self._dialect.leave(self._loop)


class Database:
    """A database by URL. Opening it touches nothing; the first use creates or upgrades the schema.

    Raises `ConfigurationError` for a URL that cannot work, without the password in it.
    """

    def __init__(self, url: str) -> None:
        self.dialect: Dialect = _dialect_of(checked_url(url))
        self._pools = PerLoop(lambda: _Pools(self.dialect), keep=True)
        self._current = False
        self._migrating = threading.Lock()
        self._failure: tuple[float, BackendError] | None = None

    @property
    def url(self) -> URL:
        """Where it is, with the driver."""
        return self.dialect.url

    async def start(self) -> None:
        """Bring the schema up to date, once. Raises `BackendError` when the database cannot be opened."""
        if not self._current:
            await asyncio.to_thread(self._migrate, time.monotonic())

    @asynccontextmanager
    async def read(self, failure: type[AkGuardError], *, as_it_is: bool = False) -> AsyncIterator[AsyncConnection]:
        """A connection that sees one state of the database. What the driver raises becomes a `failure`.

        With `as_it_is` the schema may be an older one, and stays so.
        """
        async with self._connection(write=False, failure=failure, start=not as_it_is) as connection:
            yield connection

    async def ask(
        self, failure: type[AkGuardError], statement: Select[Any], values: Mapping[str, Any]
    ) -> Sequence[Row[Any]]:
        """All rows of one statement that changes nothing."""
        asked = self._pools.get().asked
        if asked is None:
            async with self.read(failure) as connection:
                found: Sequence[Row[Any]] = (await connection.execute(statement, values)).all()
                return found
        with self._translated(failure):
            await self.start()
            return await asyncio.to_thread(_rows, asked, statement, values)

    @asynccontextmanager
    async def write(self, failure: type[AkGuardError]) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end or not at all; where the commit itself fails, nobody knows which.

        SQLite lets no other writer come between; elsewhere what must not change meanwhile has to be locked.
        """
        async with self._connection(write=True, failure=failure) as connection:
            yield connection

    @asynccontextmanager
    async def _connection(
        self, *, write: bool, failure: type[AkGuardError], start: bool = True
    ) -> AsyncIterator[AsyncConnection]:
        with self._translated(failure):
            if start:
                await self.start()
            for pools in self._pools.abandoned():
                await pools.dispose()
            pools = self._pools.get()
            async with (
                asyncio.timeout(self.dialect.deadline),
                (pools.writers if write else pools.readers).begin() as it,
            ):
                yield it

    @contextmanager
    def _translated(self, failure: type[AkGuardError]) -> Iterator[None]:
        try:
            yield
        except BackendError as error:
            raise failure(str(error)) from error
        except self.dialect.errors as error:
            # The driver's text may hold parameters; only its kind is told.
            raise failure(f"the database failed ({type(error).__name__})") from error

    async def aclose(self) -> None:
        """Close every connection, also those of loops that are gone. The next use looks at the schema again."""
        self._current = False
        for pools in self._pools.drain():
            await pools.dispose()

    def _migrate(self, asked: float) -> None:
        with self._migrating:
            if self._current:
                return
            if self._failure is not None and self._failure[0] >= asked:
                # Whoever waited for an attempt that failed does not make the next one wait for another.
                raise BackendError(str(self._failure[1])) from self._failure[1]
            try:
                self._open()
            except BackendError as error:
                self._failure = (time.monotonic(), error)
                raise
            self._current, self._failure = True, None

    def _open(self) -> None:
        failures: tuple[type[Exception], ...] = (Unmigrated, *self.dialect.errors)
        self.dialect.check()
        try:
            self.dialect.migrate()
        except TypeError as error:
            options = ", ".join(sorted(self.url.query))
            if not options:
                raise
            raise ConfigurationError(
                f"backend: {self.url.get_driver_name()} does not understand one of the URL's options: {options}"
            ) from error
        except failures as error:
            raise BackendError(f"cannot open the database {self.url.database}: {_cause(error)}") from error


def _rows(engine: Engine, statement: Select[Any], values: Mapping[str, Any]) -> Sequence[Row[Any]]:
    with engine.connect() as connection:
        return connection.execute(statement, values).all()


def _dialect_of(url: URL) -> Dialect:
    # Each is imported by those who use it: their drivers are extras of their own.
    if url.get_backend_name() == "sqlite":
        from ak_guard.database.sqlite import SQLite  # noqa: PLC0415

        return SQLite(url)
    if url.get_backend_name() == "postgresql":
        from ak_guard.database.postgres import Postgres  # noqa: PLC0415

        return Postgres(url)
    from ak_guard.database.mysql import MySQL  # noqa: PLC0415

    return MySQL(url)


def _cause(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error) or type(error).__name__
