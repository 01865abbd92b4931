"""Admin tokens in the database, under the pepper where there is one."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from ak_guard.audit import made_token, revoked_token
from ak_guard.database import audit as trail
from ak_guard.database.tables import admin_tokens
from ak_guard.errors import BackendError, NotFound
from ak_guard.tokens import AdminToken, checked_role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy import Row

    from ak_guard.audit import Note
    from ak_guard.database.engine import Database


class SQLTokens:
    """The tokens of a database. `stored` says how a digest may stand in it, the newest pepper first.

    `renew` moves a digest that was found under an older pepper, or under none, to the newest.
    """

    def __init__(
        self,
        database: Database,
        stored: Callable[[bytes], Sequence[tuple[str | None, bytes]]],
        renew: Callable[[bytes, bytes], Awaitable[None]],
    ) -> None:
        self._database = database
        self._stored = stored
        self._renew = renew

    async def find(self, digest: bytes) -> AdminToken | None:
        stored = self._stored(digest)
        query = select(admin_tokens).where(admin_tokens.c.digest.in_([value for _, value in stored]))
        async with self._database.read(BackendError) as connection:
            found = (await connection.execute(query)).all()
        for row in found:
            if hmac.compare_digest(row.digest, dict(stored).get(row.pepper_id, b"")):
                if row.pepper_id != stored[0][0]:
                    await self._renew(row.digest, digest)
                return _token(row)
        return None

    async def get(self, token_id: str) -> AdminToken:
        async with self._database.read(BackendError) as connection:
            found = await connection.execute(select(admin_tokens).where(admin_tokens.c.id == token_id))
            row = found.first()
        if row is None:
            raise NotFound("no admin token has this id")
        return _token(row)

    async def list(self) -> list[AdminToken]:
        query = select(admin_tokens).order_by(admin_tokens.c.created_at, admin_tokens.c.id)
        async with self._database.read(BackendError) as connection:
            return [_token(row) for row in await connection.execute(query)]

    async def add(self, token: AdminToken, digest: bytes, *, note: Note) -> None:
        pepper_id, stored = self._stored(digest)[0]
        values = {
            "id": token.id,
            "name": token.name,
            "role": token.role,
            "hint": token.hint,
            "digest": stored,
            "pepper_id": pepper_id,
            "created_at": token.created_at.timestamp(),
            "expires_at": None if token.expires_at is None else token.expires_at.timestamp(),
        }
        async with self._database.write(BackendError) as connection:
            await connection.execute(insert(admin_tokens).values(values))
            await trail.add(connection, made_token(note, token))

    async def remove(self, token_id: str, *, note: Note) -> None:
        mine = admin_tokens.c.id == token_id
        async with self._database.write(BackendError) as connection:
            row = (await connection.execute(select(admin_tokens).where(mine).with_for_update())).first()
            if row is None:
                raise NotFound("no admin token has this id")
            await connection.execute(delete(admin_tokens).where(mine))
            await trail.add(connection, revoked_token(note, _token(row)))


def _token(row: Row[Any]) -> AdminToken:
    """A stored row as a token. One that cannot be read is an outage, never a token without end."""
    try:
        return AdminToken(
            id=row.id,
            name=row.name,
            role=checked_role(row.role),
            created_at=datetime.fromtimestamp(row.created_at, UTC),
            expires_at=None if row.expires_at is None else datetime.fromtimestamp(row.expires_at, UTC),
            hint=row.hint,
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise BackendError(f"the stored admin token {row.id} cannot be read") from error
