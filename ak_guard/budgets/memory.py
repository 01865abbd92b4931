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
from ak_guard.budgets.base import Change, Grant, Lease, Level, Promise, Shortfall, SpendsAtOnce
from ak_guard.budgets.lent import Open, held, next_deadline
from ak_guard.budgets.purse import Purse
from ak_guard.budgets.single import SingleCounters
from ak_guard.budgets.slots import MemorySlots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ak_guard.budgets.base import Ask
    from ak_guard.budgets.slots import Slots
    from ak_guard.budgets.windows import Window

# Subjects are swept by the minute in which their last window ends, a few with each new one: no hit pays for all.
_SWEEP_SECONDS: Final = 64
_SWEEP_STEP: Final = 4


class MemoryStorage(SingleCounters, Storage, SpendsAtOnce):
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
        self.slots: Slots | None = MemorySlots()
        self._clock = clock
        self._subjects: dict[str, rows.Rows] = {}
        # What a purse has spent is counted in the rows when it is closed. One is open per subject at most.
        self._purses: dict[str, Purse] = {}
        self._leases: dict[str, Open] = {}
        self._due: dict[int, list[str]] = {}
        self._due_order: list[int] = []
        self._next_generation = itertools.count(1).__next__
        self._owed: deque[tuple[str, Sequence[Change], float]] = deque()

    @property
    def promise(self) -> Promise:
        return Promise(durable=False, shared=False)

    def spend(
        self,
        subject: str,
        asks: Sequence[Ask],
        *,
        now: float,
        waited: bool = False,  # noqa: ARG002  # nobody waits here
    ) -> Grant | Shortfall:
        mine = self._rows(subject)
        known = bool(mine)
        outcome = rows.take(mine, asks, now, self._next_generation)
        if not known and mine:
            self._subjects[subject] = mine
            self._remember_end(subject, mine)
            self._sweep(now)
        return outcome

    def unspend(self, subject: str, asks: Sequence[Ask], grant: Grant) -> None:
        mine = self._rows(subject)
        for ask, taken, generation in zip(asks, grant.taken, grant.generations, strict=True):
            if taken:
                rows.give_back(mine, ask.window.slot, taken, generation)

    def purse(self, subject: str, windows: Sequence[Window], *, now: float) -> Purse | None:
        opened = self._purses.get(subject)
        if opened is not None and now < opened.until and opened.windows == windows:
            return opened
        mine = self._rows(subject)
        current = [mine.get(window.slot) for window in windows]
        under_way = [row for row in current if row is not None and now < row.end]
        # What a sliding window has left changes by itself.
        if len(under_way) < len(windows) or any(window.sliding for window in windows):
            return None
        left = [max(0, window.amount - row.used) for window, row in zip(windows, under_way, strict=True)]
        ends = [row.end for row in under_way]
        generations = [row.generation for row in under_way]
        opened = Purse(windows, left=left, spare=left, ends=ends, generations=generations, until=min(ends), exact=True)
        self._purses[subject] = opened
        return opened

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        self._drop_dead_leases(now)
        if lease is not None and lease.renews:
            await self.give_back(lease.renews, lease.unspent)
        outcome = self.spend(subject, asks, now=now)
        if isinstance(outcome, Shortfall):
            slots = [asks[index].window.slot for index in outcome.full]
            return outcome._replace(
                retry_at=next_deadline(self._leases.values(), subject, slots, self._subjects.get(subject, {}))
            )
        if lease is not None:
            slots = [ask.window.slot for ask in asks]
            units = list(zip(slots, outcome.taken, outcome.generations, strict=True))
            self._leases[lease.id] = Open(subject, lease.worker, now + lease.seconds, units)
        return outcome

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        ended = self._leases.pop(lease_id, None)
        if ended is None:
            return
        mine = self._rows(ended.subject)
        for slot, taken, generation in ended.units:
            rows.give_back(mine, slot, min(taken, unspent.get(slot, 0)), generation)

    async def peek(
        self, subject: str, windows: Sequence[Window], *, now: float | None = None, need: int = 0
    ) -> list[Level]:
        """What the base class says; by the storage's own clock where no time is given."""
        now = self._clock() if now is None else now
        mine = self._rows(subject)
        self._drop_dead_leases(now)
        found = [(window, mine.get(window.slot)) for window in windows]
        leases = self._leases.values()
        return [
            rows.level(window, row, now, held=held(leases, subject, window.slot, row), need=need)
            for window, row in found
        ]

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        mine = self._rows(subject)
        for window in windows:
            mine.pop(window.slot, None)

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        # Endpoints that are no coroutines charge from threads, so it is only noted here and counted with the next call,
        # which a closed purse does not keep from coming.
        self._owed.append((subject, changes, now))
        if (opened := self._purses.get(subject)) is not None:
            opened.close()

    async def forget(self, subject: str) -> None:
        self._rows(subject)
        self._subjects.pop(subject, None)

    def _rows(self, subject: str) -> rows.Rows:
        """The rows of a subject with everything counted in them; not kept where there were none."""
        while self._owed:
            self._settle(*self._owed.popleft())
        self._close(subject)
        return self._subjects.get(subject, {})

    def _settle(self, subject: str, changes: Sequence[Change], now: float) -> None:
        self._close(subject)
        mine = self._subjects.setdefault(subject, {})
        known = bool(mine)
        for settled in changes:
            rows.change(mine, settled, now, self._next_generation)
        if not known:
            self._remember_end(subject, mine)

    def _close(self, subject: str) -> None:
        opened = self._purses.pop(subject, None)
        if opened is None:
            return
        opened.close()
        mine = self._subjects[subject]
        for window, spent in zip(opened.windows, opened.spent, strict=True):
            mine[window.slot].used += spent

    def _drop_dead_leases(self, now: float) -> None:
        """A lease past its deadline counts as spent."""
        for dead in [lease_id for lease_id, opened in self._leases.items() if now >= opened.deadline]:
            del self._leases[dead]

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
                self._purses.pop(subject, None)
                self._subjects.pop(subject, None)
            else:
                self._remember_end(subject, mine)
            if not self._due[due]:
                del self._due[due]
                heapq.heappop(self._due_order)

    # What `limits` asks of a storage

    @property
    def base_exceptions(self) -> type[Exception] | tuple[type[Exception], ...]:
        return ValueError

    def _time(self) -> float:
        return self._clock()

    async def _live(self, key: str, now: float) -> list[tuple[int, float]]:
        return [(row.used, row.end) for row in self._rows(key).values() if now < row.end]

    async def check(self) -> bool:
        return True

    async def reset(self) -> int | None:
        count = len(self._subjects)
        for opened in self._purses.values():
            opened.close()
        self._purses.clear()
        self._subjects.clear()
        self._leases.clear()
        self._due.clear()
        self._due_order.clear()
        return count
