"""How many requests of a key run at once: a level, not a flow, and so no window but slots that are held and let go."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Full:
    """As many requests run as may."""


FULL: Final = Full()


class Slot:
    """One request that runs, from when it was let in until it leaves. `left` is how many more might have run then."""

    __slots__ = ("_leave", "left")

    def __init__(self, leave: Callable[[], None], left: int) -> None:
        self.left: int = left
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        """The request has ended. Said twice it counts once."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class Slots(ABC):
    """Who runs, by subject. `limit` is how many may run at once, as whoever asks knows it."""

    @abstractmethod
    def enter(self, subject: str, limit: int) -> Slot | Full | None:
        """A slot, without waiting; None where `wait` must be asked."""

    @abstractmethod
    async def wait(self, subject: str, limit: int) -> Slot | Full:
        """A slot, or that there is none. Raises `BudgetError` when nobody can say."""

    @abstractmethod
    async def used(self, subjects: Sequence[str]) -> list[int]:
        """How many are taken now of each, by everybody. Raises `BudgetError`."""

    async def aclose(self) -> None:  # noqa: B027  # nothing to return in the process
        """Let go of what nobody uses."""


class MemorySlots(Slots):
    """Slots of one process, exact over its event loops and threads."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._lock = threading.Lock()

    def enter(self, subject: str, limit: int) -> Slot | Full:
        with self._lock:
            running = self._running.get(subject, 0)
            if running >= limit:
                return FULL
            self._running[subject] = running + 1
        return Slot(partial(self._leave, subject), limit - running - 1)

    async def wait(self, subject: str, limit: int) -> Slot | Full:
        return self.enter(subject, limit)

    async def used(self, subjects: Sequence[str]) -> list[int]:
        return [self._running.get(subject, 0) for subject in subjects]

    def _leave(self, subject: str) -> None:
        with self._lock:
            self._running[subject] -= 1
            if not self._running[subject]:
                del self._running[subject]


class Stake(NamedTuple):
    """What one worker says of the slots of one subject, for `seconds` from when the store hears it.

    It counts on `floor` and wants `want`, where no more than `limit` may run at once. `number` rises from call to call,
    so that one that comes late changes nothing any more.
    """

    worker: str
    number: int
    floor: int
    want: int
    limit: int
    seconds: float


class Share(NamedTuple):
    """How many slots a worker holds now, how many all others do, and whether any of these wanted more."""

    held: int
    others: int
    wanted: bool = False


class Holder(NamedTuple):
    """What a store knows of a worker: what it holds and what it wanted, from the call of this `number`, until when."""

    held: int
    want: int
    number: int
    deadline: float


def share(stake: Stake, others: Iterable[Holder]) -> Share:
    """What there is beside `others`: never less than the floor of the stake, which may be in use already."""
    taken = lacking = 0
    for other in others:
        taken += other.held
        lacking += other.want > other.held
    return Share(max(stake.floor, min(stake.want, stake.limit - taken)), taken, lacking > 0)


def noted(holders: dict[str, Holder], stake: Stake, now: float) -> Share:
    """Note what a worker says among the holders of one subject, by worker, and tell what comes of it."""
    others = [holder for worker, holder in holders.items() if worker != stake.worker and now < holder.deadline]
    mine = holders.get(stake.worker)
    if mine is not None and stake.number <= mine.number:
        # It was overtaken, and nobody waits for it any more.
        return share(stake._replace(want=stake.floor), others)
    found = share(stake, others)
    holders[stake.worker] = Holder(found.held, stake.want, stake.number, now + stake.seconds)
    return found


class SlotSupport(ABC):
    """Beside `MultiWindowSupport`: a storage in which workers hold slots until a deadline, after which they are free.

    Each call says the whole of what a worker holds, so one whose answer was lost can simply be made again.
    """

    @abstractmethod
    async def hold_slots(self, subject: str, stake: Stake, *, now: float) -> Share:
        """Note what a worker holds, as far as there is room. Raises `BudgetError`."""

    @abstractmethod
    async def held_slots(self, subjects: Sequence[str], *, now: float) -> list[int]:
        """What all workers hold of each. Raises `BudgetError`."""


class HeldInMemory(SlotSupport):
    """Slots of several workers that this process alone knows."""

    def __init__(self) -> None:
        self._holders: dict[str, dict[str, Holder]] = {}

    async def hold_slots(self, subject: str, stake: Stake, *, now: float) -> Share:
        holders = self._holders.setdefault(subject, {})
        for worker in [worker for worker, holder in holders.items() if now >= holder.deadline]:
            if worker != stake.worker:
                del holders[worker]
        return noted(holders, stake, now)

    async def held_slots(self, subjects: Sequence[str], *, now: float) -> list[int]:
        return [
            sum(holder.held for holder in self._holders.get(subject, {}).values() if now < holder.deadline)
            for subject in subjects
        ]
