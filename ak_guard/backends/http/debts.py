"""Settlements on their way to a key service: counted once, however often they must be sent."""

from __future__ import annotations

import itertools
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.base import Change

# One request names no more; what an outage left behind goes in several.
_MOST: Final = 500
# The service forgets the ids of batches of which it hears that they arrived.
_KNOWN: Final = 500


@dataclass(frozen=True, slots=True)
class Debt:
    """What is owed to one window of a subject, and when the last of it came up."""

    subject: str
    change: Change
    at: float


@dataclass(frozen=True, slots=True)
class Batch:
    """Debts that go together under one id, always the same ones."""

    debts: tuple[Debt, ...]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


class Debts:
    """From any thread. Changes of one window are merged until they are sent."""

    def __init__(self) -> None:
        self._owed: dict[tuple[str, str, int | None], Debt] = {}
        self._unsure: list[Batch] = []
        self._known: list[str] = []
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._owed or self._unsure)

    def owe(self, subject: str, changes: Sequence[Change], now: float) -> None:
        """Add a settlement."""
        with self._lock:
            for change in changes:
                at = (subject, change.window.slot, change.generation)
                before = self._owed.get(at)
                units = change.units + (before.change.units if before else 0)
                self._owed[at] = Debt(subject, change._replace(units=units), now)

    def take(self) -> Batch | None:
        """What is to be sent next: first what nobody knows whether it arrived.

        `keep`, `split` or `arrived` must follow, or it is lost.
        """
        with self._lock:
            if self._unsure:
                return self._unsure.pop(0)
            first = list(itertools.islice(self._owed, _MOST))
            debts = tuple(self._owed.pop(at) for at in first)
        return Batch(debts) if debts else None

    def keep(self, batch: Batch) -> None:
        """Nobody knows whether it arrived."""
        with self._lock:
            self._unsure.append(batch)

    def split(self, batch: Batch) -> bool:
        """Nothing of it arrived, and a part of it cannot: the halves go by themselves. False where it is one debt."""
        middle = len(batch.debts) // 2
        if not middle:
            return False
        with self._lock:
            self._unsure += [Batch(batch.debts[:middle]), Batch(batch.debts[middle:])]
        return True

    def arrived(self, batch: Batch, known: Sequence[str]) -> None:
        """It is written, and the service has heard of these earlier ones."""
        with self._lock:
            self._known = [earlier for earlier in self._known if earlier not in known]
            self._known = [*self._known, batch.id][-_KNOWN:]

    def known(self) -> list[str]:
        """Batches that arrived, which the service may not know yet."""
        with self._lock:
            return list(self._known)
