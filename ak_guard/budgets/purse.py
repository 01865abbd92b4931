"""What a key may spend with a subtraction: the hot path of every budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ak_guard.budgets.windows import Window

# More than any amount; for what no window counts.
_NO_LIMIT: Final = 2**62


class Purse:
    """Windows under way, of which `units` and `requests` may be spent until `until`.

    Whoever opened it may close it at any time; what was spent is then counted in the windows. `until` is on the guard's
    clock; what is held under a lease ends at `deadline` on its own `clock`, too. `exact` says that there is nothing
    beside what is in here, so that a cost above it can be refused.
    """

    __slots__ = (
        "_all_units",
        "_first_requests",
        "_first_units",
        "_left",
        "clock",
        "deadline",
        "ends",
        "exact",
        "generations",
        "requests",
        "units",
        "until",
        "windows",
    )

    def __init__(
        self,
        windows: Sequence[Window],
        *,
        left: list[int],
        spare: Sequence[int],
        ends: list[float],
        generations: Sequence[int],
        until: float,
        clock: Callable[[], float] | None = None,
        deadline: float = math.inf,
        exact: bool = False,
    ) -> None:
        """`left` is what each window has for everybody, `spare` what may be spent from here, neither of it below 0."""
        self.windows: Sequence[Window] = windows
        self.ends: list[float] = ends
        self.generations: Sequence[int] = generations
        self.until: float = until
        self.clock: Callable[[], float] | None = clock
        self.deadline: float = deadline
        self.exact: bool = exact
        counted = [window.unit == "units" for window in windows]
        self._all_units: bool = all(counted)
        self._left = left
        self.units: int = min((count for count, of in zip(spare, counted, strict=True) if of), default=_NO_LIMIT)
        self.requests: int = min((count for count, of in zip(spare, counted, strict=True) if not of), default=_NO_LIMIT)
        self._first_units: int = self.units
        self._first_requests: int = self.requests

    @property
    def spent(self) -> list[int]:
        """How much of each window was spent from here."""
        units, requests = self._first_units - self.units, self._first_requests - self.requests
        return [units if window.unit == "units" else requests for window in self.windows]

    def left(self) -> tuple[int, ...]:
        """What each window has left after what was spent from here."""
        if self._all_units:
            spent = self._first_units - self.units
            left: list[int] = []
            # Not a comprehension, which is a call of its own.
            for count in self._left:
                left.append(count - spent)  # noqa: PERF401
            return tuple(left)
        return tuple([count - spent for count, spent in zip(self._left, self.spent, strict=True)])

    def close(self) -> None:
        """Let nobody spend from here any more."""
        self.until = -math.inf
