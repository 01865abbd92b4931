"""`ak-guard groups`: what the keys of a group may call, and what they pay."""

# No `from __future__ import annotations`: see desk.py.

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from ak_guard import documents
from ak_guard.cli import ask, show
from ak_guard.cli.desk import AsJson, Db, Desk, examples, remember
from ak_guard.cli.options import GroupName, Texts, Yes
from ak_guard.errors import InputError
from ak_guard.inputs import MAX_PAGE
from ak_guard.manager import KeyManager
from ak_guard.records import Group

groups: typer.Typer = typer.Typer(name="groups", help="Say what the keys of a group may call, and what they pay.")

Routes = Annotated[
    Texts, typer.Option("--route", metavar="ROUTE", help="What they may call: 'POST /v1/chat/*'. Repeat for more.")
]
Limits = Annotated[
    Texts,
    typer.Option("--limit", metavar="AMOUNT/WINDOW", help="For each key with no limits of its own. Repeat for more."),
]
SharedLimits = Annotated[
    Texts, typer.Option("--shared-limit", metavar="AMOUNT/WINDOW", help="For all keys together. Repeat for more.")
]
Multiplier = Annotated[str | None, typer.Option(metavar="NUMBER", help="What a cost is multiplied by: 2, 0.5, 1/3.")]


@groups.callback(invoke_without_command=True, epilog=examples("groups create paid --multiplier 2", "groups list"))
def _groups(context: typer.Context, db: Db = None, as_json: AsJson = False) -> None:
    remember(context, db, as_json)


@groups.command(
    epilog=examples(
        "groups create paid --route 'POST /v1/chat/*' --route /v1/models --limit 60/1m --multiplier 2",
        "groups create trial --limit 100/1d --shared-limit 5000/1d",
    )
)
def create(
    context: typer.Context,
    name: GroupName,
    route: Routes = None,
    limit: Limits = None,
    shared_limit: SharedLimits = None,
    multiplier: Multiplier = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Refuse its keys until it is enabled.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Create a group. Without --route its keys may call everything."""
    desk = Desk(context, db, as_json)
    made = Group(
        name,
        routes=route or (),
        limits=limit or (),
        shared_limits=shared_limit or (),
        multiplier=multiplier or 1,
        enabled=not disabled,
    )

    async def work(manager: KeyManager) -> Group:
        return await manager.create_group(made)

    _answer(desk, desk.run(work, makes=True))


@groups.command("list", epilog=examples("groups list", "groups list --json"))
def list_(context: typer.Context, db: Db = None, as_json: AsJson = False) -> None:
    """List groups by name."""
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> Sequence[Group]:
        return await manager.list_groups()

    found = desk.run(work)
    nothing = "No groups are stored. Keys without a group have `default`, which may call everything."
    desk.answer({"groups": [documents.group(group) for group in found]}, show.group_list(found) if found else nothing)


@groups.command("show", epilog=examples("groups show paid", "groups show paid --json"))
def show_(context: typer.Context, name: GroupName, db: Db = None, as_json: AsJson = False) -> None:
    """Show all rules of a group."""
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> Group:
        return await manager.get_group(name)

    _answer(desk, desk.run(work))


class Clearable(StrEnum):
    """Fields of a group that can be taken away again."""

    ROUTES = "routes"
    LIMITS = "limits"
    SHARED_LIMITS = "shared-limits"
    MULTIPLIER = "multiplier"


@groups.command(
    epilog=examples(
        "groups update paid --multiplier 1.5",
        "groups update paid --route '/v1/*' --clear limits",
        "groups update paid --disabled",
    )
)
def update(
    context: typer.Context,
    name: GroupName,
    route: Routes = None,
    limit: Limits = None,
    shared_limit: SharedLimits = None,
    multiplier: Multiplier = None,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Let its keys in, or refuse them.")
    ] = None,
    clear: Annotated[list[Clearable] | None, typer.Option(help="Take a field away. Repeat for more.")] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Change a group and so what its keys may do. What is not named stays; what is named is replaced as a whole."""
    desk = Desk(context, db, as_json)
    given = {
        "routes": route or None,
        "limits": limit or None,
        "shared_limits": shared_limit or None,
        "multiplier": multiplier,
        "enabled": enabled,
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    for field in [word.replace("-", "_") for word in clear or ()]:
        if field in changes:
            raise InputError(field, "is both given and cleared")
        changes[field] = 1 if field == "multiplier" else ()
    if not changes:
        raise InputError("options", "there is nothing to change; `ak-guard groups update --help` shows what can be")

    async def work(manager: KeyManager) -> Group:
        old = await manager.get_group(name)
        kept = {
            "routes": old.routes,
            "limits": old.limits,
            "shared_limits": old.shared_limits,
            "multiplier": old.multiplier,
            "enabled": old.enabled,
        }
        return await manager.update_group(Group(old.name, **{**kept, **changes}))

    _answer(desk, desk.run(work))
    desk.note_delay()


@groups.command(epilog=examples("groups delete trial", "groups delete trial --yes"))
def delete(context: typer.Context, name: GroupName, yes: Yes = False, db: Db = None, as_json: AsJson = False) -> None:
    """Remove a group. Its keys are refused until they get another one. Asks for its name unless --yes is given."""
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> Group:
        found = await manager.get_group(name)
        if not yes:
            holders = len(await manager.list(group=name, limit=MAX_PAGE))
            ask.confirm_by_name(name, f"Delete the group {name}? It has {_count(holders)}, which will be refused.")
        await manager.delete_group(name)
        return found

    deleted = desk.run(work)
    desk.answer({"deleted": [deleted.name]}, f"deleted the group {deleted.name}")
    desk.note_delay()


def _count(keys: int) -> str:
    if keys == MAX_PAGE:
        return f"{keys} keys or more"
    return "1 key" if keys == 1 else f"{keys} keys"


def _answer(desk: Desk, group: Group) -> None:
    desk.answer({"group": documents.group(group)}, show.group_rules(group))
