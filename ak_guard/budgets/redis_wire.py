"""What is asked of the script and what it answers, as text. See redis_script.lua."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ak_guard.budgets.base import Grant, Row, Shortfall
from ak_guard.budgets.rows import frees

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.base import Ask, Lease
    from ak_guard.budgets.redis_debts import Batch
    from ak_guard.budgets.windows import Window


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to do with the windows of a subject: `acquire`, `give back`, `read`, `restart`, `forget` or `settle`.

    `now` is the caller's time, None where the store's own decides.
    """

    op: str
    now: float | None = None
    asks: Sequence[Ask] = ()
    lease: Lease | None = None
    slots: Sequence[str] = ()

    def text(self, batches: Sequence[Batch], at: float) -> str:
        """`at` is what the store's clock may show: what the calendar bounds are reckoned for."""
        own_time = self.now is None
        question: dict[str, Any] = {
            "op": self.op,
            # A generation is never seen again: rows may vanish, and old leases must not find what follows.
            "fresh": random.getrandbits(52),  # names a window, guards nothing
            "asks": [
                {
                    **_window(ask.window, at if self.now is None else self.now),
                    "amount": ask.window.amount,
                    "unit": ask.window.unit,
                    "need": ask.need,
                    "extra": ask.extra,
                }
                for ask in self.asks
            ],
            "batches": [_batch(batch, at if own_time else None) for batch in batches],
            "slots": self.slots,
        }
        if self.now is not None:
            question["now"] = self.now
        if self.lease is not None:
            question["lease"] = {**self.lease._asdict(), "unspent": dict(self.lease.unspent)}
        return json.dumps(question)


def _batch(batch: Batch, at: float | None) -> dict[str, Any]:
    changes = []
    for (window, units, generation), now in batch.changes:
        change = {**_window(window, now if at is None else at), "units": units}
        if generation is not None:
            change["generation"] = generation
        if at is None:
            change["now"] = now
        changes.append(change)
    return {"number": batch.number, "changes": changes}


def _window(window: Window, at: float) -> dict[str, Any]:
    if window.anchor == "calendar":
        start, finish = window.bounds(at)
        return {"slot": window.slot, "kind": "calendar", "start": start, "finish": finish}
    kind = "endless" if math.isinf(window.bounds(at)[1]) else window.anchor
    return {"slot": window.slot, "kind": kind, "seconds": window.seconds}


def outcome(asks: Sequence[Ask], answer: Sequence[str], now: float) -> Grant | Shortfall:
    """The answer to `acquire`, with the ends in the time of a caller whose clock shows `now`."""
    at, verdict = float(answer[0]), answer[1]
    late = now - at
    rows = [_row(text) for text in answer[2].split()]
    used, units = ([int(count) for count in line.split()] for line in answer[3:5])
    full = units if verdict == "short" else []
    ends = [end + late for end in frees(asks, rows, used, full, at)]
    if verdict == "short":
        first = _time(answer[5])
        return Shortfall(full, used, ends, None if math.isinf(first) else first + late)
    return Grant(units, used, ends, [row.generation for row in rows])


def rows_and_held(answer: Sequence[str]) -> dict[str, tuple[Row, int]]:
    """The answer to `read`: by slot every row of the subject, and how much of it is under leases."""
    found = (line.split() for line in answer[2:])
    return {slot: (_row(row), int(held)) for slot, row, held in found}


def _row(text: str) -> Row:
    generation, start, finish, used, before = text.split(",")
    return Row(_time(start), _time(finish), int(generation), int(used), int(before))


def _time(text: str) -> float:
    return math.inf if text == "-" else float(text)
