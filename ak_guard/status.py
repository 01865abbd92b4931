"""How full the budgets of a key are."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from ak_guard.notation import iso

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

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "limit": self.limit,
            "unit": self.unit,
            "used": self.used,
            "held": self.held,
            "remaining": self.remaining,
            "resets_at": iso(self.resets_at),
        }


@dataclass(frozen=True, slots=True)
class ConcurrencyStatus:
    """How many requests run at once (`used`) of those that may (`limit`).

    Workers keep a slot that came free for up to a tenth of a second, which counts as used meanwhile.
    """

    limit: int
    used: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Status:
    """Quota (None without one) and windows in configured order, those that a group shares last.

    `concurrency` is None for a key without a cap on requests that run at once.
    """

    quota: BudgetStatus | None
    windows: tuple[BudgetStatus, ...]
    concurrency: ConcurrencyStatus | None = None

    def as_json(self) -> dict[str, Any]:
        """As the CLI, the admin API and a holder's own page tell it."""
        return {
            "quota": None if self.quota is None else self.quota.as_json(),
            "windows": [window.as_json() for window in self.windows],
            "concurrency": None if self.concurrency is None else asdict(self.concurrency),
        }

    @classmethod
    def of(cls, budget: Budget, levels: Sequence[Level], running: int | None = None) -> Self:
        """From what stores say; `running` is how many requests run at once, None where nobody was asked."""
        pairs = list(zip(budget.shown, levels, strict=True))
        quota = next((_status(window, level) for window, level in pairs if window.slot == "quota"), None)
        windows = tuple(_status(window, level) for window, level in pairs if window.slot != "quota")
        if budget.gate is None or running is None:
            return cls(quota, windows)
        limit = budget.gate.limit
        return cls(quota, windows, ConcurrencyStatus(limit, running, max(0, limit - running)))


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
