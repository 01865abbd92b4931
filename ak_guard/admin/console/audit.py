"""The audit trail of everything: who changed what, filtered, page by page, and as a file."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import Response, StreamingResponse

from ak_guard import documents
from ak_guard.admin.console.history import action_words, entry_of
from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ak_guard.admin.console.visit import Visit
    from ak_guard.audit import AuditEntry

PAGE_SIZE: Final = 50
_EXPORTED_AT_ONCE: Final = 500
# The number of an entry; what has more digits than any of them is no place in the list.
_ENTRY: Final = re.compile(r"[0-9]{1,15}")

ACTIONS: Final = (
    "key.create",
    "key.update",
    "key.enable",
    "key.disable",
    "key.rotate",
    "key.reset",
    "key.delete",
    "group.create",
    "group.update",
    "key.leak",
    "group.delete",
    "token.create",
    "token.revoke",
)


async def show(visit: Visit) -> Response:
    """One page of changes, newest first."""
    before = visit.asked("before")
    action, actor = visit.asked("action"), visit.asked("who")
    kept = {"action": action, "who": actor}
    try:
        entries = await _entries(visit, before=int(before) if _ENTRY.fullmatch(before) else None, limit=PAGE_SIZE + 1)
    except ConfigurationError:
        entries = None
    shown = None if entries is None else [entry_of(entry, visit.tongue) for entry in entries[:PAGE_SIZE]]
    more = entries is not None and len(entries) > PAGE_SIZE
    return await visit.page(
        "audit.html",
        nav="audit",
        history=shown,
        named=True,
        actions=[(one, action_words(one, visit.tongue)) for one in ACTIONS],
        action=action,
        actor=actor,
        next=visit.href("/audit", **kept, before=str(entries[PAGE_SIZE - 1].id)) if more and entries else None,
        first=visit.href("/audit", **kept) if before else None,
        exports={ending: visit.href(f"/audit.{ending}", **kept) for ending in ("csv", "jsonl")},
    )


async def _entries(visit: Visit, *, before: int | None, limit: int) -> Sequence[AuditEntry]:
    action = visit.asked("action")
    return await visit.keys.audit(
        action=action if action in ACTIONS else None,
        actor=visit.asked("who") or None,
        before=before,
        limit=limit,
    )


async def export_csv(visit: Visit) -> Response:
    return _file(visit, "csv", "text/csv; charset=utf-8")


async def export_jsonl(visit: Visit) -> Response:
    return _file(visit, "jsonl", "application/jsonl; charset=utf-8")


def _file(visit: Visit, ending: str, kind: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="ak_guard-audit.{ending}"', "cache-control": "no-store"}
    return StreamingResponse(_lines(visit, ending), media_type=kind, headers=headers)


async def _lines(visit: Visit, ending: str) -> AsyncIterator[str]:
    if ending == "csv":
        yield _csv_line(documents.AUDIT_COLUMNS)
    before: int | None = None
    while True:
        entries = await _entries(visit, before=before, limit=_EXPORTED_AT_ONCE)
        for entry in entries:
            yield _line(entry, ending)
        if len(entries) < _EXPORTED_AT_ONCE:
            return
        before = entries[-1].id


def _line(entry: AuditEntry, ending: str) -> str:
    if ending == "jsonl":
        return json.dumps(documents.audit_entry(entry), ensure_ascii=False) + "\n"
    return _csv_line(documents.audit_cells(entry))


def _csv_line(cells: Sequence[Any]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
