"""`ak-guard top`: the busiest keys and the fullest windows, as they are now."""

# No `from __future__ import annotations`: see desk.py.

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Group as Rows
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ak_guard.cli import words
from ak_guard.cli.desk import AsJson, Db, Desk, console, examples
from ak_guard.cli.show import name_of, new_table
from ak_guard.errors import InputError
from ak_guard.fullest import LOOKED_AT, budgets, is_near, share
from ak_guard.listing import KeyFilter
from ak_guard.manager import KeyManager
from ak_guard.notation import iso, stamp
from ak_guard.records import ApiKey
from ak_guard.status import BudgetStatus, Status
from ak_guard.usage import KeyUse

_WIDTH: Final = 20


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the store found."""

    at: datetime
    uses: Sequence[KeyUse]
    keys: dict[str, ApiKey]
    statuses: dict[str, Status]

    def fullest(self, limit: int) -> list[tuple[ApiKey, BudgetStatus]]:
        """The budgets with the least left in them, by the share that is used."""
        found = [
            (self.keys[key_id], budget)
            for key_id, status in self.statuses.items()
            for budget in budgets(status)
            if share(budget) > 0
        ]
        return sorted(found, key=lambda one: share(one[1]), reverse=True)[:limit]


def top(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once and end; so it is in a pipe and with --json.")
    ] = False,
    every: Annotated[float, typer.Option("--every", metavar="SECONDS", help="How often to look.")] = 2.0,
    rows: Annotated[int, typer.Option(metavar="NUMBER", help="How many rows of each.")] = 10,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Watch the busiest keys of this hour and the fullest windows and quotas. Ctrl-C ends it."""
    desk = Desk(context, db, as_json)
    if not 1 <= rows <= 100:
        raise InputError("--rows", f"{rows} must be a whole number from 1 to 100")
    if not 0.5 <= every <= 3_600:
        raise InputError("--every", f"{every:g} must be a number of seconds from 0.5 to 3600")
    screen = console()

    async def work(manager: KeyManager) -> Look:
        look = await _look(manager, rows)
        if once or desk.as_json or not screen.is_terminal:
            return look
        before: Look | None = None
        with Live(_shown(look, before, rows), console=screen, screen=True, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(every)
                before, look = look, await _look(manager, rows)
                live.update(_shown(look, before, rows), refresh=True)

    try:
        look = desk.run(work)
    except KeyboardInterrupt:
        return
    desk.answer(_document(look, rows), _shown(look, None, rows))


async def _look(manager: KeyManager, rows: int) -> Look:
    uses = await manager.busiest(limit=rows)
    lately = await manager.first(KeyFilter(used=True), sort="-last_used", limit=LOOKED_AT)
    keys = {listed.key.id: listed.key for listed in lately}
    missing = tuple(use.key_id for use in uses if use.key_id and use.key_id not in keys)
    if missing:
        more = await manager.first(KeyFilter(ids=missing), limit=len(missing))
        keys |= {listed.key.id: listed.key for listed in more}
    return Look(datetime.now(UTC), uses, keys, await manager.statuses(keys.values()))


def _shown(look: Look, before: Look | None, rows: int) -> Rows:
    return Rows(Text(f"{stamp(look.at)}"), _busiest(look, before), _fullest(look, rows))


def _busiest(look: Look, before: Look | None) -> Table:
    shown = new_table("Busiest this hour", "Calls", "Refused", "Units", "Calls a second")
    earlier = {} if before is None else {use.key_id: use.calls for use in before.uses}
    for use in look.uses:
        key = look.keys.get(use.key_id)
        name = Text("no key, or nobody's", style="yellow") if not use.key_id else Text(use.key_id, style="dim")
        shown.add_row(
            name if key is None else name_of(key),
            Text(str(use.calls)),
            Text(str(use.refused), style="red" if use.refused else ""),
            Text(str(use.cost)),
            Text(_rate(use, earlier, look, before)),
        )
    if not look.uses:
        shown.add_row(Text("no calls yet"))
    return shown


def _rate(use: KeyUse, earlier: dict[str, int], look: Look, before: Look | None) -> str:
    if before is None or use.key_id not in earlier or use.calls < earlier[use.key_id]:
        return ""
    return f"{(use.calls - earlier[use.key_id]) / max((look.at - before.at).total_seconds(), 0.001):.1f}"


def _fullest(look: Look, rows: int) -> Table:
    shown = new_table("Fullest", "Budget", "", "Used/limit", "Resets")
    for key, budget in look.fullest(rows):
        used = share(budget)
        filled = round(used * _WIDTH)
        style = "red" if budget.remaining == 0 else "yellow" if is_near(budget) else "green"
        resets = "never by itself" if budget.name == "quota" else "not started"
        shown.add_row(
            name_of(key),
            Text(budget.name),
            Text.assemble(("█" * filled, style), "░" * (_WIDTH - filled), f" {used:4.0%}"),
            Text(f"{budget.limit - budget.remaining}/{budget.limit}"),
            Text(resets if budget.resets_at is None else words.distance(budget.resets_at, look.at)),
        )
    return shown


def _document(look: Look, rows: int) -> dict[str, Any]:
    return {
        "at": iso(look.at),
        "busiest": [
            {
                "key_id": use.key_id or None,
                "name": look.keys[use.key_id].name if use.key_id in look.keys else None,
                "calls": use.calls,
                "refused": use.refused,
                "cost": use.cost,
            }
            for use in look.uses
        ],
        "fullest": [
            {
                **budget.as_json(),
                "key_id": key.id,
                "name": key.name,
                "window": budget.name,
                "share": round(share(budget), 4),
            }
            for key, budget in look.fullest(rows)
        ],
    }


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(epilog=examples("top", "top --once --json", "top --every 5 --rows 20"))(top)
