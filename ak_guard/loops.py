"""What belongs to one event loop: pools, locks, flights and tasks open lazily in the loop that first needs them."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One `T` for each running event loop. A plain TestClient, for one, uses a new loop for each request.

    What belonged to a loop that was closed is forgotten, or with `keep` held until `abandoned` takes it.
    """

    def __init__(self, make: Callable[[], T], *, keep: bool = False) -> None:
        self._make = make
        self._keep = keep
        # Loops are told apart by identity, and one that is held here lends its identity to no other.
        self._held: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = threading.Lock()

    def get(self) -> T:
        """The running loop's own, made now if it has none."""
        loop = asyncio.get_running_loop()
        try:
            return self._held[loop]
        except KeyError:
            pass
        with self._lock:
            if not self._keep:
                self._held = {other: kept for other, kept in self._held.items() if not other.is_closed()}
            made = self._held[loop] = self._make()
            return made

    def values(self) -> list[T]:
        """What every loop has."""
        with self._lock:
            return list(self._held.values())

    def abandoned(self) -> list[T]:
        """Take out what belongs to loops that were closed, to be put away by whoever still runs."""
        with self._lock:
            gone = [loop for loop in self._held if loop.is_closed()]
            return [self._held.pop(loop) for loop in gone]

    def drain(self) -> list[T]:
        """Take out everything."""
        with self._lock:
            held = list(self._held.values())
            self._held.clear()
            return held


class Background:
    """What goes on in the running event loop and no request waits for: tasks, and `tick` so many `seconds` after `arm`.

    The request that happened to begin it lends it nothing of its context. When whoever runs the loop closes it,
    nothing more begins, and what is under way is cancelled while it still can end: `asyncio.run` and servers cancel
    all tasks, and then let timers go off before the loop is closed.
    """

    def __init__(self, tick: Callable[[], None], seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._tick = tick
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = self._over = False
        # Of all that can ask to be told when a loop is closed, there are only generators.
        self._generator = self._wait_for_the_end()
        with suppress(StopIteration):
            self._generator.__anext__().send(None)

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something now."""
        task = self._loop.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def arm(self) -> None:
        """Call `tick` once, soon."""
        if self._timer is None and not self._over:
            self._timer = self._loop.call_later(self._seconds, self._ring, context=Context())

    def stop(self) -> None:
        """Call nothing by itself any more. What is under way goes on."""
        self._disarm()
        self._stopped = True
        with suppress(StopIteration, RuntimeError):  # the loop is being closed just now
            self._generator.aclose().send(None)

    async def wait(self) -> None:
        """Until nothing is under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _ring(self) -> None:
        self._timer = None
        self._tick()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _wait_for_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            if not self._stopped:
                self._over = True
                self._disarm()
                for task in self._tasks:
                    task.cancel()
                await self.wait()


class Wakes:
    """Callbacks of several event loops that any thread may call, each in its own loop. Who drops one is forgotten."""

    def __init__(self) -> None:
        self._held: WeakSet[Wake] = WeakSet()
        self._lock = threading.Lock()

    def add(self, callback: Callable[[], None]) -> Wake:
        """To be held as long as it shall be called; calling it calls the callback at once."""
        wake = Wake(callback)
        with self._lock:
            self._held.add(wake)
        return wake

    def call(self) -> None:
        """Call all of them soon."""
        with self._lock:
            held = list(self._held)
        for wake in held:
            with suppress(RuntimeError):  # its loop is closed
                wake.loop.call_soon_threadsafe(wake)


class Wake:
    """One callback, and the event loop that it belongs to."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._callback = callback

    def __call__(self) -> None:
        self._callback()
