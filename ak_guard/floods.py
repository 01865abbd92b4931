"""Too many strangers: how often one address may try keys that nobody holds."""

from __future__ import annotations

import asyncio
import math
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ak_guard.address import Address, IPSet
from ak_guard.budgets.base import Ask, Shortfall
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.budgets.windows import Window
from ak_guard.loops import PerLoop
from ak_guard.records import Denial, Limit
from ak_guard.throttle import REFUSALS, Line, Throttle

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from ak_guard.budgets.base import Grant

# So many look-ups one address may have under way; callers without an address of their own share them.
MAX_LOOKUPS: Final = 64
# With so few under way nobody floods.
_FEW_LOOKUPS: Final = 8
# Of keys that nobody holds so many a second are looked up for those without an address of their own who flood.
_UNKNOWN_A_SECOND: Final = 100
_SHARED: Final = ""
_PRIVATE: Final = IPSet.private()
# Throttles that are over are swept once there are more than so many, or twice as many as the last time.
_SWEEP_FROM: Final = 1_024


class FailureLimit:
    """Count failed attempts per address (IPv6: per /64). A throttled address keeps one look-up a second.

    Only keys that nobody holds count, and look-ups that the caller did not wait for. Addresses that are unknown,
    loopback or private may stand for many callers, so they are never throttled. Each address has a cap on look-ups at a
    time; the shared ones have one between them. No address has more under way than may still fail, so that many at once
    are no way round the limit: who comes then waits for a turn. With `delays` refusals wait as well where there are
    many; `monotonic` is what that is measured by, in seconds.
    """

    def __init__(
        self, limit: Limit | None, *, delays: bool = True, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._delays = delays
        self._monotonic = monotonic
        self._window = None if limit is None else Window.of(limit)
        self._one = [] if self._window is None else [Ask(self._window, 1)]
        self._none = [] if self._window is None else [Ask(self._window, 0)]
        self._counters = MemoryStorage()
        self._throttles: dict[str, Throttle] = {}
        # Refusals of those who have no address of their own, and keys of theirs that nobody holds.
        self._shared = Line(REFUSALS)
        self._unknown = Line(_UNKNOWN_A_SECOND)
        self._sweep_at = _SWEEP_FROM
        self._running: PerLoop[dict[str, Lookups]] = PerLoop(dict)

    def attempt(self, client: Address | None, now: float) -> Attempt | Lookups | Denial:
        """May this address look up a key that it may have made up? The look-up belongs within the attempt.

        Where no more of its look-ups may be under way, these: it may ask again when one of them has ended.
        """
        subject = _subject(client)
        throttle = self._throttles.get(subject)
        if throttle is not None and (wait := throttle.spared_in(now)):
            return _too_many(wait)
        running = self._running.get()
        lookups = running.get(subject)
        if lookups is None:
            lookups = running[subject] = Lookups()
        elif self._is_crowded(subject, lookups, now):
            return lookups if lookups.waiting < MAX_LOOKUPS else _too_many(1)
        elif self._window is not None and lookups.count >= MAX_LOOKUPS:
            return _too_many(1)
        if throttle is not None:
            throttle.spare(now)
        return Attempt(self, running, subject, now)

    async def refused(self, client: Address | None, denial: Denial) -> Denial:
        """The same refusal, when its turn has come."""
        if self._delays:
            subject = _subject(client)
            throttle = self._throttles.get(subject)
            line = self._shared if subject == _SHARED else None if throttle is None else throttle.line
            if line is not None:
                await line.wait(self._monotonic())
        return denial

    def failed(self, client: Address | None, now: float) -> float:
        """A key turned out to be nobody's. For how many seconds the look-up is to last on.

        Shared addresses have no limit; but where they have many look-ups under way, each lasts until its turn.
        """
        subject = _subject(client)
        if subject != _SHARED:
            self.count(subject, now)
        elif self._window is not None and self._delays:
            lookups = self._running.get().get(subject)
            if lookups is not None and lookups.count > _FEW_LOOKUPS:
                return self._unknown.turn(self._monotonic())
        return 0.0

    def repeated(self, client: Address | None, now: float) -> Denial | None:
        """A key came again that is remembered as nobody's: counted, and refused without a look-up."""
        outcome = self.count(_subject(client), now)
        return _too_many(math.ceil(outcome.ends[0] - now)) if isinstance(outcome, Shortfall) else None

    def count(self, subject: str, now: float) -> Grant | Shortfall | None:
        """One more failure, None where failures are not counted."""
        if self._window is None or subject == _SHARED:
            return None
        outcome = self._counters.spend(subject, self._one, now=now)
        if outcome.used[0] >= self._window.amount:
            throttle = self._throttles.get(subject)
            if throttle is None or throttle.is_over(now):
                self._sweep(now)
                self._throttles[subject] = Throttle(now, outcome.ends[0])
        return outcome

    def _is_crowded(self, subject: str, lookups: Lookups, now: float) -> bool:
        """Whether as many look-ups are under way as may still fail."""
        if self._window is None or subject == _SHARED:
            return False
        failed = self._counters.spend(subject, self._none, now=now).used[0]
        return failed + lookups.count >= self._window.amount

    def _sweep(self, now: float) -> None:
        if len(self._throttles) >= self._sweep_at:
            self._throttles = {subject: kept for subject, kept in self._throttles.items() if not kept.is_over(now)}
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._throttles))


class Lookups:
    """Those of one address that are under way, and how many requests wait for one of them to end."""

    __slots__ = ("_ended", "count", "waiting")

    def __init__(self) -> None:
        self.count: int = 0
        self.waiting: int = 0
        self._ended: asyncio.Future[None] | None = None

    async def next_end(self) -> None:
        """Wait for one of them to end."""
        self._ended = self._ended or asyncio.get_running_loop().create_future()
        self.waiting += 1
        try:
            # Not awaited itself: whoever gives up waiting takes it from nobody.
            await asyncio.wait([self._ended])
        finally:
            self.waiting -= 1

    def end(self) -> None:
        """One of them has ended."""
        self.count -= 1
        if self._ended is not None:
            self._ended.set_result(None)
            self._ended = None


class Attempt:
    """One look-up of a key that may be made up. Whoever goes away meanwhile has failed."""

    __slots__ = ("_limit", "_now", "_running", "_subject")

    def __init__(self, limit: FailureLimit, running: dict[str, Lookups], subject: str, now: float) -> None:
        self._limit = limit
        self._running = running
        self._subject = subject
        self._now = now

    def __enter__(self) -> None:
        self._running[self._subject].count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lookups = self._running[self._subject]
        lookups.end()
        if not lookups.count:
            del self._running[self._subject]
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self._limit.count(self._subject, self._now)


# Addresses are remembered where they are parsed, so the same caller is the same object.
@lru_cache(maxsize=8_192)
def _subject(client: Address | None) -> str:
    return _SHARED if client is None or client in _PRIVATE else client.bucket


# Whoever floods is told the same for a second.
@lru_cache(maxsize=64)
def _too_many(retry_after: int) -> Denial:
    return Denial(
        "too_many_failures", "Too many unknown API keys came from this address.", retry_after=max(1, retry_after)
    )
