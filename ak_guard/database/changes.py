"""The revision of what administrators keep, and which change each revision was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, insert, select, text, update

from ak_guard.database.now import store_now
from ak_guard.database.tables import changes, revision
from ak_guard.news import News

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

#: Where PostgreSQL tells that a change was committed.
CHANNEL: Final = "ak_changes"

# Changes are kept for both so long and so many; whoever is further behind drops all that it remembers.
_KEPT_SECONDS: Final = 600.0
_KEPT: Final = 10_000
# Every so many changes, old ones are removed, at most this many: no administrator waits for a long clean-up.
_PRUNE_EVERY: Final = 100
_PRUNE_BATCH: Final = 500
# More at once are not read one by one.
_READ_AT_MOST: Final = 1_000


async def current_revision(connection: AsyncConnection) -> int:
    """The newest revision that this transaction sees."""
    found: int = (await connection.execute(select(revision.c.revision).where(revision.c.id == 1))).scalar_one()
    return found


async def announce(connection: AsyncConnection, key_id: str | None) -> None:
    """End an admin transaction with its revision and its change: of one key, or with None of what many share.

    Nothing may follow in the transaction: from here on it holds the lock that every other administrator waits for.
    """
    now = await store_now(connection)
    await connection.execute(update(revision).where(revision.c.id == 1).values(revision=revision.c.revision + 1))
    new = await current_revision(connection)
    await connection.execute(insert(changes).values(revision=new, key_id=key_id, at=now))
    if new % _PRUNE_EVERY == 0:
        await _prune(connection, new, now)
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"NOTIFY {CHANNEL}"))


async def _prune(connection: AsyncConnection, newest: int, now: float) -> None:
    oldest = (await connection.execute(select(func.min(changes.c.revision)))).scalar_one()
    below = min(newest - _KEPT, oldest + _PRUNE_BATCH)
    old = delete(changes).where(changes.c.revision < below, changes.c.at < now - _KEPT_SECONDS)
    await connection.execute(old)


async def news_after(connection: AsyncConnection, applied: int) -> News:
    """What was committed after the revision `applied`."""
    # One statement, so that the newest revision and the changes up to it belong to one state of the store.
    query = (
        select(revision.c.revision, changes.c.revision.label("at"), changes.c.key_id)
        .select_from(revision.outerjoin(changes, changes.c.revision > applied))
        .where(revision.c.id == 1)
        .order_by(changes.c.revision)
        .limit(_READ_AT_MOST)
    )
    found = (await connection.execute(query)).all()
    newest: int = found[0].revision
    if newest == applied:
        return News(newest, ())
    # A gap is the pruned tail; a revision that went back is another database, such as one from a backup.
    whole = [row.at for row in found] == list(range(applied + 1, newest + 1))
    ids = dict.fromkeys(row.key_id for row in found)
    return News(newest, tuple(ids) if whole and None not in ids else (None,))
