"""Who guards with a backend right now, and whether all of them have followed its changes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, runtime_checkable

from ak_guard.errors import AkGuardError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

#: A worker says so often that it lives, in seconds.
BEAT_SECONDS: Final = 5.0
#: So long a worker goes on with what it knows when it cannot ask, in seconds, unless it says otherwise.
STALE_SECONDS: Final = 60.0

# Confirmations usually come within a poll of the workers, so whoever waits for them asks about as often.
_ASK_AGAIN_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Worker:
    """An event loop in some process that guards with this backend.

    `seen_at` is when it last reported, `good_until` until when it may go on without doing so again; after that it lets
    nobody in whom it does not look up anew. `behind` is how many changes it has not applied yet. `counters` names where
    its guards count windows; empty where they do not say.
    """

    id: str
    name: str
    started_at: datetime
    seen_at: datetime
    good_until: datetime
    behind: int
    counters: tuple[str, ...]
    #: Whether it has missed a report: stopped, paused or cut off from the store.
    silent: bool

    @classmethod
    def of(cls, row: Any, *, newest: int, now: float) -> Self:
        """From a row of the store and the store's time; what was known just before the next report was due counts."""
        return cls(
            id=row.id,
            name=row.name,
            started_at=datetime.fromtimestamp(row.started_at, UTC),
            seen_at=datetime.fromtimestamp(row.beat_at, UTC),
            good_until=datetime.fromtimestamp(row.beat_at + BEAT_SECONDS + row.stale_seconds, UTC),
            behind=max(0, newest - row.revision),
            counters=tuple(row.counters.splitlines()),
            silent=now - row.beat_at >= 2 * BEAT_SECONDS,
        )


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How long it took (seconds) until the running workers had applied all changes, by name, and who has not."""

    seconds: float
    workers: tuple[str, ...] = ()
    silent: tuple[Worker, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everybody has confirmed."""
        return not self.silent


class Unconfirmed(AkGuardError):
    """A change was made, but not every running worker has said in time that it follows it.

    `confirmation` names who has not, and until when each may still act on what it knew before.
    """

    def __init__(self, confirmation: Confirmation) -> None:
        named = ", ".join(
            f"{worker.name} (last seen {worker.seen_at:%H:%M:%S}, may go on until {worker.good_until:%H:%M:%S} UTC)"
            for worker in confirmation.silent
        )
        super().__init__(f"the change is stored, but not confirmed by {named}")
        self.confirmation = confirmation

    def __reduce__(self) -> tuple[type[Unconfirmed], tuple[Confirmation]]:
        return type(self), (self.confirmation,)


@runtime_checkable
class KnowsWorkers(Protocol):
    """A backend that several processes share and that knows which of them are running."""

    def guarded(self, *, stale: float, counters: str) -> None:
        """Say of a guard in this process how long it goes on with what it knows, in seconds, and where it counts."""
        ...

    async def touch(self, key_id: str) -> None:
        """Tell all workers to look at this key again, though nothing of it was changed."""
        ...

    async def workers(self) -> list[Worker]:
        """Those that are running, or may be; the longest running first. Raises `BackendError`."""
        ...

    async def confirm(self, *, timeout: float) -> Confirmation:  # noqa: ASYNC109  # late is an answer, not an error
        """Wait until every running worker follows all changes made so far, `timeout` seconds at most."""
        ...


async def confirmed(
    alive: Callable[[], Awaitable[Sequence[tuple[bool, Worker]]]],
    *,
    timeout: float,  # noqa: ASYNC109  # late is an answer, not an error
) -> Confirmation:
    """Ask again and again who is alive and whether each has applied what is waited for."""
    began = time.monotonic()
    while True:
        found = await alive()
        silent = tuple(worker for done, worker in found if not done)
        passed = time.monotonic() - began
        if not silent or passed >= timeout:
            return Confirmation(passed, tuple(worker.name for done, worker in found if done), silent)
        await asyncio.sleep(min(_ASK_AGAIN_SECONDS, timeout - passed))
