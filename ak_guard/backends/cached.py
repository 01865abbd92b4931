"""Any backend, remembered: who holds a key, and that nobody does. One look-up per key at a time, a bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cachetools import LRUCache

from ak_guard.backends.base import TellsChanges
from ak_guard.errors import AkGuardError, BackendError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.backends.base import Found, KeyLookup

log: Final = logging.getLogger(__name__)

#: A miss is remembered for so long at most: a key that was just created must work soon.
MISS_SECONDS: Final = 5.0

T = TypeVar("T")


class Entry(Generic[T]):
    """What a look-up said and when; `value` is None where nobody holds the key."""

    __slots__ = ("asked_at", "fresh_until", "key_id", "value")

    def __init__(self, value: T | None, key_id: str | None, asked_at: float, fresh_until: float) -> None:
        self.value: T | None = value
        self.key_id: str | None = key_id
        self.asked_at: float = asked_at
        self.fresh_until: float = fresh_until


class CachedLookup(Generic[T]):
    """Remember for `ttl` seconds what a backend said, prepared by `prepare` once instead of once per request.

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
    ) -> None:
        self._lookup = lookup
        self._prepare = prepare
        self._ttl = ttl
        self._stale = stale_if_error
        # LRU with the deadline in the value: a TTLCache costs six times as much to read.
        self._entries: LRUCache[bytes, Entry[T]] = LRUCache(size)
        self._misses: LRUCache[bytes, Entry[T]] = LRUCache(size)
        self._flights: PerLoop[dict[bytes, asyncio.Task[Entry[T]]]] = PerLoop(dict)
        self._changes = 0
        self._unwatch: Callable[[], None] | None = None
        self.start()

    def start(self) -> None:
        """Listen to the backend's changes, where it tells them."""
        if self._unwatch is None and isinstance(self._lookup, TellsChanges):
            self._unwatch = self._lookup.watch(self.drop)

    def get(self, digest: bytes, now: float) -> Entry[T] | None:
        """What is remembered and still fresh. A clock that was set back makes it stale."""
        entry = self._entries.get(digest)
        if entry is None:
            entry = self._misses.get(digest)
        if entry is not None and entry.asked_at <= now < entry.fresh_until:
            return entry
        return None

    def knows(self, digest: bytes) -> bool:
        """Whether the key was known when it was last looked up, however long ago."""
        return digest in self._entries

    async def resolve(self, digest: bytes, now: float) -> Entry[T]:
        """Ask the backend, together with everybody else who asks for the same key now.

        Raises `BackendError` when it cannot be reached and what is remembered is too old.
        """
        flights = self._flights.get()
        flight = flights.get(digest)
        if flight is None:
            flight = flights[digest] = asyncio.create_task(self._ask(digest, now))
            flight.add_done_callback(lambda _: flights.pop(digest, None))
        try:
            # Shielded: one caller that gives up must not take the answer from the others.
            return await asyncio.shield(flight)
        except BackendError:
            entry = self._entries.get(digest)
            if entry is None or not now - entry.asked_at < self._stale:
                raise
            log.warning("the key backend is down; key %s goes on with what was known", entry.key_id)
            return entry

    async def _ask(self, digest: bytes, now: float) -> Entry[T]:
        changes = self._changes
        try:
            found = await self._lookup.find(digest)
        except AkGuardError:
            raise
        except Exception as error:
            # Somebody else's backend failed in its own way: that too is an outage and not a reason to answer 500.
            log.exception("the key backend %s failed", type(self._lookup).__name__)
            raise BackendError("the key backend failed") from error
        if found is None:
            entry: Entry[T] = Entry(None, None, now, now + min(self._ttl, MISS_SECONDS))
        else:
            entry = Entry(self._prepare(found), found.key.id, now, now + self._ttl)
        if changes == self._changes:
            self._entries.pop(digest, None)
            self._misses.pop(digest, None)
            (self._misses if found is None else self._entries)[digest] = entry
        return entry

    def drop(self, key_id: str | None) -> None:
        """Forget one key, or everything. An answer on its way is used once but not remembered."""
        self._changes += 1
        self._misses.clear()
        for entry in list(self._entries.values()):
            if key_id is None or entry.key_id == key_id:
                # It stays known, so that its holder is not taken for a stranger, but it no longer counts for anything.
                entry.asked_at = entry.fresh_until = -math.inf

    async def aclose(self) -> None:
        """Stop listening and let look-ups on their way end."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        for flights in self._flights.drain():
            for flight in list(flights.values()):
                with contextlib.suppress(BackendError, asyncio.CancelledError):
                    await flight
