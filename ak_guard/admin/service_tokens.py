"""Service tokens: who may ask the key service. Several at once, so that they can be rotated one service at a time."""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING, Final, Protocol

from cachetools import TTLCache

from ak_guard import keys
from ak_guard.errors import ConfigurationError
from ak_guard.tokens import MOST, checked_secret

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKENS_VARIABLE: Final = "AK_GUARD_SERVICE_TOKENS"

# A token that was revoked is good for so long at most.
_REMEMBERED_SECONDS: Final = 1.0
_REMEMBERED: Final = 1_024


class TokenCheck(Protocol):
    """Says whether a token is good. Told is only the SHA-256 of its text."""

    async def __call__(self, digest: bytes, /) -> bool: ...


class ServiceTokens:
    """Tokens from a setting, newest first; None reads `AK_GUARD_SERVICE_TOKENS`, separated by commas.

    Kept and compared as digests. Raises `ConfigurationError`, without the text, for one that is easily guessed.
    """

    def __init__(self, tokens: Iterable[str] | None) -> None:
        if isinstance(tokens, str):
            raise ConfigurationError("tokens: must be a list of texts, such as [token]")
        if tokens is None:
            tokens = [part.strip() for part in os.environ.get(TOKENS_VARIABLE, "").split(",") if part.strip()]
        self._digests = tuple(keys.digest(checked_secret("tokens", token)) for token in tokens)

    async def __call__(self, digest: bytes) -> bool:
        # All are compared, whichever it is.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


class Remembered:
    """Another check, asked about the same good token once a second at most."""

    def __init__(self, check: TokenCheck) -> None:
        self._check = check
        self._good: TTLCache[bytes, None] = TTLCache(_REMEMBERED, _REMEMBERED_SECONDS)

    async def __call__(self, digest: bytes) -> bool:
        if digest in self._good:
            return True
        good = await self._check(digest)
        if good:
            self._good[digest] = None
        return good


def bearer_token(values: Iterable[bytes]) -> bytes | None:
    """The token in the values of `Authorization`, None where there is none or more than one."""
    found = list(values)
    if len(found) != 1:
        return None
    scheme, _, token = found[0].strip(b" \t").partition(b" ")
    token = token.strip(b" \t")
    return token if scheme.lower() == b"bearer" and 0 < len(token) <= MOST else None
