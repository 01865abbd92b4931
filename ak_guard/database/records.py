"""Rows as records and back: how keys and groups stand in their tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from ak_guard.database.tables import groups
from ak_guard.errors import BackendError, InputError
from ak_guard.listing import folded
from ak_guard.records import ApiKey, Group, parse_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Row

#: A group beside its key in one row.
GROUP_COLUMNS: Final = [column.label(f"group__{column.name}") for column in groups.c]


def columns_of(key: ApiKey) -> dict[str, Any]:
    """What is stored of a key beside its id."""
    return {
        "name": key.name,
        "group_name": key.group,
        "enabled": key.enabled,
        "created_at": seconds_of(key.created_at),
        "updated_at": seconds_of(key.updated_at),
        "expires_at": seconds_of(key.expires_at),
        "allow_ips": list(key.allow_ips),
        "deny_ips": list(key.deny_ips),
        "quota": key.quota,
        "limits": None if key.limits is None else [str(limit) for limit in key.limits],
        "max_concurrency": key.max_concurrency,
        "owner": key.owner,
        "metadata": dict(key.metadata),
        "hint": key.hint,
        "folded": folded(key),
        "environment": key.environment,
        "replaces": key.replaces,
        "replaced_by": key.replaced_by,
    }


def key_of(row: Row[Any]) -> ApiKey:
    """A stored row as a key. Rules that cannot be read are an outage, never a key without rules."""
    try:
        return ApiKey(
            id=row.id,
            name=row.name,
            group=row.group_name,
            enabled=row.enabled is True,
            created_at=datetime_of(row.created_at),
            updated_at=datetime_of(row.updated_at),
            expires_at=datetime_of(row.expires_at),
            allow_ips=_texts(row.allow_ips),
            deny_ips=_texts(row.deny_ips),
            quota=row.quota,
            limits=None if row.limits is None else parse_limits(_texts(row.limits)),
            max_concurrency=row.max_concurrency,
            owner=row.owner,
            metadata=row.metadata,
            hint=row.hint,
            replaces=row.replaces,
            replaced_by=row.replaced_by,
        )
    except (InputError, TypeError, ValueError, OverflowError) as error:
        raise BackendError(f"the stored rules of key {row.id} cannot be read") from error


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return tuple(cast("list[str]", value))


def group_beside(row: Row[Any]) -> Group | None:
    """The group out of `GROUP_COLUMNS`, None where none is stored."""
    prefix = "group__"
    values = {name.removeprefix(prefix): value for name, value in row._mapping.items() if name.startswith(prefix)}  # noqa: SLF001
    return None if values["name"] is None else _made(values)


def group_of(row: Row[Any]) -> Group:
    """A stored row as a group, as `key_of` does."""
    return _made(dict(row._mapping))  # noqa: SLF001  # SQLAlchemy's public name for it


def _made(row: Mapping[str, Any]) -> Group:
    try:
        return Group(
            row["name"],
            routes=_texts(row["routes"]),
            limits=_texts(row["limits"]),
            shared_limits=_texts(row["shared_limits"]),
            multiplier=row["multiplier"],
            enabled=row["enabled"] is True,
        )
    except (InputError, TypeError, ValueError) as error:
        raise BackendError(f"the stored rules of group {row['name']} cannot be read") from error


def seconds_of(moment: datetime | None) -> float | None:
    """A moment as it is stored: seconds since the epoch."""
    return None if moment is None else moment.timestamp()


def datetime_of(seconds: float | None) -> datetime | None:
    """A stored moment."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
