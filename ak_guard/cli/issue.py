"""Hand a new secret over, and say what its owner should know."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ak_guard import documents
from ak_guard.cli import find, words
from ak_guard.errors import BackendError
from ak_guard.records import SUGGESTED_NAMES

if TYPE_CHECKING:
    from ak_guard.cli.desk import Desk
    from ak_guard.manager import Issued, KeyManager
    from ak_guard.records import ApiKey

_CALL = 'curl -H "Authorization: Bearer $API_KEY" http://127.0.0.1:8000/'


def hand_over(desk: Desk, issued: Issued, done: str) -> None:
    """Print the secret, once: for a person as a line to paste, for a pipe bare. It goes to standard output only.

    To be called as soon as it is stored: whatever fails before would lose it, and the store may be away at once.
    """
    key = issued.key
    say_done(desk, key, done)
    if desk.as_json:
        desk.answer(documents.issued(issued, desk.now))
    elif sys.stdout.isatty():
        sys.stdout.write(f"\n  export API_KEY={issued.secret}\n  {_CALL}\n\n")
    else:
        sys.stdout.write(issued.secret + "\n")
        desk.note("The line on standard output is the secret.")
    sys.stdout.flush()
    desk.note("The secret will not be shown again: store it now.")


def say_done(desk: Desk, key: ApiKey, done: str) -> None:
    desk.note(f"{done} {key.name} ({key.id}): group {key.group}, {words.expiry(key.expires_at, desk.now)}")


async def group_note(manager: KeyManager, key: ApiKey) -> str:
    """A warning where the key's group is not in the store, else nothing; the key is made, whatever is known of it."""
    try:
        known = await find.knows_group(manager, key.group)
    except BackendError:
        return ""
    if known:
        return ""
    return (
        f"hint: no group {key.group!r} is stored here; unless the app defines it, the key is refused. "
        f"`ak-guard groups create` makes one"
    )


async def name_note(manager: KeyManager, key: ApiKey) -> str:
    """A hint where other keys have the same name, else nothing, also where that cannot be asked."""
    try:
        others = [other.id for other in await find.named(manager, key.name) if other.id != key.id]
    except BackendError:
        return ""
    if not others:
        return ""
    return f"hint: the name {key.name!r} has another key too ({', '.join(others)}); commands then need the id"


def advise(desk: Desk, named: ApiKey | None, *notes: str) -> None:
    """Hints beside the answer, such as about a name that says no environment. Never an error."""
    for note in filter(None, notes):
        desk.note(note)
    if named is not None and named.environment is None and named.name not in SUGGESTED_NAMES:
        desk.note(
            f"hint: the name {named.name!r} shows no environment; names such as "
            f"{', '.join(SUGGESTED_NAMES)} tell keys apart"
        )
