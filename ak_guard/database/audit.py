"""The audit trail in the database: entries are added with the change they tell of, and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select

from ak_guard.audit import GROUP_ACTIONS, Entered
from ak_guard.database.tables import audit

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.audit import AuditEntry, AuditFilter


async def add(connection: AsyncConnection, made: Entered) -> None:
    """Write an entry in the transaction of the change itself, so that there is never one without the other."""
    await connection.execute(insert(audit).values(**made._asdict()))


async def entries(
    connection: AsyncConnection, where: AuditFilter, *, limit: int, before: int | None
) -> list[AuditEntry]:
    """Those that match, newest first."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    equal = {audit.c.key_id: where.key_id, audit.c.actor: where.actor, audit.c.action: where.action}
    query = query.where(*[column == wanted for column, wanted in equal.items() if wanted is not None])
    if where.group is not None:
        query = query.where(audit.c.subject == where.group, audit.c.action.startswith(GROUP_ACTIONS))
    if where.since is not None:
        query = query.where(audit.c.at >= where.since)
    if where.until is not None:
        query = query.where(audit.c.at < where.until)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [_entry(row) for row in await connection.execute(query)]


def _entry(row: Row[Any]) -> AuditEntry:
    made = Entered(row.at, row.actor, row.action, row.key_id, row.subject, row.before, row.after)
    return made.numbered(row.id)
