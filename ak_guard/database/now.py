"""What time it is in the store, for those who share it and whose own clocks differ."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_QUERIES: Final = {
    "postgresql": text("SELECT extract(epoch FROM clock_timestamp())"),
    "mysql": text("SELECT unix_timestamp(sysdate(6))"),
    "mariadb": text("SELECT unix_timestamp(sysdate(6))"),
}


async def store_now(connection: AsyncConnection) -> float:
    """Seconds since the epoch by the store's clock. A SQLite file has that of its machine, which is also ours."""
    query = _QUERIES.get(connection.dialect.name)
    return time.time() if query is None else float((await connection.execute(query)).scalar_one())
