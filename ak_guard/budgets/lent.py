"""What is lent of the windows of a subject: open leases, the same for every storage that decides in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ak_guard.budgets.base import Row
    from ak_guard.budgets.rows import Rows


class Open(NamedTuple):
    """A lease: units and generation of each slot it took from, and until when it may give them back."""

    subject: str
    worker: str
    deadline: float
    units: list[tuple[str, int, int]]

    def of(self, slot: str, row: Row | None) -> int:
        """The units it holds of a window as that is now."""
        return sum(units for at, units, generation in self.units if row and at == slot and generation == row.generation)


def held(leases: Iterable[Open], subject: str, slot: str, row: Row | None) -> int:
    """Units of a window that are under leases."""
    return sum(lease.of(slot, row) for lease in leases if lease.subject == subject)


def next_deadline(leases: Iterable[Open], subject: str, slots: Iterable[str], mine: Rows) -> float | None:
    """When the first of those that hold something of these windows ends; None where nothing is held."""
    wanted = set(slots)
    return min(
        (
            lease.deadline
            for lease in leases
            if lease.subject == subject and any(lease.of(slot, mine.get(slot)) for slot in wanted)
        ),
        default=None,
    )
