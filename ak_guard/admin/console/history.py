"""The audit trail in words: who changed what, and how it was before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.audit import AuditEntry

#: So many changes stand on the page of a key.
SHOWN: Final = 20

_LONGEST: Final = 80


@dataclass(frozen=True, slots=True)
class Change:
    """One field: what it was and what it became; None where there is nothing to show."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail."""

    when: Markup
    exact: str
    who: str
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
        who=entry.actor,
        what=action_words(entry.action, tongue),
        subject=entry.subject,
        key_id=entry.key_id,
        changes=changes_of(entry),
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


def changes_of(entry: AuditEntry) -> list[Change]:
    """The fields that changed; of what began or ended, those that say something."""
    if entry.before and entry.after:
        names = dict.fromkeys([*entry.after, *entry.before])
        return [Change(name, _plain(entry.before.get(name)), _plain(entry.after.get(name))) for name in names]
    fields = entry.after or entry.before
    return [Change(name, None, _plain(value)) for name, value in fields.items() if _says_something(name, value)]


def _says_something(name: str, value: Any) -> bool:
    return name not in {"name", "hint", "enabled"} and value not in (None, [], {}, "")


def _plain(value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        text = ", ".join(f"{name}={part}" for name, part in value.items())
    else:
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
