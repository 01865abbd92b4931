"""Admin tokens: what people and services show who manage keys or ask for them. They are no API keys and open no app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from ak_guard import keys
from ak_guard.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from datetime import datetime

#: How every admin token begins; no API key is minted with it.
PREFIX: Final = "akadm"
#: The longest that is looked at, in bytes.
MOST: Final = 512
_LEAST: Final = 16
_LEAST_DIFFERENT: Final = 6

Role = Literal["viewer", "editor", "owner", "service"]
Deed = Literal["view", "edit", "own", "serve"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)

_DEEDS: Final[dict[Role, frozenset[Deed]]] = {
    "viewer": frozenset({"view"}),
    "editor": frozenset({"view", "edit"}),
    "owner": frozenset({"view", "edit", "own"}),
    "service": frozenset({"serve"}),
}


@dataclass(frozen=True, slots=True)
class AdminToken:
    """A token as it is stored beside its digest. The text itself is nowhere in here; `hint` is for people.

    A viewer sees everything, an editor changes keys and groups, an owner changes tokens too. A service asks the key
    service who holds a key, and may do nothing else.
    """

    id: str
    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None = None
    hint: str = ""


def may(role: Role, deed: Deed) -> bool:
    """Whether somebody in this role may `view`, `edit` keys and groups, `own` tokens, or `serve` (ask for keys)."""
    return deed in _DEEDS[role]


def checked_role(value: object) -> Role:
    """Return `value` when it is a role; raises `InputError` naming `role`."""
    for role in ROLES:
        if role == value:
            return role
    raise InputError("role", f"{value!r} must be one of {', '.join(ROLES)}")


def checked_secret(setting: str, text: object) -> bytes:
    """A secret that somebody chose, as bytes; raises `ConfigurationError`, without the text, for a bad one."""
    good = (
        isinstance(text, str)
        and all("!" <= letter <= "~" for letter in text)
        and _LEAST <= len(text) <= MOST
        and len(set(text)) >= _LEAST_DIFFERENT
    )
    if not good:
        raise ConfigurationError(
            f"{setting}: must have {_LEAST} to {MOST} printable ASCII characters without blanks, not all alike; "
            "32 random ones are good"
        )
    return str(text).encode()


def is_minted(text: bytes) -> bool:
    """Whether this could be the text of an admin token that was made here: shape, prefix and checksum."""
    return text.startswith(PREFIX.encode() + b"_") and keys.is_minted_shape(text) and keys.is_well_formed(text)
