"""Requests that created a key, so that one sent again after a lost answer makes no second one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from ak_guard.audit import ONCE_SECONDS
from ak_guard.database.tables import requests
from ak_guard.errors import BackendError, Repeated

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.audit import Once


async def enter_once(connection: AsyncConnection, once: Once, key_id: str, now: float) -> None:
    """Write down which key a request makes, with the key itself; raises `Repeated` when it was made before."""
    await connection.execute(delete(requests).where(requests.c.at < now - ONCE_SECONDS))
    made = (await connection.execute(select(requests).where(requests.c.id == once.name))).first()
    if made is not None:
        raise Repeated(made.key_id, same=made.content == once.content)
    new = insert(requests).values(id=once.name, content=once.content, key_id=key_id, at=now)
    try:
        await connection.execute(new)
    except IntegrityError:
        # Two who ask at the same moment have both seen nothing; asked again, the later one is told.
        raise BackendError("the same request is under way; ask again") from None
