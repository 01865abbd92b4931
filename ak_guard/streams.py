"""The streams and websockets that are open, and their keys: looked up again now and then, and cut once not good."""

from __future__ import annotations

import asyncio
import logging
import math
from contextvars import Context
from typing import TYPE_CHECKING, Final

from ak_guard.backends.base import TellsChanges
from ak_guard.checks import check_state, keys_unavailable, unknown_key
from ak_guard.cutting import OpenStream, tasks_of
from ak_guard.errors import AkGuardError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Send

    from ak_guard.backends.base import KeyLookup
    from ak_guard.backends.cached import CachedLookup, Entry
    from ak_guard.checks import KeyRules
    from ak_guard.guard import Case
    from ak_guard.records import Denial
    from ak_guard.subject import Subject

log: Final = logging.getLogger("ak_guard")

# Between two rounds of looking keys up: a look-up during an outage may itself tell of a change.
_PAUSE_SECONDS: Final = 0.25
# How often a store that is away is asked about a key, and the least time between two look-ups that nothing prompted.
_RETRY_SECONDS: Final = 1.0
_AT_ONCE: Final = 16


class OpenStreams:
    """Those of one guard, in every event loop.

    The key of an open stream is looked up again when the backend tells a change, when it expires and when what is
    remembered of it is too old for a request (`ttl` seconds). While the backend is away the stream goes on until the
    last good answer is `stale_if_error` seconds old.
    """

    def __init__(
        self,
        backend: KeyLookup,
        known: CachedLookup[Subject],
        *,
        ttl: float,
        stale_if_error: float,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._watches = PerLoop(lambda: _Watch(known, ttl, stale_if_error, clock))
        self._unwatch: Callable[[], None] | None = None
        self.start()

    def start(self) -> None:
        """Listen to the backend's changes, where it tells them. After `known`, which has to forget first."""
        if self._unwatch is None and isinstance(self._backend, TellsChanges):
            self._unwatch = self._backend.watch(self._heard)

    def stop(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def enter(self, case: Case, send: Send) -> None:
        """The response to a request that was let in goes on."""
        assert case.subject is not None, "only who was let in has streams"  # noqa: S101  # told to the type checker
        watch = self._watches.get()
        case.stream = OpenStream(watch, send, case)
        watch.add(case.stream, case, case.subject)

    def _heard(self, key_id: str | None) -> None:
        for watch in self._watches.values():
            watch.heard(key_id)


class _Held:
    """One secret, by its digest, and its open streams. `confirmed` is when the backend last knew it."""

    __slots__ = ("confirmed", "digest", "key_id", "rules", "streams", "timer")

    def __init__(self, key_id: str, digest: bytes, rules: KeyRules, confirmed: float) -> None:
        self.key_id = key_id
        self.digest = digest
        self.rules = rules
        self.confirmed = confirmed
        self.streams: dict[OpenStream, None] = {}
        self.timer: asyncio.TimerHandle | None = None


class _Watch:
    """The open streams of one event loop."""

    def __init__(
        self, known: CachedLookup[Subject], ttl: float, stale_if_error: float, clock: Callable[[], float]
    ) -> None:
        self._known = known
        self._ttl = max(ttl, _RETRY_SECONDS)
        self._stale = stale_if_error
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._keys: dict[str, dict[bytes, _Held]] = {}
        self._of: dict[OpenStream, _Held] = {}
        self._due: dict[str, None] = {}
        self._round: asyncio.Task[None] | None = None
        self._next_round: asyncio.TimerHandle | None = None
        self._not_before = -math.inf

    def add(self, stream: OpenStream, case: Case, subject: Subject) -> None:
        key_id = subject.key.id
        secrets = self._keys.setdefault(key_id, {})
        held = secrets.get(case.digest)
        entry = self._known.get(case.digest, self._clock())
        if held is None:
            confirmed = case.now if entry is None else entry.asked_at
            held = secrets[case.digest] = _Held(key_id, case.digest, subject.rules, confirmed)
        held.streams[stream] = None
        self._of[stream] = held
        if held.timer is None:
            self._arm(held)
        # What was changed since this request was judged was told before anybody listened for it.
        if entry is None or entry.value is not subject:
            self._ask(key_id)

    def remove(self, stream: OpenStream) -> None:
        held = self._of.pop(stream, None)
        if held is None:
            return
        del held.streams[stream]
        if not held.streams:
            if held.timer is not None:
                held.timer.cancel()
            secrets = self._keys[held.key_id]
            del secrets[held.digest]
            if not secrets:
                del self._keys[held.key_id]

    def heard(self, key_id: str | None) -> None:
        """Something changed. Any thread may call."""
        if self._keys and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._ask, key_id)
            except RuntimeError:
                # It was closed by its own thread just now, and its streams with it.
                return

    def _ask(self, key_id: str | None) -> None:
        """Look at a key, or at all of them, in the next round."""
        if key_id is None:
            self._due.update(dict.fromkeys(self._keys))
        elif key_id in self._keys:
            self._due[key_id] = None
        self._begin_round()

    def _begin_round(self) -> None:
        if not self._due or self._round is not None or self._next_round is not None:
            return
        pause = self._not_before - self._loop.time()
        if pause > 0:
            self._next_round = self._loop.call_later(pause, self._after_pause)
        else:
            # The request that happened to prompt it lends nothing of its context to what is done for others.
            self._round = self._loop.create_task(self._check_those_due(), context=Context())

    def _after_pause(self) -> None:
        self._next_round = None
        self._begin_round()

    async def _check_those_due(self) -> None:
        try:
            due, self._due = self._due, {}
            held = [one for key_id in due for one in self._keys.get(key_id, {}).values()]
            for first in range(0, len(held), _AT_ONCE):
                await asyncio.gather(*[self._check(one) for one in held[first : first + _AT_ONCE]])
        finally:
            self._round = None
            self._not_before = self._loop.time() + _PAUSE_SECONDS
        self._begin_round()

    async def _check(self, held: _Held) -> None:
        now = self._clock()
        wait = self._ttl
        try:
            entry = self._known.get(held.digest, now)
            # Nobody is cut for what is only remembered.
            if entry is None or _refusal(entry, now) is not None:
                entry = await self._known.resolve(held.digest, now)
        except AkGuardError:
            denial = check_state(held.rules, now)
            if denial is None and now - held.confirmed >= self._stale:
                denial = keys_unavailable()
            wait = _RETRY_SECONDS
        else:
            denial = _refusal(entry, now)
            # An answer that a change overtook counts for nothing; the change itself has asked again.
            if entry.value is not None and entry.asked_at > -math.inf:
                held.rules, held.confirmed = entry.value.rules, entry.asked_at
                wait = max(entry.fresh_until - now, _RETRY_SECONDS)
        if denial is None:
            self._arm(held, wait)
        elif held.streams:
            log.info("%s: %d open streams of key %s are cut", denial.code, len(held.streams), held.key_id)
            tasks = tasks_of([stream.case for stream in held.streams])
            for stream in tuple(held.streams):
                stream.cut(denial, tasks.get(stream.case))

    def _arm(self, held: _Held, wait: float | None = None) -> None:
        """Look again after `wait` seconds, or when the key or its secret expires."""
        if held.timer is not None:
            held.timer.cancel()
        if held.streams:
            left = max(held.rules.good_until - self._clock(), 0.01)
            held.timer = self._loop.call_later(min(left, wait or self._ttl), self._ask, held.key_id)


def _refusal(entry: Entry[Subject], now: float) -> Denial | None:
    return unknown_key() if entry.value is None else check_state(entry.value.rules, now)
