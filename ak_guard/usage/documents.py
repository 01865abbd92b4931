"""Records as JSON, the same on both ends of the key service: `admin/protocol.md` tells each member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ak_guard.usage.records import UsageRecord, bounded

if TYPE_CHECKING:
    from collections.abc import Mapping


def record_document(record: UsageRecord) -> dict[str, Any]:
    # Callers choose their methods and paths: not everything in them can be sent.
    document = bounded(record)._asdict()
    # The store that keeps it gives it an id of its own.
    del document["id"]
    return document


def record_from(document: Mapping[str, Any]) -> UsageRecord:
    """A record of a document that was checked."""
    return UsageRecord(**document)
