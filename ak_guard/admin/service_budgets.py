"""The part of the key service that counts: takes, leases, settlements."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Response

from ak_guard.admin import models
from ak_guard.admin.once import Calls, Settlements
from ak_guard.admin.problems import answer, problem
from ak_guard.budgets.base import MultiWindowSupport
from ak_guard.budgets.documents import (
    ask_from,
    change_from,
    lease_from,
    level_document,
    outcome_document,
    window_from,
)
from ak_guard.budgets.leases import Leases
from ak_guard.budgets.queue import Owed

_CONFLICT: Final[dict[int | str, dict[str, Any]]] = {409: {"description": "The lease id was used before."}}


def budget_routes(counters: MultiWindowSupport, clock: Callable[[], float] | None) -> APIRouter:
    """Over `counters`, by this `clock`, or where it is None by the times that callers name.

    Guards elsewhere spend from leases of their own, so they are brought to what stands behind leases here.
    """
    routes = APIRouter()
    store = counters.store if isinstance(counters, Leases) else counters
    calls, settlements = Calls(), Settlements(store)

    def time_of(now: float) -> float:
        return now if clock is None else clock()

    @routes.post("/v1/acquire", response_model=models.Outcome, responses=_CONFLICT)
    async def acquire(asked: models.Acquire) -> Response:
        """Take from every window or from none. With a lease the take can be given back under its id."""
        lease = None if asked.lease is None else lease_from(asked.lease.model_dump())
        if lease is not None and not calls.is_new(lease.id, asked.call):
            return problem("conflict", "A lease id is used for one call only.")

        async def take() -> dict[str, Any]:
            at = time_of(asked.now)
            asks = [ask_from(ask.model_dump()) for ask in asked.asks]
            return outcome_document(await store.acquire(asked.subject, asks, lease=lease, now=at), asked.now - at)

        return answer(await calls.once(asked.call, take))

    @routes.post("/v1/give-back", response_model=models.Done)
    async def give_back(asked: models.GiveBack) -> Response:
        """End a lease and return what is unspent of it. A lease that is over, or was never there, is ignored."""
        await store.give_back(asked.lease, asked.unspent)
        return answer({})

    @routes.post("/v1/peek", response_model=models.Levels)
    async def peek(asked: models.Peek) -> Response:
        """How full windows are; `end` is when `need` would fit. Changes nothing."""
        at = time_of(asked.now)
        windows = [window_from(window.model_dump()) for window in asked.windows]
        levels = await store.peek(asked.subject, windows, now=at, need=asked.need)
        return answer({"levels": [level_document(level, asked.now - at) for level in levels]})

    @routes.post("/v1/settle", response_model=models.Done)
    async def settle(asked: models.Settle) -> Response:
        """Correct what was taken, whether or not it fits. A batch that was settled before is not settled again."""
        ahead = asked.now - time_of(asked.now)
        owed = [
            Owed(
                one.subject, tuple(change_from(change.model_dump()) for change in one.changes), max(0.0, one.at - ahead)
            )
            for one in asked.settlements
        ]
        await settlements.settle(asked.batch, owed, asked.known)
        return answer({})

    @routes.post("/v1/restart", response_model=models.Done)
    async def restart(asked: models.Restart) -> Response:
        """Empty windows; or forget a subject that is gone."""
        if asked.windows is None:
            await counters.forget(asked.subject)
        else:
            await counters.restart(asked.subject, [window_from(window.model_dump()) for window in asked.windows])
        return answer({})

    return routes
