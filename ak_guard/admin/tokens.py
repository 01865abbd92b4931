"""Who may manage keys: admin tokens, made, listed, revoked and recognised."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ak_guard import inputs, keys
from ak_guard.audit import Note
from ak_guard.backends.tokens import KeepsTokens
from ak_guard.errors import ConfigurationError, InputError, NotFound
from ak_guard.records import checked_text
from ak_guard.tokens import MOST, PREFIX, AdminToken, checked_role, checked_secret, is_minted, may

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from ak_guard.backends.tokens import TokenStore
    from ak_guard.manager import KeyManager
    from ak_guard.tokens import Deed, Role

log: Final = logging.getLogger(__name__)

#: A token in the environment that acts as an owner.
TOKEN_VARIABLE: Final = "AK_GUARD_ADMIN_TOKEN"  # noqa: S105  # the name of a setting
#: The id of whoever shows it.
ENVIRONMENT_ID: Final = "environment"

_ID_BYTES: Final = 8
# A token's name alone may be as long as this.
_LONGEST_ACTOR: Final = 200


@dataclass(frozen=True, slots=True)
class AdminIdentity:
    """Somebody whose token was recognised."""

    id: str
    name: str
    role: Role
    expires_at: datetime | None = None

    def may(self, deed: Deed) -> bool:
        """Whether this identity may `view`, `edit` keys and groups, `own` tokens, or `serve` (ask for keys)."""
        return may(self.role, deed)

    def acting(self, through: str) -> str:
        """Under which name changes made `through` something stand in the audit trail, which cuts what is too long."""
        return f"{through}{self.name}"[:_LONGEST_ACTOR]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and its text, which exists here and nowhere else afterwards; it is not shown by `repr`."""

    token: AdminToken
    secret: str

    def __repr__(self) -> str:
        return f"IssuedToken(token={self.token!r}, secret=…)"


class AdminTokens:
    """The admin tokens in the manager's store, and the one in the environment.

    `environment` is that one's text (default: `AK_GUARD_ADMIN_TOKEN`; empty for none). Raises `ConfigurationError`,
    without the text, for one that is easily guessed. `clock` is the manager's unless another is given.
    """

    def __init__(
        self,
        manager: KeyManager,
        *,
        environment: str | None = None,
        clock: Callable[[], float] | None = None,
        actor: str = "python",
    ) -> None:
        self._manager = manager
        self._clock = clock or manager.clock
        given = os.environ.get(TOKEN_VARIABLE, "") if environment is None else environment
        self._actor = checked_text("actor", actor)
        self._environment = keys.digest(checked_secret(TOKEN_VARIABLE, given)) if given else None

    def acting_as(self, actor: str) -> AdminTokens:
        """The same tokens in somebody's name: what is changed through it stands under it in the audit trail."""
        other = copy(self)
        other._actor = checked_text("actor", actor)  # noqa: SLF001  # our own
        return other

    async def who(self, text: str | bytes) -> AdminIdentity | None:
        """Whose token is this? None for one that is unknown, revoked or over; which of these is not told.

        The same work is done for every text of a token's shape. Raises `BackendError` when the store is away.
        """
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if not 0 < len(raw) <= MOST:
            return None
        digest = keys.digest(raw)
        from_environment = hmac.compare_digest(digest, self._environment or bytes(len(digest)))
        found = await self._store.find(digest) if is_minted(raw) and self._keeps else None
        if from_environment:
            return None if await self._is_api_key(digest) else self._of_environment()
        return self._identity(found)

    async def serves(self, digest: bytes) -> bool:
        """Whether the token with this SHA-256 digest may ask the key service; see `service_app`."""
        found = self._identity(await self._store.find(digest)) if self._keeps else None
        return found is not None and found.may("serve")

    async def named(self, token_id: str) -> AdminIdentity | None:
        """The identity of a token by its id, for those who were recognised before; None when it is gone or over."""
        if token_id == ENVIRONMENT_ID:
            return self._of_environment() if self._environment else None
        try:
            return self._identity(await self._store.get(token_id))
        except NotFound:
            return None

    async def create(
        self,
        name: str,
        *,
        role: str,
        expires_at: datetime | str | None = None,
        expires_in: str | timedelta | None = None,
    ) -> IssuedToken:
        """Make a token; its text is in the answer and nowhere else. Raises `InputError` naming the field."""
        now = self._clock()
        expiry = inputs.expiry(expires_at, expires_in, now)
        if expiry is not None and expiry.timestamp() <= now:
            raise InputError("expires_at", f"{expiry.isoformat()} has passed already")
        secret = keys.mint(PREFIX)
        token = AdminToken(
            id="tok_" + secrets.token_hex(_ID_BYTES),
            name=inputs.name(name),
            role=checked_role(role),
            created_at=datetime.fromtimestamp(now, UTC),
            expires_at=expiry,
            hint=keys.hint(secret),
        )
        note = Note(self._actor, "token.create", now)
        await self._store.add(token, keys.digest(secret.encode()), note=note)
        return IssuedToken(token, secret)

    async def list(self) -> Sequence[AdminToken]:
        """All tokens in the store, also those that are over, the oldest first."""
        return await self._store.list()

    async def revoke(self, token_id: str) -> None:
        """End a token at once; raises `NotFound`."""
        await self._store.remove(token_id, note=Note(self._actor, "token.revoke", self._clock()))

    @property
    def _keeps(self) -> bool:
        return isinstance(self._manager.backend, KeepsTokens)

    @property
    def _store(self) -> TokenStore:
        backend = self._manager.backend
        if not isinstance(backend, KeepsTokens):
            raise ConfigurationError(f"backend: {type(backend).__name__} keeps no admin tokens; set {TOKEN_VARIABLE}")
        return backend.tokens

    def _identity(self, token: AdminToken | None) -> AdminIdentity | None:
        if token is None or (token.expires_at is not None and token.expires_at.timestamp() <= self._clock()):
            return None
        return AdminIdentity(token.id, token.name, token.role, token.expires_at)

    def _of_environment(self) -> AdminIdentity:
        return AdminIdentity(ENVIRONMENT_ID, TOKEN_VARIABLE, "owner")

    async def _is_api_key(self, digest: bytes) -> bool:
        """Whoever holds an API key must not manage keys with it, even if somebody chose the same text for both."""
        if await self._manager.backend.find(digest) is None:
            return False
        log.error("%s is also the text of an API key; it is refused until it is another one", TOKEN_VARIABLE)
        return True
