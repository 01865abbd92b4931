"""Take from every budget of a key, or from none."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ak_guard.budgets.base import Change, Grant, Shortfall
from ak_guard.budgets.ledger import Budget, Part, StoreAway, peek
from ak_guard.budgets.receipt import Receipt, Shortage
from ak_guard.budgets.slots import Slot
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ak_guard.budgets.base import Level, MultiWindowSupport
    from ak_guard.budgets.gate import Gate
    from ak_guard.budgets.purse import Purse
    from ak_guard.budgets.slots import Full
    from ak_guard.budgets.windows import Window

# A store that answers, but never so that a take can be decided, is as good as away.
_MOST_REFILLS: Final = 50


def take_at_once(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage | None:
    """What `take` does, without waiting; None where a store must be waited for."""
    # What follows serves the many: one part, of which enough is in the purse.
    parts = budget.parts
    if len(parts) == 1 and charged:
        purse = parts[0].purse
        if purse is not None and now < purse.until and (purse.clock is None or purse.clock() < purse.deadline):
            if charged <= purse.units and purse.requests > 0:
                purse.units -= charged
                purse.requests -= 1
                return Receipt(budget, cost, charged, (purse.generations,), purse.left(), purse.ends)
            if purse.exact:
                left = purse.left()
                asks = parts[0].asks(charged)
                full = [index for index, ask in enumerate(asks) if ask.need > left[index]]
                return Shortage(full, left, purse.ends)
    if not parts:
        return Receipt(budget, cost, charged, None, (), [])
    if not charged or not budget.at_once:
        return None
    if len(parts) > 1 and (purses := _enough(parts, charged, now)):
        return _spent(budget, cost, charged, purses)
    return _spend(budget, cost, charged, now)


def _enough(parts: Sequence[Part], charged: int, now: float) -> list[Purse]:
    """The purse of each part, where there is enough in every one of them; else nothing."""
    purses: list[Purse] = []
    for part in parts:
        purse = part.purse
        if purse is None or now >= purse.until or charged > purse.units or purse.requests <= 0:
            return []
        if purse.clock is not None and purse.clock() >= purse.deadline:
            return []
        purses.append(purse)
    return purses


def _spent(budget: Budget, cost: int, charged: int, purses: Sequence[Purse]) -> Receipt:
    left: list[int] = []
    ends: list[float] = []
    for purse in purses:
        purse.units -= charged
        purse.requests -= 1
        left += purse.left()
        ends += purse.ends
    generations = [purse.generations for purse in purses]
    return Receipt(budget, cost, charged, generations, budget.in_order(left), budget.in_order(ends))


async def take(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage | Full:
    """Take `charged` (that is `budget.charged(cost)`) from every budget or from none.

    A cost of 0 passes every window and starts none. Raises `StoreAway`.
    """
    if budget.gate is None:
        return await _take(budget, cost, charged, now)
    slot = await _enter(budget.gate)
    if not isinstance(slot, Slot):
        return await _refusing(budget, charged, now) or slot
    # It may have been waited for.
    now = budget.clock()
    try:
        outcome = take_at_once(budget, cost, charged, now) or await _take(budget, cost, charged, now)
    except BaseException:
        slot.leave()
        raise
    if isinstance(outcome, Receipt):
        outcome.slot = slot
    else:
        slot.leave()
    return outcome


async def _enter(gate: Gate) -> Slot | Full:
    try:
        return await gate.enter()
    except BudgetError as error:
        raise StoreAway(gate.storage) from error


async def _refusing(budget: Budget, charged: int, now: float) -> Shortage | None:
    """The windows that refuse this too, since they are told before the cap is. Nothing is taken."""
    if not charged:
        return None
    try:
        outcomes = [_refusal(part, charged, now) or await _look(part, charged, now) for part in budget.parts]
    except BudgetError:
        # It is refused in any case.
        return None
    shortage = _shortage(budget, outcomes)
    return shortage if shortage.full else None


async def _take(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage:
    if not budget.parts or not charged:
        levels = await peek(budget, now)
        left = [max(0, window.amount - level.used) for window, level in zip(budget.shown, levels, strict=True)]
        ends = [_end(window, level, now) for window, level in zip(budget.shown, levels, strict=True)]
        return Receipt(budget, cost, charged, None, left, ends)
    if not budget.at_once:
        return await _take_apart(budget, cost, charged, now)
    for _ in range(_MOST_REFILLS):
        for at, part in enumerate(budget.parts):
            await _refill(part, charged, budget.clock)
            now = budget.clock()
            # Of what stands behind, nothing is held for a request that is refused here.
            if len(budget.parts) > 1 and (short := _refusal(part, charged, now)) is not None:
                return await _refused(budget, charged, now, at, short)
        outcome = _spend(budget, cost, charged, now, waited=True)
        if outcome is not None:
            return outcome
    raise StoreAway(budget.parts[0].storage)


def _refusal(part: Part, charged: int, now: float) -> Shortfall | None:
    outcome = _spend_part(part, charged, now, waited=True)
    if isinstance(outcome, Grant) and part.local is not None:
        part.local.unspend(part.subject, part.asks(charged), outcome)
    return outcome if isinstance(outcome, Shortfall) else None


async def _refused(budget: Budget, charged: int, now: float, at: int, short: Shortfall) -> Shortage:
    """One part refuses: what there is in the others is told, but not asked of a store again and again."""
    outcomes = [
        short if number == at else _refusal(part, charged, now) or await _look(part, charged, now)
        for number, part in enumerate(budget.parts)
    ]
    return _shortage(budget, outcomes)


def _spend(budget: Budget, cost: int, charged: int, now: float, *, waited: bool = False) -> Receipt | Shortage | None:
    """Spend from each part in turn, with nothing able to come between; undo all where one falls short."""
    outcomes = [_spend_part(part, charged, now, waited=waited) for part in budget.parts]
    grants = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
    if len(grants) == len(outcomes):
        return _receipt(budget, cost, charged, grants)
    _undo(budget, charged, outcomes)
    known = [outcome for outcome in outcomes if outcome is not None]
    return _shortage(budget, known) if len(known) == len(outcomes) else None


def _spend_part(part: Part, charged: int, now: float, *, waited: bool) -> Grant | Shortfall | None:
    if part.local is None:
        return None
    outcome = part.local.spend(part.subject, part.asks(charged), now=now, waited=waited)
    # For those who come next.
    part.purse = part.local.purse(part.subject, part.windows, now=now)
    return outcome


def _undo(budget: Budget, charged: int, outcomes: Sequence[Grant | Shortfall | None]) -> None:
    for part, outcome in zip(budget.parts, outcomes, strict=True):
        if isinstance(outcome, Grant) and part.local is not None:
            part.local.unspend(part.subject, part.asks(charged), outcome)


async def _refill(part: Part, charged: int, clock: Callable[[], float]) -> None:
    if part.local is None:
        return
    try:
        await part.local.refill(part.subject, part.asks(charged), clock=clock)
    except BudgetError as error:
        raise StoreAway(part.storage) from error


def _receipt(budget: Budget, cost: int, charged: int, grants: Sequence[Grant]) -> Receipt:
    windows = [window for part in budget.parts for window in part.windows]
    used = [count for grant in grants for count in grant.used]
    left = [max(0, window.amount - count) for window, count in zip(windows, used, strict=True)]
    ends = [end for grant in grants for end in grant.ends]
    generations = [grant.generations for grant in grants]
    return Receipt(budget, cost, charged, generations, budget.in_order(left), budget.in_order(ends))


def _shortage(budget: Budget, outcomes: Sequence[Grant | Shortfall]) -> Shortage:
    """All that is full, not only what was found first; what the others gave is back where it was."""
    full: list[int] = []
    left: list[int] = []
    ends: list[float] = []
    for part, places, outcome in zip(budget.parts, budget.places, outcomes, strict=True):
        taken = outcome.taken if isinstance(outcome, Grant) else [0] * len(outcome.used)
        left += [
            max(0, window.amount - used + back)
            for window, used, back in zip(part.windows, outcome.used, taken, strict=True)
        ]
        ends += outcome.ends
        if isinstance(outcome, Shortfall):
            full += [places[index] for index in outcome.full]
    return Shortage(sorted(full), budget.in_order(left), budget.in_order(ends))


def _end(window: Window, level: Level, now: float) -> float:
    """When a window frees: now where it has not started, never for a quota."""
    return level.end if level.end is not None else math.inf if window.slot == "quota" else now


async def _take_apart(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage:
    """Take where some stores must be asked for each request; these come last, and the others are undone if they refuse.

    What such a store has taken when another of them refuses stays taken: see `ForeignStorage`.
    """
    outcomes: list[Grant | Shortfall | None] = [None] * len(budget.parts)
    order = sorted(range(len(budget.parts)), key=lambda at: budget.parts[at].local is None)
    try:
        for at in order:
            outcomes[at] = await _ask(budget.parts[at], charged, budget.clock)
            if isinstance(outcomes[at], Shortfall):
                break
    finally:
        known = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
        if len(known) < len(outcomes):
            _undo(budget, charged, outcomes)
    if len(known) == len(outcomes):
        return _receipt(budget, cost, charged, known)
    for at in order:
        if outcomes[at] is None or isinstance(outcomes[at], Grant):
            outcomes[at] = await _look(budget.parts[at], charged, now)
    return _shortage(budget, [outcome for outcome in outcomes if outcome is not None])


async def _ask(part: Part, charged: int, clock: Callable[[], float]) -> Grant | Shortfall:
    """Spend what can be spent here, or ask the store."""
    if part.local is None:
        try:
            return await part.storage.acquire(part.subject, part.asks(charged), lease=None, now=clock())
        except BudgetError as error:
            raise StoreAway(part.storage) from error
    for _ in range(_MOST_REFILLS):
        await _refill(part, charged, clock)
        if (outcome := part.local.spend(part.subject, part.asks(charged), now=clock(), waited=True)) is not None:
            return outcome
    raise StoreAway(part.storage)


async def _look(part: Part, charged: int, now: float) -> Shortfall:
    """What a part that was not asked, or was undone, would have said."""
    try:
        if part.local is not None:
            levels = await part.local.look(part.subject, part.windows, now=now, need=charged)
        else:
            levels = await part.storage.peek(part.subject, part.windows, now=now, need=charged)
    except BudgetError as error:
        raise StoreAway(part.storage) from error
    pairs = list(zip(part.asks(charged), levels, strict=True))
    full = [index for index, (ask, level) in enumerate(pairs) if level.used + ask.need > ask.window.amount]
    return Shortfall(full, [level.used for level in levels], [_end(ask.window, level, now) for ask, level in pairs])


async def take_locally(
    budget: Budget, cost: int, charged: int, now: float, local: MultiWindowSupport
) -> Receipt | Shortage | Full:
    """Count in `local` for each store that is away, and leave what was taken there to be posted when it is back."""
    away: list[MultiWindowSupport] = []
    while True:
        parts = [
            Part(local if part.storage in away else part.storage, part.subject, part.windows) for part in budget.parts
        ]
        gate = budget.gate
        if gate is not None and gate.storage in away and local.slots is not None:
            gate = gate._replace(storage=local, slots=local.slots)
        try:
            outcome = await take(Budget(parts, budget.multiplier, budget.clock, gate), cost, charged, now)
        except StoreAway as error:
            away.append(error.storage)
            continue
        break
    if not isinstance(outcome, Receipt):
        return outcome
    for part in budget.parts:
        if part.storage in away:
            changes = [Change(window, need, None) for window, need, _ in part.asks(charged) if need]
            part.storage.settle(part.subject, changes, now=now)
    receipt = Receipt(budget, cost, charged, None, outcome.left, outcome.ends)
    receipt.local = [part for part in parts if part.storage is local]
    receipt.slot = outcome.slot
    return receipt
