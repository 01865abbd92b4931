"""The command itself: what stands at the top, and which rooms it has."""

# No `from __future__ import annotations`: see desk.py.

from importlib.metadata import version
from typing import Annotated

import typer

from ak_guard.cli import doctor, happened, init, leak, run, scan, serve, settings, top, workers
from ak_guard.cli.admin_tokens import admin_tokens
from ak_guard.cli.desk import AsJson, Db, examples, remember
from ak_guard.cli.exits import ExitingGroup
from ak_guard.cli.groups import groups
from ak_guard.cli.keys import keys

# Trace-backs with local variables would show secrets.
app: typer.Typer = typer.Typer(
    name="ak-guard",
    cls=ExitingGroup,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)
init.add_to(app)
app.add_typer(keys)
app.add_typer(groups)
app.add_typer(admin_tokens)
workers.add_to(app)
settings.add_to(app)
serve.add_to(app)
run.add_to(app)
doctor.add_to(app)
happened.add_to(app)
top.add_to(app)
scan.add_to(app)
leak.add_to(app)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"ak-guard {version('ak_guard')}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog=examples(
        "init",
        "keys create prod-api --limit 1000/5h --limit 3000/1d",
        "keys list",
        "keys disable prod-api",
        "keys explain prod-api --ip 203.0.113.7 --path /v1/models",
        "leak prod-api --since 2d",
        "usage prod-api",
        "audit --since 7d",
        "top",
        "scan -",
        "workers",
        "settings",
        "serve --port 9000",
        "run my_service:app --workers 4",
        "doctor",
    ),
)
def _top(
    context: typer.Context,
    db: Db = None,
    as_json: AsJson = False,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """API keys with limits for any ASGI app.

    The store of keys is named by --db, by AK_GUARD_BACKEND or by `backend` in ak_guard.toml; that of windows, where the
    app has one of its own, by AK_GUARD_LIMITS or `limits`. `ak-guard settings` shows what is set, and where.
    Secrets are shown once, when they are made.
    They are read from standard input, never from arguments.
    Errors are one line of text on standard error, also with --json; programs read the exit code.

    Exit codes:
    0  done
    1  the store is away or the setup is wrong
    2  wrong usage or bad input
    3  no such key or group
    4  `keys explain`: the request would be refused
    5  --wait, `leak`: the change is stored, but a running app has not confirmed it
    6  `doctor`: something is amiss; `scan`: keys were found
    """
    remember(context, db, as_json)
