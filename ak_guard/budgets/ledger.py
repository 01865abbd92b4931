"""What a key may still spend: its budgets, where they are kept, and the receipt of what one request took."""

from __future__ import annotations

import math
import secrets
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from ak_guard.budgets.base import Ask, Change, Grant, Lease, Level, MultiWindowSupport, Shortfall
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ak_guard.budgets.windows import Window

T = TypeVar("T")

_ONE: Final = Fraction(1)

# Keys with equal rules share what is worked out of them; so many sets of rules are remembered.
_SHARED: Final = 4_096

# How long a take over several stores may stay undecided. A process that dies within it loses that one take.
_HALF_TAKEN_SECONDS: Final = 10.0


class Part:
    """Some windows of one subject in one store: what a single call takes."""

    __slots__ = ("one", "storage", "subject", "windows")

    def __init__(self, storage: MultiWindowSupport, subject: str, windows: Iterable[Window]) -> None:
        self.storage: MultiWindowSupport = storage
        self.subject: str = subject
        self.windows: tuple[Window, ...] = tuple(windows)
        self.one: tuple[Ask, ...] = _asks(self.windows, 1)

    def asks(self, cost: int) -> tuple[Ask, ...]:
        """What a request of this cost wants; windows that count requests want one."""
        return _asks(self.windows, cost)


@lru_cache(maxsize=_SHARED)
def _asks(windows: tuple[Window, ...], cost: int) -> tuple[Ask, ...]:
    return tuple(Ask(window, cost if window.unit == "units" else 1) for window in windows)


class _Layout:
    """How the windows of several parts are shown to clients, the quota last. Keys with equal rules share it."""

    __slots__ = ("most", "order", "places", "shown")

    def __init__(self, parts: tuple[tuple[Window, ...], ...]) -> None:
        windows = [window for part in parts for window in part]
        # sorted() is stable: only the quota moves, behind the shared windows.
        order = sorted(range(len(windows)), key=lambda index: windows[index].slot == "quota")
        self.order = None if order == list(range(len(windows))) else order
        self.shown = tuple(windows[index] for index in order)
        self.places: list[list[int]] = []
        at = 0
        for part in parts:
            self.places.append([order.index(at + index) for index in range(len(part))])
            at += len(part)
        amounts = [window.amount for window in windows if window.unit == "units" and window.slot != "quota"]
        self.most: float = min(amounts, default=math.inf)


_layout = lru_cache(maxsize=_SHARED)(_Layout)


class Budget:
    """All budgets of one key: its windows, its group's shared windows, its quota."""

    __slots__ = ("_order", "most", "multiplier", "parts", "places", "shown")

    def __init__(self, parts: Iterable[Part], multiplier: Fraction) -> None:
        self.parts: tuple[Part, ...] = tuple(part for part in parts if part.windows)
        # One object for the common case, so that it is told apart by identity on the hot path.
        self.multiplier: Fraction = _ONE if multiplier == 1 else multiplier
        layout = _layout(tuple(part.windows for part in self.parts))
        self._order = layout.order
        #: The windows in the order in which clients are told of them, the quota last.
        self.shown: tuple[Window, ...] = layout.shown
        #: For each part, where its windows stand in `shown`.
        self.places: list[list[int]] = layout.places
        #: The largest cost that can ever pass.
        self.most: float = layout.most

    def charged(self, cost: int) -> int:
        """`ceil(cost * multiplier)`, exactly."""
        return cost if self.multiplier is _ONE else math.ceil(cost * self.multiplier)

    def in_order(self, values: list[T]) -> list[T]:
        """Values that follow the parts, in the order of `shown`."""
        return values if self._order is None else [values[index] for index in self._order]


class Shortage:
    """Nothing was taken. The lists follow `Budget.shown`; `full` are indices into it."""

    __slots__ = ("ends", "full", "used")

    def __init__(self, full: list[int], used: list[int], ends: list[float]) -> None:
        self.full: list[int] = full
        self.used: list[int] = used
        self.ends: list[float] = ends


class Receipt:
    """What one request took. `used` and `ends` follow `Budget.shown`."""

    cost: int
    charged: int
    used: list[int]
    #: Whether the response has ended.
    closed: bool = False
    #: Whether anything was charged or given back since the take.
    settled: bool = False

    def __init__(
        self,
        budget: Budget,
        cost: int,
        charged: int,
        grants: Sequence[Grant] | None,
        used: list[int],
        ends: list[float],
        now: float,
    ) -> None:
        self.budget = budget
        self.cost = cost
        self.charged = charged
        self.used = used
        self.ends = ends
        self._grants = grants
        self._now = now

    @classmethod
    def of_nothing(cls, now: float) -> Receipt:
        """For a request that is let through without a charge."""
        return cls(Budget((), _ONE), 0, 0, None, [], [], now)

    @property
    def remaining(self) -> int | None:
        """What is left in the tightest budget, None where there is none."""
        left = [window.amount - used for window, used in zip(self.budget.shown, self.used, strict=True)]
        return max(0, min(left)) if left else None

    def charge(self, units: int) -> None:
        """Settle to the real cost: see `Admission.charge`."""
        if self.closed:
            raise RuntimeError(
                "charge() came after the response had ended; call it while the request is being answered"
            )
        if not isinstance(units, int) or isinstance(units, bool):
            raise ValueError(f"units: {units!r} must be a whole number")
        if self.cost + units < 0:
            raise ValueError(f"units: {units} gives back more than the {self.cost} charged")
        charged = self.budget.charged(self.cost + units)
        difference = charged - self.charged
        self.cost += units
        self.charged = charged
        if not difference:
            return
        self.settled = True
        used = list(self.used)
        for number, part in enumerate(self.budget.parts):
            grant = self._grants[number] if self._grants else None
            changes: list[Change] = []
            for index, window in enumerate(part.windows):
                if window.unit == "units":
                    generation = grant.generations[index] if grant and difference < 0 else None
                    changes.append(Change(window, difference, generation or None))
                    place = self.budget.places[number][index]
                    used[place] = max(0, used[place] + difference)
            part.storage.settle(part.subject, changes, now=self._now)
        self.used = used

    async def flush(self) -> None:
        """Wait until what was settled is put away."""
        for part in self.budget.parts:
            await part.storage.flush()


