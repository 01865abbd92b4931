"""What one worker holds of one subject's windows: pure bookkeeping, told the time and the store's answers.

A store grants need and extra under a lease. The account spends it, says what to ask for next and what to give back, and
never counts on anything the store has not said: while a call is under way it holds nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from ak_guard.budgets.base import Ask, Change, Grant, Lease, Shortfall, refunds
from ak_guard.budgets.purse import Purse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ak_guard.budgets.windows import Window

#: For so long a lease is meant to last: what is spent in it, and how long others wait for what is left of it.
LEASE_SECONDS: Final = 1.0
#: For how long a store takes back what is left. Longer, so that a worker or a disk that stalls strands nothing.
RETURN_SECONDS: Final = 2.0
# Spending ends earlier, so that what is left is back when the lease ends.
_SPEND_SECONDS: Final = 0.75
#: So long at most it is remembered that a window is full.
SHORT_SECONDS: Final = 1.0
# Below so many units a second a call to the store for each request is cheap, and others see the exact count.
_LEAST_RATE: Final = 20


class Short(NamedTuple):
    """A store's word that something does not fit: what was left, and until when, by both clocks, that is believed."""

    left: list[int]
    ends: list[float]
    until: float
    deadline: float


class Sent(NamedTuple):
    """A call that is made of the store: what it asks, when, and under which lease.

    `refunds` are to be settled before it: what was held without a lease.
    """

    asks: tuple[Ask, ...]
    lease: Lease | None
    now: float
    at: float
    refunds: list[Change]


