"""The cap on requests of one key that run at once, and the slots that it hands out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.budgets.slots import Full, Slot, Slots

#: What clients see it called in `RateLimit`.
CONCURRENCY: Final = "concurrency"


class Gate(NamedTuple):
    """At most `limit` requests of `subject` at once; `storage` is where that is counted."""

    storage: MultiWindowSupport
    slots: Slots
    subject: str
    limit: int

    async def enter(self) -> Slot | Full:
        """A slot, or that there is none. Raises `BudgetError` when nobody can say."""
        found = self.slots.enter(self.subject, self.limit)
        return await self.slots.wait(self.subject, self.limit) if found is None else found
