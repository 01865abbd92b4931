"""Calls that may come twice, because their answer was lost, and are done once."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache, TTLCache

from ak_guard.budgets.base import SettlesOnce
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.budgets.queue import Owed

# Clients give up long before; what comes later under the same id is another call.
_REMEMBERED_SECONDS: Final = 60.0
_REMEMBERED: Final = 65_536


class Calls:
    """Takes by the id of their call, and which call used the id of a lease. Known to this process only.

    A take that is done twice, because the second time it met another process, passes no limit: it takes too much.
    """

    def __init__(self) -> None:
        self._tasks: PerLoop[TTLCache[str, asyncio.Task[dict[str, Any]]]] = PerLoop(_cache)
        self._leases: PerLoop[TTLCache[str, str | None]] = PerLoop(_cache)

    def is_new(self, lease_id: str, call: str | None) -> bool:
        """Whether a lease id was never used, or by the same call."""
        leases = self._leases.get()
        if lease_id in leases:
            return call is not None and leases[lease_id] == call
        leases[lease_id] = call
        return True

    async def once(self, call: str | None, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """What came of the call, whenever it is done. One that failed is done again."""
        if call is None:
            return await work()
        tasks = self._tasks.get()
        task = tasks.get(call)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = tasks[call] = asyncio.ensure_future(work())
        # Whoever goes away will ask again.
        return await asyncio.shield(task)


class Settlements:
    """Batches of settlements, each written once however often it comes.

    A store that writes the ids beside its counters knows them for good; for any other they are remembered here.
    """

    def __init__(self, store: MultiWindowSupport) -> None:
        self._store = store
        self._seen: LRUCache[str, None] = LRUCache(_REMEMBERED)

    async def settle(self, batch_id: str, owed: Sequence[Owed], known: Sequence[str]) -> None:
        """Returns once they are written. `known` are batches that will not come again."""
        if isinstance(self._store, SettlesOnce):
            await self._store.settle_once(batch_id, owed, known=known)
            return
        if batch_id not in self._seen:
            self._seen[batch_id] = None
            for one in owed:
                self._store.settle(one.subject, one.changes, now=one.now)
        for earlier in known:
            self._seen.pop(earlier, None)
        await self._store.flush()


def _cache() -> Any:
    return TTLCache(_REMEMBERED, _REMEMBERED_SECONDS, timer=time.monotonic)
