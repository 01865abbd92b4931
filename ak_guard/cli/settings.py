"""`ak-guard settings`: what can be set, how it is written, and what is set here."""

# No `from __future__ import annotations`: see desk.py.

from typing import Any

import typer

from ak_guard.cli.desk import AsJson, Db, Given, examples, print_json
from ak_guard.middleware import ApiKeyMiddleware
from ak_guard.settings.catalogue import OTHER_VARIABLES
from ak_guard.settings.sheet import Entry, entries
from ak_guard.settings.written import Outside, Written, outside


def settings(context: typer.Context, db: Db = None, as_json: AsJson = False) -> None:
    """Show every setting with its default, an example and where it is set. `ak-guard settings > ak_guard.toml` begins
    a file.

    A file is read from AK_GUARD_CONFIG, else ./ak_guard.toml, else the table tool.ak_guard of
    ./pyproject.toml. The environment wins over the file, an argument of the middleware over both. Where a default is
    None, `none` may be written. Values that are set are not shown: they may be secret.
    """
    given = context.obj or Given()
    found = outside()
    if db or given.db:
        # As every command does: the option wins over both.
        found = found._replace(settings={**found.settings, "backend": Written("--db", db or given.db, in_file=False)})
    listed = list(entries(ApiKeyMiddleware))
    if as_json or given.as_json:
        file = None if found.file is None else str(found.file)
        print_json(
            {"file": file, "settings": [_document(one, found) for one in listed], "variables": dict(OTHER_VARIABLES)}
        )
    else:
        typer.echo(
            "\n".join(f"# Only in the environment: {name}, {told}" for name, told in OTHER_VARIABLES.items()) + "\n"
        )
        # A table ends only where another begins, so it stands behind all that is not in one.
        typer.echo("\n".join(_lines(one, found) for one in sorted(listed, key=lambda one: one.name == "groups")))
    for stranger in found.strangers:
        typer.echo(f"warning: {stranger}", err=True)


def _document(entry: Entry, found: Outside) -> dict[str, Any]:
    written = found.settings.get(entry.name)
    return {**entry._asdict(), "set_by": None if written is None else written.source}


def _lines(entry: Entry, found: Outside) -> str:
    written = found.settings.get(entry.name)
    told = [
        f"{entry.name}: {entry.about}",
        f"Default: {entry.default}. In the environment: {entry.variable}={entry.example}",
        *([f"Set by {written.source}"] if written else []),
        *entry.line.splitlines(),
    ]
    return "\n".join(f"# {line}" for line in told) + "\n"


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(epilog=examples("settings", "settings --json"))(settings)
