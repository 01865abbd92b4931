"""A strategy for `limits`: several items on one key, all or nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from limits.aio.storage import Storage
from limits.aio.strategies import RateLimiter
from limits.util import WindowStats

from ak_guard.budgets.base import Ask, MultiWindowSupport
from ak_guard.budgets.windows import Window
from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from limits import RateLimitItem
    from limits.storage import StorageTypes

    from ak_guard.budgets.base import Grant, Shortfall


class MultiWindowRateLimiter(RateLimiter):
    """`hit_all` takes from every window or from none; `hit` and `test` are the case of one."""

    def __init__(self, storage: StorageTypes, *, clock: Callable[[], float] = time.time) -> None:
        if not isinstance(storage, Storage) or not isinstance(storage, MultiWindowSupport):
            raise ConfigurationError(f"{type(storage).__name__} cannot take several windows in one step")
        super().__init__(storage)
        self._windows: MultiWindowSupport = storage
        self._clock = clock

    async def hit_all(self, windows: Sequence[RateLimitItem], *ids: str, cost: int = 1) -> Grant | Shortfall:
        """Take `cost` from every window of the subject `ids`, or from none. A `Shortfall` is false."""
        asks = [Ask(window, _need(window, cost)) for window in map(as_window, windows)]
        return await self._windows.acquire("/".join(ids), asks, lease=None, now=self._clock())

    async def hit(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        return bool(await self.hit_all([item], *identifiers, cost=cost))

    async def test(self, item: RateLimitItem, *identifiers: str, cost: int = 1) -> bool:
        window = as_window(item)
        (level,) = await self._windows.peek("/".join(identifiers), [window], now=self._clock())
        return level.used + _need(window, cost) <= window.amount

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        window = as_window(item)
        now = self._clock()
        (level,) = await self._windows.peek("/".join(identifiers), [window], now=now)
        return WindowStats(now if level.end is None else level.end, max(0, window.amount - level.used))

    async def clear(self, item: RateLimitItem, *identifiers: str) -> None:
        await self._windows.restart("/".join(identifiers), [as_window(item)])


def _need(window: Window, cost: int) -> int:
    return cost if window.unit == "units" else min(1, cost)


def as_window(item: RateLimitItem) -> Window:
    """Any item of `limits` as a first-use window of the same amount and length."""
    return item if isinstance(item, Window) else Window(item.amount, item.get_expiry())
