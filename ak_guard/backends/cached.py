"""Any backend, remembered: who holds a key, and that nobody does. One look-up per key at a time, a bounded size."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from cachetools import FIFOCache

from ak_guard.backends.base import TellsChanges
from ak_guard.backends.outage import Outage
from ak_guard.errors import AkGuardError, BackendError
from ak_guard.loops import PerLoop
from ak_guard.records import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.backends.base import Found, KeyLookup

#: A miss is remembered for so long at most: a key that was just created must work soon.
MISS_SECONDS: Final = 5.0

# A key whose look-up failed is asked about anew by one request so often; the others do not wait for what may not come.
_AGAIN_SECONDS: Final = 1.0

log: Final = logging.getLogger(__name__)

T = TypeVar("T")


class Entry(Generic[T]):
    """What a look-up said and when; `value` is None where nobody holds the key.

    `tried_at` is when it was asked for again in vain.
    """

    __slots__ = ("asked_at", "found", "fresh_until", "tried_at", "value")

    def __init__(self, value: T | None, found: Found | None, asked_at: float, fresh_until: float) -> None:
        self.value: T | None = value
        self.found: Found | None = found
        self.asked_at: float = asked_at
        self.fresh_until: float = fresh_until
        self.tried_at: float = -math.inf

    @property
    def key_id(self) -> str | None:
        return None if self.found is None else self.found.key.id


class _Entries(FIFOCache[bytes, Entry[T] | None]):
    """Entries by digest, None where there is none; the oldest is forgotten first.

    A key in use is looked up anew each `ttl`, so the oldest entry is the one least used, and no order has to be kept by
    those who only read, in whichever thread.
    """

    def __missing__(self, digest: bytes) -> None:
        return None


class _EntriesOfKeys(_Entries[T]):
    """Entries by key, too: a change of one key costs the same however many are remembered."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._digests: dict[str | None, tuple[bytes, ...]] = {}

    def of(self, key_id: str | None) -> list[Entry[T]]:
        """Those of one key, or all."""
        digests = list(self) if key_id is None else self._digests.get(key_id, ())
        return [entry for digest in digests if (entry := self[digest]) is not None]

    def __setitem__(self, digest: bytes, entry: Entry[T] | None, *more: Any) -> None:
        assert entry is not None, "what is put in is an entry"  # noqa: S101  # told to the type checker
        if digest in self:
            # It may have been another key's.
            del self[digest]
        # First, so that whatever happens nothing is remembered that a change would not find.
        self._digests[entry.key_id] = (*self._others(entry.key_id, digest), digest)
        super().__setitem__(digest, entry, *more)

    def __delitem__(self, digest: bytes, *more: Any) -> None:
        entry = self[digest]
        super().__delitem__(digest, *more)
        if entry is not None and (others := self._others(entry.key_id, digest)):
            self._digests[entry.key_id] = others
        elif entry is not None:
            self._digests.pop(entry.key_id, None)

    def _others(self, key_id: str | None, digest: bytes) -> tuple[bytes, ...]:
        return tuple(other for other in self._digests.get(key_id, ()) if other != digest)


class CachedLookup(Generic[T]):
    """Remember for `ttl` seconds what a backend said, prepared by `prepare` once instead of once per request.

    `on_change` is told of each change after it counts here.

    While the backend is down, a key that it knew goes on for `stale_if_error` seconds after the last good answer. Only
    one request a second with this key then waits to see whether it is back.
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
        # The deadline is in the value: a TTLCache costs many times as much to read.
        self._entries: _EntriesOfKeys[T] = _EntriesOfKeys(size)
        self._misses: _Entries[T] = _Entries(size)
        self._flights: PerLoop[dict[tuple[bytes, int], asyncio.Future[Entry[T]] | None]] = PerLoop(dict)
        self._changes = 0
        self._outage = Outage("keys can be looked up again")
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
        entry = self._entries[digest] or self._misses[digest]
        if entry is not None and entry.asked_at <= now < entry.fresh_until:
            return entry
        return None

    def is_strange(self, digest: bytes) -> bool:
        """Whether this key may be anybody's invention: it was never known here, and nobody is asking about it now."""
        return digest not in self._entries and not self._is_asking(digest)

    async def resolve(self, digest: bytes, now: float) -> Entry[T]:
        """Ask the backend, unless somebody is asking for the same key already: then wait for that answer.

        Raises `BackendError` when it cannot be reached and what is remembered is too old.
        """
        # Each key for itself: one that cannot be read says nothing of the others, which may have been changed.
        if (known := self._failing(digest)) is not None and self._may_go_on(known, now):
            if self._is_asking(digest) or known.tried_at <= now < known.tried_at + _AGAIN_SECONDS:
                return known
            known.tried_at = now
        try:
            return await self._fly(digest, now)
        except BackendError as error:
            entry = self._entries[digest]
            if entry is None or not self._may_go_on(entry, now):
                raise
            entry.tried_at = now
            self._outage.began("keys cannot be looked up", error)
            return entry

    def _failing(self, digest: bytes) -> Entry[T] | None:
        """What is remembered of a key that was asked about in vain since."""
        known = None if self._outage.over else self._entries[digest]
        return known if known is not None and known.tried_at > -math.inf else None

    def _is_asking(self, digest: bytes) -> bool:
        flights = self._flights.get()
        return bool(flights) and (digest, self._changes) in flights

    def _may_go_on(self, entry: Entry[T], now: float) -> bool:
        return 0 <= now - entry.asked_at < self._stale

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
        if self._failing(digest) is not None:
            self._outage.ended()
        ttl = min(self._ttl, MISS_SECONDS) if found is None else self._ttl
        entry = Entry(value, found, now, now + ttl)
        with self._lock:
            if changes == self._changes:
                self._remember(digest, entry)
        return entry

    def _remember(self, digest: bytes, entry: Entry[T]) -> None:
        kept, other = (self._misses, self._entries) if entry.value is None else (self._entries, self._misses)
        if digest in other:
            del other[digest]
        kept[digest] = entry

    def _prepared(self, digest: bytes, found: Found) -> T:
        """Most look-ups find what was known before, and preparing costs more than comparing."""
        known = self._entries[digest]
        # Only frozen records can be compared with what they were.
        if known is not None and known.value is not None and type(found.key) is ApiKey and known.found == found:
            return known.value
        return self._prepare(found)

    def drop(self, key_id: str | None) -> None:
        """Forget one key, or everything. An answer on its way is used once but not remembered."""
        with self._lock:
            self._changes += 1
            self._misses.clear()
            for entry in self._entries.of(key_id):
                # It stays known, so that its holder is not taken for a stranger, but it counts for nothing.
                entry.asked_at = entry.fresh_until = -math.inf
        if self._on_change is not None:
            self._on_change(key_id)

    async def aclose(self) -> None:
        """Stop listening. What is being asked is answered to those who wait."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
