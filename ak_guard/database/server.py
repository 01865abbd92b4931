"""What databases behind a socket have in common: small pools, short patience, drivers that only know asyncio."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from ak_guard.database.dialects import Dialect
from ak_guard.database.migrate import is_current

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

CONNECT_SECONDS: Final = 2.0
#: The longest wait for a lock, and a pause within a transaction after which the server ends it for its locks' sake.
LOCK_SECONDS: Final = 2
PAUSE_SECONDS: Final = 5
_MIGRATION_SECONDS: Final = 30.0
# Of each event loop. A worker's budgets need one writer; the others are for administrators and the change feed.
_READERS: Final = 4
_WRITERS: Final = 3


class Server(Dialect):
    """A database that several machines share."""

    deadline: ClassVar[float | None] = 3.0
    bound: ClassVar[bool] = True

    @abstractmethod
    def connect_args(self, *, patient: bool) -> dict[str, Any]:
        """What the driver is told about patience; a migration is `patient`."""

    @abstractmethod
    async def migrate_alone(self, connection: AsyncConnection) -> None:
        """Bring the schema up to date, while other starters wait."""

    def readers(self) -> AsyncEngine:
        return self._pool(_READERS, "REPEATABLE READ")

    def writers(self) -> AsyncEngine:
        # What is read after a lock was waited for must be what the one who held it has written.
        return self._pool(_WRITERS, "READ COMMITTED")

    def line(self) -> AsyncEngine:
        return self._engine("AUTOCOMMIT", patient=False)

    def migrate(self) -> None:
        asyncio.run(self._migrate())

    async def _migrate(self) -> None:
        engine = self._engine("READ COMMITTED", patient=True)
        async with asyncio.timeout(self.deadline):
            connection = await engine.connect()
            current = await connection.run_sync(is_current)
            await connection.rollback()
        try:
            if not current:
                async with asyncio.timeout(_MIGRATION_SECONDS):
                    await self.migrate_alone(connection)
        finally:
            await connection.close()

    def _pool(self, size: int, isolation: Any) -> AsyncEngine:
        return create_async_engine(
            self.url,
            pool_size=size,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            # Connections that a restarted server or a firewall has ended are replaced before anybody meets them.
            pool_pre_ping=True,
            isolation_level=isolation,
            connect_args=self.connect_args(patient=False),
            hide_parameters=True,
        )

    def _engine(self, isolation: Any, *, patient: bool) -> AsyncEngine:
        arguments = self.connect_args(patient=patient)
        return create_async_engine(
            self.url, poolclass=NullPool, isolation_level=isolation, connect_args=arguments, hide_parameters=True
        )
