"""`ak-guard usage` and `ak-guard audit`: what requests did, and what administrators did."""

# No `from __future__ import annotations`: see desk.py.

import csv
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from ak_guard import documents
from ak_guard.audit import AuditEntry
from ak_guard.cli import show_happened
from ak_guard.cli.complete import groups, keys
from ak_guard.cli.desk import AsJson, Db, Desk, examples
from ak_guard.cli.find import find_key
from ak_guard.cli.options import moment
from ak_guard.errors import InputError
from ak_guard.inputs import MAX_PAGE
from ak_guard.manager import KeyManager
from ak_guard.records import ApiKey
from ak_guard.usage import Anomaly, LastUsed, UsageRecord, UsageSummary

Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="From when on: 2027-01-31T12:00:00Z, or 3h, 7d ago.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Until when. Default: now.")]


class Bucket(StrEnum):
    """What is summed together."""

    HOUR = "hour"
    DAY = "day"


def usage(
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="Id or name; without one all keys.", autocompletion=keys),
    ] = None,
    since: Since = None,
    until: Until = None,
    by: Annotated[Bucket, typer.Option("--by", help="Sum by hour or by day.")] = Bucket.HOUR,
    records: Annotated[int, typer.Option(metavar="NUMBER", help="Show so many single requests too.")] = 0,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="Only attempts without a key, or with one that nobody holds.")
    ] = False,
    code: Annotated[str | None, typer.Option(help="Of the single requests, those with this code.")] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show calls, refusals, cost, addresses and routes of a key. The last 24 hours, or 30 days with --by day."""
    desk = Desk(context, db, as_json)
    if key is not None and unknown:
        raise InputError("options", "a key is named, so it is not unknown: say one of the two")
    if not 0 <= records <= MAX_PAGE:
        raise InputError("--records", f"{records} must be a whole number from 0 to {MAX_PAGE}")
    begin, end = moment("--since", since, desk.now), moment("--until", until, desk.now)

    async def work(
        manager: KeyManager,
    ) -> tuple[ApiKey | None, UsageSummary, LastUsed | None, Sequence[UsageRecord], Sequence[Anomaly]]:
        found = None if key is None else await find_key(manager, key)
        owner = "" if unknown else None if found is None else found.id
        summary = await manager.usage(owner, since=begin, until=end, bucket=by.value)
        last = {} if found is None else await manager.last_used([found.id])
        single = await manager.records(owner, since=begin, code=code, limit=records) if records else []
        unusual = [] if found is None else await manager.anomalies(found.id)
        return found, summary, None if found is None else last.get(found.id), single, unusual

    found, summary, last, single, unusual = desk.run(work)
    document = {
        "key": None if found is None else documents.key(found, desk.now),
        "last_used": None if last is None else documents.last_used(last),
        **documents.usage(summary),
        "records": [documents.record(one) for one in single],
        "anomalies": [documents.anomaly(one) for one in unusual],
    }
    desk.answer(document, *show_happened.usage(found, summary, last, single, unusual, desk.now))


def audit(
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]",
            help="Id or name of a key, or the id of one that is gone; without one everything.",
            autocompletion=keys,
        ),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Only changes of this group.", autocompletion=groups)] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this one did, such as cli:ann.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this, such as key.disable.")] = None,
    since: Since = None,
    until: Until = None,
    page_size: Annotated[int, typer.Option(help="How many at most.")] = 50,
    before: Annotated[int | None, typer.Option(metavar="ID", help="Go on with those older than this entry.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them, however many; to export them.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Answer with a table for spreadsheets.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Show who changed what and when, newest first, with what it was before and after."""
    desk = Desk(context, db, as_json)
    if desk.as_json and as_csv:
        raise InputError("options", "--json and --csv contradict each other")
    if not 1 <= page_size <= MAX_PAGE:
        raise InputError("--page-size", f"{page_size} must be a whole number from 1 to {MAX_PAGE}")
    begin, end = moment("--since", since, desk.now), moment("--until", until, desk.now)

    async def work(manager: KeyManager) -> list[AuditEntry]:
        # A key that is gone has its entries still, so its id is enough.
        key_id = key if key is None or key.startswith("key_") else (await find_key(manager, key)).id
        found: list[AuditEntry] = []
        last, size = before, MAX_PAGE if everything else page_size
        while True:
            page = await manager.audit(
                key_id, group=group, actor=actor, action=action, since=begin, until=end, limit=size, before=last
            )
            found += page
            if not everything or len(page) < size:
                return found
            last = page[-1].id

    found = desk.run(work)
    if as_csv:
        _write_csv(found)
        return
    more = found[-1].id if not everything and len(found) == page_size else None
    document = {"entries": [documents.audit_entry(entry) for entry in found], "before": more}
    desk.answer(document, show_happened.audit(found, desk.now) if found else "No such change is on record.")
    if more is not None and not desk.as_json:
        desk.note(f"There may be more: --before {more}")


def _write_csv(entries: Sequence[AuditEntry]) -> None:
    """As RFC 4180 has it."""
    csv.writer(sys.stdout).writerows([documents.AUDIT_COLUMNS, *map(documents.audit_cells, entries)])


def add_to(app: typer.Typer) -> None:
    """Make these commands of `ak-guard`."""
    app.command(
        epilog=examples(
            "usage prod-api",
            "usage prod-api --since 7d --by day --json",
            "usage --unknown --records 20",
        )
    )(usage)
    app.command(
        epilog=examples(
            "audit prod-api",
            "audit --actor cli:ann --since 7d",
            "audit --all --csv",
        )
    )(audit)
