"""Any other storage of `limits`: test all windows, then hit all."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from limits.aio.storage import SlidingWindowCounterSupport, Storage
from limits.errors import StorageError

from ak_guard.budgets.base import Ask, Change, Grant, Lease, Level, MultiWindowSupport, Promise, Row, Shortfall
from ak_guard.budgets.rows import free_at
from ak_guard.errors import BudgetError, ConfigurationError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from ak_guard.budgets.windows import Window


class _Owed(NamedTuple):
    subject: str
    units: int
    now: float


class ForeignStorage(MultiWindowSupport):
    """A storage of `limits` that knows one window at a time.

    The promise is weaker: between test and hit another request may come, so that a refused one can leave its cost in
    some of the windows; it is never admitted past a limit. Nothing is given back and refunds are dropped. First-use
    and calendar windows need a storage that counts, sliding ones `SlidingWindowCounterSupport`. The storage's own clock
    decides when a window ends.
    """

    def __init__(self, storage: Storage) -> None:
        if not isinstance(storage, Storage):
            raise ConfigurationError(
                f"limits: {type(storage).__name__} is not an async storage of `limits`; use one of limits.aio.storage, "
                "or a URI such as async+redis://localhost:6379"
            )
        self._storage = storage
        # What was settled and is to be counted, by window and its name in the storage, in order.
        self._unposted: dict[tuple[Window, str], _Owed] = {}
        self._lock = threading.Lock()
        self._posting = PerLoop(asyncio.Lock)
        self._failures = 0

    @property
    def promise(self) -> Promise:
        return Promise(durable=False, shared=True, gives_back=False)

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:  # noqa: ARG002
        await self.flush()
        levels = [await self._measure(subject, window, now) for window, _, _ in asks]
        used = [row.used for row in levels]
        full = [i for i, (window, need, _) in enumerate(asks) if need and used[i] + need > window.amount]
        if not full:
            for i, (window, need, _) in enumerate(asks):
                if need:
                    used[i] = await self._hit(subject, window, need, now)
            full = [i for i, (window, need, _) in enumerate(asks) if need and used[i] > window.amount]
        if full:
            ends = [
                free_at(window, levels[i], need, now) if i in full else now for i, (window, need, _) in enumerate(asks)
            ]
            return Shortfall(full, used, ends)
        taken = [need for _, need, _ in asks]
        return Grant(taken, used, [row.end for row in levels], [0] * len(asks))

    async def forget(self, subject: str) -> None:
        """Nothing: the keys of a storage of `limits` cannot be listed; they end by themselves."""

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        """Nothing: storages of `limits` cannot take a hit back."""

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:  # noqa: ARG002
        await self.flush()
        rows = [await self._measure(subject, window, now) for window in windows]
        return [Level(row.used, 0, row.start if row.used else None, row.end if row.used else None) for row in rows]

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        for window in windows:
            if window.sliding:
                await self._ask(self._sliding.clear_sliding_window(window.key_for(subject), window.seconds))
            else:
                for key in {self._key(subject, window, now=0.0), window.key_for(subject)}:
                    await self._ask(self._storage.clear(key))

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        for change in changes:
            if change.units > 0:
                self._owe(change.window, _Owed(subject, change.units, now))

    async def flush(self) -> None:
        failures = self._failures
        # One at a time, so that who comes second does not go before what the first one counts.
        async with self._posting.get():
            if self._failures != failures:
                # Tried once more it would fail as late once more, for each who waits.
                raise BudgetError(f"the limits storage {type(self._storage).__name__} failed")
            while self._unposted:
                # Taken out first: a flush of another event loop does not count it as well.
                with self._lock:
                    at = next(iter(self._unposted), None)
                    owed = None if at is None else self._unposted.pop(at)
                if at is None or owed is None:
                    return
                try:
                    await self._hit(owed.subject, at[0], owed.units, owed.now)
                except BaseException as error:
                    self._owe(at[0], owed)
                    self._failures += isinstance(error, BudgetError)
                    raise

    def _owe(self, window: Window, owed: _Owed) -> None:
        """A stream may be charged very often while it goes on: what goes to one window is counted in one step."""
        at = (window, self._key(owed.subject, window, owed.now))
        with self._lock:
            before = self._unposted.get(at)
            self._unposted[at] = owed if before is None else owed._replace(units=owed.units + before.units)

    @property
    def _sliding(self) -> SlidingWindowCounterSupport:
        if not isinstance(self._storage, SlidingWindowCounterSupport):
            raise BudgetError(f"limits: {type(self._storage).__name__} of `limits` has no sliding windows")
        return self._storage

    def _key(self, subject: str, window: Window, now: float) -> str:
        start = f"/{int(window.bounds(now)[0])}" if window.anchor == "calendar" else ""
        return window.key_for(subject) + start

    async def _measure(self, subject: str, window: Window, now: float) -> Row:
        if window.sliding:
            before, _, used, _ = await self._ask(
                self._sliding.get_sliding_window(window.key_for(subject), window.seconds)
            )
            start, end = window.bounds(now)
            weighted = math.floor(before * (end - now) / window.seconds)
            return Row(start, end, 0, used + weighted)
        key = self._key(subject, window, now)
        used = await self._ask(self._storage.get(key))
        start, end = window.bounds(now)
        if used and window.anchor == "first-use":
            end = await self._ask(self._storage.get_expiry(key))
            start = end - window.seconds
        return Row(start, end, 0, used)

    async def _hit(self, subject: str, window: Window, units: int, now: float) -> int:
        if window.sliding:
            fits = await self._ask(
                self._sliding.acquire_sliding_window_entry(
                    window.key_for(subject), window.amount, window.seconds, units
                )
            )
            row = await self._measure(subject, window, now)
            return row.used if fits else max(row.used, window.amount + 1)
        _, end = window.bounds(now)
        key, expiry = self._key(subject, window, now), max(1, math.ceil(end - now))
        hits: int = await self._ask(self._storage.incr(key, expiry, units))
        return hits

    async def _ask(self, call: Awaitable[Any]) -> Any:
        try:
            return await call
        except Exception as error:
            if isinstance(error, StorageError) or isinstance(error, self._storage.base_exceptions):  # noqa: SIM101
                raise BudgetError(f"the limits storage {type(self._storage).__name__} failed") from error
            raise
