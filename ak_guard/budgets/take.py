"""Take from every budget of a key, or from none."""

from __future__ import annotations

import asyncio
import math
import secrets
from typing import TYPE_CHECKING, Final

from ak_guard.budgets.base import Change, Grant, Lease, Level, Shortfall
from ak_guard.budgets.ledger import Budget, Part, StoreAway, peek
from ak_guard.budgets.receipt import Receipt, Shortage
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.budgets.windows import Window

# How long a take over several stores may stay undecided. A process that dies within it loses that one take.
_HALF_TAKEN_SECONDS: Final = 10.0


def take_at_once(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage | None:
    """What `take` does, without waiting; None where the store must be waited for."""
    if len(budget.parts) != 1 or not charged:
        return None
    part = budget.parts[0]
    outcome = part.storage.acquire_at_once(part.subject, part.one if charged == 1 else part.asks(charged), now=now)
    if isinstance(outcome, Grant):
        return Receipt(budget, cost, charged, (outcome,), outcome.used, outcome.ends)
    return None if outcome is None else Shortage(outcome.full, outcome.used, outcome.ends)


async def take(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage:
    """Take `charged` (that is `budget.charged(cost)`) from every budget or from none.

    A cost of 0 passes and starts nothing. Raises `StoreAway`.
    """
    if not budget.parts or not charged:
        levels = await peek(budget, now)
        ends = [_end(window, level, now) for window, level in zip(budget.shown, levels, strict=True)]
        return Receipt(budget, cost, charged, None, [level.used for level in levels], ends)
    if len(budget.parts) > 1:
        return await _take_apart(budget, cost, charged, now)
    outcome = await _acquire(budget.parts[0], charged, None, now)
    if isinstance(outcome, Grant):
        return Receipt(budget, cost, charged, (outcome,), outcome.used, outcome.ends)
    return Shortage(outcome.full, outcome.used, outcome.ends)


async def _acquire(part: Part, charged: int, lease: Lease | None, now: float) -> Grant | Shortfall:
    try:
        return await part.storage.acquire(part.subject, part.asks(charged), lease=lease, now=now)
    except BudgetError as error:
        raise StoreAway(part.storage) from error


def _end(window: Window, level: Level, now: float) -> float:
    """When a window frees: now where it has not started, never for a quota."""
    return level.end if level.end is not None else math.inf if window.slot == "quota" else now


async def _take_apart(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage:
    """Take from several stores or subjects, one after the other under a lease; give back where a later one is short."""
    grants: list[Grant] = []
    leases: list[tuple[Part, Lease]] = []
    try:
        for part in budget.parts:
            lease = Lease(secrets.token_hex(12), "", now + _HALF_TAKEN_SECONDS)
            leases.append((part, lease))
            outcome = await _acquire(part, charged, lease, now)
            if isinstance(outcome, Shortfall):
                await _end_leases(leases, charged, keep=False)
                return await _shortage(budget, charged, now, outcome, len(grants))
            grants.append(outcome)
    except StoreAway:
        # What the store that is away may hold under the last lease counts as spent.
        await _end_leases(leases[:-1], charged, keep=False)
        raise
    except BaseException:
        await _end_leases(leases, charged, keep=False)
        raise
    try:
        await _end_leases(leases, charged, keep=True)
    except asyncio.CancelledError:
        for part, grant in zip(budget.parts, grants, strict=True):
            windows = zip(part.asks(charged), grant.generations, strict=True)
            changes = [Change(ask.window, -ask.need, generation) for ask, generation in windows]
            part.storage.settle(part.subject, changes, now=now)
        raise
    used = budget.in_order([count for grant in grants for count in grant.used])
    ends = budget.in_order([end for grant in grants for end in grant.ends])
    return Receipt(budget, cost, charged, grants, used, ends)


async def _end_leases(leases: Sequence[tuple[Part, Lease]], charged: int, *, keep: bool) -> None:
    """End every lease, also when the request goes away meanwhile, even twice."""
    cancelled: asyncio.CancelledError | None = None
    for part, lease in leases:
        unspent = {} if keep else {ask.window.slot: ask.need for ask in part.asks(charged)}
        try:
            await part.storage.give_back(lease.id, unspent)
        except BudgetError:
            continue  # a store that is away keeps the lease, which then counts as spent
        except asyncio.CancelledError as error:
            cancelled = error  # this one is on its way; the others must still be sent
    if cancelled is not None:
        raise cancelled


async def _shortage(budget: Budget, charged: int, now: float, shortfall: Shortfall, number: int) -> Shortage:
    """All that is full, not only what stood in the store that was asked last."""
    levels = await peek(budget, now, need=charged)
    used = [level.used for level in levels]
    full, ends = [], []
    for index, (window, level) in enumerate(zip(budget.shown, levels, strict=True)):
        if level.used + (charged if window.unit == "units" else 1) > window.amount:
            full.append(index)
        ends.append(_end(window, level, now))
    for index in shortfall.full:
        place = budget.places[number][index]
        full.append(place)
        ends[place] = shortfall.ends[index]
    return Shortage(sorted(set(full)), used, ends)


async def take_locally(
    budget: Budget, cost: int, charged: int, now: float, local: MultiWindowSupport
) -> Receipt | Shortage:
    """Count in `local` for each store that is away, and leave what was taken there to be posted when it is back."""
    away: list[MultiWindowSupport] = []
    while True:
        parts = [
            Part(local if part.storage in away else part.storage, part.subject, part.windows) for part in budget.parts
        ]
        try:
            outcome = await take(Budget(parts, budget.multiplier, budget.clock), cost, charged, now)
        except StoreAway as error:
            away.append(error.storage)
            continue
        break
    if isinstance(outcome, Shortage):
        return outcome
    for part in budget.parts:
        if part.storage in away:
            changes = [Change(window, need, None) for window, need, _ in part.asks(charged) if need]
            part.storage.settle(part.subject, changes, now=now)
    receipt = Receipt(budget, cost, charged, None, outcome.used, outcome.ends)
    receipt.local = [part for part in parts if part.storage is local]
    return receipt