class Account:
    """The balances of one subject. `clock` is monotonic, in seconds; `now` is that of the guard, since the epoch."""

    def __init__(self, subject: str, windows: tuple[Window, ...], clock: Callable[[], float]) -> None:
        self.subject: str = subject
        self.windows: tuple[Window, ...] = windows
        self.purse: Purse | None = None
        self.short: Short | None = None
        self.lease_id: str = ""
        #: When anything was last asked of this account.
        self.used_at: float = clock()
        self._clock = clock
        self._granted: list[int] = []
        self._granted_at = self.used_at
        # Units a second, and since when how many were spent.
        self._rate = 0.0
        self._since = self.used_at
        self._spent = 0

    # Spending

    @property
    def is_open(self) -> bool:
        return self.purse is not None and self._clock() < self.purse.deadline

    def spend(self, asks: Sequence[Ask], now: float, *, waited: bool = False) -> Grant | Shortfall | None:
        """Take from what is held; refuse what the store refused a moment ago; None where it must be asked.

        For those who `waited` the answer has just come: its time may be short, but it was meant for them.
        """
        self.used_at = self._clock()
        purse = self.purse
        units, requests = needs(asks)
        open_now = waited or self.is_open
        if purse is not None and open_now and now < purse.until and purse.units >= units and purse.requests >= requests:
            purse.units -= units
            purse.requests -= requests
            used = [window.amount - left for window, left in zip(self.windows, purse.left(), strict=True)]
            return Grant([ask.need for ask in asks], used, purse.ends, list(purse.generations))
        return self.refusal(asks, now, waited=waited)

    def _is_open_at(self, now: float) -> bool:
        return self.is_open and self.purse is not None and now < self.purse.until

    def refusal(self, asks: Sequence[Ask], now: float, *, waited: bool = False) -> Shortfall | None:
        """What the store said a moment ago, where that refuses these asks too."""
        short = self.short
        if short is None or now >= short.until or (self._clock() >= short.deadline and not waited):
            return None
        full = [index for index, ask in enumerate(asks) if ask.need > short.left[index]]
        used = [window.amount - left for window, left in zip(self.windows, short.left, strict=True)]
        return Shortfall(full, used, short.ends) if full else None

    def decides(self, asks: Sequence[Ask], now: float) -> bool:
        """Whether `spend` would answer."""
        return bool(self.affords([asks], now)) or self.refusal(asks, now) is not None

    def affords(self, waiting: Sequence[Sequence[Ask]], now: float) -> int:
        """How many of these, from the first on, what is held is enough for."""
        purse = self.purse
        if purse is None or not self._is_open_at(now):
            return 0
        units, requests = purse.units, purse.requests
        for number, asks in enumerate(waiting):
            more = needs(asks)
            units, requests = units - more[0], requests - more[1]
            if units < 0 or requests < 0:
                return number
        return len(waiting)

    def fitting(self, waiting: Sequence[Sequence[Ask]], shortfall: Shortfall) -> list[int]:
        """Which of these fit into what a store has left, in order, each of them whole."""
        left = [window.amount - used for window, used in zip(self.windows, shortfall.used, strict=True)]
        fits: list[int] = []
        for number, asks in enumerate(waiting):
            after = [count - ask.need for count, ask in zip(left, asks, strict=True)]
            if min(after, default=0) >= 0:
                left = after
                fits.append(number)
        return fits

    def unspend(self, asks: Sequence[Ask], grant: Grant) -> list[Change]:
        """Put back what `spend` took; what must be told to the store because it came from elsewhere."""
        units, requests = needs(asks)
        purse = self.purse
        if purse is not None and list(purse.generations) == grant.generations and self._fits(units, requests):
            purse.units += units
            purse.requests += requests
            return []
        return refunds(asks, grant)

    def settle(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Settle with what is held as far as that goes; what is left for the store to be told."""
        units = {change.units for change in changes}
        slots = [window.slot for window in self.windows if window.unit == "units"]
        if not self.is_open or len(units) != 1 or [change.window.slot for change in changes] != slots:
            return changes
        assert self.purse is not None  # noqa: S101  # is_open has seen it
        (amount,) = units
        if amount < 0:
            current = dict(zip((window.slot for window in self.windows), self.purse.generations, strict=True))
            same = all(change.generation == current[change.window.slot] for change in changes)
            if not same or not self._fits(-amount, 0):
                return changes
            self.purse.units -= amount
            return ()
        here = min(amount, self.purse.units)
        self.purse.units -= here
        # The rest is a debt: it is told to the store, which may pass its limit by it.
        return [change._replace(units=amount - here) for change in changes] if amount > here else ()

    def _fits(self, units: int, requests: int) -> bool:
        """Whether so much more could lie under the lease that is held."""
        if self.purse is None or not self.is_open:
            return False
        room = [
            spent >= (units if window.unit == "units" else requests)
            for window, spent in zip(self.windows, self.purse.spent, strict=True)
        ]
        return all(room)

    # Asking the store

    def call(self, units: int, requests: int, *, lease_id: str, worker: str, now: float, extra: bool) -> Sent:
        """What to ask for so many units and requests. From here on nothing is held: see `granted` and `refused`."""
        at = self._clock()
        old, unspent, changes = self.return_all()
        self._measure(at)
        wanted = self._extra() if extra else 0
        ratio = requests / units if units else 1.0
        asks = tuple(
            Ask(window, units, wanted) if window.unit == "units" else Ask(window, requests, math.ceil(wanted * ratio))
            for window in self.windows
        )
        self.short = None
        lease = Lease(lease_id, worker, RETURN_SECONDS, old, unspent) if wanted or old else None
        return Sent(asks, lease, now, at, changes)

    def granted(self, sent: Sent, grant: Grant) -> None:
        """The store has granted what was asked."""
        self.lease_id = "" if sent.lease is None else sent.lease.id
        self._granted, self._granted_at = grant.taken, sent.at
        # When a sliding window frees is not when its bucket ends.
        ends = [
            window.bounds(sent.now)[1] if window.sliding else end
            for window, end in zip(self.windows, grant.ends, strict=True)
        ]
        # Told from before the call, so that it ends here before it ends in the store.
        until = min(sent.now + _SPEND_SECONDS, *ends)
        counts = zip(self.windows, grant.used, grant.taken, strict=True)
        left = [max(0, window.amount - used + taken) for window, used, taken in counts]
        self.purse = Purse(
            self.windows,
            left=left,
            spare=grant.taken,
            ends=grant.ends,
            generations=grant.generations,
            until=until,
            clock=self._clock,
            deadline=sent.at + until - sent.now,
        )

    def refused(self, sent: Sent, shortfall: Shortfall) -> None:
        """The store has refused. That is believed for a moment, and not beyond the end of what was full."""
        left = [max(0, window.amount - used) for window, used in zip(self.windows, shortfall.used, strict=True)]
        frees = min((shortfall.ends[index] for index in shortfall.full), default=sent.now)
        believed = min(SHORT_SECONDS, frees - sent.now)
        until, deadline = sent.now + believed, sent.at + believed
        self.short = Short(left, shortfall.ends, until, deadline)
        if not all(left):
            # Nothing fits any more, which the hot path can tell by itself.
            nothing = [0] * len(left)
            self.purse = Purse(
                self.windows,
                left=left,
                spare=nothing,
                ends=shortfall.ends,
                generations=nothing,
                until=until,
                clock=self._clock,
                deadline=deadline,
                exact=True,
            )

    def still_left(self, sent: Sent, ends: list[float]) -> None:
        """After a refusal some were granted what there was: those who were not are refused by what is left now.

        `ends` are those of the refusal.
        """
        if self.purse is not None:
            left = [max(0, count - taken) for count, taken in zip(self.purse.left(), self._granted, strict=True)]
            self.short = Short(left, ends, sent.now + SHORT_SECONDS, sent.at + SHORT_SECONDS)

    def believe_nothing(self) -> None:
        """What the store said may not be true any more."""
        self.short = None
        if self.purse is not None and self.purse.exact:
            self.drop()

    def drop(self) -> None:
        """Hold nothing any more. What was held counts as given back, or as spent where nobody gives it back."""
        if self.purse is not None:
            if self._granted:
                self._spent += max(self.purse.spent, default=0)
            self.purse.close()
        self.purse, self.lease_id, self._granted = None, "", []

    def return_all(self) -> tuple[str, dict[str, int], list[Change]]:
        """End what is held: the lease to give back and what of it is unspent, or what to settle without a lease."""
        lease_id, unspent = self.lease_id, self._unspent()
        generations = [] if self.purse is None else list(self.purse.generations)
        self.drop()
        if lease_id:
            return lease_id, unspent, []
        changes = [
            Change(window, -unspent[window.slot], generation)
            for window, generation in zip(self.windows, generations, strict=False)
            if unspent.get(window.slot)
        ]
        return "", {}, changes

    @property
    def holds(self) -> bool:
        """Whether anything here is to be given back."""
        return bool(self.lease_id) or any(self._unspent().values())

    @property
    def is_due(self) -> bool:
        """Whether what is held should go back now."""
        return self.holds and not self.is_open

    def own(self) -> dict[str, tuple[int, int, int]]:
        """By slot: units of the lease, those of them that are unspent, and the generation they came from."""
        if self.purse is None or not self._granted:
            return {}
        # What came without a lease is nobody else's before it is brought back.
        if self.lease_id and self._clock() >= self._granted_at + RETURN_SECONDS:
            return {}
        unspent = self._unspent()
        return {
            window.slot: (taken if self.lease_id else 0, unspent[window.slot], generation)
            for window, taken, generation in zip(self.windows, self._granted, self.purse.generations, strict=True)
        }

    def _unspent(self) -> dict[str, int]:
        if self.purse is None or not self._granted:
            return {}
        counts = zip(self.windows, self._granted, self.purse.spent, strict=True)
        return {window.slot: max(0, granted - spent) for window, granted, spent in counts}

    def _measure(self, at: float) -> None:
        """How fast this key spends, over at least a second."""
        elapsed = at - self._since
        self._rate = self._spent / max(elapsed, 1.0)
        if elapsed >= 1.0:
            self._since, self._spent = at - 0.5, int(self._rate / 2)

    def _extra(self) -> int:
        return int(self._rate * LEASE_SECONDS) if self._rate >= _LEAST_RATE else 0


def needs(asks: Sequence[Ask]) -> tuple[int, int]:
    """What a request needs: units, and requests where any window counts them."""
    units = max((ask.need for ask in asks if ask.window.unit == "units"), default=0)
    requests = max((ask.need for ask in asks if ask.window.unit != "units"), default=0)
    return units, requests
