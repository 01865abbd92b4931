"""Which key is meant: its id, or its name where only one key has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard import custom_keys, inputs, keys
from ak_guard.errors import InputError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ak_guard.manager import KeyManager
    from ak_guard.records import ApiKey


async def find_key(manager: KeyManager, text: str) -> ApiKey:
    """The key with this id or this exact name; raises `InputError` listing the ids when several have the name."""
    if keys.is_minted_shape(text.encode()):
        raise InputError(
            "id",
            "this is the text of a key, not its id, and now stands in the history of your shell: rotate the key. "
            "Only `ak-guard keys explain --stdin` takes the text of a key, from standard input",
        )
    try:
        return await manager.get(text)
    except NotFound:
        named = await _named(manager, text)
    if not named:
        raise NotFound(f"no key has the id or name {_quoted(text)}")
    if len(named) > 1:
        ids = ", ".join(key.id for key in named)
        raise InputError("id", f"{len(named)} keys are named {text!r}; say which by id: {ids}")
    return named[0]


async def find_keys(manager: KeyManager, texts: Iterable[str]) -> list[ApiKey]:
    """All of them before anything is done to one, each once however often it is named."""
    found = [await find_key(manager, text) for text in texts]
    return list({key.id: key for key in found}.values())


async def _named(manager: KeyManager, name: str) -> list[ApiKey]:
    # Databases fold the case of ASCII only in the same way as we do; other names are compared one by one.
    search = name if name.isascii() else None
    named: list[ApiKey] = []
    after: str | None = None
    while True:
        page = await manager.list(search=search, limit=inputs.MAX_PAGE, after=after)
        named += [key for key in page if key.name == name]
        if len(page) < inputs.MAX_PAGE:
            return named
        after = page[-1].id


def _quoted(text: str) -> str:
    """The text as it was typed, unless it could be a custom key typed by mistake."""
    if not text.startswith("key_"):
        try:
            custom_keys.check(text, peppered=True)
        except InputError:
            return repr(text)
        return repr(keys.hint(text))
    return repr(text)
