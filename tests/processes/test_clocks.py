"""Machines whose clocks disagree by an hour or a day: the shared store's own time rules every window."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest

from tests.processes.demand import until_all_is_spent, used_becomes
from tests.processes.load import Load, ask
from tests.processes.stores import SHARED_STORES

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from tests.processes.workers import Crew

HOUR, DAY = 3_600, 86_400
LIMIT = 200
# All of them would have ended, or not begun, by one of those clocks.
WINDOWS = ["30m", "1d calendar", "1d sliding"]

pytestmark = pytest.mark.parametrize("place", SHARED_STORES, indirect=True)


@pytest.fixture(scope="module")
def ahead() -> tuple[float, ...]:
    return (HOUR, -HOUR, DAY, -DAY)


@pytest.mark.parametrize("window", WINDOWS)
async def test_a_clock_that_is_wrong_rolls_no_window(crew: Crew, keys: KeyManager, window: str) -> None:
    issued = await keys.create("hot", limits=[f"{LIMIT}/{window}", f"{9 * LIMIT}/7d"], quota=9 * LIMIT)
    load = Load(crew.ports, issued.secret)
    await load.send(3 * LIMIT)
    await until_all_is_spent(load, LIMIT)
    # Each by itself, so that none can hide behind the others.
    for port in crew.ports:
        await Load([port], issued.secret).send(20)
    assert load.codes == {(200, ""), (429, "rate_limit_exceeded")}
    assert crew.admitted == LIMIT

    await used_becomes(keys, issued.key.id, [LIMIT] * 3)


@pytest.mark.parametrize("window", WINDOWS)
async def test_clients_are_told_the_same_wait_whatever_the_clock_says(
    crew: Crew, keys: KeyManager, window: str
) -> None:
    issued = await keys.create("hot", limits=[f"{LIMIT}/{window}"])
    load = Load(crew.ports, issued.secret)
    await load.send(2 * LIMIT)
    await until_all_is_spent(load, LIMIT)
    (level,) = (await keys.status(issued.key.id)).windows
    assert level.resets_at is not None
    wait = level.resets_at.timestamp() - time.time()
    assert 0 < wait <= (HOUR // 2 if window == "30m" else DAY)
    for port in crew.ports:
        told = int((await ask(port, issued.secret)).headers["retry-after"])
        assert math.isclose(told, wait, abs_tol=5)
