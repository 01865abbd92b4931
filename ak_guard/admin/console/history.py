"""The audit trail in words: who changed what, and how it was before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from markupsafe import Markup, escape

from ak_guard.admin.console.preferences import role_words
from ak_guard.errors import ConfigurationError
from ak_guard.tokens import ROLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.audit import AuditEntry

#: So many changes stand on the page of a key.
SHOWN: Final = 20

_LONGEST: Final = 80
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Change:
    """One field: what it was and what it became; None where there is nothing to show."""

    field: Markup
    before: Markup | None
    after: Markup | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail."""

    when: Markup
    exact: str
    who: Markup
    what: Markup
    subject: str
    key_id: str | None
    changes: Sequence[Change]


async def history_of(visit: Visit, key_id: str) -> list[Entry] | None:
    """The newest changes of one key; None where the backend keeps no trail."""
    try:
        entries = await visit.keys.audit(key_id, limit=SHOWN)
    except ConfigurationError:
        return None
    return [entry_of(entry, visit.tongue) for entry in entries]


def entry_of(entry: AuditEntry, tongue: Tongue) -> Entry:
    """One change in words."""
    return Entry(
        when=tongue.moment(entry.at),
        exact=entry.at.isoformat(),
        who=actor_words(entry.actor, tongue),
        what=action_words(entry.action, tongue),
        subject=entry.subject,
        key_id=entry.key_id,
        changes=changes_of(entry, tongue),
    )


def action_words(action: str, tongue: Tongue) -> Markup:
    """`key.rotate` is "rotated"; what has no words here stands for itself."""
    say = tongue.say
    words = {
        "key.create": say("created"),
        "key.update": say("changed"),
        "key.enable": say("enabled"),
        "key.disable": say("disabled"),
        "key.rotate": say("rotated"),
        "key.reset": say("reset"),
        "key.delete": say("deleted"),
        "key.leak": say("leak procedure"),
        "group.create": say("group created"),
        "group.update": say("group changed"),
        "group.delete": say("group deleted"),
        "token.create": say("admin token created"),
        "token.revoke": say("admin token revoked"),
    }
    return words.get(action) or say("%(name)s", name=action)


def actor_words(actor: str, tongue: Tongue) -> Markup:
    """`token ops-laptop` for who signed in with an admin token, else the name as it was given."""
    kind, _, name = actor.partition(" ")
    return tongue.say("token %(name)s", name=name) if kind == "token" and name else escape(actor)


def field_words(name: str, tongue: Tongue) -> Markup:
    """`allow_ips` is "allowed addresses"; what has no words here stands for itself."""
    say = tongue.say
    words = {
        "allow_ips": say("allowed addresses"),
        "deny_ips": say("denied addresses"),
        "enabled": say("enabled"),
        "expires_at": say("ends"),
        "grace": say("grace"),
        "group": say("group"),
        "hint": say("hint"),
        "id": escape("ID"),
        "limits": say("windows"),
        "max_concurrency": say("requests at once"),
        "metadata": say("notes"),
        "multiplier": say("price"),
        "name": say("name"),
        "network": say("network"),
        "old_secret_until": say("old secret works until"),
        "owner": say("owner"),
        "quota": say("quota"),
        "replaced_by": say("replaced by"),
        "replaces": say("replaces"),
        "role": say("role"),
        "routes": say("routes"),
        "shared_limits": say("shared windows"),
        "since": say("since"),
    }
    return words.get(name) or escape(name)


def changes_of(entry: AuditEntry, tongue: Tongue) -> list[Change]:
    """The fields that changed; of what began or ended, those that say something."""
    changed: list[tuple[str, Markup | None, Any]]
    if entry.before and entry.after:
        names = dict.fromkeys([*entry.after, *entry.before])
        changed = [(name, _plain(entry.before.get(name), tongue), entry.after.get(name)) for name in names]
    else:
        fields = entry.after or entry.before
        changed = [(name, None, value) for name, value in fields.items() if _says_something(name, value)]
    return [Change(field_words(name, tongue), before, _value(name, value, tongue)) for name, before, value in changed]


def _value(name: str, value: Any, tongue: Tongue) -> Markup:
    return role_words(value, tongue) if name == "role" and value in ROLES else _plain(value, tongue)


def _says_something(name: str, value: Any) -> bool:
    return name not in {"name", "hint", "enabled"} and value not in (None, [], {}, "")


def _plain(value: Any, tongue: Tongue) -> Markup:
    if value is None or value in ([], {}):
        return escape("-")
    if isinstance(value, bool):
        return tongue.say("yes") if value else tongue.say("no")
    if isinstance(value, int):
        return escape(tongue.number(value))
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        return tongue.moment(datetime.fromisoformat(value))
    if isinstance(value, dict):
        text = ", ".join(f"{name}={part}" for name, part in value.items())
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
