"""Exact over many workers at in-process speed: a worker holds a little of each budget and spends it by itself.

In front of any storage that several processes share. What is held is bounded by a tenth of what is left and lives for
a second, so that a worker that dies takes no more than that with it. `account.py` is the bookkeeping, this file the
conversation with the store: one call per subject at a time, for all who wait.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Final

from ak_guard.budgets.account import LEASE_SECONDS, RETURN_SECONDS, SHORT_SECONDS, Account, needs
from ak_guard.budgets.base import Grant, SpendsAtOnce, log, refunds
from ak_guard.budgets.desk import Desk, Held, Waiter
from ak_guard.budgets.shared_slots import SharedSlots
from ak_guard.budgets.slots import SlotSupport
from ak_guard.errors import BudgetError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ak_guard.budgets.account import Sent
    from ak_guard.budgets.base import Ask, Change, Lease, Level, MultiWindowSupport, Promise, Shortfall
    from ak_guard.budgets.purse import Purse
    from ak_guard.budgets.slots import Slots
    from ak_guard.budgets.windows import Window

# Longer than any healthy store takes; what comes later is not waited for and counts as spent.
_STORE_SECONDS: Final = 3.0
# A lease is dead only after its deadline.
_GRACE_SECONDS: Final = 0.005
# So many times the rest is asked for anew, when others were quicker.
_TRIES: Final = 5


class Leases(SpendsAtOnce):
    """Spend from `store` under leases. `clock` is monotonic, in seconds; it rules every deadline in here.

    `wall` is since the epoch; it says when what is settled came up. `closes` says that the store belongs to this object
    and ends with it.
    """

    def __init__(
        self,
        store: MultiWindowSupport,
        *,
        closes: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.store: MultiWindowSupport = store
        self.slots: Slots | None = (
            SharedSlots(store, clock=clock, wall=wall) if isinstance(store, SlotSupport) else None
        )
        self._closes = closes
        self._wall = wall
        self._desks = PerLoop(lambda: Desk(clock, self._tick))

    @property
    def promise(self) -> Promise:
        return self.store.promise

    # Spending, without waiting

    def spend(
        self,
        subject: str,
        asks: Sequence[Ask],
        *,
        now: float,
        waited: bool = False,
    ) -> Grant | Shortfall | None:
        held = self._desks.get().held.get(subject)
        if held is None or held.account.windows != tuple([ask.window for ask in asks]):
            return None
        # First come, first served: who waits goes before who comes now.
        if (held.waiters or held.serving) and not waited:
            return None
        return held.account.spend(asks, now, waited=waited)

    def unspend(self, subject: str, asks: Sequence[Ask], grant: Grant) -> None:
        desk = self._desks.get()
        held = desk.held.get(subject)
        if held is not None and held.account.windows == tuple([ask.window for ask in asks]):
            changes = held.account.unspend(asks, grant)
            desk.watch(held)
        else:
            changes = refunds(asks, grant)
        if changes:
            self._owe(subject, changes, self._wall())

    def purse(self, subject: str, windows: Sequence[Window], *, now: float) -> Purse | None:  # noqa: ARG002
        held = self._desks.get().held.get(subject)
        if held is None or held.waiters or held.serving or held.account.windows != windows:
            return None
        return held.account.purse

    # Asking the store

    async def refill(self, subject: str, asks: Sequence[Ask], *, clock: Callable[[], float]) -> None:
        desk = self._desks.get()
        held = await self._account(desk, subject, tuple([ask.window for ask in asks]))
        if not (held.waiters or held.serving) and held.account.decides(asks, clock()):
            return
        waiter = Waiter(asks, clock, desk.loop.create_future())
        held.waiters[waiter] = None
        if held.flight is None:
            held.flight = desk.run(self._fly(desk, held))
        try:
            await waiter.done
        finally:
            held.waiters.pop(waiter, None)

    async def _account(self, desk: Desk, subject: str, windows: tuple[Window, ...]) -> Held:
        """The account of these windows. One with other windows is closed first: its limits were changed."""
        held = desk.held.get(subject)
        while held is not None and held.account.windows != windows:
            if held.flight is not None:
                await asyncio.wait([held.flight])
            else:
                del desk.held[subject]
                # Whoever goes away meanwhile takes nothing along.
                await asyncio.shield(desk.run(self._return(held.account)))
            held = desk.held.get(subject)
        if held is None:
            desk.forget_idle()
            held = desk.held[subject] = Held(Account(subject, windows, desk.clock))
        return held

    async def _fly(self, desk: Desk, held: Held) -> None:
        """Serve everybody who waits for one subject."""
        try:
            while held.waiters:
                ready = _decided(held)
                if ready:
                    desk.wake(held, ready)
                else:
                    await self._ask_for(desk, held, list(held.waiters))
                # Those who were woken take what is theirs before it is looked at again.
                await asyncio.sleep(0)
        except BudgetError as error:
            held.fail(error)
        except Exception as error:  # noqa: BLE001  # whatever a store fails with, nobody may wait for ever
            log.exception("the store of budgets failed")
            failure = BudgetError("the store of budgets failed")
            failure.__cause__ = error
            held.fail(failure)
        finally:
            held.flight = None
            desk.watch(held)

    async def _ask_for(self, desk: Desk, held: Held, batch: list[Waiter]) -> None:
        """One question for all in `batch`; where it is too much, for as many as fit, in order."""
        account = held.account
        sent, outcome = await self._call(desk, account, batch, extra=True)
        if isinstance(outcome, Grant):
            account.granted(sent, outcome)
            desk.wake(held, batch)
            return
        served: list[Waiter] = []
        short, short_sent = outcome, sent
        for _ in range(_TRIES):
            served = [batch[at] for at in account.fitting([waiter.asks for waiter in batch], short)]
            if not served:
                break
            sent, rest = await self._call(desk, account, served, extra=False)
            if isinstance(rest, Grant):
                account.granted(sent, rest)
                break
            short, short_sent, served = rest, sent, []
        others = dict.fromkeys(batch)
        for waiter in served:
            del others[waiter]
        if len(batch) > 1 and others and any(window.sliding for window in account.windows):
            short = await self._each(account, list(others), short, short_sent)
        now = desk.clock()
        again = {waiter for waiter in others if now < waiter.until} if short.retry_at is not None else set()
        if served:
            account.still_left(sent, short.ends)
        else:
            account.refused(short_sent, short)
        desk.wake(held, [waiter for waiter in batch if waiter not in again])
        if again and short.retry_at is not None:
            # What others hold comes back by the end of their lease, or hardly ever: the store listens for longer.
            end = short.retry_at - (RETURN_SECONDS - LEASE_SECONDS)
            left = max(0.0, end - short_sent.now - (now - short_sent.at))
            seconds = min(LEASE_SECONDS, left) + _GRACE_SECONDS
            waited = await desk.pause(held, seconds)
            for waiter in again:
                # Once is enough, however often there is news meanwhile.
                waiter.until = -math.inf if waited else min(waiter.until, now + seconds)
            account.believe_nothing()

    async def _each(self, account: Account, batch: Sequence[Waiter], short: Shortfall, sent: Sent) -> Shortfall:
        """A sliding window frees sooner for one than for all who asked together."""
        need = min(max(needs(waiter.asks)) for waiter in batch)
        levels = await self.store.peek(account.subject, account.windows, now=sent.now, need=need)
        ends = [end if level.end is None else level.end for level, end in zip(levels, short.ends, strict=True)]
        return short._replace(ends=ends)

    async def _call(
        self, desk: Desk, account: Account, batch: Sequence[Waiter], *, extra: bool
    ) -> tuple[Sent, Grant | Shortfall]:
        wanted = [needs(waiter.asks) for waiter in batch]
        sent = account.call(
            sum(units for units, _ in wanted),
            sum(requests for _, requests in wanted),
            lease_id=f"{desk.worker}-{next(desk.numbers)}",
            worker=desk.worker,
            now=max(waiter.now() for waiter in batch),
            extra=extra,
        )
        if sent.refunds:
            self._owe(account.subject, sent.refunds, sent.now)
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                outcome = await self.store.acquire(account.subject, sent.asks, lease=sent.lease, now=sent.now)
        except TimeoutError:
            raise BudgetError("the store of budgets did not answer in time") from None
        return sent, outcome

    # Giving back and settling

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        owed = changes
        try:
            desk = self._desks.get()
        except RuntimeError:
            pass  # a thread without a loop holds nothing
        else:
            if (held := desk.held.get(subject)) is not None:
                owed = held.account.settle(changes)
                desk.watch(held)
        if owed:
            self._owe(subject, owed, now)
            self._believe_nothing(subject)

    def _owe(self, subject: str, changes: Sequence[Change], now: float) -> None:
        self.store.settle(subject, changes, now=now)
        for desk in self._desks.values():
            desk.write_soon()

    async def write_soon(self) -> None:
        """Nothing to wait for: what is owed is written within a tenth of a second."""

    async def flush(self) -> None:
        await self.store.flush()

    def _tick(self, desk: Desk) -> None:
        """Bring back what ran out, and see that settlements are written."""
        for held in desk.due():
            desk.run(self._return(held.account))
        if desk.owes:
            desk.owes = False
            desk.run(self._write_owed())

    async def _write_owed(self) -> None:
        try:
            await self.store.flush()
        except BudgetError:
            log.warning("the store of budgets is away; what is owed to it is written when it is back")

    async def _return(self, account: Account) -> None:
        lease_id, unspent, changes = account.return_all()
        if changes:
            self._owe(account.subject, changes, self._wall())
        if lease_id:
            try:
                await self.store.give_back(lease_id, unspent)
            except BudgetError:
                log.warning("a lease could not be given back; what was left of it counts as spent")

    # What people ask for

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        if lease is not None:
            return await self.store.acquire(subject, asks, lease=lease, now=now)
        outcome = self.spend(subject, asks, now=now)
        while outcome is None:
            await self.refill(subject, asks, clock=lambda: now)
            outcome = self.spend(subject, asks, now=now, waited=True)
        return outcome

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        await self.store.give_back(lease_id, unspent)

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        """As the store sees it, but what is held here counts as not used."""
        return self._with_own(subject, windows, await self.store.peek(subject, windows, now=now, need=need))

    async def peek_many(self, subjects: Sequence[tuple[str, Sequence[Window]]], *, now: float) -> list[list[Level]]:
        levels = await self.store.peek_many(subjects, now=now)
        return [self._with_own(*asked, found) for asked, found in zip(subjects, levels, strict=True)]

    def _with_own(self, subject: str, windows: Sequence[Window], levels: list[Level]) -> list[Level]:
        for desk in self._desks.values():
            held = desk.held.get(subject)
            own = {} if held is None else held.account.own()
            levels = [_without(level, own.get(window.slot)) for window, level in zip(windows, levels, strict=True)]
        return levels

    async def look(self, subject: str, windows: Sequence[Window], *, now: float, need: int) -> list[Level]:
        desk, asked = self._desks.get(), (subject, tuple(windows), need)
        seen = desk.seen.get(asked)
        if seen is None or desk.clock() >= seen[0] + SHORT_SECONDS:
            seen = desk.seen[asked] = (desk.clock(), await self.peek(subject, windows, now=now, need=need))
        return seen[1]

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        await self._let_go(subject)
        await self.store.restart(subject, windows)

    async def forget(self, subject: str) -> None:
        await self._let_go(subject)
        await self.store.forget(subject)

    async def _let_go(self, subject: str) -> None:
        """Hold nothing of a subject, in whichever loop."""
        for desk in self._desks.values():
            for held in desk.of(subject):
                held.account.short = None
                await self._return(held.account)

    def drop(self, key_id: str | None) -> None:
        """Rules or counters of a key have changed, None: of any. What was full may not be full any more."""
        subject = None if key_id is None else f"key/{key_id}"
        self._believe_nothing(subject)
        for desk in self._desks.values():
            for held in list(desk.held.values()) if subject is None else desk.of(subject):
                desk.tell_news(held)

    def _believe_nothing(self, subject: str | None) -> None:
        for desk in self._desks.values():
            for held in list(desk.held.values()) if subject is None else desk.of(subject):
                held.account.believe_nothing()

    async def aclose(self) -> None:
        desk = self._desks.get()
        desk.stop()
        await asyncio.gather(*(self._return(held.account) for held in desk.held.values()))
        desk.held.clear()
        if self.slots is not None:
            await self.slots.aclose()
        if self._closes:
            await self.store.aclose()
        else:
            await super().aclose()


def _without(level: Level, own: tuple[int, int, int] | None) -> Level:
    """A level less what is held here, where that came from the window as it is now."""
    if own is None or own[2] != level.generation:
        return level
    leased, unspent, _ = own
    return level._replace(used=max(0, level.used - unspent), held=max(0, level.held - leased))


def _decided(held: Held) -> list[Waiter]:
    """Those who wait and need not: enough is held for them, or it is known that there is not."""
    account, waiters = held.account, list(held.waiters)
    enough = account.affords([waiter.asks for waiter in waiters], waiters[0].now())
    if enough:
        return waiters[:enough]
    return [waiter for waiter in waiters if account.refusal(waiter.asks, waiter.now()) is not None]
