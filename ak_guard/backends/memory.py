"""Keys in the process: for tests, examples and services that load their keys at start."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ak_guard.backends.base import Found, KeyFilter
from ak_guard.backends.watch import Listeners
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.errors import InputError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.records import ApiKey, Group


class MemoryBackend:
    """A backend without a store, and the public test double: give the same object to a manager and a middleware.

    Its keys and counters are plain data of the process and are gone with it. It may be used from any event loop.
    """

    peppered = False

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._secrets: dict[bytes, tuple[str, float | None]] = {}
        self._groups: dict[str, Group] = {}
        self._listeners = Listeners()
        self.counters: MultiWindowSupport = MemoryStorage()

    async def find(self, digest: bytes) -> Found | None:
        key_id, valid_until = self._secrets.get(digest, (None, None))
        if key_id is None:
            return None
        key = self._keys[key_id]
        return Found(key, self._groups.get(key.group), valid_until)

    def watch(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        return self._listeners.add(listener)

    async def insert(self, key: ApiKey, digest: bytes) -> None:
        if digest in self._secrets:
            raise InputError("key", "is already in use")
        self._keys[key.id] = key
        self._secrets[digest] = (key.id, None)
        self._listeners.tell(key.id)

    async def get(self, key_id: str) -> ApiKey:
        try:
            return self._keys[key_id]
        except KeyError:
            raise NotFound(f"no key has the id {key_id!r}") from None

    async def list_keys(self, where: KeyFilter, *, limit: int, after: str | None) -> list[ApiKey]:
        newest_first = list(reversed(self._keys.values()))
        if after is not None:
            await self.get(after)
            position = next(at for at, key in enumerate(newest_first) if key.id == after)
            newest_first = newest_first[position + 1 :]
        return [key for key in newest_first if _matches(key, where)][:limit]

    async def change(self, key_id: str, changes: Mapping[str, Any]) -> ApiKey:
        changed = self._keys[key_id] = replace(await self.get(key_id), **changes)
        self._listeners.tell(key_id)
        return changed

    async def delete(self, key_id: str) -> None:
        await self.get(key_id)
        del self._keys[key_id]
        self._secrets = {digest: held for digest, held in self._secrets.items() if held[0] != key_id}
        self._listeners.tell(key_id)

    async def add_secret(self, key: ApiKey, digest: bytes, *, old_until: float) -> None:
        current = await self.get(key.id)
        if digest in self._secrets:
            raise InputError("key", "is already in use")
        for known, (owner, until) in list(self._secrets.items()):
            if owner == key.id:
                self._secrets[known] = (owner, old_until if until is None else min(until, old_until))
        self._secrets[digest] = (key.id, None)
        self._keys[key.id] = replace(current, hint=key.hint, updated_at=key.updated_at)
        self._listeners.tell(key.id)

    async def get_group(self, name: str) -> Group:
        try:
            return self._groups[name]
        except KeyError:
            raise NotFound(f"no group is named {name!r}") from None

    async def list_groups(self) -> list[Group]:
        return [self._groups[name] for name in sorted(self._groups)]

    async def put_group(self, group: Group, *, create: bool) -> None:
        if create and group.name in self._groups:
            raise InputError("name", f"a group named {group.name!r} exists already")
        if not create:
            await self.get_group(group.name)
        self._groups[group.name] = group
        self._listeners.tell(None)

    async def delete_group(self, name: str) -> None:
        await self.get_group(name)
        del self._groups[name]
        self._listeners.tell(None)


def _matches(key: ApiKey, where: KeyFilter) -> bool:
    return (
        (where.search is None or where.search.casefold() in f"{key.name} {key.hint}".casefold())
        and (where.group is None or key.group == where.group)
        and (where.enabled is None or key.enabled == where.enabled)
        and (where.owner is None or key.owner == where.owner)
    )
