"""A place of its own for the keys and counters of some tests, on each kind of store there is."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from redis import Redis

from ak_guard import KeyManager
from tests.services import url_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.databases import Databases

STORES: Final = ("sqlite", "postgres", "mysql", "redis")
#: Those whose own clock rules, because several machines share them.
SHARED_STORES: Final = STORES[1:]


class Place(NamedTuple):
    """What a guard is told of a store."""

    store: str
    backend: str
    limits: str | None = None

    def manager(self) -> KeyManager:
        return KeyManager(self.backend, limits=self.limits)


@contextmanager
def a_place(store: str, folder: Path, databases: Databases) -> Iterator[Place]:
    """A new file, or an empty database on the running service. Keys beside Redis live in a file."""
    file = f"sqlite:///{folder}/keys.db"
    if store == "sqlite":
        yield Place(store, file)
    elif store == "redis":
        url = url_of("redis")
        yield Place(store, file, url)
        _forget(file, url)
    else:
        with databases.migrated(store) as url:
            yield Place(store, url)


def _forget(backend: str, limits: str) -> None:
    """Take away what was counted for the keys and groups of this place; others use the same Redis."""
    names = asyncio.run(_subjects(backend))
    with Redis.from_url(limits) as redis:
        for name in names:
            for found in redis.scan_iter(f"*{name}*", count=1_000):
                redis.delete(found)


async def _subjects(backend: str) -> list[str]:
    async with KeyManager(backend) as keys:
        return [*(key.id for key in await keys.list()), *(group.name for group in await keys.list_groups())]
