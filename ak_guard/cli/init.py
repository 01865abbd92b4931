"""`ak-guard init`: from an empty folder to a database and a token that signs in."""

# No `from __future__ import annotations`: see desk.py.

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from ak_guard import documents
from ak_guard.admin.tokens import AdminTokens, IssuedToken
from ak_guard.cli.desk import AsJson, Db, Desk, examples
from ak_guard.errors import ConfigurationError
from ak_guard.manager import KeyManager
from ak_guard.settings.written import outside

_DEFAULT: Final = "sqlite:///keys.db"
_SETTINGS: Final = Path("ak_guard.toml")


def init(
    context: typer.Context,
    name: Annotated[str, typer.Option(metavar="NAME", help="Who will hold the token.")] = "owner",
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Make the database and an owner token, and show the token, this once.

    Without --db and AK_GUARD_BACKEND the database is keys.db in this folder; ak_guard.toml then names it, so that
    apps and commands here find it. Where there is an owner already nothing is made.
    """
    desk = Desk(context, db, as_json, default=_DEFAULT)

    async def work(manager: KeyManager) -> bool:
        tokens = AdminTokens(manager, environment="")
        owners = [await tokens.named(token.id) for token in await tokens.list() if token.role == "owner"]
        if any(owners):
            return False
        hand_over(desk, await tokens.create(name, role="owner"))
        return True

    made = desk.run(work, makes=True)
    if _write_settings(desk):
        desk.note(f"made {_SETTINGS}, which names it for apps and commands in this folder")
    if not made:
        desk.answer({"secret": None, "token": None}, "There is an owner already; nothing was made.")
        desk.note("Lost the token? `ak-guard admin-token create NAME --role owner` makes another.")
        return
    desk.note(
        "Next:\n"
        "  ak-guard serve                 the console; sign in with the token above\n"
        "  ak-guard keys create prod-api  a first key, here in the shell"
    )


def hand_over(desk: Desk, issued: IssuedToken) -> None:
    """Print the token, once: with a word before it for people, bare into a pipe. To be called as soon as it is stored:
    whatever fails before would lose it.
    """
    desk.note(f"made the {issued.token.role} token {issued.token.name} ({issued.token.id})")
    if desk.as_json:
        desk.answer({"secret": issued.secret, "token": documents.admin_token(issued.token, desk.now)})
    else:
        sys.stdout.write(f"\n  {issued.secret}\n\n" if sys.stdout.isatty() else issued.secret + "\n")
    sys.stdout.flush()
    desk.note("The token will not be shown again: store it now.")


def _write_settings(desk: Desk) -> bool:
    """Name the default database for whoever works in this folder, where nothing names one yet."""
    if desk.backend != _DEFAULT or outside().file is not None or "backend" in outside().settings:
        return False
    try:
        _SETTINGS.write_text(f'backend = "{_DEFAULT}"\n', encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{_SETTINGS}: cannot be written ({error.strerror})") from error
    return True


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(epilog=examples("init", "init --db postgresql://app@db.example/keys --name ann"))(init)
