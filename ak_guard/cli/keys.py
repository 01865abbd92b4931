"""`ak-guard keys`: make keys, look at them, change them. What is done to a key stands in `actions.py`."""

# No `from __future__ import annotations`: see desk.py.

from enum import StrEnum
from typing import Annotated, Any

import typer

from ak_guard import documents
from ak_guard.cli import actions, ask, issue, listed, show, templates
from ak_guard.cli.desk import AsJson, Db, Desk, examples, remember
from ak_guard.cli.find import find_key, knows_group
from ak_guard.cli.options import (
    AllowIp,
    CustomKey,
    DenyIp,
    ExpiresAt,
    ExpiresIn,
    Group,
    KeyId,
    LimitTexts,
    MaxConcurrency,
    Metadata,
    NoLimits,
    Owner,
    Quota,
    chosen_limits,
    entries,
)
from ak_guard.errors import InputError
from ak_guard.manager import KeyManager
from ak_guard.records import ApiKey
from ak_guard.status import Status

keys: typer.Typer = typer.Typer(name="keys", help="Create keys, look at them, change them.")


@keys.callback(invoke_without_command=True, epilog=examples("keys create prod-api", "keys list --group paid"))
def _keys(context: typer.Context, db: Db = None, as_json: AsJson = False) -> None:
    remember(context, db, as_json)


@keys.command(
    epilog=examples(
        "keys create prod-api --limit 1000/5h --limit 3000/1d --limit 10000/7d",
        "keys create dev-contractor --template temporary",
        "keys create billing-worker --template fixed-server --allow-ip 203.0.113.7",
        "keys create prod-batch --template tight-budget --quota 100000",
        "keys create prod-legacy --custom-key < old-key.txt",
    )
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the key is for, environment first: prod-api.")],
    group: Group = None,
    template: Annotated[
        templates.TemplateName | None, typer.Option(help="Fill in what suits a usual kind of key.")
    ] = None,
    allow_ip: AllowIp = None,
    deny_ip: DenyIp = None,
    quota: Quota = None,
    expires_in: ExpiresIn = None,
    expires_at: ExpiresAt = None,
    limit: LimitTexts = None,
    no_limits: NoLimits = False,
    max_concurrency: MaxConcurrency = None,
    owner: Owner = None,
    metadata: Metadata = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Let the key in only after `keys enable`.")] = False,
    custom_key: CustomKey = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Create a key and show its secret, this once.

    Standard output holds the secret and nothing else when it is not a terminal.

    Templates fill in what you do not give yourself:
    temporary     a contractor or a short event: ends in 14d, 1000/1d
    fixed-server  needs --allow-ip: 1000/5h, 3000/1d, 10000/7d
    tight-budget  needs --quota: 100/5h, 300/1d, 1000/7d
    """
    desk = Desk(context, db, as_json)
    rules: dict[str, Any] = {
        "group": group,
        "allow_ips": allow_ip,
        "deny_ips": deny_ip,
        "quota": quota,
        "expires_at": expires_at,
        "expires_in": expires_in,
        "limits": chosen_limits(limit, no_limits),
        "max_concurrency": max_concurrency,
        "owner": owner,
        "metadata": entries(metadata),
        "enabled": not disabled,
    }
    if template is not None:
        rules, added = templates.fill(template, rules)
        if added:
            desk.note(f"template {template}: added {'; '.join(added)}")
    if custom_key:
        rules["key"] = ask.secret("Text of the key", twice=True)

    async def work(manager: KeyManager) -> None:
        issued = await manager.create(name, **rules)
        issue.hand_over(desk, issued, "created")
        key = issued.key
        issue.advise(desk, key, await issue.group_note(manager, key), await issue.name_note(manager, key))

    desk.run(work, makes=True)


@keys.command("show", epilog=examples("keys show prod-api", "keys show prod-api --json"))
def show_(context: typer.Context, key: KeyId, db: Db = None, as_json: AsJson = False) -> None:
    """Show all rules of a key and what is used of its quota and windows."""
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> tuple[ApiKey, Status, bool]:
        found = await find_key(manager, key)
        return found, await manager.status(found.id), await knows_group(manager, found.group)

    found, status, group_is_known = desk.run(work)
    desk.answer(
        {"key": documents.key(found, desk.now), "status": documents.status(status)},
        show.key_rules(found, desk.now),
        "",
        *show.budgets(status, desk.now, unknown_group=None if group_is_known else found.group),
    )


class Clearable(StrEnum):
    """Fields that can be taken away again."""

    QUOTA = "quota"
    EXPIRES_AT = "expires-at"
    ALLOW_IPS = "allow-ips"
    DENY_IPS = "deny-ips"
    LIMITS = "limits"
    MAX_CONCURRENCY = "max-concurrency"
    OWNER = "owner"
    GROUP = "group"
    METADATA = "metadata"


@keys.command(
    epilog=examples(
        "keys update prod-api --quota 200000",
        "keys update prod-api --limit 2000/5h --limit 6000/1d",
        "keys update prod-api --clear expires-at --clear allow-ips",
        "keys update prod-api --no-limits",
        "keys update prod-api --allow-ip 203.0.113.7 --force",
    )
)
def update(
    context: typer.Context,
    key: KeyId,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    group: Group = None,
    allow_ip: AllowIp = None,
    deny_ip: DenyIp = None,
    quota: Quota = None,
    expires_in: ExpiresIn = None,
    expires_at: ExpiresAt = None,
    limit: LimitTexts = None,
    no_limits: NoLimits = False,
    max_concurrency: MaxConcurrency = None,
    owner: Owner = None,
    metadata: Metadata = None,
    clear: Annotated[
        list[Clearable] | None,
        typer.Option(help="Take a field away; limits then are those of the group. Repeat for more."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Save addresses also where they keep out recent callers.")
    ] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Change a key. What is not named stays; what is named is replaced as a whole."""
    desk = Desk(context, db, as_json)
    given = {
        "name": name,
        "group": group,
        "allow_ips": allow_ip or None,
        "deny_ips": deny_ip or None,
        "quota": quota,
        "expires_at": expires_at,
        "expires_in": expires_in,
        "limits": chosen_limits(limit, no_limits),
        "max_concurrency": max_concurrency,
        "owner": owner,
        "metadata": entries(metadata),
    }
    changes: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    for field in [word.replace("-", "_") for word in clear or ()]:
        if field in changes or (field == "expires_at" and "expires_in" in changes):
            raise InputError(field, "is both given and cleared")
        changes[field] = None
    if not changes:
        raise InputError("options", "there is nothing to change; `ak-guard keys update --help` shows what can be")

    async def work(manager: KeyManager) -> tuple[ApiKey, str]:
        changed = await manager.update((await find_key(manager, key)).id, spare_callers=not force, **changes)
        return changed, await issue.group_note(manager, changed) if "group" in changes else ""

    changed, note = desk.run(work)
    desk.answer({"key": documents.key(changed, desk.now)}, show.key_rules(changed, desk.now))
    issue.say_done(desk, changed, "updated")
    desk.note_delay()
    issue.advise(desk, changed if name else None, note)


listed.add_to(keys)
actions.add_to(keys)
