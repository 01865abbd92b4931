"""Budgets of a key service, as a storage: takes are calls, settlements go when something goes."""

from __future__ import annotations

import asyncio
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ak_guard.backends.http.debts import Debts
from ak_guard.backends.http.wire import NotNow, NotOffered, Refused, Unanswered, Unreadable
from ak_guard.budgets.base import Grant, MultiWindowSupport, Promise, log, refunds
from ak_guard.budgets.documents import (
    ask_document,
    change_document,
    held_from,
    lease_document,
    levels_from,
    outcome_from,
    share_from,
    window_document,
)
from ak_guard.budgets.slots import SlotSupport
from ak_guard.errors import AkGuardError, BudgetError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ak_guard.backends.http.debts import Batch
    from ak_guard.backends.http.wire import Wire
    from ak_guard.budgets.base import Ask, Change, Lease, Level, Shortfall
    from ak_guard.budgets.slots import Share, Stake
    from ak_guard.budgets.windows import Window

_NO_COUNTERS: Final = (
    "this key service counts no budgets; name a storage that does: HTTPBackend(…, counters=MemoryStorage())"
)


class HTTPStorage(MultiWindowSupport, SlotSupport):
    """Counters of a key service. It decides by its own time and answers in the caller's.

    A take whose answer was lost is asked for again under the id of the call. Where the second one meets another process
    of the service it may take twice, which passes no limit.
    """

    def __init__(self, wires: PerLoop[Wire]) -> None:
        self._wires = wires
        self._debts = Debts()
        self._settling = PerLoop(asyncio.Lock)

    @property
    def promise(self) -> Promise:
        """That of the service; one over memory forgets with its process."""
        return Promise(durable=True, shared=True)

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        # Nobody takes before everything that was charged until now is counted.
        await self.flush()
        asking = asyncio.ensure_future(self._acquire(subject, asks, lease, now))
        try:
            # Shielded, so that a request that goes away leaves the answer to be undone and not a hole.
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(partial(self._undo, subject, asks, now))
            raise

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        await self._told("/v1/give-back", {"lease": lease_id, "unspent": dict(unspent)})

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        await self.flush()
        documents = [window_document(window) for window in windows]
        asked = {"subject": subject, "windows": documents, "now": now, "need": need}
        return levels_from(await self._told("/v1/peek", asked), len(windows))

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        documents = [window_document(window) for window in windows]
        await self._told("/v1/restart", {"subject": subject, "windows": documents}, again=False)

    async def forget(self, subject: str) -> None:
        await self._told("/v1/restart", {"subject": subject, "windows": None})

    async def hold_slots(self, subject: str, stake: Stake, *, now: float) -> Share:
        asked = {"subject": subject, "stake": stake._asdict(), "now": now}
        return share_from(await self._told("/v1/slots", asked), stake)

    async def held_slots(self, subjects: Sequence[str], *, now: float) -> list[int]:
        answer = await self._told("/v1/slots/peek", {"subjects": list(subjects), "now": now})
        return held_from(answer, len(subjects))

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        self._debts.owe(subject, changes, now)

    async def flush(self) -> None:
        if not self._debts:
            return
        # One at a time, so that who comes second does not go before what the first one sends.
        async with self._settling.get():
            while (batch := self._debts.take()) is not None:
                await self._settle(batch)

    async def flush_after_outage(self) -> None:
        """The service answers again: what was charged meanwhile waits for nobody's request."""
        try:
            await self.flush()
        except BudgetError as error:
            log.warning("what is owed could not be written: %s", error)

    async def _acquire(self, subject: str, asks: Sequence[Ask], lease: Lease | None, now: float) -> Grant | Shortfall:
        asked = {
            "subject": subject,
            "asks": [ask_document(ask) for ask in asks],
            "lease": None if lease is None else lease_document(lease),
            "now": now,
            "call": uuid.uuid4().hex,
        }
        return outcome_from(await self._told("/v1/acquire", asked), asks, now)

    def _undo(
        self,
        subject: str,
        asks: Sequence[Ask],
        now: float,
        asking: asyncio.Task[Grant | Shortfall],
    ) -> None:
        """Give back what came for somebody who had gone away."""
        if asking.cancelled() or asking.exception() is not None or not isinstance(grant := asking.result(), Grant):
            return
        # Under a lease too: what goes back is dropped where the window is another one, and the lease ends by itself.
        self.settle(subject, refunds(asks, grant), now=now)

    async def _settle(self, batch: Batch) -> None:
        known = self._debts.known()
        settlements = [
            {"subject": debt.subject, "at": debt.at, "changes": [change_document(debt.change)]} for debt in batch.debts
        ]
        # The clock of the debts is the guard's, which may stand still in a test; then nothing is older than the last.
        now = max([time.time(), *(debt.at for debt in batch.debts)])
        asked = {"batch": batch.id, "now": now, "settlements": settlements, "known": known}
        try:
            await self._wires.get().told("POST", "/v1/settle", asked)
        except (Unanswered, NotOffered, NotNow) as error:
            self._debts.keep(batch)
            raise _failure(error) from error
        except Refused as error:
            # Sent again it would be refused again, and nobody could take anything any more. One debt that the service
            # will not have does not cost the others of its batch.
            if not (isinstance(error, Unreadable) and self._debts.split(batch)):
                log.error("%d settlements are lost: %s", len(batch.debts), error)
        except BaseException:
            # Whoever waited for it went away.
            self._debts.keep(batch)
            raise
        else:
            self._debts.arrived(batch, known)

    async def _told(self, path: str, document: object, *, again: bool = True) -> Any:
        try:
            return await self._wires.get().told("POST", path, document, again=again)
        except (Unanswered, NotOffered, Refused) as error:
            raise _failure(error) from error


def _failure(error: AkGuardError) -> BudgetError:
    return BudgetError(_NO_COUNTERS if isinstance(error, NotOffered) else str(error))
