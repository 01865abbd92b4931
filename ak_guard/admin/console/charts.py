"""A bar chart as the server draws it: percent across, pixels up, so that letters keep their size at any width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Pixels above and below the bars: for a label of the roof and for those of the time.
_TOP, _FOOT = 12, 18
_STEPS: Final = (1, 2, 5)
#: So many labels of the time fit at 360 px.
_LABELS: Final = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a bar. `kind` is its style: `ok`, `no` or `hot`."""

    kind: str
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    width: float
    parts: tuple[Part, ...]
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    x: float
    text: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines of the grid as (y, number), bars and labels of the time."""

    height: int
    base: float
    grid: tuple[tuple[float, int], ...]
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """One bar to be drawn: what stands below it, its values from the bottom up, and its words."""

    label: str
    values: tuple[int, ...]
    title: str
    hot: bool = False


def drawn(columns: Sequence[Column], *, height: int, kinds: Sequence[str]) -> Chart:
    """Draw the columns. The roof is a round number that the highest reaches."""
    peak = max((sum(column.values) for column in columns), default=0)
    step = step_for(peak)
    roof = step * max(1, -(-peak // step))
    room = height - _TOP - _FOOT

    def y(value: float) -> float:
        return round(_TOP + room * (1 - value / roof), 1)

    count = max(1, len(columns))
    bars = []
    for at, column in enumerate(columns):
        parts, below = [], 0
        for kind, value in zip(kinds, column.values, strict=True):
            if value:
                # A single call is seen beside thousands.
                tall = max(1.5, room * value / roof)
                parts.append(Part("hot" if column.hot else kind, round(y(below) - tall, 1), round(tall, 1)))
                below += value
        bars.append(Bar(round((at + 0.12) * 100 / count, 2), round(76 / count, 2), tuple(parts), column.title))
    every = max(1, -(-count // _LABELS))
    labels = [
        Label(0 if at == 0 else round((at + 0.5) * 100 / count, 2), columns[at].label, "start" if at == 0 else "middle")
        for at in range(0, len(columns), every)
    ]
    grid = tuple((y(value), value) for value in range(step, roof + 1, step))
    return Chart(height, y(0), grid, tuple(bars), tuple(labels))


def step_for(peak: int) -> int:
    """The distance of the lines: 1, 2 or 5 with noughts, so that at most three lines are needed."""
    size = 1
    while True:
        for digit in _STEPS:
            if peak <= 3 * digit * size:
                return digit * size
        size *= 10
