"""Slots that many workers share: each holds as many as it uses in the store, and hands them out by itself.

What a worker holds ends at a deadline unless it is renewed, so that one that was killed keeps nothing. One that could
not renew in time counts on nothing any more: its requests run on, and for new ones it must ask.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ak_guard.budgets.base import log
from ak_guard.budgets.room import Room
from ak_guard.budgets.slots import Slot, Slots, Stake
from ak_guard.errors import BudgetError
from ak_guard.loops import Background, PerLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ak_guard.budgets.slots import Full, SlotSupport

#: For how long a store keeps slots for a worker that does not renew them.
HOLD_SECONDS: Final = 6.0
_RENEW_SECONDS: Final = HOLD_SECONDS / 3
# Longer than any healthy store takes.
_STORE_SECONDS: Final = 3.0
# How often it is looked for slots that were idle since the last look; these go back.
_TICK_SECONDS: Final = 0.05
# Where the store has none left, others may hold idle ones for a moment: it is asked again after each of these.
_PAUSES: Final = (0.05, 0.2)
# So long nothing idle is kept, because others were seen to need it.
_CROWDED_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.5


class SharedSlots(Slots):
    """Slots of a `store` that several processes share. `clock` is monotonic, `wall` since the epoch, in seconds."""

    def __init__(
        self,
        store: SlotSupport,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._wall = wall
        self._desks = PerLoop(lambda: _Desk(store, clock, wall), keep=True)

    def enter(self, subject: str, limit: int) -> Slot | Full | None:
        return self._desks.get().room(subject).enter(limit)

    async def wait(self, subject: str, limit: int) -> Slot | Full:
        desk = self._desks.get()
        for gone in self._desks.abandoned():
            await gone.return_all()
        return await desk.wait(subject, limit)

    async def used(self, subjects: Sequence[str]) -> list[int]:
        """As the store sees it, but what is idle here counts as free."""
        held = await self._store.held_slots(subjects, now=self._wall())
        desks = self._desks.values()
        return [
            max(0, count - sum(desk.idle(subject) for desk in desks))
            for subject, count in zip(subjects, held, strict=True)
        ]

    async def aclose(self) -> None:
        for gone in self._desks.abandoned():
            await gone.return_all()
        await self._desks.get().aclose()


class _Desk:
    """The rooms of one event loop, under one identity, and the timer that renews and returns."""

    def __init__(self, store: SlotSupport, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._worker = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._number = itertools.count(1).__next__
        self._rooms: dict[str, Room] = {}
        self._background = Background(self._tick, _TICK_SECONDS)
        self._open = False
        self._away = False

    def room(self, subject: str) -> Room:
        room = self._rooms.get(subject)
        if room is None:
            room = self._rooms[subject] = Room(subject, self._clock, self._left)
        return room

    def idle(self, subject: str) -> int:
        room = self._rooms.get(subject)
        return 0 if room is None or self._clock() >= room.deadline else room.held - room.running

    async def wait(self, subject: str, limit: int) -> Slot | Full:
        self._open = True
        room = self.room(subject)
        waiter: asyncio.Future[Slot | Full] = self._loop.create_future()
        room.limit = limit
        room.waiters[waiter] = None
        self._fly(room)
        try:
            return await waiter
        except asyncio.CancelledError:
            # Whoever went away in the moment in which it was let in does not run.
            if waiter.done() and not waiter.cancelled() and isinstance(slot := waiter.result(), Slot):
                slot.leave()
            raise
        finally:
            room.waiters.pop(waiter, None)

    def _left(self, room: Room) -> None:
        if self._open:
            if room.is_crowded:
                room.let_go(at_once=True)
                if room.is_due:
                    self._fly(room)
            self._arm()

    def _fly(self, room: Room) -> None:
        if room.flight is None:
            room.flight = self._background.run(self._serve(room))

    async def _serve(self, room: Room) -> None:
        """Ask for those who wait, and tell the store what it must know."""
        try:
            for pause in itertools.cycle((*_PAUSES, None)):
                await self._ask_while_it_helps(room)
                if not room.waiters:
                    break
                if pause is None:
                    room.refuse()
                else:
                    # What comes free here meanwhile is handed out without asking.
                    await asyncio.sleep(pause)
            self._away = False
        except BudgetError as error:
            self._failed(room, error)
        except Exception as error:  # noqa: BLE001  # whatever a store fails with, nobody may wait for ever
            log.exception("the store of budgets failed")
            failure = BudgetError("the store of budgets failed")
            failure.__cause__ = error
            self._failed(room, failure)
        finally:
            room.flight = None
            self._arm()

    async def _ask_while_it_helps(self, room: Room) -> None:
        room.serve()
        while room.waiters or room.is_due:
            before = room.held
            await self._tell(room, more=len(room.waiters))
            room.serve()
            if room.waiters and room.held <= before:
                return

    async def _tell(self, room: Room, *, more: int = 0) -> None:
        """Say what is held here, and ask for so many more."""
        at = self._clock()
        floor = room.promise()
        wanted = max(floor, room.running + more)
        stake = Stake(self._worker, self._number(), floor, wanted, room.limit, HOLD_SECONDS)
        room.untold_until = at + HOLD_SECONDS
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                share = await self._store.hold_slots(room.subject, stake, now=self._wall())
        except TimeoutError:
            raise BudgetError("the store of budgets did not answer in time") from None
        room.held, room.others = share.held, share.others
        if share.wanted:
            room.crowded_until = at + _CROWDED_SECONDS
        # From before the call, so that it ends here before it ends in the store.
        room.deadline, room.renew_at = at + HOLD_SECONDS, at + _RENEW_SECONDS
        room.untold_until = 0.0

    def _failed(self, room: Room, error: BudgetError) -> None:
        room.again_at = self._clock() + _AGAIN_SECONDS
        room.fail(error)
        if not self._away:
            log.warning("the store of budgets is away; slots of running requests are renewed when it is back")
        self._away = True

    def _arm(self) -> None:
        if self._open and self._rooms:
            self._background.arm()

    def _tick(self) -> None:
        for room in list(self._rooms.values()):
            if room.flight is None:
                room.let_go(at_once=room.is_crowded)
                if room.is_due:
                    self._fly(room)
                elif room.is_empty:
                    del self._rooms[room.subject]
        self._arm()

    async def return_all(self) -> None:
        """Hold nothing but what runs. Also for a loop that is gone: nothing runs there any more."""
        if self._loop.is_closed():
            for room in self._rooms.values():
                room.running = 0
        for room in self._rooms.values():
            room.let_go(at_once=True)
            if self._clock() < room.untold_until:
                # What does not reach the store ends there by itself.
                with suppress(BudgetError):
                    await self._tell(room)

    async def aclose(self) -> None:
        self._open = False
        self._background.stop()
        await self._background.wait()
        await self.return_all()
