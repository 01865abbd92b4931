"""What a storage of `limits` must offer so that several windows are taken in one step, all or nothing."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.windows import Window


log: Final = logging.getLogger(__name__)


class Ask(NamedTuple):
    """What is wanted from one window: `need`, without which nothing is taken, and up to `extra` beyond it."""

    window: Window
    need: int
    extra: int = 0


class Lease(NamedTuple):
    """The name under which a take may be given back, until `deadline` (seconds since the epoch)."""

    id: str
    worker: str
    deadline: float


class Row:
    """The counter of one window: [start, end), what was used in it, and for sliding ones the bucket before.

    `generation` changes at every roll-over and restart, so that a late give-back cannot reach the wrong window.
    """

    __slots__ = ("before", "end", "generation", "start", "used")

    def __init__(self, start: float, end: float, generation: int, used: int = 0, before: int = 0) -> None:
        self.start: float = start
        self.end: float = end
        self.generation: int = generation
        self.used: int = used
        self.before: int = before


class Change(NamedTuple):
    """What a settlement adds to one window (negative: gives back).

    `generation` is that of the window the cost was taken from; None means the current one. A change for a generation
    that has passed is dropped.
    """

    window: Window
    units: int
    generation: int | None


class Level(NamedTuple):
    """How full one window is. `end` is when it frees again (seconds since the epoch), None while not started."""

    used: int
    held: int
    start: float | None
    end: float | None


class Grant:
    """Everything asked for was taken. Each list follows the order of the asks.

    `used` includes this take, `ends` is when each window frees again. `rows` are the windows as they were taken from.
    """

    __slots__ = ("_asks", "_taken", "ends", "rows", "used")

    def __init__(
        self,
        asks: Sequence[Ask],
        rows: Sequence[Row],
        used: list[int],
        ends: list[float],
        taken: list[int] | None = None,
    ) -> None:
        self._asks = asks
        self._taken = taken
        self.rows: Sequence[Row] = rows
        self.used: list[int] = used
        self.ends: list[float] = ends

    @property
    def taken(self) -> list[int]:
        """The units taken from each window: what was needed, and the extra that there was room for."""
        return [need for _, need, _ in self._asks] if self._taken is None else self._taken

    @property
    def generations(self) -> list[int]:
        """Which window each take came from."""
        return [row.generation for row in self.rows]

    def __bool__(self) -> bool:
        return True


class Shortfall:
    """Nothing was taken. `full` are the indices of the asks that did not fit.

    `used` is what each window holds; `ends` is when the same ask would fit into it, and for those that are not full
    when they free again.
    `retry_at` is the earliest deadline of leases that others hold, None when nobody holds any.
    """

    __slots__ = ("ends", "full", "retry_at", "used")

    def __init__(self, full: list[int], used: list[int], ends: list[float], retry_at: float | None = None) -> None:
        self.full: list[int] = full
        self.used: list[int] = used
        self.ends: list[float] = ends
        self.retry_at: float | None = retry_at

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Promise:
    """What a storage keeps of the promises above; told by `doctor` and to whoever reads the code."""

    durable: bool
    shared: bool
    gives_back: bool = True


class MultiWindowSupport(ABC):
    """Beside `MovingWindowSupport` and `SlidingWindowCounterSupport` of `limits`: several windows of one subject.

    Times are seconds since the epoch. A storage that several processes share may use its own time instead of `now`.
    Every method but `settle` raises `BudgetError` when the store cannot be reached.
    """

    @property
    @abstractmethod
    def promise(self) -> Promise:
        """What this storage keeps."""

    @abstractmethod
    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        """Take from every window or from none. With a `lease` the take can be given back under its id."""

    def acquire_at_once(self, subject: str, asks: Sequence[Ask], *, now: float) -> Grant | Shortfall | None:  # noqa: ARG002
        """Take without waiting and without a lease, where the storage can; None where `acquire` must be asked."""
        return None

    @abstractmethod
    async def give_back(self, lease_id: str, unspent: dict[str, int]) -> None:
        """End a lease and return `unspent` units per slot, each only where the window is still the one taken from.

        Applies once; an unknown or ended lease is ignored.
        """

    @abstractmethod
    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        """How full the windows are, without changing anything; `end` is when `need` units would fit."""

    @abstractmethod
    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        """Empty the windows. Leases taken before give nothing back to what follows."""

    @abstractmethod
    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        """Correct what was taken, at once and without asking whether it fits. Never fails."""

    async def flush(self) -> None:  # noqa: B027  # nothing to do where settlements are at once
        """Wait until every settlement made so far is where it belongs."""

    @abstractmethod
    async def forget(self, subject: str) -> None:
        """Drop every counter of a subject that is gone for good."""

    async def aclose(self) -> None:
        """Write what is still to be written. An outage is logged and not raised: whoever stops must go on stopping."""
        try:
            await self.flush()
        except BudgetError:
            log.error("what was still to be charged could not be written; the store of budgets is away")
