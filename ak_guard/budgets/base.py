"""What a storage of `limits` must offer so that several windows are taken in one step, all or nothing."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from ak_guard.budgets.slots import MemorySlots
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ak_guard.budgets.purse import Purse
    from ak_guard.budgets.queue import Owed
    from ak_guard.budgets.slots import Slots
    from ak_guard.budgets.windows import Window


log: Final = logging.getLogger(__name__)


class Ask(NamedTuple):
    """What is wanted from one window: `need`, without which nothing is taken, and up to `extra` beyond it.

    A store grants no more extra than a tenth of what `need` leaves, and none once less than a tenth of the amount is
    left; windows of one unit get the same extra, that of the fullest.
    """

    window: Window
    need: int
    extra: int = 0


class Lease(NamedTuple):
    """The name under which a take may be given back within `seconds` of when the store granted it.

    `renews` is a lease of the same subject that ends with this call, whatever comes of the take: first `unspent` units
    per slot go back, each only where the window is still the one they came from. An id is used for one call only.
    """

    id: str
    worker: str
    seconds: float
    renews: str = ""
    unspent: Mapping[str, int] = MappingProxyType({})


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
    """How full one window is. `end` is when it frees again (seconds since the epoch), None while not started.

    `used` includes `held`, the units under leases of this window. `generation` names the window, 0 while not started.
    """

    used: int
    held: int
    start: float | None
    end: float | None
    generation: int = 0


class Grant(NamedTuple):
    """Everything that was needed was taken. Each list follows the order of the asks.

    `taken` is what was needed and the extra there was room for. `used` includes this take, `ends` is when each window
    frees again, `generations` names the window each take came from (0 where nothing was taken).
    """

    taken: list[int]
    used: list[int]
    ends: list[float]
    generations: list[int]

    def __bool__(self) -> bool:
        return True


def refunds(asks: Sequence[Ask], grant: Grant) -> list[Change]:
    """What takes a grant of these asks back."""
    parts = zip(asks, grant.taken, grant.generations, strict=True)
    return [Change(ask.window, -units, generation) for ask, units, generation in parts if units]


class Shortfall(NamedTuple):
    """Nothing was taken. `full` are the indices of the asks that did not fit.

    `used` is what each window holds; `ends` is when the same ask would fit into it, and for those that are not full
    when they free again.
    `retry_at` is the earliest deadline of leases that others hold on these windows, None when nobody holds any.
    """

    full: list[int]
    used: list[int]
    ends: list[float]
    retry_at: float | None = None

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

    Times are seconds since the epoch on the caller's clock. A storage that several machines share decides by its own
    time and answers in the caller's: `end - its now + now`. Every method but `settle` raises `BudgetError` when the
    store cannot be reached.
    """

    #: Where requests that run at once are counted, None for a storage that cannot.
    slots: Slots | None = None

    @cached_property
    def slots_of_process(self) -> Slots:
        """In place of `slots`: exact among all who use this storage in the process, and known to nobody else."""
        return MemorySlots()

    @property
    @abstractmethod
    def promise(self) -> Promise:
        """What this storage keeps."""

    @abstractmethod
    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        """Take from every window or from none. With a `lease` the take can be given back under its id."""

    @abstractmethod
    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        """End a lease and return `unspent` units per slot, each only where the window is still the one taken from.

        Applies once; an unknown or ended lease is ignored.
        """

    @abstractmethod
    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        """How full the windows are, without changing anything; `end` is when `need` units would fit."""

    async def peek_many(self, subjects: Sequence[tuple[str, Sequence[Window]]], *, now: float) -> list[list[Level]]:
        """`peek` for many subjects, as one question where the store can answer it so."""
        return [await self.peek(subject, windows, now=now) for subject, windows in subjects]

    @abstractmethod
    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        """Empty the windows. Leases taken before give nothing back to what follows."""

    @abstractmethod
    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        """Correct what was taken, at once and without asking whether it fits. Never fails; any thread may call it.

        What cannot be written yet is kept, and written once however often that takes.
        """

    async def flush(self) -> None:  # noqa: B027  # nothing to do where settlements are at once
        """Wait until every settlement made so far is where it belongs."""

    async def write_soon(self) -> None:
        """See to it that settlements are written. A request has ended and waits for this no longer than it must."""
        await self.flush()

    @abstractmethod
    async def forget(self, subject: str) -> None:
        """Drop every counter of a subject that is gone for good."""

    async def aclose(self) -> None:
        """Write what is still to be written. An outage is logged and not raised: whoever stops must go on stopping."""
        try:
            await self.flush()
        except BudgetError:
            log.error("what was still to be charged could not be written; the store of budgets is away")


class SettlesOnce(MultiWindowSupport):
    """A storage that knows settlements again by the id under which somebody else sent them."""

    @abstractmethod
    async def settle_once(self, batch_id: str, owed: Sequence[Owed], *, known: Sequence[str]) -> None:
        """Settle a batch, unless it was settled before; returns once it is written.

        `known` are batches of which it is known that they are written: their ids need not be kept.
        """


class SpendsAtOnce(MultiWindowSupport):
    """A storage that decides in the process, without waiting, so that nothing can come between several of its takes."""

    #: False in a class that changes `acquire` alone: it means that for every take.
    at_once: bool = True

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "acquire" in vars(cls) and "spend" not in vars(cls):
            cls.at_once = False

    @abstractmethod
    def spend(self, subject: str, asks: Sequence[Ask], *, now: float, waited: bool = False) -> Grant | Shortfall | None:
        """Take what is needed from every window or from none; None where `refill` must be awaited first.

        Those who `waited` for that go before those who come now.
        """

    @abstractmethod
    def unspend(self, subject: str, asks: Sequence[Ask], grant: Grant) -> None:
        """Undo a `spend` that was made since the last await."""

    @abstractmethod
    def purse(self, subject: str, windows: Sequence[Window], *, now: float) -> Purse | None:
        """What can be spent with a subtraction, None where there is nothing of the kind. One is open at a time."""

    async def look(self, subject: str, windows: Sequence[Window], *, now: float, need: int) -> list[Level]:
        """What `peek` says, or said within the last second."""
        return await self.peek(subject, windows, now=now, need=need)

    async def refill(self, subject: str, asks: Sequence[Ask], *, clock: Callable[[], float]) -> None:
        """Wait until `spend` can answer; `clock` is the caller's, since that may take a while."""
