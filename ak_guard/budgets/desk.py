"""What one event loop holds of a store's budgets, who waits there, and the timer that brings back what ran out."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache

from ak_guard.loops import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

    from ak_guard.budgets.account import Account
    from ak_guard.budgets.base import Ask, Level
    from ak_guard.budgets.windows import Window
    from ak_guard.errors import BudgetError

# How often leases that ran out go back, and settlements are written.
_TICK_SECONDS: Final = 0.1
# An account that nobody used for so long is forgotten, a few with each new one.
_IDLE_SECONDS: Final = 10.0
_SWEEP_STEP: Final = 4
# Beyond so many, whoever holds nothing is forgotten sooner.
_MOST_ACCOUNTS: Final = 4_096
_SEEN: Final = 1_024


@dataclass(slots=True, eq=False)
class Waiter:
    """A request that waits for its turn. Until `until`, by the desk's clock, it may wait for what others hold.

    `now` is the guard's clock: while one waits, it goes on.
    """

    asks: Sequence[Ask]
    now: Callable[[], float]
    done: asyncio.Future[None]
    until: float = math.inf


@dataclass(slots=True, eq=False)
class Held:
    """An account, and who waits for it. `serving` while those who waited go before those who come now."""

    account: Account
    #: In the order in which they came; leaving costs the same however many wait.
    waiters: dict[Waiter, None] = field(default_factory=dict)
    flight: asyncio.Task[None] | None = None
    serving: bool = False
    #: Set while somebody waits for what others hold, to be told that it may be there already.
    news: asyncio.Event | None = None

    def fail(self, error: BudgetError) -> None:
        """Tell everybody who waits."""
        for waiter in self.waiters:
            if not waiter.done.done():
                waiter.done.set_exception(error)
                waiter.done.exception()  # seen here; who still waits sees it too
        self.waiters.clear()


class Desk:
    """The accounts of one event loop, by subject. `tick` is called while anything is to be brought back or written."""

    def __init__(self, clock: Callable[[], float], tick: Callable[[Desk], None]) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.worker: str = f"{os.getpid()}-{secrets.token_hex(6)}"
        self.numbers: itertools.count[int] = itertools.count(1)
        self.held: dict[str, Held] = {}
        #: Whether settlements are still to be written.
        self.owes: bool = False
        #: What was looked at lately, and when.
        self.seen: LRUCache[tuple[str, tuple[Window, ...], int], tuple[float, list[Level]]] = LRUCache(_SEEN)
        self._tick = tick
        self._leased: set[Held] = set()
        self._background = Background(self._ring, _TICK_SECONDS)
        self.run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = self._background.run
        self._thread = threading.get_ident()

        def own_clock() -> float:
            # To another thread everything here has ended: two must not spend from one purse.
            return clock() if threading.get_ident() == self._thread else math.inf

        self.clock: Callable[[], float] = own_clock

    def of(self, subject: str) -> list[Held]:
        """What is held of a subject, if anything."""
        held = self.held.get(subject)
        return [] if held is None else [held]

    def wake(self, held: Held, waiters: Iterable[Waiter]) -> None:
        """Let these go on, in order, before anybody who comes now."""
        held.serving = True
        for waiter in waiters:
            held.waiters.pop(waiter, None)
            if not waiter.done.done():
                waiter.done.set_result(None)
        # What is called soon is called in order, so this comes after all of them.
        self.loop.call_soon(self._served, held)

    async def pause(self, held: Held, seconds: float) -> bool:
        """Wait so long, or until there is news; whether it was waited to the end."""
        held.news = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                await held.news.wait()
        except TimeoutError:
            return True
        finally:
            held.news = None
        return False

    def tell_news(self, held: Held) -> None:
        """What others hold, or what there is, may have changed; any thread may say so."""
        if (news := held.news) is not None:
            with suppress(RuntimeError):  # the loop is closed, and whoever waited there gone
                self.loop.call_soon_threadsafe(news.set)

    def _served(self, held: Held) -> None:
        held.serving = False

    def watch(self, held: Held) -> None:
        """Something may be held now that is to be brought back."""
        if held.account.holds:
            self._leased.add(held)
            self._background.arm()

    def due(self) -> list[Held]:
        """What is held and ran out. Each is told once."""
        self._leased = {held for held in self._leased if held.account.holds}
        due = [held for held in self._leased if held.flight is None and held.account.is_due]
        self._leased.difference_update(due)
        return due

    def write_soon(self) -> None:
        """Settlements are to be written; any thread may say so."""
        with suppress(RuntimeError):  # the loop is closed: another one writes
            if threading.get_ident() == self._thread:
                self._owe()
            else:
                self.loop.call_soon_threadsafe(self._owe)

    def _owe(self) -> None:
        self.owes = True
        self._background.arm()

    def _ring(self) -> None:
        self._tick(self)
        if self._leased or self.owes:
            self._background.arm()

    def forget_idle(self) -> None:
        """Forget a few accounts that are not used, so that memory follows the keys in use."""
        for subject in list(itertools.islice(self.held, _SWEEP_STEP)):
            held = self.held.pop(subject)
            idle = self.clock() - held.account.used_at > _IDLE_SECONDS or len(self.held) >= _MOST_ACCOUNTS
            if not idle or held.waiters or held.flight is not None or held.account.holds:
                self.held[subject] = held

    def stop(self) -> None:
        """Bring nothing back by itself any more."""
        self._background.stop()
        self._leased.clear()