def take_at_once(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage | None:
    """What `take` does, without waiting; None where the store must be waited for."""
    if len(budget.parts) != 1 or not charged:
        return None
    part = budget.parts[0]
    asks = part.one if charged == 1 else part.asks(charged)
    outcome = part.storage.acquire_at_once(part.subject, asks, now=now)
    if outcome is None:
        return None
    if isinstance(outcome, Grant):
        return Receipt(budget, cost, charged, (outcome,), outcome.used, outcome.ends, now)
    return Shortage(outcome.full, outcome.used, outcome.ends)


async def take(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage:
    """Take `charged` (that is `budget.charged(cost)`) from every budget or from none.

    A cost of 0 passes and starts nothing.
    """
    parts = budget.parts
    if len(parts) > 1 and charged:
        return await _take_apart(budget, cost, charged, now)
    if parts and charged:
        part = parts[0]
        asks = part.one if charged == 1 else part.asks(charged)
        try:
            outcome = await part.storage.acquire(part.subject, asks, lease=None, now=now)
        except BudgetError as error:
            raise StoreAway(part.storage) from error
        if isinstance(outcome, Grant):
            return Receipt(budget, cost, charged, (outcome,), outcome.used, outcome.ends, now)
        return Shortage(outcome.full, outcome.used, outcome.ends)
    levels = await peek(budget, now)
    ends = [_end(window, level, now) for window, level in zip(budget.shown, levels, strict=True)]
    return Receipt(budget, cost, charged, None, [level.used for level in levels], ends, now)


def _end(window: Window, level: Level, now: float) -> float:
    """When a window frees: now where it has not started, never for a quota."""
    return level.end if level.end is not None else math.inf if window.slot == "quota" else now


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
            outcome = await take(Budget(parts, budget.multiplier), cost, charged, now)
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
    return Receipt(budget, cost, charged, None, outcome.used, outcome.ends, now)


class StoreAway(BudgetError):
    """A store cannot be reached; `storage` is which one."""

    def __init__(self, storage: MultiWindowSupport) -> None:
        super().__init__(f"{type(storage).__name__} cannot be reached")
        self.storage = storage


async def _take_apart(budget: Budget, cost: int, charged: int, now: float) -> Receipt | Shortage:
    """Take from several stores or subjects, one after the other under a lease; give back where a later one is short."""
    grants: list[Grant] = []
    leases: list[tuple[Part, Lease]] = []
    shortfall: Shortfall | None = None
    complete = False
    try:
        for part in budget.parts:
            lease = Lease(secrets.token_hex(12), "", now + _HALF_TAKEN_SECONDS)
            leases.append((part, lease))
            try:
                outcome = await part.storage.acquire(part.subject, part.asks(charged), lease=lease, now=now)
            except BudgetError as error:
                raise StoreAway(part.storage) from error
            if isinstance(outcome, Shortfall):
                shortfall = outcome
                break
            grants.append(outcome)
        complete = shortfall is None
    finally:
        for part, lease in leases:
            # A store that is away keeps the lease, which then counts as spent.
            with suppress(BudgetError):
                await part.storage.give_back(
                    lease.id, {} if complete else {ask.window.slot: ask.need for ask in part.asks(charged)}
                )
    if shortfall is None:
        used = budget.in_order([count for grant in grants for count in grant.used])
        ends = budget.in_order([end for grant in grants for end in grant.ends])
        return Receipt(budget, cost, charged, grants, used, ends, now)
    return await _shortage(budget, charged, now, shortfall, len(grants))


async def _shortage(budget: Budget, charged: int, now: float, shortfall: Shortfall, number: int) -> Shortage:
    """All that is full, not only what stood in the store that was asked last."""
    levels = await peek(budget, now, need=charged)
    used = [level.used for level in levels]
    full, ends = [], []
    for index, (window, level) in enumerate(zip(budget.shown, levels, strict=True)):
        short = level.used + (charged if window.unit == "units" else 1) > window.amount
        if short:
            full.append(index)
        ends.append(_end(window, level, now))
    for index in shortfall.full:
        place = budget.places[number][index]
        full.append(place)
        ends[place] = shortfall.ends[index]
    return Shortage(sorted(set(full)), used, ends)


async def peek(budget: Budget, now: float, *, need: int = 0) -> list[Level]:
    """How full each of `Budget.shown` is and when `need` would fit, without changing anything."""
    levels: list[Level] = []
    for part in budget.parts:
        try:
            levels += await part.storage.peek(part.subject, part.windows, now=now, need=need)
        except BudgetError as error:
            raise StoreAway(part.storage) from error
    return budget.in_order(levels)
