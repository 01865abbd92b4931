"""`ak-guard keys list`: the keys that match, in any order, with when and from where they were used."""

# No `from __future__ import annotations`: see desk.py.

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import typer

from ak_guard import documents
from ak_guard.cli import complete, show
from ak_guard.cli.desk import AsJson, Db, Desk, examples
from ak_guard.errors import ConfigurationError, InputError
from ak_guard.inputs import MAX_PAGE
from ak_guard.listing import SORT_FIELDS, UNUSED_DAYS, KeyFilter, KeyPage, ListedKey, State
from ak_guard.manager import KeyManager
from ak_guard.status import Status

Environment = Literal["production", "staging", "development", "test", "none"]
_SORTS: Final = f"{', '.join(SORT_FIELDS)}; a minus turns it round"


def add_to(commands: typer.Typer) -> None:
    """Put the command beside the others about keys."""
    lines = (
        "keys list",
        "keys list --group paid --enabled",
        "keys list --search 203.0.113.7 --json",
        "keys list --state expiring --sort expires",
        "keys list --unused --sort last_used",
    )
    commands.command("list", epilog=examples(*lines))(list_)


@dataclass(frozen=True, slots=True)
class _Found:
    """A page, what is used of the budgets of its keys where that was asked for, and who called from a new network."""

    page: KeyPage
    statuses: Mapping[str, Status]
    strayed: frozenset[str]


def list_(
    context: typer.Context,
    search: Annotated[
        str | None, typer.Option(help="Part of the name, hint or owner; a whole id; the address of the last use.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Only keys of this group.", autocompletion=complete.groups)] = None,
    owner: Annotated[str | None, typer.Option(help="Only keys of this owner.")] = None,
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="Only keys that are so.")] = None,
    state: Annotated[State | None, typer.Option(help="Only keys in this state.")] = None,
    environment: Annotated[Environment | None, typer.Option(help="Only keys whose name says this.")] = None,
    unused: Annotated[
        bool, typer.Option("--unused", help=f"Only keys that work and were not used for {UNUSED_DAYS} days.")
    ] = False,
    sort: Annotated[str, typer.Option(metavar="FIELD", help=_SORTS)] = "-created",
    page_size: Annotated[int, typer.Option(help="How many at most.")] = 50,
    after: Annotated[
        str | None, typer.Option(metavar="PLACE", help="Go on where the page before ended, which tells its place.")
    ] = None,
    usage: Annotated[
        bool | None,
        typer.Option("--usage/--no-usage", help="Read what is used of quota and windows. Default: not with --json."),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """List keys, newest first."""
    desk = Desk(context, db, as_json)
    if not 1 <= page_size <= MAX_PAGE:
        raise InputError("--page-size", f"{page_size} must be a whole number from 1 to {MAX_PAGE}")
    if unused and state not in (None, "active"):
        raise InputError("--unused", "means keys that work; it cannot be given together with another state")
    where = KeyFilter(
        search=search,
        group=group,
        owner=owner,
        enabled=enabled,
        state="active" if unused else state,
        environment=environment,
        unused_days=UNUSED_DAYS if unused else None,
    )
    counted = usage if usage is not None else not desk.as_json

    async def work(manager: KeyManager) -> _Found:
        page = await manager.page(where, sort=sort, after=after, limit=page_size)
        statuses: Mapping[str, Status] = {}
        try:
            if counted:
                statuses = await manager.statuses([one.key for one in page.items])
        except ConfigurationError as error:
            if usage:
                raise
            # The list was asked for, its usage only by custom.
            desk.note(f"Usage is not shown. {error}")
        return _Found(page, statuses, await manager.new_networks(page.items))

    found = desk.run(work)
    page = found.page
    document = {
        "keys": [_told(found, one, desk.now) for one in page.items],
        "next": page.next,
        "total": page.total,
        "counts": documents.counts(page.counts),
    }
    rows = [(one.key, found.statuses.get(one.key.id)) for one in page.items]
    uses = {one.key.id: show.last_use(one, desk.now, strayed=one.key.id in found.strayed) for one in page.items}
    desk.answer(document, show.key_list(rows, desk.now, uses) if rows else "No keys match.")
    if page.next and not desk.as_json:
        desk.note(f"{len(page.items)} of {page.total}; for more add --after {page.next}")


def _told(found: _Found, one: ListedKey, now: datetime) -> dict[str, Any]:
    status = found.statuses.get(one.key.id)
    counted = {} if status is None else {"status": documents.status(status)}
    return {**documents.listed(one, now, new_network=one.key.id in found.strayed), **counted}
