"""The arithmetic of windows, the same for every storage: a storage only decides where the rows live."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ak_guard.budgets.base import Change, Grant, Level, Row, Shortfall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ak_guard.budgets.base import Ask
    from ak_guard.budgets.windows import Window

# A sliding window frees just after the moment at which its weighted count is whole; below the resolution of clocks.
_TICK = 1e-6
# What a database column of 64 bits holds; no settlement may pass it.
_MOST = 2**62


Rows = dict[str, Row]


def take(rows: Rows, asks: Sequence[Ask], now: float, next_generation: Callable[[], int]) -> Grant | Shortfall:
    """Take every ask from `rows` (by slot) or change nothing at all. An ask of 0 fits everywhere and starts nothing."""
    current: list[Row] = []
    used: list[int] = []
    full: list[int] = []
    for window, need, _ in asks:
        row = rows.get(window.slot)
        if row is None or now >= row.end:
            row = rolled(window, row, now, 0)
        count = row.used + (_weighted(window, row, now) if row.before else 0)
        if need and count + need > window.amount:
            full.append(len(current))
        current.append(row)
        used.append(count)
    if full:
        return Shortfall(full, used, frees(asks, current, used, full, now))
    taken = [need for _, need, _ in asks]
    for index, extra in _extras(asks, used).items():
        taken[index] += extra
    for index, (window, _, _) in enumerate(asks):
        row = current[index]
        if taken[index]:
            if not row.generation:
                row.generation = next_generation()
                rows[window.slot] = row
            row.used += taken[index]
            used[index] += taken[index]
    return Grant(taken, used, frees(asks, current, used, full, now), [row.generation for row in current])


def frees(
    asks: Sequence[Ask], current: Sequence[Row], used: Sequence[int], full: Sequence[int], now: float
) -> list[float]:
    """When what was asked fits into each window that is full, and when one more fits into each other."""
    return [
        free_at(window, row, need if index in full else window.amount - count + 1, now)
        for index, ((window, need, _), row, count) in enumerate(zip(asks, current, used, strict=True))
    ]


def _extras(asks: Sequence[Ask], used: Sequence[int]) -> dict[int, int]:
    """How much each ask gets beyond its need; see `Ask`."""
    fits: dict[str, int] = {}
    wanted = [index for index, ask in enumerate(asks) if ask.extra]
    for index in wanted:
        window, need, extra = asks[index]
        left = window.amount - used[index] - need
        room = min(extra, left // 10) if 10 * left >= window.amount else 0
        fits[window.unit] = min(room, fits.get(window.unit, room))
    return {index: fits[asks[index].window.unit] for index in wanted}


def last_use(slot: str, row: Row) -> float:
    """When a row can be forgotten: at its end, for a sliding window one length later."""
    return 2 * row.end - row.start if "/sliding/" in slot else row.end


def rolled(window: Window, row: Row | None, now: float, generation: int) -> Row:
    """The row that follows `row` at `now`: empty, but for a sliding window that remembers the bucket just ended."""
    start, end = window.bounds(now)
    before = row.used if row is not None and window.sliding and row.end == start else 0
    return Row(start, end, generation, 0, before)


def _weighted(window: Window, row: Row, now: float) -> int:
    """The share of the previous bucket that still lies within one length before `now`, floored."""
    return math.floor(row.before * (row.end - max(now, row.start)) / window.seconds)


def free_at(window: Window, row: Row, need: int, now: float) -> float:
    """The earliest time at which `need` fits, if nothing else is spent."""
    if not window.sliding or need > window.amount:
        return row.end
    room = window.amount - need - row.used
    if room >= 0:
        # floor(before * rest / seconds) <= room, solved for the rest of the bucket.
        rest = (room + 1) * window.seconds / row.before if row.before else math.inf
        return max(now, row.end - rest + _TICK)
    rest = (window.amount - need + 1) * window.seconds / row.used
    return max(row.end, row.end + window.seconds - rest + _TICK)


def level(window: Window, row: Row | None, now: float, *, held: int = 0, need: int = 0) -> Level:
    """How full a window is at `now`, and when it frees: for `need`, or for one more where that fits already."""
    if row is None or now >= row.end:
        row = rolled(window, row, now, 0) if row is not None and window.sliding else None
    if row is None or not (row.used or row.before):
        return Level(0, 0, None, None)
    used = row.used + (_weighted(window, row, now) if row.before else 0)
    if window.sliding:
        if window.unit == "requests":
            need = min(1, need)
        wanted = max(need, min(window.amount, window.amount - used + 1))
        return Level(used, held, row.start, free_at(window, row, max(1, wanted), now), row.generation)
    return Level(used, held, row.start, None if math.isinf(row.end) else row.end, row.generation)


def told(level: Level, ahead: float) -> Level:
    """A level in the time of a caller whose clock is `ahead` of the store's, in seconds."""
    start, end = (None if moment is None else moment + ahead for moment in (level.start, level.end))
    return level._replace(start=start, end=end)


def change(rows: Rows, settled: Change, now: float, next_generation: Callable[[], int]) -> bool:
    """Apply one settlement; whether it found its window."""
    window, units, generation = settled
    if generation is not None:
        return give_back(rows, window.slot, -units, generation)
    row = rows.get(window.slot)
    if row is None or now >= row.end:
        row = rows[window.slot] = rolled(window, row, now, next_generation())
    row.used = max(0, min(_MOST, row.used + units))
    return True


def give_back(rows: Rows, slot: str, units: int, generation: int) -> bool:
    """Return units to the window they came from; whether it is still there. One that held nothing else never began."""
    row = rows.get(slot)
    if row is None or row.generation != generation:
        return False
    row.used = max(0, row.used - units)
    if units and not row.used and not row.before:
        del rows[slot]
    return True
