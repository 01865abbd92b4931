"""What a section found: rows of figures with their targets, as text and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.benchmarks.harness import Figure


@dataclass(slots=True)
class Row:
    """One line: a figure, what it is in units of something else, and the target it should meet.

    `target` is for `ratio` where there is one, else for `figure`: at most so much, or with `at_least` no less.
    """

    name: str
    figure: Figure
    ratio: Figure | None = None
    target: float | None = None
    at_least: bool = False
    checks: str = ""

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        value = (self.ratio or self.figure).median
        return value >= self.target if self.at_least else value <= self.target


@dataclass(slots=True)
class Table:
    """One section's rows. `unit` is that of the figures, `ratio_of` says what the ratios mean."""

    name: str
    title: str
    unit: str
    ratio_of: str = ""
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "rows": [{**asdict(row), "met": row.met} for row in self.rows]}

    def as_text(self) -> str:
        width = max((len(row.name) for row in self.rows), default=0)
        header = f"  {'':{width}}  {self.unit:>10}  {'quartiles':>19}  {self.ratio_of:>22}  {'quartiles':>13}  target"
        lines = [f"{self.name}: {self.title}", header]
        lines += [self._line(row, width) for row in self.rows]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(line.rstrip() for line in lines)

    def _line(self, row: Row, width: int) -> str:
        ratio, spread = "", ""
        if row.ratio is not None:
            ratio, spread = f"{row.ratio.median:.2f}x", f"{row.ratio.low:.2f} - {row.ratio.high:.2f}"
        return (
            f"  {row.name:{width}}  {_number(row.figure.median):>10}"
            f"  {_number(row.figure.low) + ' - ' + _number(row.figure.high):>19}"
            f"  {ratio:>22}  {spread:>13}  {_target(row):14}  {row.checks}"
        )


_MARKS: Final = {True: "met", False: "MISSED"}


def _target(row: Row) -> str:
    if row.target is None or row.met is None:
        return ""
    unit = "" if row.ratio is None else "x"
    return f"{'>=' if row.at_least else '<='} {row.target:g}{unit} {_MARKS[row.met]}"


def _number(value: float) -> str:
    if 0 < abs(value) < 0.1:
        return f"{value:.4f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def summary(tables: Iterable[Table]) -> str:
    """Every target and whether it is met."""
    judged = [(table, row) for table in tables for row in table.rows if row.met is not None]
    lines = [f"  {'met   ' if row.met else 'MISSED'}  {table.name}: {row.name}" for table, row in judged]
    return "\n".join(["targets", *lines])
