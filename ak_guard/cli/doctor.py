"""`ak-guard doctor`: what is amiss, why it matters, and the line that mends it."""

# No `from __future__ import annotations`: see desk.py.

import asyncio
import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from ak_guard.cli import exits
from ak_guard.cli.desk import AsJson, Db, Given, examples, print_json, print_parts
from ak_guard.cli.run import defaults
from ak_guard.doctor import Finding, Severity, examine

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.ADVICE: "bold cyan"}


def doctor(
    context: typer.Context,
    strict: Annotated[bool, typer.Option("--strict", help="Let advice count as something that is wrong.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is amiss: settings, database, clocks, proxies, workers, and keys that ignore good advice.

    Nothing is changed. Ends with 6 when it finds an error or a warning, and with 0 when there is only advice.
    """
    given = context.obj or Given()
    found = asyncio.run(examine(defaults(), os.environ, db=db or given.db))
    if as_json or given.as_json:
        print_json({"findings": [asdict(finding) for finding in found]})
    elif found:
        print_parts(*(_told(finding) for finding in found))
    else:
        typer.echo("Nothing is amiss.")
    if any(strict or finding.severity is not Severity.ADVICE for finding in found):
        raise typer.Exit(exits.FOUND)


def _told(finding: Finding) -> Text:
    return Text.assemble(
        (f"{finding.severity}: ", _STYLES[finding.severity]),
        f"{finding.what}\n",
        ("  why   ", "dim"),
        f"{finding.why}\n",
        ("  mend  ", "dim"),
        f"{finding.mend}\n",
    )


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(epilog=examples("doctor", "doctor --json", "doctor --db sqlite:///keys.db"))(doctor)
