"""Demand that goes on until there is nothing left, and waiting for what workers hold to come back."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from ak_guard import BudgetError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ak_guard import KeyManager
    from ak_guard.status import BudgetStatus
    from tests.processes.load import Load

# A lease lives for a second or two; the rest is patience with a machine that has much else to do.
LEASES_RETURN_SECONDS: Final = 10.0
_PAUSE_SECONDS: Final = 0.05
_ROUND: Final = 32


async def until_all_is_spent(load: Load, limit: int) -> None:
    """Ask on until `limit` requests have been admitted, for as long as leases take to return, then a round more."""
    deadline = time.monotonic() + LEASES_RETURN_SECONDS
    while load.admitted < limit and time.monotonic() < deadline:
        await load.send(_ROUND)
        await asyncio.sleep(_PAUSE_SECONDS)
    await load.send(_ROUND)


async def until_all_is_used(load: Load, keys: KeyManager, key_id: str) -> None:
    """Ask on until the first window is used up and nobody holds any of it, for as long as leases take to return."""
    deadline = time.monotonic() + LEASES_RETURN_SECONDS
    while time.monotonic() < deadline:
        await load.send(_ROUND)
        window = (await budgets(keys, key_id))[0]
        if window.used >= window.limit and not window.held:
            return
        await asyncio.sleep(_PAUSE_SECONDS)


async def until(true: Callable[[], bool | Awaitable[bool]], seconds: float) -> float:
    """Wait for something; how long it took. Raises `TimeoutError`."""
    begin = time.monotonic()
    while True:
        answer = true()
        if answer if isinstance(answer, bool) else await answer:
            return time.monotonic() - begin
        if time.monotonic() > begin + seconds:
            raise TimeoutError(f"not within {seconds} s")
        await asyncio.sleep(0.01)


async def budgets(keys: KeyManager, key_id: str) -> list[BudgetStatus]:
    """The windows of a key and then its quota. A store that was started again may not answer at once."""
    deadline = time.monotonic() + LEASES_RETURN_SECONDS
    while True:
        try:
            status = await keys.status(key_id)
            break
        except BudgetError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE_SECONDS)
    return [*status.windows, *([status.quota] if status.quota else [])]


async def used_becomes(keys: KeyManager, key_id: str, expected: list[int]) -> None:
    """What was taken and not spent comes back, until exactly this is used of the windows and the quota."""
    deadline = time.monotonic() + LEASES_RETURN_SECONDS
    while (used := [budget.used for budget in await budgets(keys, key_id)]) != expected:
        assert time.monotonic() < deadline, f"{used} is used and not {expected}"
        await asyncio.sleep(_PAUSE_SECONDS)


async def nothing_is_held(keys: KeyManager, key_id: str) -> list[BudgetStatus]:
    """The windows and the quota, once every lease has been given back or has run out."""
    deadline = time.monotonic() + LEASES_RETURN_SECONDS
    while True:
        found = await budgets(keys, key_id)
        if not any(budget.held for budget in found):
            return found
        assert time.monotonic() < deadline, f"still held: {found}"
        await asyncio.sleep(_PAUSE_SECONDS)
