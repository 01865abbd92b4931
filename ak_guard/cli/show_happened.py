"""Usage, the audit trail and leaks as tables for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from ak_guard.cli import words
from ak_guard.cli.show import name_of, new_table
from ak_guard.notation import stamp
from ak_guard.records import ADMITTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType
    from rich.table import Table

    from ak_guard.audit import AuditEntry
    from ak_guard.leaks import LeakReport
    from ak_guard.records import ApiKey
    from ak_guard.usage import Anomaly, Bucket, LastUsed, Place, UsageRecord, UsageSummary

_PLACES: Final = 20
_LONGEST_VALUE: Final = 60


def usage(
    key: ApiKey | None,
    found: UsageSummary,
    last: LastUsed | None,
    records: Sequence[UsageRecord],
    unusual: Sequence[Anomaly],
    now: datetime,
) -> Iterator[RenderableType]:
    """`unusual` is what stands out in the last 24 hours."""
    if key is not None:
        used = "never used" if last is None else f"last used {words.distance(last.at, now)} from {last.ip or 'unknown'}"
        yield Text.assemble(name_of(key), f" {key.id}: {used}")
    yield Text(
        f"{found.calls} calls, {found.refused} refused, {found.cost} units since {stamp(found.since)}"
        f"{_codes(found.by_code)}"
    )
    for anomaly in unusual:
        yield Text(f"unusual: {anomaly.text}", style="bold yellow")
    if found.calls:
        yield _buckets(found.buckets)
        yield _places("Address", found.addresses, now)
        yield _places("Route", found.routes, now)
    if records:
        yield _records(records)


def _buckets(buckets: Iterable[Bucket]) -> Table:
    shown = new_table("From (UTC)", "Calls", "Refused", "Units", "Refusals")
    for bucket in buckets:
        if bucket.calls:
            refusals = {code: count for code, count in bucket.by_code.items() if code != ADMITTED}
            shown.add_row(
                Text(f"{bucket.start:%Y-%m-%d %H:%M}"),
                Text(str(bucket.calls)),
                Text(str(bucket.refused), style="red" if bucket.refused else ""),
                Text(str(bucket.cost)),
                Text(", ".join(f"{code} {count}" for code, count in refusals.items())),
            )
    return shown


def _places(title: str, places: Sequence[Place], now: datetime, since: datetime | None = None) -> Table:
    shown = new_table(title, "Calls", "Refused", "Units", "First seen", "Last seen")
    for place in places[:_PLACES]:
        new = since is not None and place.first >= since
        shown.add_row(
            Text(place.name, style="yellow" if new else ""),
            Text(str(place.calls)),
            Text(str(place.refused)),
            Text(str(place.cost)),
            Text(f"{'NEW, ' if new else ''}{words.distance(place.first, now)}", style="yellow" if new else ""),
            Text(words.distance(place.last, now)),
        )
    if len(places) > _PLACES:
        shown.add_row(Text(f"and {len(places) - _PLACES} more"))
    return shown


def _records(records: Iterable[UsageRecord]) -> Table:
    shown = new_table("Time", "From", "Request", "Status", "Code", "Units", "Took", "Key")
    for one in records:
        shown.add_row(
            Text(stamp(one.moment)),
            Text(one.ip or "unknown"),
            Text(one.place),
            Text("none" if one.status is None else str(one.status)),
            Text(one.code, style="" if one.code == ADMITTED else "red"),
            Text(str(one.cost)),
            Text(f"{one.duration:.3f} s"),
            Text(one.hint or "none"),
        )
    return shown


def _codes(by_code: Mapping[str, int]) -> str:
    refusals = {code: count for code, count in by_code.items() if code != ADMITTED}
    return f": {', '.join(f'{code} {count}' for code, count in refusals.items())}" if refusals else ""


def audit(entries: Iterable[AuditEntry], now: datetime) -> Table:
    shown = new_table("When", "Who", "What", "Of", "Before", "After")
    for entry in entries:
        shown.add_row(
            Text.assemble(stamp(entry.at), "\n", (words.distance(entry.at, now), "dim")),
            Text(entry.actor),
            Text(entry.action, style="bold"),
            Text("\n").join([Text(entry.subject), *([Text(entry.key_id, style="dim")] if entry.key_id else [])]),
            Text(_fields(entry.before)),
            Text(_fields(entry.after)),
        )
    return shown


def _fields(fields: Mapping[str, Any]) -> str:
    lines = []
    for name, value in fields.items():
        text = json.dumps(value, ensure_ascii=False)
        text = text if text.isprintable() else json.dumps(value)
        lines.append(f"{name} {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'}")
    return "\n".join(lines)


def leak(report: LeakReport, now: datetime) -> Iterator[RenderableType]:
    """What was found; what was done is told line by line beside it."""
    found = report.usage
    if found is not None:
        new = report.new_addresses
        yield Text(
            f"{found.calls} calls since {stamp(found.since)}; {sum(place.calls for place in new)} of them, with "
            f"{sum(place.cost for place in new)} units, from addresses never seen before {stamp(report.since)}"
        )
        if found.calls:
            yield _places("Address", found.addresses, now, report.since)
            yield _places("Route", found.routes, now, report.since)
    yield Text("\n".join(["Where it may have got out:", *(f"  [ ] {advice}" for advice in report.advice)]))
