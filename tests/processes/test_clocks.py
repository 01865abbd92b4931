"""Machines whose clocks disagree by an hour or a day: the shared store's own time rules every window."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest

from tests.processes.demand import until_all_is_spent
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


@pytest.mark.parametrize(
    ("limit", "apart"),
    [
        pytest.param(f"{LIMIT}/30m", HOUR, id="first-use"),
        pytest.param(f"{LIMIT}/1d calendar", DAY, id="calendar"),
        pytest.param(f"{LIMIT}/1d sliding", DAY, id="sliding"),
    ],
)
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

    (window, _), now = (await keys.status(issued.key.id)).windows, time.time()
    assert window.used == LIMIT
    assert window.resets_at is not None
    wait = window.resets_at.timestamp() - now
    assert 0 < wait <= max(1_800, DAY * limit.endswith(("calendar", "sliding")))
    # Each worker tells its clients the same wait, whatever its own clock says.
    for port in crew.ports:
        assert math.isclose(int((await ask(port, issued.secret)).headers["retry-after"]), wait, abs_tol=5)
