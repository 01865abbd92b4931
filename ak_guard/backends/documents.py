"""Keys, groups and changes as JSON, the same on both ends of the key service: `admin/protocol.md` tells each member.

What is read here comes from another process, perhaps from a service in another language. A member that decides who is
let in must be there and must be of its kind, so that a misspelt rule is an outage and never a key without that rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from ak_guard.backends.base import Found
from ak_guard.errors import BackendError
from ak_guard.news import Entry, News, Report, Roll
from ak_guard.records import ApiKey, Group, parse_limits

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: The version of the protocol. It is raised when a member that a guard must heed is added.
VERSION: Final = 1


def found_document(found: Found | None) -> dict[str, Any]:
    """The answer to a look-up; `key` is None where nobody holds the secret."""
    if found is None:
        return {"key": None, "group": None, "valid_until": None}
    return {
        "key": key_document(found.key),
        "group": None if found.group is None else group_document(found.group),
        "valid_until": found.valid_until,
    }


def key_document(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "group": key.group,
        "enabled": key.enabled,
        "created_at": _text(key.created_at),
        "updated_at": _text(key.updated_at),
        "expires_at": _text(key.expires_at),
        "allow_ips": list(key.allow_ips),
        "deny_ips": list(key.deny_ips),
        "quota": key.quota,
        "limits": None if key.limits is None else [str(limit) for limit in key.limits],
        "owner": key.owner,
        "metadata": dict(key.metadata),
        "hint": key.hint,
        "replaces": key.replaces,
        "replaced_by": key.replaced_by,
        "max_concurrency": key.max_concurrency,
    }


def group_document(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "enabled": group.enabled,
        "routes": list(group.routes),
        "limits": [str(limit) for limit in group.limits],
        "shared_limits": [str(limit) for limit in group.shared_limits],
        "multiplier": str(group.multiplier),
    }


def found_from(document: object) -> Found | None:
    """Read the answer to a look-up. Raises `BackendError` for one that cannot be understood."""
    try:
        answer = _mapping(document)
        if answer["key"] is None:
            return None
        group = answer.get("group")
        return Found(
            key_from(_mapping(answer["key"])),
            None if group is None else group_from(_mapping(group)),
            _optional(answer.get("valid_until"), _number),
        )
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise _unreadable(error) from error


def key_from(document: Mapping[str, Any]) -> ApiKey:
    """Read a key. Raises `LookupError`, `TypeError` or `ValueError`."""
    limits = _optional(document["limits"], _texts)
    return ApiKey(
        id=_str(document["id"]),
        name=_str(document.get("name", document["id"])),
        group=_str(document["group"]),
        enabled=_bool(document["enabled"]),
        created_at=_optional(document.get("created_at"), _moment),
        updated_at=_optional(document.get("updated_at"), _moment),
        expires_at=_optional(document["expires_at"], _moment),
        allow_ips=_texts(document["allow_ips"]),
        deny_ips=_texts(document["deny_ips"]),
        quota=_optional(document["quota"], _whole),
        limits=None if limits is None else parse_limits(limits),
        owner=_optional(document.get("owner"), _str),
        metadata=_mapping(document.get("metadata", {})),
        hint=_str(document.get("hint", "")),
        replaces=_optional(document.get("replaces"), _str),
        replaced_by=_optional(document.get("replaced_by"), _str),
        max_concurrency=_optional(document["max_concurrency"], _whole),
    )


def group_from(document: Mapping[str, Any]) -> Group:
    """Read a group. Raises `LookupError`, `TypeError` or `ValueError`."""
    return Group(
        _str(document["name"]),
        routes=_texts(document["routes"]),
        limits=_texts(document["limits"]),
        shared_limits=_texts(document["shared_limits"]),
        multiplier=_str(document["multiplier"]),
        enabled=_bool(document["enabled"]),
    )


def news_document(news: News) -> dict[str, Any]:
    return {
        "revision": news.revision,
        "keys": [key_id for key_id in news.key_ids if key_id is not None],
        "all": None in news.key_ids,
    }


def news_from(document: object) -> News:
    """Read what changed. Raises `BackendError` for what cannot be understood."""
    try:
        news = _mapping(document)
        keys: tuple[str | None, ...] = _texts(news["keys"])
        return News(_whole(news["revision"]), (None,) if _bool(news["all"]) else keys)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise _unreadable(error) from error


def revision_from(document: object) -> int:
    """Read from where a worker follows. Raises `BackendError` for what cannot be understood."""
    try:
        return _whole(_mapping(document)["revision"])
    except (LookupError, TypeError) as error:
        raise _unreadable(error) from error


def report_document(report: Report) -> dict[str, Any]:
    return {**report._asdict(), "counters": report.counters.splitlines()}


def report_from(document: Mapping[str, Any]) -> Report:
    """What a worker says of itself, from a document that was checked."""
    return Report(**{**document, "counters": "\n".join(document["counters"])})


def roll_document(roll: Roll) -> dict[str, Any]:
    workers = [
        {
            "id": entry.id,
            "name": entry.name,
            "started_at": entry.started_at,
            "seen_at": entry.beat_at,
            "stale_seconds": entry.stale_seconds,
            "counters": entry.counters.splitlines(),
            "revision": entry.revision,
        }
        for entry in roll.entries
    ]
    return {"revision": roll.revision, "now": roll.now, "workers": workers}


def roll_from(document: object) -> Roll:
    """Read who follows. Raises `BackendError` for what cannot be understood."""
    try:
        roll = _mapping(document)
        entries = [
            Entry(
                _str(worker["id"]),
                _str(worker["name"]),
                _number(worker["started_at"]),
                _number(worker["seen_at"]),
                _whole(worker["revision"]),
                _number(worker["stale_seconds"]),
                "\n".join(_texts(worker["counters"])),
            )
            for worker in map(_mapping, _list(roll["workers"]))
        ]
        return Roll(_whole(roll["revision"]), _number(roll["now"]), entries)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
        raise _unreadable(error) from error


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_str(value))
    if moment.tzinfo is None:
        raise ValueError("a time without its zone")
    return moment.astimezone(UTC)


def _optional(value: object, read: Callable[[object], T]) -> T | None:
    return None if value is None else read(value)


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("no whole number from 0 up")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError("no number")
    return float(value)


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return cast("list[object]", value)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(_str(entry) for entry in _list(value))


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError("no object")
    return cast("Mapping[str, Any]", value)


def _unreadable(error: Exception) -> BackendError:
    # The answer itself may hold what nobody should read in a log.
    told = f"{error} is missing" if isinstance(error, KeyError) else type(error).__name__
    return BackendError(f"the key service gave an answer that cannot be read ({told})")
