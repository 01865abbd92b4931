"""`ak-guard run`: any app under uvicorn, guarded, without a change of its code."""

# No `from __future__ import annotations`: see desk.py.

import inspect
import os
import sys
from typing import Annotated, Any

import typer

from ak_guard.assembly import assemble
from ak_guard.cli.desk import Db, Given, examples
from ak_guard.errors import InputError
from ak_guard.middleware import ApiKeyMiddleware
from ak_guard.settings import Options, configured
from ak_guard.settings.catalogue import APP_VARIABLE, variable

_SERVED = "ak_guard.served:app"


def run(
    context: typer.Context,
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="MODULE:APP [UVICORN OPTIONS]", help="The app, and how to serve it: --port 80 …"),
    ],
    db: Db = None,
) -> None:
    """Serve an app behind the guard, with its code as it is. Every option of uvicorn works: `uvicorn --help`.

    The guard is set up by ak_guard.toml and AK_GUARD_* variables, see `ak-guard settings`. Each worker counts in the
    same database. With --factory, APP is a function that makes the app.
    """
    from click import ClickException  # noqa: PLC0415  # uvicorn's; other commands shall not wait for it
    from click.exceptions import Exit  # noqa: PLC0415
    from uvicorn import main as uvicorn  # noqa: PLC0415

    try:
        with uvicorn.make_context("ak-guard run", list(arguments)) as served:
            _guard(served.params, db or (context.obj or Given()).db)
            uvicorn.invoke(served)
    except ClickException as error:
        raise InputError("usage", error.format_message()) from error
    except Exit as ended:
        raise typer.Exit(ended.exit_code) from None


def _guard(options: dict[str, Any], db: str | None) -> None:
    """Have uvicorn serve the guarded app instead. What the workers need to know goes through the environment."""
    if options["interface"] not in {"auto", "asgi3"}:
        raise InputError("--interface", f"{options['interface']} cannot be guarded, only ASGI 3")
    if db is not None:
        os.environ[variable("backend")] = db
    os.environ[APP_VARIABLE] = options["app"] + ("()" if options["factory"] else "")
    if not options["env_file"]:
        # Told here once, in one line, and not by each worker.
        sys.path.insert(0, options["app_dir"])
        assemble(defaults()._replace(**configured()))
    options |= {"app": _SERVED, "factory": False, "interface": "asgi3"}


def defaults() -> Options:
    """The settings of a guard that is given nothing, as its constructor has them."""
    parameters = inspect.signature(ApiKeyMiddleware).parameters
    return Options(**{name: parameters[name].default for name in Options._fields})


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(
        context_settings={"ignore_unknown_options": True},
        epilog=examples(
            "run my_service:app --port 8000 --workers 4",
            "run my_service:create_app --factory --uds /run/my_service.sock",
            "run --db sqlite:///keys.db my_service:app --reload",
        ),
    )(run)
