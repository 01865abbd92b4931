"""Counters in the process: exact under any concurrency within one event loop, gone with the process."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from limits.aio.storage import Storage

from ak_guard.budgets import rows
from ak_guard.budgets.base import Ask, Change, Grant, Lease, Level, MultiWindowSupport, Promise, Shortfall
from ak_guard.budgets.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Subjects are swept by the minute in which their last window ends, a few with each new one: no hit pays for all.
_SWEEP_SECONDS: Final = 64
_SWEEP_STEP: Final = 4


class MemoryStorage(Storage, MultiWindowSupport):
    """A storage of `limits` that takes several windows in one step and whose cost does not grow with live keys.

    No method suspends, so within one event loop nothing can come between check and take; loops that run in several
    threads at the same time may overrun a limit by as many calls as there are threads. `clock` rules the calls of
    `limits`' own strategies, which name no time.
    """

    STORAGE_SCHEME: list[str] | None = ["ak-guard+memory"]  # noqa: RUF012  # `limits` reads it so

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions, **options)
        self._clock = clock
        self._subjects: dict[str, rows.Rows] = {}
        self._leases: dict[str, tuple[Lease, str, list[tuple[str, int, int]]]] = {}
        self._due: dict[int, list[str]] = {}
        self._due_order: list[int] = []
        self._next_generation = itertools.count(1).__next__
        self._owed: deque[tuple[str, Sequence[Change], float]] = deque()

    @property
    def promise(self) -> Promise:
        return Promise(durable=False, shared=False)

    def acquire_at_once(self, subject: str, asks: Sequence[Ask], *, now: float) -> Grant | Shortfall | None:
        if self._owed:
            self._settle_owed()
        mine = self._subjects.get(subject)
        return None if mine is None else rows.take(mine, asks, now, self._next_generation)

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        self._settle_owed()
        mine = self._subjects.get(subject)
        known = mine is not None
        if mine is None:
            mine = {}
        outcome = rows.take(mine, asks, now, self._next_generation)
        if not known and mine:
            self._subjects[subject] = mine
            self._remember_end(subject, mine)
            self._sweep(now)
        if lease is not None and isinstance(outcome, Grant):
            self._drop_dead_leases(now)
            slots = [ask.window.slot for ask in asks]
            parts = list(zip(slots, outcome.taken, outcome.generations, strict=True))
            self._leases[lease.id] = (lease, subject, parts)
        return outcome

    def _drop_dead_leases(self, now: float) -> None:
        """A lease past its deadline counts as spent. The oldest stand first."""
        while self._leases:
            oldest = next(iter(self._leases))
            if now < self._leases[oldest][0].deadline:
                return
            del self._leases[oldest]

    async def give_back(self, lease_id: str, unspent: dict[str, int]) -> None:
        self._settle_owed()
        _, subject, parts = self._leases.pop(lease_id, (None, "", []))
        mine = self._subjects.get(subject, {})
        for slot, taken, generation in parts:
            rows.give_back(mine, slot, min(taken, unspent.get(slot, 0)), generation)

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        self._settle_owed()
        mine = self._subjects.get(subject, {})
        return [
            rows.level(window, mine.get(window.slot), now, held=self._held(subject, window), need=need)
            for window in windows
        ]

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        self._settle_owed()
        mine = self._subjects.get(subject, {})
        for window in windows:
            mine.pop(window.slot, None)

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        # Endpoints that are no coroutines charge from threads, so it is only noted here and counted with the next call.
        self._owed.append((subject, changes, now))

    def _settle_owed(self) -> None:
        while self._owed:
            subject, changes, now = self._owed.popleft()
            mine = self._subjects.setdefault(subject, {})
            known = bool(mine)
            for settled in changes:
                rows.change(mine, settled, now, self._next_generation)
            if not known:
                self._remember_end(subject, mine)

    async def forget(self, subject: str) -> None:
        self._subjects.pop(subject, None)

    def _held(self, subject: str, window: Window) -> int:
        """Units under open leases of this window. Only asked by people, so a scan is good enough."""
        return sum(
            taken
            for _, owner, parts in self._leases.values()
            for slot, taken, _ in parts
            if owner == subject and slot == window.slot
        )

    def _remember_end(self, subject: str, mine: rows.Rows) -> None:
        """Note when the last of a subject's windows can be forgotten."""
        last = max((rows.last_use(slot, row) for slot, row in mine.items()), default=-math.inf)
        if math.isinf(last):
            return
        due = int(last // _SWEEP_SECONDS) + 1
        if due not in self._due:
            self._due[due] = []
            heapq.heappush(self._due_order, due)
        self._due[due].append(subject)

    def _sweep(self, now: float) -> None:
        for _ in range(_SWEEP_STEP):
            if not self._due_order or self._due_order[0] * _SWEEP_SECONDS > now:
                return
            due = self._due_order[0]
            subject = self._due[due].pop()
            mine = self._subjects.get(subject, {})
            if all(now >= rows.last_use(slot, row) for slot, row in mine.items()):
                self._subjects.pop(subject, None)
            else:
                self._remember_end(subject, mine)
            if not self._due[due]:
                del self._due[due]
                heapq.heappop(self._due_order)

    # What `limits`' own strategies ask for: one counter per key, beginning with its first hit.

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return ValueError

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        window = Window(amount, expiry)
        now = self._clock()
        self.settle(key, [Change(window, amount, None)], now=now)
        self._settle_owed()
        return self._subjects[key][window.slot].used

    async def get(self, key: str) -> int:
        now = self._clock()
        return sum(row.used for row in self._subjects.get(key, {}).values() if now < row.end)

    async def get_expiry(self, key: str) -> float:
        return max((row.end for row in self._subjects.get(key, {}).values()), default=self._clock())

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        count = len(self._subjects)
        self._subjects.clear()
        self._leases.clear()
        self._due.clear()
        self._due_order.clear()
        return count

    async def clear(self, key: str) -> None:
        self._subjects.pop(key, None)
