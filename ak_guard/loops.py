"""What belongs to one event loop: pools, locks, flights and tasks open lazily in the loop that first needs them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One `T` for each running event loop. A plain TestClient, for one, uses a new loop for each request."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._held: dict[int, tuple[asyncio.AbstractEventLoop, T]] = {}
        self._lock = threading.Lock()

    def get(self) -> T:
        """The running loop's own, made now if it has none."""
        loop = asyncio.get_running_loop()
        held = self._held.get(id(loop))
        if held is not None and held[0] is loop:
            return held[1]
        with self._lock:
            made = self._make()
            if held is None:
                self._held[id(loop)] = (loop, made)
                return made
        # The id is that of a loop that is gone: keep what it held until `abandoned` takes it.
        with self._lock:
            self._held[-id(held)] = held
            self._held[id(loop)] = (loop, made)
        return made

    def abandoned(self) -> list[T]:
        """Take out what belongs to loops that were closed, to be put away by whoever still runs."""
        with self._lock:
            gone = [at for at, (loop, _) in self._held.items() if loop.is_closed()]
            return [self._held.pop(at)[1] for at in gone]

    def drain(self) -> list[T]:
        """Take out everything."""
        with self._lock:
            held = [value for _, value in self._held.values()]
            self._held.clear()
            return held
