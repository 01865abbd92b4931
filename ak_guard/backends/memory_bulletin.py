"""The bulletin of keys in memory, for workers in other processes that a key service tells of them."""

from __future__ import annotations

import threading
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from ak_guard.loops import Wakes
from ak_guard.news import Entry, News, Roll

if TYPE_CHECKING:
    from collections.abc import Callable

    from ak_guard.backends.bulletin import Line
    from ak_guard.news import Report

# Whoever is further behind drops all that it remembers.
_KEPT: Final = 10_000
# A worker that was killed is of interest while it might be alive, and a while longer.
_SWEPT_AFTER: Final = 3_600.0


class MemoryBulletin:
    """Changes since the process began, and workers elsewhere. Guards in this process are told directly."""

    waits = False

    def __init__(self) -> None:
        self._revision = 0
        self._changed: deque[str | None] = deque(maxlen=_KEPT)
        self._entries: dict[str, Entry] = {}
        self._wakes = Wakes()
        self._lock = threading.Lock()

    def announce(self, key_id: str | None) -> None:
        """One key was changed, or with None what many share."""
        with self._lock:
            self._revision += 1
            self._changed.append(key_id)
        self._wakes.call()

    async def enter(self, worker_id: str, report: Report) -> int:
        now = time.time()
        revision = self._revision if report.revision is None else report.revision
        with self._lock:
            for entry in list(self._entries.values()):
                if entry.beat_at + entry.stale_seconds < now - _SWEPT_AFTER:
                    del self._entries[entry.id]
            self._entries[worker_id] = Entry(
                worker_id, report.name, now, now, revision, report.stale_seconds, report.counters
            )
        return revision

    async def beat(self, worker_id: str, report: Report) -> None:
        entry = self._entries.get(worker_id)
        await self.enter(worker_id, report)
        if entry is not None:
            self._entries[worker_id] = self._entries[worker_id]._replace(started_at=entry.started_at)

    async def leave(self, worker_id: str) -> None:
        self._entries.pop(worker_id, None)

    async def news_after(self, applied: int) -> News:
        with self._lock:
            behind = self._revision - applied
            # A revision that was never given is that of another process.
            if not 0 <= behind <= len(self._changed):
                return News(self._revision, (None,))
            changed = dict.fromkeys(islice(self._changed, len(self._changed) - behind, None))
        return News(self._revision, (None,) if None in changed else tuple(changed))

    async def roll(self) -> Roll:
        entries = sorted(self._entries.values(), key=lambda entry: entry.started_at)
        return Roll(self._revision, time.time(), entries)

    def line(self, wake: Callable[[], None]) -> Line:
        return _Line(self, self._wakes.add(wake))


class _Line:
    """Nothing to hang up, but somebody to wake while it is held."""

    def __init__(self, bulletin: MemoryBulletin, wake: object) -> None:
        self._wake = wake
        self._bulletin = bulletin

    async def news_after(self, applied: int) -> News:
        return await self._bulletin.news_after(applied)

    async def close(self) -> None:
        return
