"""Which keys are nearest to a limit, as the counters stand now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ak_guard.listing import KeyFilter, ListedKey
    from ak_guard.manager import KeyManager
    from ak_guard.status import BudgetStatus, Status

#: From so many percent used on a budget is near its end.
NEAR: Final = 80
#: Only what was used lately can be full: so many keys are looked at for it.
LOOKED_AT: Final = 250


class Filled(NamedTuple):
    """A key and how full its budgets are."""

    listed: ListedKey
    status: Status

    @property
    def share(self) -> float:
        """That of its fullest budget, from 0 to 1; 0 for a key without any."""
        return max(map(share, budgets(self.status)), default=0.0)


def budgets(status: Status) -> Iterator[BudgetStatus]:
    """Quota and windows of a key."""
    if status.quota is not None:
        yield status.quota
    yield from status.windows


def share(budget: BudgetStatus) -> float:
    """How much of a budget is used or held, from 0 to 1."""
    return 1.0 if budget.limit == 0 else min(1.0, 1 - budget.remaining / budget.limit)


def is_near(budget: BudgetStatus) -> bool:
    """Whether it is near its end, or at it."""
    return (budget.limit - budget.remaining) * 100 >= NEAR * budget.limit


async def near_limit(keys: KeyManager, where: KeyFilter, *, limit: int) -> list[Filled]:
    """Of the `LOOKED_AT` matching keys that were used last those that are near a limit, the fullest first.

    Raises `BudgetError` while the counters are away.
    """
    lately = {
        listed.key.id: listed
        for listed in await keys.first(where._replace(used=True), sort="-last_used", limit=LOOKED_AT)
    }
    statuses = await keys.statuses([listed.key for listed in lately.values()])
    near = [Filled(lately[key_id], status) for key_id, status in statuses.items() if any(map(is_near, budgets(status)))]
    return sorted(near, key=lambda one: one.share, reverse=True)[:limit]
