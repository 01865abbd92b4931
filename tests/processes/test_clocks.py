"""Machines whose clocks disagree by an hour or a day: the shared store's own time rules every window."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest

from tests.processes.demand import until_all_is_spent, used_becomes
from tests.processes.load import Load, ask
from tests.processes.stores import SHARED_STORES
from tests.processes.workers import Crew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ak_guard import KeyManager
    from tests.processes.stores import Place
    from tests.processes.workers import Nursery

HOUR, DAY = 3_600, 86_400
LIMIT = 200

pytestmark = pytest.mark.parametrize("place", SHARED_STORES, indirect=True)


@pytest.fixture
def crew(nursery: Nursery, place: Place, tmp_path: Path) -> Iterator[Crew]:
    workers = Crew(nursery, place, tmp_path)
    yield workers
    workers.kill()
    assert "Traceback" not in workers.log


FIRST_USE = pytest.param(f"{LIMIT}/30m", HOUR, id="first-use")
CALENDAR = pytest.param(f"{LIMIT}/1d calendar", DAY, id="calendar")
SLIDING = pytest.param(f"{LIMIT}/1d sliding", DAY, id="sliding")


@pytest.mark.parametrize(("limit", "apart"), [FIRST_USE, CALENDAR, SLIDING])
async def test_a_clock_that_is_wrong_rolls_no_window(crew: Crew, keys: KeyManager, limit: str, apart: int) -> None:
    crew.start((apart, -apart, 0, 0))
    issued = await keys.create("hot", limits=[limit, f"{9 * LIMIT}/7d"], quota=9 * LIMIT)
    load = Load(crew.ports, issued.secret)
    await load.send(3 * LIMIT)
    await until_all_is_spent(load, LIMIT)
    # Each by itself, so that none can hide behind the others.
    for port in crew.ports:
        await Load([port], issued.secret).send(20)
    assert load.codes == {(200, ""), (429, "rate_limit_exceeded")}
    assert crew.admitted == LIMIT

    await used_becomes(keys, issued.key.id, [LIMIT] * 3)


@pytest.mark.parametrize(("limit", "apart"), [FIRST_USE, CALENDAR, SLIDING])
async def test_clients_are_told_the_same_wait_whatever_the_clock_says(
    crew: Crew, keys: KeyManager, limit: str, apart: int
) -> None:
    crew.start((apart, -apart, 0, 0))
    issued = await keys.create("hot", limits=[limit])
    load = Load(crew.ports, issued.secret)
    await load.send(2 * LIMIT)
    await until_all_is_spent(load, LIMIT)
    (window,) = (await keys.status(issued.key.id)).windows
    assert window.resets_at is not None
    wait = window.resets_at.timestamp() - time.time()
    assert 0 < wait <= window_seconds(limit)
    for port in crew.ports:
        told = int((await ask(port, issued.secret)).headers["retry-after"])
        assert math.isclose(told, wait, abs_tol=5)


def window_seconds(limit: str) -> int:
    return HOUR // 2 if "30m" in limit else DAY
