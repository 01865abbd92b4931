"""Who changed what, when, and how it was before: the words of the audit trail. No secret and no digest is in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import count, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ak_guard.records import ApiKey, Group

if TYPE_CHECKING:
    from ak_guard.tokens import AdminToken

#: How the actions begin that are done to groups.
GROUP_ACTIONS: Final = "group."

#: So long a request to create a key is known again.
ONCE_SECONDS: Final = 86_400

# A process keeps so many in memory.
_KEPT: Final = 10_000
# Times that each change moves tell nothing that the entry does not say itself.
_LEFT_OUT: Final = frozenset({"id", "created_at", "updated_at", "replaced_by"})
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Once(NamedTuple):
    """What tells a request to create a key that comes again: its name, and what it asks for, both as digests in hex."""

    name: str
    content: str


class Note(NamedTuple):
    """Who makes a change, as which action (`key.disable`) and when, in seconds since the epoch.

    Handed to a backend with each change, so that both are written in one transaction; what it was before and after, the
    backend adds. `about` is what no field of the record says, such as until when an old secret is good.

    The change is made only where the record is still of this `version` (see `ak_guard.versions`; None: of any), and
    the key of a request only `once`.
    """

    actor: str
    action: str
    at: float
    about: Mapping[str, Any] = _NOTHING
    version: str | None = None
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `subject` is the name of the key or group as it was then; `id` grows with each entry.

    `before` and `after` hold the fields that changed, or all of them where something began or ended.
    """

    id: int
    at: datetime
    actor: str
    action: str
    key_id: str | None
    subject: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


class AuditFilter(NamedTuple):
    """Which entries to list, all conditions together. `since` and `until` are seconds since the epoch."""

    key_id: str | None = None
    group: str | None = None
    actor: str | None = None
    action: str | None = None
    since: float | None = None
    until: float | None = None


class Entered(NamedTuple):
    """An entry that has no number yet."""

    at: float
    actor: str
    action: str
    key_id: str | None
    subject: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]

    def numbered(self, number: int) -> AuditEntry:
        return AuditEntry(number, datetime.fromtimestamp(self.at, UTC), *self[1:])


def entered(note: Note, before: ApiKey | Group | None, after: ApiKey | Group | None) -> Entered:
    """The entry for a record that was created (`before` is None), changed, or deleted (`after` is None)."""
    record = after or before
    assert record is not None, "a change is one of something"  # noqa: S101  # told to the type checker
    was, became = _fields(before), _fields(after)
    if before is not None and after is not None:
        changed = [name for name in became if was.get(name) != became[name]]
        was, became = ({name: of[name] for name in changed} for of in (was, became))
    key_id = record.id if isinstance(record, ApiKey) else None
    return Entered(note.at, note.actor, note.action, key_id, record.name, was, {**became, **note.about})


def made_token(note: Note, token: AdminToken) -> Entered:
    """The entry for an admin token that was made."""
    return Entered(note.at, note.actor, note.action, None, token.name, {}, _token(token))


def revoked_token(note: Note, token: AdminToken) -> Entered:
    """The entry for an admin token that was revoked."""
    return Entered(note.at, note.actor, note.action, None, token.name, _token(token), {})


def _token(token: AdminToken) -> dict[str, Any]:
    return {"id": token.id, "role": token.role, "expires_at": _plain(token.expires_at), "hint": token.hint}


def _fields(record: ApiKey | Group | None) -> dict[str, Any]:
    if record is None:
        return {}
    named = [field.name for field in fields(record) if field.name not in _LEFT_OUT]
    return {name: _plain(getattr(record, name)) for name in named}


def _plain(value: Any) -> Any:
    """As JSON can hold it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return [_plain(one) for one in value] if isinstance(value, tuple) else str(value)


class Trail:
    """The entries of one process, the newest `_KEPT` of them."""

    def __init__(self) -> None:
        self._entries: deque[AuditEntry] = deque(maxlen=_KEPT)
        self._numbers = count(1)

    def add(self, made: Entered) -> None:
        self._entries.append(made.numbered(next(self._numbers)))

    def list(self, where: AuditFilter, *, limit: int, before: int | None) -> list[AuditEntry]:
        """Those that match, newest first."""
        older = (entry for entry in reversed(self._entries) if before is None or entry.id < before)
        return list(islice((entry for entry in older if _matches(entry, where)), limit))


def _matches(entry: AuditEntry, where: AuditFilter) -> bool:
    at = entry.at.timestamp()
    return (
        (where.key_id is None or entry.key_id == where.key_id)
        and (where.group is None or (entry.action.startswith(GROUP_ACTIONS) and entry.subject == where.group))
        and (where.actor is None or entry.actor == where.actor)
        and (where.action is None or entry.action == where.action)
        and (where.since is None or at >= where.since)
        and (where.until is None or at < where.until)
    )
