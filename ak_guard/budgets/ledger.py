"""What a key may still spend: its budgets, and where each of them is kept."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeVar

from ak_guard.budgets.base import Ask, Level, MultiWindowSupport, SpendsAtOnce
from ak_guard.errors import BudgetError
from ak_guard.notation import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ak_guard.budgets.gate import Gate
    from ak_guard.budgets.purse import Purse
    from ak_guard.budgets.windows import Window

T = TypeVar("T")

_ONE: Final = Fraction(1)
# Keys with equal rules share what is worked out of them; so many sets of rules are remembered.
_SHARED: Final = 4_096


class Part:
    """Some windows of one subject in one store: what a single call takes.

    `local` is the store where it decides at once, and `purse` what was last open there.
    """

    __slots__ = ("local", "one", "purse", "storage", "subject", "windows")

    def __init__(self, storage: MultiWindowSupport, subject: str, windows: Iterable[Window]) -> None:
        self.storage: MultiWindowSupport = storage
        self.subject: str = subject
        self.windows: tuple[Window, ...] = tuple(windows)
        self.one: tuple[Ask, ...] = _asks(self.windows, 1)
        self.local: SpendsAtOnce | None = storage if isinstance(storage, SpendsAtOnce) and storage.at_once else None
        self.purse: Purse | None = None

    def asks(self, cost: int) -> tuple[Ask, ...]:
        """What a request of this cost wants; windows that count requests want one."""
        # No budget holds more, and no store has to take a number that it cannot.
        return self.one if cost == 1 else _asks(self.windows, min(cost, MAX_AMOUNT))


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
    """All budgets of one key: its windows, its group's shared windows, its quota, its cap on what runs at once."""

    __slots__ = ("_order", "at_once", "clock", "gate", "most", "multiplier", "parts", "places", "plain", "shown")

    def __init__(
        self, parts: Iterable[Part], multiplier: Fraction, clock: Callable[[], float], gate: Gate | None = None
    ) -> None:
        self.clock: Callable[[], float] = clock
        self.gate: Gate | None = gate
        self.parts: tuple[Part, ...] = tuple(part for part in parts if part.windows)
        #: Whether no store must be asked for each request.
        self.at_once: bool = all(part.local is not None for part in self.parts)
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
        #: The largest cost that windows alone decide about: none where there is a cap.
        self.plain: float = layout.most if gate is None else -1

    def charged(self, cost: int) -> int:
        """`ceil(cost * multiplier)`, exactly."""
        return cost if self.multiplier is _ONE else math.ceil(cost * self.multiplier)

    def in_order(self, values: list[T]) -> list[T]:
        """Values that follow the parts, in the order of `shown`."""
        return values if self._order is None else [values[index] for index in self._order]


class StoreAway(BudgetError):
    """A store cannot be reached; `storage` is which one."""

    def __init__(self, storage: MultiWindowSupport) -> None:
        super().__init__(f"{type(storage).__name__} cannot be reached")
        self.storage = storage


async def peek(budget: Budget, now: float, *, need: int = 0) -> list[Level]:
    """How full each of `Budget.shown` is and when `need` would fit, without changing anything."""
    levels: list[Level] = []
    for part in budget.parts:
        try:
            levels += await part.storage.peek(part.subject, part.windows, now=now, need=need)
        except BudgetError as error:
            raise StoreAway(part.storage) from error
    return budget.in_order(levels)


async def peek_all(budgets: Sequence[Budget], now: float) -> list[list[Level]]:
    """`peek` for many keys: each store is asked once for all of them."""
    asked: dict[int, tuple[MultiWindowSupport, list[Part]]] = {}
    for budget in budgets:
        for part in budget.parts:
            asked.setdefault(id(part.storage), (part.storage, []))[1].append(part)
    found: dict[Part, list[Level]] = {}
    for storage, parts in asked.values():
        try:
            levels = await storage.peek_many([(part.subject, part.windows) for part in parts], now=now)
        except BudgetError as error:
            raise StoreAway(storage) from error
        found |= zip(parts, levels, strict=True)
    return [budget.in_order([level for part in budget.parts for level in found[part]]) for budget in budgets]


async def running(budgets: Sequence[Budget]) -> list[int]:
    """How many requests of each key with a cap run at once, 0 for keys without one; each store is asked once."""
    asked: dict[int, tuple[Gate, list[int]]] = {}
    for at, budget in enumerate(budgets):
        if budget.gate is not None:
            asked.setdefault(id(budget.gate.slots), (budget.gate, []))[1].append(at)
    found = [0] * len(budgets)
    for gate, places in asked.values():
        subjects = [other.subject for at in places if (other := budgets[at].gate) is not None]
        try:
            counts = await gate.slots.used(subjects)
        except BudgetError as error:
            raise StoreAway(gate.storage) from error
        for at, count in zip(places, counts, strict=True):
            found[at] = count
    return found
