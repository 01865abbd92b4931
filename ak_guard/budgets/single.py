"""What `limits`' own strategies ask of a storage: one counter per key, beginning with its first hit."""

from __future__ import annotations

from abc import abstractmethod

from ak_guard.budgets.base import Change, MultiWindowSupport
from ak_guard.budgets.windows import Window


class SingleCounters(MultiWindowSupport):
    """These questions, answered with windows. To stand before `Storage` among the bases, which has none of them."""

    @abstractmethod
    def _time(self) -> float:
        """What time it is for calls that name none, in seconds since the epoch."""

    @abstractmethod
    async def _live(self, key: str, now: float) -> list[tuple[int, float]]:
        """What was used, and when that ends, in the windows of a key that have not ended at `now`."""

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        window, now = Window(amount, expiry), self._time()
        self.settle(key, [Change(window, amount, None)], now=now)
        return (await self.peek(key, [window], now=now))[0].used

    async def get(self, key: str) -> int:
        return sum(used for used, _ in await self._live(key, self._time()))

    async def get_expiry(self, key: str) -> float:
        now = self._time()
        return max((end for _, end in await self._live(key, now)), default=now)

    async def clear(self, key: str) -> None:
        await self.forget(key)
