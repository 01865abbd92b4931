"""`ak-guard admin-token`: who may manage keys."""

# No `from __future__ import annotations`: see desk.py.

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from ak_guard import documents
from ak_guard.admin.tokens import AdminTokens
from ak_guard.cli import show
from ak_guard.cli.desk import AsJson, Db, Desk, examples, remember
from ak_guard.cli.init import hand_over
from ak_guard.errors import InputError, NotFound
from ak_guard.manager import KeyManager
from ak_guard.tokens import AdminToken, is_minted

admin_tokens: typer.Typer = typer.Typer(name="admin-token", help="Say who may manage keys.")


class RoleName(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"
    SERVICE = "service"


@admin_tokens.callback(invoke_without_command=True, epilog=examples("admin-token create ann --role editor"))
def _admin_tokens(context: typer.Context, db: Db = None, as_json: AsJson = False) -> None:
    remember(context, db, as_json)


@admin_tokens.command(
    epilog=examples(
        "admin-token create ann --role owner",
        "admin-token create ci --role viewer --expires-in 90d",
        "admin-token create gateway --role service",
    )
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will hold it.")],
    role: Annotated[RoleName, typer.Option(help="What they may do.")] = RoleName.VIEWER,
    expires_in: Annotated[
        str | None, typer.Option(metavar="DURATION", help="When it ends, from now: 12h, 90d.")
    ] = None,
    expires_at: Annotated[str | None, typer.Option(metavar="TIME", help="When it ends: 2027-01-31T12:00:00Z.")] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for the console and the admin API, and show it, this once.

    viewer   sees everything
    editor   changes keys and groups too
    owner    changes tokens too
    service  asks the key service who holds a key, and nothing else
    """
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> None:
        tokens = AdminTokens(manager, environment="")
        hand_over(desk, await tokens.create(name, role=role.value, expires_at=expires_at, expires_in=expires_in))

    desk.run(work, makes=True)


@admin_tokens.command("list", epilog=examples("admin-token list", "admin-token list --json"))
def list_(context: typer.Context, db: Db = None, as_json: AsJson = False) -> None:
    """List all tokens, the oldest first."""
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> Sequence[AdminToken]:
        return await AdminTokens(manager, environment="").list()

    found = desk.run(work)
    desk.answer(
        {"tokens": [documents.admin_token(token, desk.now) for token in found]},
        show.token_list(found, desk.now) if found else "No admin tokens.",
    )


@admin_tokens.command(epilog=examples("admin-token revoke ci"))
def revoke(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The id, or the name where only one has it.")],
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """End a token at once, with every session that it began."""
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> AdminToken:
        tokens = AdminTokens(manager, environment="")
        found = _meant(await tokens.list(), token)
        await tokens.revoke(found.id)
        return found

    gone = desk.run(work)
    desk.answer({"revoked": gone.id}, f"revoked the {gone.role} token {gone.name} ({gone.id})")


def _meant(tokens: Sequence[AdminToken], text: str) -> AdminToken:
    if is_minted(text.encode()):
        raise InputError(
            "id", "this is the text of a token and now stands in the history of your shell: revoke it by its id"
        )
    having = [token for token in tokens if token.id == text] or [token for token in tokens if token.name == text]
    if not having:
        raise NotFound(f"no admin token has the id or name {text!r}")
    if len(having) > 1:
        ids = ", ".join(token.id for token in having)
        raise InputError("id", f"{len(having)} tokens are named {text!r}; say which by id: {ids}")
    return having[0]
