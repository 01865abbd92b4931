"""Service tokens: who may ask the key service. Several at once, so that they can be rotated one service at a time."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final, Protocol

from cachetools import TTLCache

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

TOKENS_VARIABLE: Final = "AK_GUARD_SERVICE_TOKENS"

_LEAST: Final = 16
_MOST: Final = 512
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
        listed = list(tokens)
        if any(not _is_token(token) for token in listed):
            raise ConfigurationError(
                f"tokens: each must have {_LEAST} to {_MOST} printable ASCII characters without blanks; "
                "32 random ones are good"
            )
        self._digests = tuple(token_digest(token.encode()) for token in listed)

    def __bool__(self) -> bool:
        return bool(self._digests)

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


def token_digest(token: bytes) -> bytes:
    """What is known of a token."""
    return hashlib.sha256(token).digest()


def bearer_token(values: Iterable[bytes]) -> bytes | None:
    """The token in the values of `Authorization`, None where there is none or more than one."""
    found = list(values)
    if len(found) != 1:
        return None
    scheme, _, token = found[0].strip(b" \t").partition(b" ")
    token = token.strip(b" \t")
    return token if scheme.lower() == b"bearer" and 0 < len(token) <= _MOST else None


def _is_token(token: object) -> bool:
    return isinstance(token, str) and _LEAST <= len(token) <= _MOST and all("!" <= letter <= "~" for letter in token)
