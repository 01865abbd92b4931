"""Too many strangers: how often one address may try keys that nobody holds."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

from ak_guard.address import Address, IPSet
from ak_guard.budgets.base import Ask, Lease, Shortfall
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.budgets.windows import Window
from ak_guard.loops import PerLoop
from ak_guard.records import Denial, Limit

if TYPE_CHECKING:
    from types import TracebackType

# Callers without an address of their own, such as everybody behind one proxy, share this many look-ups at a time.
MAX_SHARED_LOOKUPS: Final = 64
_ONE_A_SECOND: Final = Window(1, 1)


class FailureLimit:
    """Count failed attempts per address (IPv6: per /64). A throttled address keeps one look-up a second.

    Only keys that nobody holds count. Addresses that are unknown, loopback or private may stand for many callers, so
    they are never throttled; they share a cap on look-ups at a time.
    """

    def __init__(self, limit: Limit | None) -> None:
        self._window = None if limit is None else Window.of(limit)
        self._counters = MemoryStorage()
        self._private = IPSet.private()
        self._attempts = itertools.count()
        self._shared: PerLoop[list[int]] = PerLoop(lambda: [0])

    def attempt(self, client: Address | None) -> _Attempt:
        """One look-up of a key that is not known to be good: `async with` it."""
        return _Attempt(self, client)

    async def admit(self, client: Address | None, now: float) -> Denial | str:
        """May this address look up a key that it may have made up? A refusal, or the name of the attempt.

        The attempt counts as failed from here on, also when the caller does not wait for the answer.
        """
        if self._window is None:
            return ""
        if self._is_shared(client):
            running = self._shared.get()
            return _too_many(1) if running[0] >= MAX_SHARED_LOOKUPS else ""
        subject = client.bucket if client else ""
        attempt = Lease(str(next(self._attempts)), "", now + self._window.seconds)
        if await self._counters.acquire(subject, [Ask(self._window, 1)], lease=attempt, now=now):
            return attempt.id
        # Nobody is locked out for good: a right key gets through within a second.
        spared = await self._counters.acquire(f"{subject}/spared", [Ask(_ONE_A_SECOND, 1)], lease=None, now=now)
        return _too_many(math.ceil(spared.ends[0] - now)) if isinstance(spared, Shortfall) else ""

    async def succeeded(self, attempt: str) -> None:
        """The key is somebody's: the attempt does not count."""
        if attempt and self._window is not None:
            await self._counters.give_back(attempt, {self._window.slot: 1})

    async def repeated(self, client: Address | None, now: float) -> Denial | None:
        """A key came again that is remembered as nobody's: counted, and refused without a look-up."""
        if self._window is None or self._is_shared(client):
            return None
        subject = client.bucket if client else ""
        outcome = await self._counters.acquire(subject, [Ask(self._window, 1)], lease=None, now=now)
        return _too_many(math.ceil(outcome.ends[0] - now)) if isinstance(outcome, Shortfall) else None

    def _is_shared(self, client: Address | None) -> bool:
        return client is None or client in self._private


class _Attempt:
    __slots__ = ("_floods", "_shared")

    def __init__(self, floods: FailureLimit, client: Address | None) -> None:
        self._floods = floods
        self._shared = floods._shared.get() if floods._is_shared(client) else None  # noqa: SLF001  # its own helper

    async def __aenter__(self) -> None:
        if self._shared is not None:
            self._shared[0] += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shared is not None:
            self._shared[0] -= 1


def _too_many(retry_after: int) -> Denial:
    return Denial(
        "too_many_failures", "Too many unknown API keys came from this address.", retry_after=max(1, retry_after)
    )
