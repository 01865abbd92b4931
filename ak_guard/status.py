"""How full the budgets of a key are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.base import Level
    from ak_guard.budgets.ledger import Budget
    from ak_guard.budgets.windows import Window


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """One budget: `used` for good, `held` by workers that may still spend or return it, `remaining` for all.

    `remaining` is never below 0.

    `resets_at` is None for a quota and for a window that has not started.
    """

    name: str
    limit: int
    unit: str
    used: int
    held: int
    remaining: int
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class Status:
    """Quota (None without one) and windows in configured order, those that a group shares last."""

    quota: BudgetStatus | None
    windows: tuple[BudgetStatus, ...]

    @classmethod
    def of(cls, budget: Budget, levels: Sequence[Level]) -> Self:
        pairs = list(zip(budget.shown, levels, strict=True))
        quota = next((_status(window, level) for window, level in pairs if window.slot == "quota"), None)
        return cls(quota, tuple(_status(window, level) for window, level in pairs if window.slot != "quota"))


def _status(window: Window, level: Level) -> BudgetStatus:
    end = level.end
    return BudgetStatus(
        name=window.name,
        limit=window.amount,
        unit=window.unit,
        used=max(0, level.used - level.held),
        held=level.held,
        remaining=max(0, window.amount - level.used),
        resets_at=None if end is None or math.isinf(end) else datetime.fromtimestamp(end, UTC),
    )
