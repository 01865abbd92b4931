"""Who tried too many unknown keys: what may still be looked up for them, and how often they are told no."""

from __future__ import annotations

import asyncio
import math
from typing import Final

#: A throttled address keeps one look-up in so many seconds: a right key gets through, so nobody is locked out for good.
SPARED_SECONDS: Final = 1.0
#: So many refusals one address is sent at once.
REFUSALS: Final = 5
#: Nobody waits longer than so many seconds to be refused.
MOST_SECONDS: Final = 0.5


class Line:
    """Refusals that wait for their turn, so that whoever floods keeps their own connections busy and not the service.

    So many `at_once` are in time, and as many a second after that. Who calls one after the other never waits.
    """

    __slots__ = ("_apart", "_last", "_waiting")

    def __init__(self, at_once: int) -> None:
        self._apart = 1 / at_once
        self._last = -math.inf
        self._waiting = 0

    def turn(self, at: float) -> float:
        """For how many seconds waits what could be sent at `at`, in seconds of a monotonic clock."""
        begin = max(self._last, at - 1)
        self._last = min(begin + self._apart, at + MOST_SECONDS)
        return max(0.0, self._last - at)

    async def wait(self, at: float) -> None:
        """Until the turn has come of what could be sent at `at`."""
        if not (seconds := self.turn(at)):
            return
        self._waiting += 1
        try:
            # Only now those are seen who came together with this one.
            await asyncio.sleep(0)
            if self._waiting > 1:
                await asyncio.sleep(seconds)
        finally:
            self._waiting -= 1


class Throttle:
    """One address, from `since` to `until` by the guard's clock, in seconds."""

    __slots__ = ("_since", "_spared_at", "_until", "line")

    def __init__(self, since: float, until: float) -> None:
        self.line: Line = Line(REFUSALS)
        self._since = since
        self._until = until
        # The failure that began it was a look-up of this second.
        self._spared_at = since

    def is_over(self, now: float) -> bool:
        # A clock that was set back ends it too: nobody waits for the time to come again.
        return not self._since <= now < self._until

    def spared_in(self, now: float) -> int:
        """Whole seconds until the next look-up is spared; 0 where it is spared now."""
        left = self._spared_at + SPARED_SECONDS - now
        if left <= 0 or now < self._spared_at or self.is_over(now):
            return 0
        return math.ceil(left)

    def spare(self, now: float) -> None:
        """The look-up of this second is made."""
        self._spared_at = now
