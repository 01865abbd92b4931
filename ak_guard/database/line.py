"""A connection of the change feed's own, so that it waits for no pool that requests have used up."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from ak_guard.database.changes import CHANNEL, news_after
from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.database.engine import Database
    from ak_guard.news import News

_DATA_VERSION: Final = text("PRAGMA data_version")


class Line:
    """Asks one database what changed; `wake` is called where the database itself tells (PostgreSQL).

    Each question is a transaction of its own. Whatever fails raises `BackendError`; after it `close` and ask again.
    """

    def __init__(self, database: Database, wake: Callable[[], None]) -> None:
        self._database = database
        self._wake = wake
        self._connection: AsyncConnection | None = None
        self._seen_version: int | None = None

    async def news_after(self, applied: int) -> News | None:
        """What was committed after the revision `applied`; None where nobody has written anything at all."""
        try:
            connection = self._connection or await self._open()
            version = None
            if connection.dialect.name == "sqlite":
                # Told from the file's header: while nobody writes, nothing is read.
                version = (await connection.execute(_DATA_VERSION)).scalar_one()
                if version == self._seen_version:
                    return None
            news = await news_after(connection, applied)
        except Exception as error:
            # A driver's own errors come through here beside SQLAlchemy's, and each means that the store is away.
            raise BackendError(f"changes cannot be read ({type(error).__name__})") from error
        self._seen_version = version
        return news

    async def _open(self) -> AsyncConnection:
        connection = self._connection = await self._database.dialect.line().connect()
        if connection.dialect.name == "postgresql":
            raw = (await connection.get_raw_connection()).driver_connection
            await raw.add_listener(CHANNEL, lambda *_: self._wake())  # type: ignore[union-attr]  # asyncpg's own
        return connection

    async def close(self) -> None:
        """Hang up. A line that is broken is dropped."""
        connection, self._connection, self._seen_version = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                await connection.close()
