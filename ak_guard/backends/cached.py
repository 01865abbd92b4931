"""Any backend, remembered: who holds a key, and that nobody does. One look-up per key at a time, a bounded size."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cachetools import LRUCache

from ak_guard.backends.base import TellsChanges
from ak_guard.errors import AkGuardError, BackendError
from ak_guard.loops import PerLoop
from ak_guard.records import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.backends.base import Found, KeyLookup

log: Final = logging.getLogger(__name__)

#: A miss is remembered for so long at most: a key that was just created must work soon.
MISS_SECONDS: Final = 5.0

T = TypeVar("T")


class Entry(Generic[T]):
    """What a look-up said and when; `value` is None where nobody holds the key."""

    __slots__ = ("asked_at", "found", "fresh_until", "value")

    def __init__(self, value: T | None, found: Found | None, asked_at: float, fresh_until: float) -> None:
        self.value: T | None = value
        self.found: Found | None = found
        self.asked_at: float = asked_at
        self.fresh_until: float = fresh_until

    @property
    def key_id(self) -> str | None:
        return None if self.found is None else self.found.key.id


class _Entries(LRUCache[bytes, Entry[T]]):
    """Entries by digest, and by key: a change of one key costs the same however many are remembered."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._digests: dict[str | None, tuple[bytes, ...]] = {}

    def of(self, key_id: str) -> list[Entry[T]]:
        return [self[digest] for digest in self._digests.get(key_id, ()) if digest in self]

    def __setitem__(self, digest: bytes, entry: Entry[T], *more: Any) -> None:
        # First, so that whatever happens nothing is remembered that a change would not find.
        self._digests[entry.key_id] = (*self._others(entry.key_id, digest), digest)
        super().__setitem__(digest, entry, *more)

    def __delitem__(self, digest: bytes, *more: Any) -> None:
        key_id = self[digest].key_id
        super().__delitem__(digest, *more)
        if others := self._others(key_id, digest):
            self._digests[key_id] = others
        else:
            self._digests.pop(key_id, None)

    def _others(self, key_id: str | None, digest: bytes) -> tuple[bytes, ...]:
        return tuple(other for other in self._digests.get(key_id, ()) if other != digest)


