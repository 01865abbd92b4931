"""Which key is meant: its id, or its name where only one key has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard import custom_keys, inputs, keys
from ak_guard.errors import InputError, NotFound
from ak_guard.records import DEFAULT_GROUP

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
        having = await named(manager, text)
    if not having:
        raise NotFound(f"no key has the id or name {_quoted(text)}")
    if len(having) > 1:
        ids = ", ".join(key.id for key in having)
        raise InputError("id", f"{len(having)} keys are named {text!r}; say which by id: {ids}")
    return having[0]


async def find_keys(manager: KeyManager, texts: Iterable[str]) -> list[ApiKey]:
    """All of them before anything is done to one, each once however often it is named."""
    found = [await find_key(manager, text) for text in texts]
    return list({key.id: key for key in found}.values())


async def named(manager: KeyManager, name: str) -> list[ApiKey]:
    """All keys with exactly this name."""
    # Databases fold the case of ASCII only in the same way as we do; other names are compared one by one.
    search = name if name.isascii() else None
    having: list[ApiKey] = []
    after: str | None = None
    while True:
        page = await manager.list(search=search, limit=inputs.MAX_PAGE, after=after)
        having += [key for key in page if key.name == name]
        if len(page) < inputs.MAX_PAGE:
            return having
        after = page[-1].id


async def knows_group(manager: KeyManager, name: str) -> bool:
    """Whether this store can tell the rules of a group. `default` has none until somebody stores some."""
    if name == DEFAULT_GROUP:
        return True
    try:
        await manager.get_group(name)
    except NotFound:
        return False
    return True


def _quoted(text: str) -> str:
    """The text as it was typed, unless it could be a custom key typed by mistake."""
    if not text.startswith("key_"):
        try:
            custom_keys.check(text, peppered=True)
        except InputError:
            return repr(text)
        return repr(keys.hint(text))
    return repr(text)
