"""A manager that looks at other counters than the guards count in would show and reset what nobody uses."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from ak_guard.backends.workers import KnowsWorkers
from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from ak_guard.backends.base import KeyLookup

# A list of keys asks for the status of each; who counts where is asked once for it.
_GOOD_SECONDS: Final = 5.0


class SameCounters:
    """Compares `place`, where a manager looks, with where the running guards of its backend count."""

    def __init__(self, backend: KeyLookup, place: str) -> None:
        self._backend = backend
        self._place = place
        self._good_until = -math.inf

    async def check(self) -> None:
        """Raise `ConfigurationError` naming `limits` where guards are running and all of them count elsewhere."""
        if not self._place or not isinstance(self._backend, KnowsWorkers) or time.monotonic() < self._good_until:
            return
        # One that was killed stays listed for a while; it counts nothing any more.
        running = [worker for worker in await self._backend.workers() if not worker.silent]
        places = [worker.counters for worker in running if any(worker.counters)]
        if places and not any(self._place in named for named in places):
            theirs = ", ".join(sorted({place for named in places for place in named}))
            raise ConfigurationError(
                f"limits: the running guards count windows in another storage ({theirs}) than this manager "
                f"({self._place}); give both the same `limits`"
            )
        self._good_until = time.monotonic() + _GOOD_SECONDS