class CachedLookup(Generic[T]):
    """Remember for `ttl` seconds what a backend said, prepared by `prepare` once instead of once per request.

    `on_change` is told of each change after it counts here.

    While the backend is down, a key that it knew goes on for `stale_if_error` seconds after the last good answer.
    Keys are known here by digest only.
    """

    def __init__(
        self,
        lookup: KeyLookup,
        prepare: Callable[[Found], T],
        *,
        ttl: float,
        size: int,
        stale_if_error: float,
        on_change: Callable[[str | None], None] | None = None,
    ) -> None:
        self._lookup = lookup
        self._prepare = prepare
        self._ttl = ttl
        self._stale = stale_if_error
        self._on_change = on_change
        # LRU with the deadline in the value: a TTLCache costs six times as much to read.
        self._entries: _Entries[T] = _Entries(size)
        self._misses: LRUCache[bytes, Entry[T]] = LRUCache(size)
        self._flights: PerLoop[dict[tuple[bytes, int], asyncio.Future[Entry[T]] | None]] = PerLoop(dict)
        self._changes = 0
        # One process may serve from several event loops, each in a thread of its own.
        self._lock = threading.Lock()
        self._unwatch: Callable[[], None] | None = None
        self.start()

    def start(self) -> None:
        """Listen to the backend's changes, where it tells them."""
        if self._unwatch is None and isinstance(self._lookup, TellsChanges):
            self._unwatch = self._lookup.watch(self.drop)

    def get(self, digest: bytes, now: float) -> Entry[T] | None:
        """What is remembered and still fresh. A clock that was set back makes it stale."""
        entry: Entry[T] | None
        try:
            # Not get(), which looks for the digest four times.
            entry = self._entries[digest]
        except KeyError:
            entry = self._misses.get(digest)
        if entry is not None and entry.asked_at <= now < entry.fresh_until:
            return entry
        return None

    def knows(self, digest: bytes) -> bool:
        """Whether the key was known when it was last looked up, however long ago."""
        return digest in self._entries

    def is_asking(self, digest: bytes) -> bool:
        """Whether somebody is asking about this key now, so that another would only wait for the same answer."""
        flights = self._flights.get()
        return bool(flights) and (digest, self._changes) in flights

    async def resolve(self, digest: bytes, now: float) -> Entry[T]:
        """Ask the backend, unless somebody is asking for the same key already: then wait for that answer.

        Raises `BackendError` when it cannot be reached and what is remembered is too old.
        """
        try:
            return await self._fly(digest, now)
        except BackendError:
            entry = self._entries.get(digest)
            if entry is None or not 0 <= now - entry.asked_at < self._stale:
                raise
            log.warning("the key backend is down; key %s goes on with what was known", entry.key_id)
            return entry

    async def _fly(self, digest: bytes, now: float) -> Entry[T]:
        # A question asked before a change is no answer to those who come after it.
        question = (digest, self._changes)
        flights = self._flights.get()
        while question in flights:
            flight = flights[question] = flights[question] or asyncio.get_running_loop().create_future()
            # Waited for without being awaited, so that a caller who gives up takes the answer from nobody.
            await asyncio.wait([flight])
            if not flight.cancelled():
                return flight.result()
            # Whoever asked went away; one of those who waited asks next, the others find what it was told.
            if (entry := self.get(digest, now)) is not None:
                return entry
        # Most are asked about by one alone; the future is made by the first who joins.
        flights[question] = None
        try:
            entry = await self._ask(digest, now)
        except Exception as error:
            if (joined := flights.pop(question)) is not None:
                joined.set_exception(error)
                joined.exception()  # seen here; those who wait see it too
            raise
        except BaseException:
            if (joined := flights.pop(question)) is not None:
                joined.cancel()
            raise
        if (joined := flights.pop(question)) is not None:
            joined.set_result(entry)
        return entry

    async def _ask(self, digest: bytes, now: float) -> Entry[T]:
        changes = self._changes
        try:
            found = await self._lookup.find(digest)
            value = None if found is None else self._prepared(digest, found)
        except AkGuardError:
            raise
        except Exception as error:
            # Somebody else's backend failed in its own way: that too is an outage and not a reason to answer 500. Only
            # the kind of error is told: its text may hold the digest.
            log.error("the key backend %s failed with %s", type(self._lookup).__name__, type(error).__name__)
            raise BackendError("the key backend failed") from error
        ttl = min(self._ttl, MISS_SECONDS) if found is None else self._ttl
        entry = Entry(value, found, now, now + ttl)
        # What other threads read meanwhile may upset the order of the least recently used: then this is asked again.
        with self._lock:
            if changes == self._changes:
                try:
                    self._remember(digest, entry)
                except RuntimeError:
                    log.debug("a cache was read from another thread while an answer was put into it")
        return entry

    def _remember(self, digest: bytes, entry: Entry[T]) -> None:
        kept, other = (self._misses, self._entries) if entry.value is None else (self._entries, self._misses)
        if digest in other:
            del other[digest]
        if digest in kept:
            # Not replaced: the newest answer is the last to be forgotten.
            del kept[digest]
        kept[digest] = entry

    def _prepared(self, digest: bytes, found: Found) -> T:
        """Most look-ups find what was known before, and preparing costs more than comparing."""
        known = self._entries.get(digest)
        # Only frozen records can be compared with what they were.
        if known is not None and known.value is not None and type(found.key) is ApiKey and known.found == found:
            return known.value
        return self._prepare(found)

    def drop(self, key_id: str | None) -> None:
        """Forget one key, or everything. An answer on its way is used once but not remembered."""
        with self._lock:
            self._changes += 1
            self._misses.clear()
            for entry in list(self._entries.values()) if key_id is None else self._entries.of(key_id):
                # It stays known, so that its holder is not taken for a stranger, but it counts for nothing.
                entry.asked_at = entry.fresh_until = -math.inf
        if self._on_change is not None:
            self._on_change(key_id)

    async def aclose(self) -> None:
        """Stop listening. What is being asked is answered to those who wait."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
