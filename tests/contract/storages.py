"""Each storage of budgets there is, told the time by its callers, empty and gone afterwards."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ak_guard import KeyManager
from ak_guard.backends import HTTPBackend, MemoryBackend, SQLBackend
from ak_guard.backends.http.storage import HTTPStorage
from ak_guard.budgets import Leases, MemoryStorage
from ak_guard.budgets.redis import RedisStorage
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database.engine import Database
from tests.served import TOKEN, served
from tests.services import url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.databases import Databases

SHARED: Final = ("sqlite", "postgres", "mysql", "redis")
#: A key service over one of them.
HTTP: Final = ("http over memory", "http over sqlite")


@asynccontextmanager
async def opened(
    kind: str, folder: Path, databases: Databases
) -> AsyncIterator[MemoryStorage | SQLStorage | RedisStorage | HTTPStorage]:
    if kind == "memory":
        yield MemoryStorage()
        return
    if kind == "redis":
        redis = RedisStorage(url_of("redis"), prefix=f"ak-test-{uuid.uuid4().hex}", own_time=False)
        yield redis
        await redis.reset()
        await redis.aclose()
        return
    if kind in HTTP:
        over = MemoryBackend() if "memory" in kind else SQLBackend(databases.file(folder))
        with served(KeyManager(over), own_time=False) as url:
            backend = HTTPBackend(url, token=TOKEN, connect=5.0, read=20.0)
            await backend.start()
            assert isinstance(backend.counters, Leases)
            assert isinstance(backend.counters.store, HTTPStorage)
            yield backend.counters.store
            await backend.aclose()
        return
    with databases.opened(kind, folder) as url:
        database = Database(url)
        store = SQLStorage(database, own_time=False)
        yield store
        await store.aclose()
        await database.aclose()
