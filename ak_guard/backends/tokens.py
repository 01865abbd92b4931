"""Admin tokens beside the keys: what a store of them does, and the one that lives in the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ak_guard.audit import made_token, revoked_token
from ak_guard.errors import NotFound

if TYPE_CHECKING:
    from ak_guard.audit import Note, Trail
    from ak_guard.tokens import AdminToken


class TokenStore(Protocol):
    """Where admin tokens are kept, by the SHA-256 digest of their text."""

    async def find(self, digest: bytes) -> AdminToken | None:
        """Whose digest is it? None when it is nobody's. Raises `BackendError` when the store cannot be reached."""
        ...

    async def get(self, token_id: str) -> AdminToken:
        """The token with this id; raises `NotFound`."""
        ...

    async def list(self) -> list[AdminToken]:
        """All of them, the oldest first."""
        ...

    async def add(self, token: AdminToken, digest: bytes, *, note: Note) -> None:
        """Keep a token, and enter it in the audit trail."""
        ...

    async def remove(self, token_id: str, *, note: Note) -> None:
        """Forget a token, and enter it in the audit trail; raises `NotFound`."""
        ...


@runtime_checkable
class KeepsTokens(Protocol):
    """A backend that keeps admin tokens beside its keys."""

    @property
    def tokens(self) -> TokenStore:
        """Where they are."""
        ...


class MemoryTokens:
    """Admin tokens that are gone with the process."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._held: dict[bytes, AdminToken] = {}

    async def find(self, digest: bytes) -> AdminToken | None:
        return self._held.get(digest)

    async def get(self, token_id: str) -> AdminToken:
        for token in self._held.values():
            if token.id == token_id:
                return token
        raise NotFound("no admin token has this id")

    async def list(self) -> list[AdminToken]:
        return list(self._held.values())

    async def add(self, token: AdminToken, digest: bytes, *, note: Note) -> None:
        self._held[digest] = token
        self._trail.add(made_token(note, token))

    async def remove(self, token_id: str, *, note: Note) -> None:
        gone = await self.get(token_id)
        self._trail.add(revoked_token(note, gone))
        self._held = {digest: token for digest, token in self._held.items() if token is not gone}
