"""Hand a new secret over, and say what its owner should know."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ak_guard.cli import documents, templates, words
from ak_guard.errors import NotFound
from ak_guard.records import DEFAULT_GROUP

if TYPE_CHECKING:
    from ak_guard.cli.desk import Desk
    from ak_guard.manager import Issued, KeyManager
    from ak_guard.records import ApiKey

_CALL = 'curl -H "Authorization: Bearer $API_KEY" http://127.0.0.1:8000/'


def hand_over(desk: Desk, issued: Issued, done: str) -> None:
    """Print the secret, once: for a person as a line to paste, for a pipe bare. It goes to standard output only."""
    key = issued.key
    expiry = "never expires" if key.expires_at is None else f"expires {words.distance(key.expires_at, desk.now)}"
    desk.note(f"{done} {key.name} ({key.id}): group {key.group}, {expiry}")
    if desk.as_json:
        desk.answer(documents.issued(issued, desk.now))
    elif sys.stdout.isatty():
        sys.stdout.write(f"\n  export API_KEY={issued.secret}\n  {_CALL}\n\n")
    else:
        sys.stdout.write(issued.secret + "\n")
        desk.note(f"The line on standard output is the secret. To try it: export API_KEY=…; {_CALL}")
    sys.stdout.flush()
    desk.note("The secret will not be shown again: store it now.")


async def group_note(manager: KeyManager, key: ApiKey) -> str:
    """A warning where the key's group is not in the store, else nothing."""
    if key.group == DEFAULT_GROUP:
        return ""
    try:
        await manager.get_group(key.group)
    except NotFound:
        return (
            f"hint: no group {key.group!r} is stored here; unless the app defines it, the key is refused. "
            f"`ak-guard groups create` makes one"
        )
    return ""


def advise(desk: Desk, named: ApiKey | None, note: str) -> None:
    """Hints beside the answer: about a group that is missing and a name that says no environment. Never an error."""
    if note:
        desk.note(note)
    if named is not None and named.environment is None and named.name not in templates.SUGGESTED_NAMES:
        desk.note(
            f"hint: the name {named.name!r} shows no environment; names such as "
            f"{', '.join(templates.SUGGESTED_NAMES)} tell keys apart"
        )
