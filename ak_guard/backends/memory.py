"""Keys in the process: for tests, examples and services that load their keys at start."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Any

from ak_guard.backends.base import Found
from ak_guard.backends.tokens import MemoryTokens
from ak_guard.backends.watch import Listeners
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.errors import InputError, NotFound
from ak_guard.listing import STATES, KeyCounts, ListedKey, matches, rank, standing, states_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ak_guard.backends.tokens import TokenStore
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.listing import KeyFilter, Walk
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
        self.tokens: TokenStore = MemoryTokens()

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

    async def walk(self, where: KeyFilter, walk: Walk, *, now: float) -> list[ListedKey]:
        def stands(listed: ListedKey) -> tuple[bool, str | float, str]:
            return rank(standing(listed, walk.order))

        found = [ListedKey(key) for key in self._keys.values() if matches(key, where, now)]
        if walk.place is not None:
            at = rank(walk.place)
            found = [listed for listed in found if (stands(listed) < at if walk.descending else stands(listed) > at)]
        nearest = nlargest if walk.descending else nsmallest
        return [self._beside_secrets(listed, now) for listed in nearest(walk.limit, found, key=stands)]

    async def count(self, where: KeyFilter, *, now: float) -> KeyCounts:
        others = where._replace(state=None)
        found = [key for key in self._keys.values() if matches(key, others, now)]
        counted = Counter(state for key in found for state in states_of(key, now))
        return KeyCounts(len(found), *(counted[state] for state in STATES))

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

    def _beside_secrets(self, listed: ListedKey, now: float) -> ListedKey:
        ends = [until for key_id, until in self._secrets.values() if key_id == listed.key.id and until is not None]
        last = max(ends, default=now)
        return replace(listed, old_secret_until=datetime.fromtimestamp(last, UTC)) if last > now else listed
