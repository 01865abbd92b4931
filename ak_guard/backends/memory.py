"""Keys in the process: for tests, examples and services that load their keys at start."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from heapq import nlargest, nsmallest
from typing import TYPE_CHECKING, Any, Final

from cachetools import TTLCache

from ak_guard.audit import ONCE_SECONDS, Entered, Trail, entered
from ak_guard.backends.base import Found, replaced_already
from ak_guard.backends.memory_bulletin import MemoryBulletin
from ak_guard.backends.tokens import MemoryTokens
from ak_guard.backends.watch import Listeners
from ak_guard.backends.workers import follow_all, listed
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.errors import InputError, NotFound, Repeated
from ak_guard.listing import STATES, KeyCounts, ListedKey, matches, rank, standing, states_of
from ak_guard.usage.recent import RecentUsage
from ak_guard.usage.summaries import summary
from ak_guard.versions import refuse_changed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ak_guard.audit import AuditEntry, AuditFilter, Note
    from ak_guard.backends.bulletin import SharedBulletin
    from ak_guard.backends.tokens import TokenStore
    from ak_guard.backends.workers import Confirmation, Worker
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.listing import KeyFilter, Walk
    from ak_guard.records import ApiKey, Group
    from ak_guard.usage.records import KeyUse, LastUsed, UsageRecord
    from ak_guard.usage.summaries import Period, UsageSummary

_REQUESTS: Final = 10_000


class MemoryBackend:
    """A backend without a store, and the public test double: give the same object to a manager and a middleware.

    Its keys and counters are plain data of the process and are gone with it. It may be used from any event loop.
    """

    peppered = False
    keeps_usage_durably = False

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._secrets: dict[bytes, tuple[str, float | None]] = {}
        self._groups: dict[str, Group] = {}
        self.bulletin: SharedBulletin = (bulletin := MemoryBulletin())
        self._listeners = Listeners(bulletin.announce)
        self._requests: TTLCache[str, tuple[str, str]] = TTLCache(_REQUESTS, ONCE_SECONDS)
        self._trail = Trail()
        self._usage = RecentUsage()
        self.counters: MultiWindowSupport = MemoryStorage()
        self.tokens: TokenStore = MemoryTokens(self._trail)

    async def find(self, digest: bytes) -> Found | None:
        key_id, valid_until = self._secrets.get(digest, ("", None))
        # Another thread may have deleted it in this moment.
        key = self._keys.get(key_id)
        if key is None:
            return None
        return Found(key, self._groups.get(key.group), valid_until)

    def watch(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        return self._listeners.add(listener)

    def guarded(self, *, stale: float, counters: str) -> None:
        """Nothing: a guard in this process is told of changes directly."""

    async def touch(self, key_id: str) -> None:
        self._listeners.tell(key_id)

    async def workers(self) -> list[Worker]:
        """Those in other processes, which a key service tells of changes."""
        return await listed(self.bulletin)

    async def confirm(self, *, timeout: float) -> Confirmation:  # noqa: ASYNC109  # late is an answer, not an error
        return await follow_all(self.bulletin, timeout=timeout)

    async def insert(self, key: ApiKey, digest: bytes, *, note: Note) -> None:
        if note.once is not None and (made := self._requests.get(note.once.name)) is not None:
            raise Repeated(made[0], same=made[1] == note.once.content)
        if digest in self._secrets:
            raise InputError("key", "is already in use")
        if key.replaces is not None:
            old = await self.get(key.replaces)
            if old.replaced_by in self._keys:
                raise replaced_already(old)
            self._keys[old.id] = replace(old, replaced_by=key.id)
        self._keys[key.id] = key
        if note.once is not None:
            self._requests[note.once.name] = key.id, note.once.content
        self._trail.add(entered(note, None, key))
        self._secrets[digest] = (key.id, None)
        self._listeners.tell(key.id)

    async def get(self, key_id: str) -> ApiKey:
        try:
            return self._keys[key_id]
        except KeyError:
            raise NotFound(f"no key has the id {key_id!r}") from None

    async def walk(self, where: KeyFilter, walk: Walk, *, now: float) -> list[ListedKey]:
        def stands(listed: ListedKey) -> tuple[bool, str | float, str]:
            return rank(standing(listed, walk.order), walk.order)

        found = [listed for listed in self._listed() if matches(listed, where, now)]
        if walk.place is not None:
            at = rank(walk.place, walk.order)
            found = [listed for listed in found if (stands(listed) < at if walk.descending else stands(listed) > at)]
        nearest = nlargest if walk.descending else nsmallest
        return [self._beside_secrets(listed, now) for listed in nearest(walk.limit, found, key=stands)]

    async def count(self, where: KeyFilter, *, now: float) -> KeyCounts:
        others = where._replace(state=None)
        found = [listed for listed in self._listed() if matches(listed, others, now)]
        counted = Counter(state for listed in found for state in states_of(listed.key, now))
        return KeyCounts(len(found), *(counted[state] for state in STATES))

    async def change(self, key_id: str, changes: Mapping[str, Any], *, note: Note) -> ApiKey:
        current = await self.get(key_id)
        refuse_changed(current, note.version)
        changed = self._keys[key_id] = replace(current, **changes)
        self._trail.add(entered(note, current, changed))
        self._listeners.tell(key_id)
        return changed

    async def delete(self, key_id: str, *, note: Note) -> None:
        current = await self.get(key_id)
        refuse_changed(current, note.version)
        self._trail.add(entered(note, current, None))
        self._secrets = {digest: held for digest, held in self._secrets.items() if held[0] != key_id}
        del self._keys[key_id]
        self._listeners.tell(key_id)

    async def add_secret(self, key: ApiKey, digest: bytes, *, old_until: float, note: Note) -> ApiKey:
        current = await self.get(key.id)
        refuse_changed(current, note.version)
        if digest in self._secrets:
            raise InputError("key", "is already in use")
        for known, (owner, until) in list(self._secrets.items()):
            if owner == key.id:
                self._secrets[known] = (owner, old_until if until is None else min(until, old_until))
        self._secrets[digest] = (key.id, None)
        renewed = self._keys[key.id] = replace(current, hint=key.hint, updated_at=key.updated_at)
        self._trail.add(entered(note, current, renewed))
        self._listeners.tell(key.id)
        return renewed

    async def get_group(self, name: str) -> Group:
        try:
            return self._groups[name]
        except KeyError:
            raise NotFound(f"no group is named {name!r}") from None

    async def list_groups(self) -> list[Group]:
        return [self._groups[name] for name in sorted(self._groups)]

    async def put_group(self, group: Group, *, create: bool, note: Note) -> None:
        if create and group.name in self._groups:
            raise InputError("name", f"a group named {group.name!r} exists already")
        before = None if create else await self.get_group(group.name)
        if before is not None:
            refuse_changed(before, note.version)
        self._groups[group.name] = group
        self._trail.add(entered(note, before, group))
        self._listeners.tell(None)

    async def delete_group(self, name: str, *, note: Note) -> None:
        current = await self.get_group(name)
        refuse_changed(current, note.version)
        self._trail.add(entered(note, current, None))
        del self._groups[name]
        self._listeners.tell(None)

    async def note(self, note: Note, *, key_id: str | None, subject: str) -> None:
        self._trail.add(Entered(note.at, note.actor, note.action, key_id, subject, {}, dict(note.about)))

    async def audit(self, where: AuditFilter, *, limit: int, before: int | None) -> list[AuditEntry]:
        return self._trail.list(where, limit=limit, before=before)

    async def add_usage(self, batch_id: str, records: Sequence[UsageRecord]) -> None:
        self._usage.add(batch_id, records)

    async def usage(self, key_id: str | None, period: Period) -> UsageSummary:
        return summary(period, self._usage.of(key_id))

    async def records(
        self, key_id: str | None, *, since: float, code: str | None, limit: int, before: str | None
    ) -> list[UsageRecord]:
        return self._usage.newest(key_id, since=since, code=code, limit=limit, before=before)

    async def busiest(self, period: Period, *, limit: int) -> list[KeyUse]:
        return self._usage.busiest(period, limit)

    async def last_used(self, ids: Sequence[str]) -> dict[str, LastUsed]:
        return {key_id: self._usage.last[key_id] for key_id in ids if key_id in self._usage.last}

    async def calls_before(self, ids: Sequence[str], usual: Period) -> dict[str, dict[str, int]]:
        return self._usage.calls_before(ids, usual)

    async def recorded(self) -> tuple[float, float] | None:
        return self._usage.recorded()

    def _listed(self) -> Iterator[ListedKey]:
        for key in self._keys.values():
            used = self._usage.last.get(key.id)
            yield ListedKey(key) if used is None else ListedKey(key, used.at, used.ip)

    def _beside_secrets(self, listed: ListedKey, now: float) -> ListedKey:
        ends = [until for key_id, until in self._secrets.values() if key_id == listed.key.id and until is not None]
        last = max(ends, default=now)
        return replace(listed, old_secret_until=datetime.fromtimestamp(last, UTC)) if last > now else listed
