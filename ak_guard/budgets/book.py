"""The counters of one transaction: as they were read, and what becomes of them. `rows.py` has the arithmetic."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ak_guard.budgets import rows
from ak_guard.budgets.base import Shortfall
from ak_guard.budgets.lent import Open, next_deadline
from ak_guard.budgets.slots import noted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ak_guard.budgets.base import Grant
    from ak_guard.budgets.queue import Op, Owed
    from ak_guard.budgets.rows import Rows
    from ak_guard.budgets.slots import Holder, Share, Stake


@dataclass(slots=True, eq=False)
class Book:
    """Rows by subject and slot, and the open leases by id, of everybody who is asked about.

    `now` is the store's own time; None where the callers' times rule.
    """

    now: float | None
    rows: dict[str, Rows]
    leases: dict[str, Open]
    #: By subject and worker.
    holders: dict[str, dict[str, Holder]] = field(default_factory=dict)
    staked: set[tuple[str, str]] = field(default_factory=set)
    touched: set[tuple[str, str]] = field(default_factory=set)
    begun: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    def settle(self, settled: Owed) -> None:
        """Count what is owed."""
        mine = self.rows.setdefault(settled.subject, {})
        now = self._time(settled.subject, settled.now)
        for change in settled.changes:
            if rows.change(mine, change, now, _next_generation):
                self.touched.add((settled.subject, change.window.slot))

    def do(self, op: Op) -> Grant | Shortfall | Share | None:
        """Do what somebody waits for."""
        if op.kind == "acquire":
            return self._acquire(op)
        if op.stake is not None:
            return self._hold(op.subject, op.stake, op.now if self.now is None else self.now)
        if op.kind == "give_back":
            self._end(op.lease_id, op.unspent)
        elif op.kind == "restart":
            mine = self.rows.get(op.subject, {})
            for slot in list(mine) if op.slots is None else op.slots:
                mine.pop(slot, None)
                self.touched.add((op.subject, slot))
        return None

    def _acquire(self, op: Op) -> Grant | Shortfall | None:
        if op.lease is not None and op.lease.renews:
            self._end(op.lease.renews, op.lease.unspent)
        if op.abandoned:
            return None
        mine = self.rows.setdefault(op.subject, {})
        now = self._time(op.subject, op.now)
        outcome = rows.take(mine, op.asks, now, _next_generation)
        ends = [end - now + op.now for end in outcome.ends] if now != op.now else outcome.ends
        if isinstance(outcome, Shortfall):
            slots = [op.asks[index].window.slot for index in outcome.full]
            deadline = next_deadline(self.leases.values(), op.subject, slots, mine)
            retry_at = None if deadline is None else deadline - now + op.now
            return outcome._replace(ends=ends, retry_at=retry_at)
        slots = [ask.window.slot for ask in op.asks]
        self.touched.update((op.subject, slot) for slot, units in zip(slots, outcome.taken, strict=True) if units)
        if op.lease is not None:
            units = list(zip(slots, outcome.taken, outcome.generations, strict=True))
            self.leases[op.lease.id] = Open(op.subject, op.lease.worker, now + op.lease.seconds, units)
            self.begun.add(op.lease.id)
        return outcome._replace(ends=ends)

    def _hold(self, subject: str, stake: Stake, now: float) -> Share:
        holders = self.holders.setdefault(subject, {})
        before = holders.get(stake.worker)
        found = noted(holders, stake, now)
        if holders.get(stake.worker) is not before:
            self.staked.add((subject, stake.worker))
        return found

    def _end(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        ended = self.leases.pop(lease_id, None)
        if ended is None:
            return
        if lease_id in self.begun:
            self.begun.discard(lease_id)
        else:
            self.ended.add(lease_id)
        mine = self.rows.get(ended.subject, {})
        for slot, taken, generation in ended.units:
            if rows.give_back(mine, slot, min(taken, unspent.get(slot, 0)), generation):
                self.touched.add((ended.subject, slot))

    def _time(self, subject: str, told: float) -> float:
        """When it is for this subject: a store that took over with a clock behind rolls no window back."""
        if self.now is None:
            return told
        return max([self.now, *(row.start for row in self.rows.get(subject, {}).values())])


def _next_generation() -> int:
    # Random, so that a row swept away and begun anew never meets an old lease.
    return random.getrandbits(62) + 1  # names a window, guards nothing
