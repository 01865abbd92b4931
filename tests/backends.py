"""Every backend there is, opened for a test."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Final

from ak_guard.backends import MemoryBackend, SQLBackend
from tests.served import across_the_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ak_guard.backends import KeyStore
    from tests.databases import Databases

#: What keeps keys itself.
STORES: Final = ("memory", "sqlite", "postgres", "mysql")
#: And what asks a key service over one of them; over a database it is asked where the database matters.
BACKENDS: Final = (*STORES, "http over memory")


@asynccontextmanager
async def opened(name: str, folder: Path, databases: Databases) -> AsyncIterator[KeyStore]:
    """A store with nothing in it. Where a key service is between, guards ask that one."""
    behind = name.rpartition(" ")[2]
    between = nullcontext if name == behind else across_the_wire
    if behind == "memory":
        async with between(MemoryBackend()) as backend:
            yield backend
        return
    with databases.opened(behind, folder) as url:
        store = SQLBackend(url, own_time=False)
        await store.start()
        async with between(store) as backend:
            yield backend
        await store.aclose()
