"""Versions of keys and groups, so that nobody overwrites what somebody else changed meanwhile."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ak_guard.errors import Conflict

if TYPE_CHECKING:
    from ak_guard.records import ApiKey, Group


def version_of(record: ApiKey | Group) -> str:
    """A text that is the same exactly as long as every field is: 32 letters and digits."""
    content = {field.name: getattr(record, field.name) for field in fields(record)}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()[:32]


def refuse_changed(record: ApiKey | Group, version: str | None) -> None:
    """Raise `Conflict` where the record, which nobody else can change now, is of another version; None is any."""
    if version is not None and version_of(record) != version:
        raise Conflict(f"{record.name} was changed meanwhile")


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
