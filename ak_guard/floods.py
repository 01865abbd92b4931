"""Too many strangers: how often one address may try keys that nobody holds."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ak_guard.address import Address, IPSet
from ak_guard.budgets.base import Ask, Change, Shortfall
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.budgets.windows import Window
from ak_guard.loops import PerLoop
from ak_guard.records import Denial, Limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# So many look-ups one address may have under way; callers without an address of their own share them.
MAX_LOOKUPS: Final = 64
_SHARED: Final = ""
_ONE_A_SECOND: Final = Window(1, 1)


class FailureLimit:
    """Count failed attempts per address (IPv6: per /64). A throttled address keeps one look-up a second.

    Only keys that nobody holds count, and look-ups that the caller did not wait for. Addresses that are unknown,
    loopback or private may stand for many callers, so they are never throttled. Each address has a cap on look-ups at a
    time; the shared ones have one between them.
    """

    def __init__(self, limit: Limit | None) -> None:
        self._window = None if limit is None else Window.of(limit)
        self._counters = MemoryStorage()
        self._private = IPSet.private()
        self._running: PerLoop[Counter[str]] = PerLoop(Counter)

    async def admit(self, client: Address | None, now: float) -> Denial | None:
        """May this address look up a key that it may have made up?"""
        if self._window is None:
            return None
        subject = self._subject(client)
        if self._running.get()[subject] >= MAX_LOOKUPS:
            return _too_many(1)
        if subject == _SHARED:
            return None
        (level,) = await self._counters.peek(subject, [self._window], now=now)
        if level.used < self._window.amount:
            return None
        # Nobody is locked out for good: a right key gets through within a second.
        spared = await self._counters.acquire(f"{subject}/spared", [Ask(_ONE_A_SECOND, 1)], lease=None, now=now)
        return _too_many(math.ceil(spared.ends[0] - now)) if isinstance(spared, Shortfall) else None

    @asynccontextmanager
    async def attempt(self, client: Address | None, now: float) -> AsyncIterator[None]:
        """One look-up of a key that was admitted. Whoever goes away meanwhile has failed."""
        subject, running = self._subject(client), self._running.get()
        running[subject] += 1
        try:
            yield
        except asyncio.CancelledError:
            self._count(subject, now)
            raise
        finally:
            running[subject] -= 1
            if not running[subject]:
                del running[subject]

    def failed(self, client: Address | None, now: float) -> None:
        """A key turned out to be nobody's."""
        self._count(self._subject(client), now)

    async def repeated(self, client: Address | None, now: float) -> Denial | None:
        """A key came again that is remembered as nobody's: counted, and refused without a look-up."""
        if self._window is None or (subject := self._subject(client)) == _SHARED:
            return None
        outcome = await self._counters.acquire(subject, [Ask(self._window, 1)], lease=None, now=now)
        return _too_many(math.ceil(outcome.ends[0] - now)) if isinstance(outcome, Shortfall) else None

    def _count(self, subject: str, now: float) -> None:
        if self._window is not None and subject != _SHARED:
            self._counters.settle(subject, [Change(self._window, 1, None)], now=now)

    def _subject(self, client: Address | None) -> str:
        return _SHARED if client is None or client in self._private else client.bucket


def _too_many(retry_after: int) -> Denial:
    return Denial(
        "too_many_failures", "Too many unknown API keys came from this address.", retry_after=max(1, retry_after)
    )
