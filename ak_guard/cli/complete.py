"""What a shell completes: names of keys and groups, out of the store that the line names or the environment."""

# No `from __future__ import annotations`: see desk.py.

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import typer

from ak_guard.errors import AkGuardError
from ak_guard.manager import KeyManager

_MOST: Final = 50


def keys(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of keys that begin like this, and ids where somebody begins one."""

    async def found(manager: KeyManager) -> list[tuple[str, str]]:
        listed = await manager.list(search=None if incomplete.startswith("key_") or not incomplete else incomplete)
        return [
            (text, f"{key.group}, {key.hint}")
            for key in listed
            for text in ([key.id] if incomplete.startswith("key_") else [key.name])
            if text.startswith(incomplete)
        ][:_MOST]

    return _ask(context, found)


def groups(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Names of groups that begin like this."""

    async def found(manager: KeyManager) -> list[tuple[str, str]]:
        return [(one.name, "group") for one in await manager.list_groups() if one.name.startswith(incomplete)][:_MOST]

    return _ask(context, found)


def _ask(
    context: typer.Context, question: Callable[[KeyManager], Awaitable[list[tuple[str, str]]]]
) -> list[tuple[str, str]]:
    """Nothing where the store cannot be asked: whoever presses a key wants no error."""

    async def opened() -> list[tuple[str, str]]:
        async with KeyManager(context.params.get("db")) as manager:
            return await question(manager)

    try:
        return asyncio.run(opened())
    except AkGuardError:
        return []
