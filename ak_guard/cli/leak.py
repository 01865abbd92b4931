"""`ak-guard leak`: everything that is to be done when a key has leaked, in one command."""

# No `from __future__ import annotations`: see desk.py.

import asyncio
import json
import sys
from typing import Annotated

import typer

from ak_guard import inputs
from ak_guard.cli import exits, show_happened, workers
from ak_guard.cli.desk import AsJson, Db, Desk, examples, print_json, print_parts
from ak_guard.cli.find import find_key
from ak_guard.cli.happened import Since
from ak_guard.cli.options import AllowIp, KeyId, moment
from ak_guard.cli.workers import Timeout
from ak_guard.errors import InputError
from ak_guard.leaks import LeakReport
from ak_guard.manager import CONFIRM_SECONDS, KeyManager


def leak(
    context: typer.Context,
    key: KeyId,
    since: Since = None,
    no_replacement: Annotated[
        bool, typer.Option("--no-replacement", help="Only disable it and show what happened.")
    ] = False,
    allow_ip: AllowIp = None,
    timeout: Timeout = CONFIRM_SECONDS,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the report, without any secret, to this file: .md or .json."),
    ] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """A key has leaked, or may have: disable it, wait until every running app refuses it, replace it, and say what
    happened since and what is left to do.

    Standard output holds the line for the environment of the service, with the new secret, and nothing else when it is
    not a terminal. False alarm? `ak-guard keys enable KEY`.
    Ends with 5 when a running app has not confirmed; then there is no replacement yet, and the same command goes on.
    """
    desk = Desk(context, db, as_json)
    inputs.wait("--timeout", timeout)
    begin = moment("--since", since, desk.now)

    async def work(manager: KeyManager) -> LeakReport:
        leaked = await find_key(manager, key)
        if report is not None:
            # Before anything is changed it is found out whether there can be a report.
            await asyncio.to_thread(_write, report, "", mode="a")
        found = await manager.leak(
            leaked.id, since=begin, wait=timeout, replace=not no_replacement, allow_ips=allow_ip or None
        )
        # Before the store is closed, which may fail too.
        _hand_over(desk, found)
        return found

    found = desk.run(work)
    if report is not None:
        written = (
            json.dumps(found.as_json(), indent=2, ensure_ascii=False) + "\n"
            if report.endswith(".json")
            else found.markdown()
        )
        _write(report, written)
        desk.note(f"wrote the report to {report}")
    if found.confirmation is not None:
        workers.end(desk, found.confirmation)
    if not found.complete or (found.replacement is None and not no_replacement and found.problems):
        raise typer.Exit(exits.UNCONFIRMED)


def _write(report: str, text: str, *, mode: str = "w") -> None:
    try:
        with open(report, mode, encoding="utf-8") as file:  # noqa: PTH123  # what was typed is what is opened
            file.write(text)
    except OSError as error:
        raise InputError("--report", f"{report} cannot be written ({error.strerror})") from error


def _hand_over(desk: Desk, found: LeakReport) -> None:
    """What was done goes to people, the secret to standard output, once."""
    made, key = found.replacement, found.key
    if desk.as_json:
        print_json({"secret": None if made is None else made.secret, "report": found.as_json()})
        return
    desk.note(f"disabled {key.name} ({key.id}); false alarm? `ak-guard keys enable {key.id}`")
    if found.confirmation is not None:
        desk.note(workers.told(found.confirmation))
    for problem in found.problems:
        desk.note(problem)
    if made is None:
        desk.note(f"no replacement: {found.why_none}")
    else:
        desk.note(f"created the replacement {made.key.name} ({made.key.id}), with the same rules")
        desk.note("The line on standard output is for the environment of the service; it will not be shown again:")
        sys.stdout.write("\n".join(found.environment_lines) + "\n")
        sys.stdout.flush()
    print_parts(*show_happened.leak(found, desk.now), aside=True)


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(
        epilog=examples(
            "leak prod-api",
            "leak prod-api --since 2d --allow-ip 203.0.113.0/24",
            "leak prod-api --no-replacement --json",
        )
    )(leak)
