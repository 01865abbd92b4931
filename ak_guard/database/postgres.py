"""PostgreSQL, through asyncpg."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from asyncpg import InterfaceError, PostgresError  # type: ignore[import-untyped]
from sqlalchemy import BigInteger, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, insert

from ak_guard.database.dialects import merging, replacing
from ak_guard.database.migrate import upgrade
from ak_guard.database.server import CONNECT_SECONDS, LOCK_SECONDS, PAUSE_SECONDS, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.engine import URL
    from sqlalchemy.ext.asyncio import AsyncConnection
    from sqlalchemy.sql.dml import Insert

# Taken in the order of the array, each until the transaction ends.
_LOCK: Final = text("SELECT pg_advisory_xact_lock(number) FROM unnest(:numbers) AS number").bindparams(
    bindparam("numbers", type_=ARRAY(BigInteger))
)
_MIGRATION: Final = "migration"


class Postgres(Server):
    """A subject is locked by its number, so that one without any row can be locked too.

    Behind a pooler that refuses start-up parameters, let it ignore `statement_timeout`, `lock_timeout` and
    `idle_in_transaction_session_timeout`.
    """

    errors: tuple[type[Exception], ...] = (*Server.errors, PostgresError, InterfaceError)

    def __init__(self, url: URL) -> None:
        query = dict(url.query)
        if "sslmode" in query and "ssl" not in query:
            # What libpq calls sslmode, asyncpg calls ssl.
            query["ssl"] = query.pop("sslmode")
        super().__init__(url.set(query=query))

    def check(self) -> None:
        """Nothing to see from here."""

    def connect_args(self, *, patient: bool) -> dict[str, Any]:
        settings = {"application_name": "ak_guard", "idle_in_transaction_session_timeout": f"{PAUSE_SECONDS}s"}
        if not patient:
            settings |= {"lock_timeout": f"{LOCK_SECONDS}s", "statement_timeout": f"{LOCK_SECONDS}s"}
        return {"timeout": CONNECT_SECONDS, "server_settings": settings}

    async def migrate_alone(self, connection: AsyncConnection) -> None:
        async with connection.begin():
            await connection.execute(_LOCK, {"numbers": [_number(_MIGRATION)]})
            await connection.run_sync(upgrade)

    async def lock(self, connection: AsyncConnection, subjects: Sequence[str], now: float) -> None:  # noqa: ARG002
        # Two subjects with one number only wait for each other.
        await connection.execute(_LOCK, {"numbers": sorted({_number(f"subject {subject}") for subject in subjects})})

    def upsert(self, table: Table) -> Insert:
        upsert: Insert = replacing(insert(table), table)
        return upsert

    def merge(self, table: Table, merged: Callable[[Any], dict[str, Any]]) -> Insert:
        merge: Insert = merging(insert(table), table, merged)
        return merge


def _number(name: str) -> int:
    return int.from_bytes(blake2b(f"ak_guard {name}".encode(), digest_size=8).digest(), signed=True)
