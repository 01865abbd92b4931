"""What is owed to each subject until the store has confirmed it: counted once, however often it must be sent."""

from __future__ import annotations

import itertools
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ak_guard.budgets.base import Change

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes that are sent under one number, always the same ones, each with its time."""

    number: int
    changes: tuple[tuple[Change, float], ...]


@dataclass(slots=True, eq=False)
class _Debt:
    """Of one subject: what was sent and not yet confirmed, and what comes after it."""

    sent: list[Batch] = field(default_factory=list)
    next: dict[tuple[str, int | None], tuple[Change, float]] = field(default_factory=dict)
    unanswered: bool = False


class Debts:
    """Settlements on their way, from any thread. Changes of one window are merged until they are sent."""

    def __init__(self) -> None:
        self._debts: dict[str, _Debt] = {}
        self._number = itertools.count(1).__next__
        self._writer = ""
        self._lock = threading.Lock()

    @property
    def writer(self) -> str:
        """Under whose name batches are numbered; made when first needed, so that forked workers do not share one."""
        with self._lock:
            self._writer = self._writer or uuid.uuid4().hex
            return self._writer

    def owe(self, subject: str, changes: Sequence[Change], now: float) -> None:
        """Add a settlement."""
        with self._lock:
            debt = self._debts.setdefault(subject, _Debt())
            for window, units, generation in changes:
                before = debt.next.get((window.slot, generation))
                merged = Change(window, units + (before[0].units if before else 0), generation)
                debt.next[window.slot, generation] = merged, now

    def take(self, subject: str) -> tuple[Batch, ...]:
        """Everything that is to be sent now, in order. It stays owed until it is confirmed."""
        with self._lock:
            debt = self._debts.get(subject)
            if debt is None:
                return ()
            if debt.next:
                debt.sent.append(Batch(self._number(), tuple(debt.next.values())))
                debt.next = {}
            return tuple(debt.sent)

    def confirm(self, subject: str, batches: tuple[Batch, ...]) -> None:
        """The store has counted these."""
        with self._lock:
            debt = self._debts.get(subject)
            if debt is None or not batches:
                return
            debt.sent = [batch for batch in debt.sent if batch.number > batches[-1].number]
            debt.unanswered = False
            if not debt.sent and not debt.next:
                del self._debts[subject]

    def unanswered(self, subject: str) -> None:
        """Nobody knows whether the store has counted what was sent."""
        with self._lock:
            debt = self._debts.get(subject)
            if debt is not None:
                debt.unanswered = bool(debt.sent)

    def doubtful(self, subject: str) -> tuple[Batch, ...]:
        """What must be sent again before anything else, so that it does not grow while the store is away."""
        with self._lock:
            debt = self._debts.get(subject)
            return tuple(debt.sent) if debt is not None and debt.unanswered else ()

    def subjects(self, *, but: str | None = None) -> list[str]:
        """To whom something is owed."""
        with self._lock:
            return [subject for subject in self._debts if subject != but]
