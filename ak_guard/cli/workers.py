"""`ak-guard workers` and `--wait`: which guards are running, and whether they have heard of a change."""

# No `from __future__ import annotations`: see desk.py.

from collections.abc import Sequence
from typing import Annotated

import typer

from ak_guard import documents, inputs
from ak_guard.backends.workers import Confirmation, Worker
from ak_guard.cli import exits, show
from ak_guard.cli.desk import AsJson, Db, Desk, examples
from ak_guard.manager import CONFIRM_SECONDS, KeyManager
from ak_guard.notation import stamp

Wait = Annotated[
    bool, typer.Option("--wait", help="Return when every running app has heard of it; ends with 5 if one does not.")
]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long --wait waits at most.")]


def told(confirmation: Confirmation) -> str:
    """The one line that says how it went."""
    count = len(confirmation.workers)
    if not count and confirmation.complete:
        return "no running app to wait for"
    return f"confirmed by {count} running worker{'' if count == 1 else 's'} after {confirmation.seconds:.2f} s"


def end(desk: Desk, confirmation: Confirmation) -> None:
    """Name who did not answer, and end with a code of its own where there is one."""
    for worker in confirmation.silent:
        desk.note(
            f"not confirmed by {worker.name}: last seen {stamp(worker.seen_at)}; "
            f"it may go on with what it knew until {stamp(worker.good_until)}"
        )
    if not confirmation.complete:
        raise typer.Exit(exits.UNCONFIRMED)


def workers(
    context: typer.Context,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait until all follow every change made so far; ends with 5 if one does not."),
    ] = False,
    timeout: Timeout = CONFIRM_SECONDS,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """List the running apps that guard with this database: one line for each worker.

    A worker that is silent was stopped, paused or cut off. It lets in keys that it knew for a while longer, then none.
    """
    desk = Desk(context, db, as_json)
    inputs.wait("--timeout", timeout)

    async def work(manager: KeyManager) -> tuple[Confirmation | None, Sequence[Worker]]:
        return await manager.confirm(timeout=timeout) if wait else None, await manager.workers()

    confirmation, found = desk.run(work)
    document = {"workers": [documents.worker(worker) for worker in found]}
    shown = [show.worker_list(found, desk.now) if found else "No running app guards with this database."]
    if confirmation is None:
        desk.answer(document, *shown)
        return
    desk.answer({**document, "confirmation": documents.confirmation(confirmation)}, *shown, told(confirmation))
    end(desk, confirmation)


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(epilog=examples("workers", "workers --wait", "workers --json"))(workers)
