"""The rows of running workers: who guards with this database, and how far each has followed the changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, or_, select, update

from ak_guard.database.changes import current_revision
from ak_guard.database.now import store_now
from ak_guard.database.tables import workers
from ak_guard.news import Entry, Roll

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

# Whoever was killed leaves a row behind. It is of interest while its worker might be alive, and a while longer.
_SWEPT_AFTER: Final = 3_600.0


async def enter(connection: AsyncConnection, worker_id: str, report: dict[str, Any]) -> int:
    """Add a row for a worker; returns the newest revision, which is the worker's where `report` names none."""
    now = await store_now(connection)
    dead = workers.c.beat_at + workers.c.stale_seconds < now - _SWEPT_AFTER
    # Its own row is there already where a first attempt was made and only its answer was lost.
    await connection.execute(delete(workers).where(or_(dead, workers.c.id == worker_id)))
    newest = await current_revision(connection)
    row = {"id": worker_id, "started_at": now, "beat_at": now, "revision": newest, **report}
    await connection.execute(insert(workers).values(row))
    return newest


async def beat(connection: AsyncConnection, worker_id: str, report: dict[str, Any]) -> bool:
    """Say that a worker lives and how far it is; False where its row was swept away."""
    now = await store_now(connection)
    mine = update(workers).where(workers.c.id == worker_id).values(beat_at=now, **report)
    return bool((await connection.execute(mine)).rowcount)


async def leave(connection: AsyncConnection, worker_id: str) -> None:
    """Remove the row of a worker that ends."""
    await connection.execute(delete(workers).where(workers.c.id == worker_id))


async def roll(connection: AsyncConnection) -> Roll:
    """Everybody, the longest running first."""
    rows = (await connection.execute(select(workers).order_by(workers.c.started_at, workers.c.id))).all()
    entries = [Entry(**row._mapping) for row in rows]  # noqa: SLF001  # SQLAlchemy's public name for it
    return Roll(await current_revision(connection), await store_now(connection), entries)
