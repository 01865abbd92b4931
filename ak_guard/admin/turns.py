"""One at a time for each address."""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

from ak_guard.loops import PerLoop


class Turns:
    """Who guesses a token waits until the guess before it was counted, so that many at once are no way round a limit.

    `async with turns.of(bucket):` A lock lives while somebody holds it or waits for it.
    """

    def __init__(self) -> None:
        self._locks: PerLoop[WeakValueDictionary[str, asyncio.Lock]] = PerLoop(WeakValueDictionary)

    def of(self, bucket: str) -> asyncio.Lock:
        """The lock of this address in the running event loop."""
        locks = self._locks.get()
        lock = locks.get(bucket)
        if lock is None:
            lock = locks[bucket] = asyncio.Lock()
        return lock
