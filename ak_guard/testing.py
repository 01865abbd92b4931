"""For tests of guarded apps: a clock to move and keys ready to use, beside `MemoryBackend`. Needs no test framework.

clock = ManualClock()
backend = MemoryBackend()
app = ApiKeyMiddleware(my_app, backend=backend, clock=clock)
issued = asyncio.run(ready_key(backend, limits=["2/1m"], clock=clock))
# … two calls pass, the third is refused
clock.move(60)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ak_guard.manager import Issued, KeyManager
from ak_guard.notation import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from ak_guard.backends.base import KeyLookup


class ManualClock:
    """Time that stands still until it is moved, in seconds since the epoch."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now: float = now

    def __call__(self) -> float:
        return self.now

    def move(self, by: float | str | timedelta) -> float:
        """Go on by seconds, `"5h"` or a `timedelta`; returns the new time."""
        self.now += by if isinstance(by, int | float) else parse_duration(by, "by")
        return self.now


async def ready_key(backend: KeyLookup, *, clock: Callable[[], float] = time.time, **rules: Any) -> Issued:
    """Create a key named `test-key`, or as the rules of `KeyManager.create` say, and return it with its secret."""
    manager = KeyManager(backend, clock=clock)
    return await manager.create(rules.pop("name", "test-key"), **rules)
