"""The slots of one subject in one event loop: who runs, who waits, and what a store was told and has promised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard.budgets.slots import FULL, Slot

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ak_guard.budgets.slots import Full
    from ak_guard.errors import BudgetError

# So long it is remembered that others had all there is.
_FULL_SECONDS: Final = 0.2


class Room:
    """The slots of one subject in one event loop."""

    def __init__(self, subject: str, clock: Callable[[], float], on_leave: Callable[[Room], None]) -> None:
        self.subject: str = subject
        self.limit: int = 0
        self.running: int = 0
        #: What the store has promised until `deadline`, and is to be told again from `renew_at` on.
        self.held: int = 0
        self.deadline: float = 0.0
        self.renew_at: float = 0.0
        self.others: int = 0
        #: Until when the store may believe that more is held than there is.
        self.untold_until: float = 0.0
        #: Where a call has failed, when the next may be made.
        self.again_at: float = 0.0
        self.waiters: dict[asyncio.Future[Slot | Full], None] = {}
        self.flight: asyncio.Task[None] | None = None
        self.crowded_until: float = 0.0
        self._full_until = 0.0
        self._most = 0
        self._clock = clock
        self._on_leave = on_leave

    def enter(self, limit: int) -> Slot | Full | None:
        self.limit = limit
        # Whoever waits has been served with what there was, so nobody is overtaken.
        if (slot := self._give()) is not None:
            return slot
        # Where one has ended here since, there is room.
        crowded = self.others + self.running >= limit and self._clock() < self._full_until
        return FULL if crowded else None

    def _give(self) -> Slot | None:
        # More may be held than the limit allows since that was lowered.
        if self.running >= min(self.held, self.limit - self.others) or self._clock() >= self.deadline:
            return None
        self.running += 1
        self._most = max(self._most, self.running)
        return Slot(self._leave, max(0, self.limit - self.others - self.running))

    def _leave(self) -> None:
        self.running -= 1
        self.serve()
        self._on_leave(self)

    def serve(self) -> None:
        """Hand out what there is, in the order in which they came."""
        while self.waiters:
            waiter = next(iter(self.waiters))
            if not waiter.done():
                slot = self._give()
                if slot is None:
                    return
                waiter.set_result(slot)
            del self.waiters[waiter]

    def refuse(self) -> None:
        """There is nothing for those who wait, nor for those who come in the next moment."""
        self._full_until = self._clock() + _FULL_SECONDS
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(FULL)
        self.waiters.clear()

    def fail(self, error: BudgetError) -> None:
        """Nobody knows whether there is anything."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_exception(error)
                waiter.exception()  # seen here; who still waits sees it too
        self.waiters.clear()

    @property
    def is_crowded(self) -> bool:
        """Whether others were seen to need what is idle here."""
        return self._clock() < self.crowded_until

    @property
    def is_due(self) -> bool:
        """Whether the store is to be told anything."""
        now = self._clock()
        return now >= self.again_at and (now < self.untold_until or (self.held > 0 and now >= self.renew_at))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remember."""
        waited_for = self.running or self.held or self.waiters or self.flight
        return not waited_for and self._clock() >= max(self.untold_until, self.crowded_until, self._full_until)

    def let_go(self, *, at_once: bool) -> None:
        """Keep no more than what was used since the last time, or `at_once` than what is used now."""
        keep = self.running if at_once else max(self._most, self.running)
        self._most = self.running
        if keep < self.held:
            self.held, self.untold_until = keep, self.deadline

    def promise(self) -> int:
        """What this worker counts on from here on, whatever comes of the next call: see `SlotSupport`."""
        if self._clock() >= self.deadline:
            # The store may have given them to others. Those that run are no less there.
            self.held = self.running
        return self.held
