"""The part of the key service that knows how many requests of a key run at once."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from collections.abc import Callable

from fastapi import APIRouter, Response

from ak_guard.admin import models
from ak_guard.admin.problems import answer
from ak_guard.budgets.base import MultiWindowSupport
from ak_guard.budgets.leases import Leases
from ak_guard.budgets.slots import HeldInMemory, SlotSupport, Stake


def slot_routes(counters: MultiWindowSupport, clock: Callable[[], float] | None) -> APIRouter:
    """Over `counters`, where these know slots of several workers; else over the memory of this process."""
    routes = APIRouter()
    store = counters.store if isinstance(counters, Leases) else counters
    slots = store if isinstance(store, SlotSupport) else HeldInMemory()

    @routes.post("/v1/slots", response_model=models.Share)
    async def hold(asked: models.HoldSlots) -> Response:
        """A worker says how many slots of a subject it holds and wants; told is how many it holds now.

        Each call says the whole of it, so one whose answer was lost can be made again. Slots are free again after
        `seconds`.
        """
        now = asked.now if clock is None else clock()
        share = await slots.hold_slots(asked.subject, Stake(**asked.stake.model_dump()), now=now)
        return answer(share._asdict())

    @routes.post("/v1/slots/peek", response_model=models.HeldSlots)
    async def held(asked: models.PeekSlots) -> Response:
        """How many slots of each subject all workers hold together."""
        now = asked.now if clock is None else clock()
        return answer({"held": await slots.held_slots(asked.subjects, now=now)})

    return routes
