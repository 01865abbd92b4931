"""Secrets of the service that digests are stored under, so that a stolen database alone proves nobody's key."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import TYPE_CHECKING, Final

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

_LEAST: Final = 16


class Peppers:
    """One secret or several, newest first; None reads `AK_GUARD_PEPPER`, commas between.

    Raises `ConfigurationError`, without the text, for one that is too short or given twice.
    """

    def __init__(self, given: str | Iterable[str] | None) -> None:
        if given is None:
            given = _outside()
        peppers = [given] if isinstance(given, str) else list(given)
        if len(set(peppers)) < len(peppers):
            raise ConfigurationError("pepper: the same one is given twice; name each once, the newest first")
        if any(len(part) < _LEAST for part in peppers):
            raise ConfigurationError(f"pepper: each must have at least {_LEAST} characters; 32 random ones are good")
        self._peppers = [(_name(part), part.encode()) for part in peppers]

    def __bool__(self) -> bool:
        return bool(self._peppers)

    @property
    def newest(self) -> str | None:
        """The name of the one that new digests are stored under, None for none."""
        return self._peppers[0][0] if self._peppers else None

    def stored(self, digest: bytes) -> list[tuple[str | None, bytes]]:
        """How the digest may stand in a table: under each pepper, newest first, and under none."""
        under = [(name, hmac.digest(pepper, digest, "sha256")) for name, pepper in self._peppers]
        return [*under, (None, digest)]


def _outside() -> list[str]:
    text = os.environ.get("AK_GUARD_PEPPER", "")
    parts = [part.strip() for part in text.split(",")]
    if text.strip() and not all(parts):
        raise ConfigurationError("pepper: there is nothing before or behind a comma in AK_GUARD_PEPPER")
    return [part for part in parts if part]


def _name(pepper: str) -> str:
    return hashlib.sha256(b"ak_guard pepper id\0" + pepper.encode()).hexdigest()[:16]
