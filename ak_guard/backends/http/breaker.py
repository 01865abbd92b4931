"""A circuit breaker: who does not answer is not asked by everybody, but now and then by one."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log: Final = logging.getLogger("ak_guard")

#: So many failures in a row open it.
FAILURES: Final = 5
# A service that is back is found within the second, and a fleet of workers does not ask at the same moment.
_PROBE_SECONDS: Final = (0.4, 0.8)


class Breaker:
    """Of one event loop. Open, it lets nobody ask; `probe` says now and then whether the service is back.

    The probe is nobody's request: while the service is away every request is answered at once.
    """

    def __init__(self, probe: Callable[[], Awaitable[bool]], on_back: Callable[[], None]) -> None:
        self._probe = probe
        self._on_back = on_back
        self._failures = 0
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._probing is not None

    def succeeded(self) -> None:
        """An answer came."""
        self._failures = 0

    def failed(self) -> None:
        """No answer came, or one that is none."""
        self._failures += 1
        if self._failures >= FAILURES and self._probing is None:
            log.error("the key service does not answer; it is asked again until it does")
            # The request that failed last lends nothing of its context to what outlives it.
            self._probing = asyncio.get_running_loop().create_task(self._until_back(), context=contextvars.Context())
            self._probing.add_done_callback(self._closed)

    async def aclose(self) -> None:
        """Probe no more."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing])

    async def _until_back(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*_PROBE_SECONDS))  # noqa: S311  # spreads those who ask
            if await self._probe():
                return

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._probing = None
        self._failures = 0
        if not task.cancelled() and task.exception() is None:
            log.warning("the key service answers again")
            self._on_back()
