"""What a request took from its budgets, and how that is settled to the real cost."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING

from ak_guard.budgets.base import Change
from ak_guard.budgets.ledger import Budget, Part
from ak_guard.notation import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.slots import Slot


class Shortage:
    """Nothing was taken. The lists follow `Budget.shown`: what is left and when each frees; `full` are indices."""

    __slots__ = ("ends", "full", "left")

    def __init__(self, full: list[int], left: Sequence[int], ends: list[float]) -> None:
        self.full: list[int] = full
        self.left: Sequence[int] = left
        self.ends: list[float] = ends


class Receipt:
    """What one request took. `left` is what each budget has after it and `ends` when each frees, as in `Budget.shown`.

    `generations` are, part by part, those of the windows it was taken from; None where nothing was taken, so that
    refunds go to the windows that are open. `local` are the parts that count in the place of stores that are away.
    """

    __slots__ = (
        "_generations",
        "budget",
        "charged",
        "closed",
        "cost",
        "ends",
        "left",
        "local",
        "refused",
        "settled",
        "slot",
    )

    def __init__(
        self,
        budget: Budget,
        cost: int,
        charged: int,
        generations: Sequence[Sequence[int]] | None,
        left: Sequence[int],
        ends: list[float],
    ) -> None:
        self.budget: Budget = budget
        self.cost: int = cost
        self.charged: int = charged
        self.left: Sequence[int] = left
        self.ends: list[float] = ends
        #: Whether the response has ended.
        self.closed: bool = False
        #: With which code a guard inside this one has refused what was let in here.
        self.refused: str | None = None
        #: Whether anything was charged or given back since the take.
        self.settled: bool = False
        self.local: Sequence[Part] = ()
        #: What it runs in, where only so many of the key may run at once.
        self.slot: Slot | None = None
        self._generations = generations

    @classmethod
    def of_nothing(cls) -> Receipt:
        """For a request that is let through without a charge."""
        return cls(Budget((), Fraction(1), time.time), 0, 0, None, [], [])

    @property
    def remaining(self) -> int | None:
        """What is left in the tightest budget, None where there is none."""
        return max(0, min(self.left)) if self.left else None

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
        if charged > MAX_AMOUNT:
            raise ValueError(f"units: {units} makes the request cost more than {MAX_AMOUNT}")
        difference = charged - self.charged
        self.cost += units
        self.charged = charged
        if difference:
            self._settle(difference)

    def _settle(self, difference: int) -> None:
        self.settled = True
        # A stream may outlive the window it began in: what is charged now belongs to the window that is open now.
        now = self.budget.clock()
        left = list(self.left)
        for number, part in enumerate(self.budget.parts):
            refunded_to = self._generations[number] if self._generations and difference < 0 else None
            changes: list[Change] = []
            for index, window in enumerate(part.windows):
                if window.unit == "units":
                    # A window from which nothing was taken has no generation: then the open one is meant.
                    changes.append(Change(window, difference, (refunded_to[index] or None) if refunded_to else None))
                    place = self.budget.places[number][index]
                    left[place] = min(window.amount, left[place] - difference)
            part.storage.settle(part.subject, changes, now=now)
        for part in self.local:
            changes = [Change(window, difference, None) for window in part.windows if window.unit == "units"]
            part.storage.settle(part.subject, changes, now=now)
        self.left = left

    async def write_soon(self) -> None:
        """See that what was settled is written. Raises `BudgetError`; it is then kept and written later."""
        for part in self.budget.parts:
            await part.storage.write_soon()
