"""Everything ends and begins anew, the store's server too: what was spent is spent, and the rest can be."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.processes.demand import nothing_is_held, until_all_is_spent
from tests.processes.load import Load
from tests.processes.private import Server, a_private_place
from tests.processes.stores import STORES, Place
from tests.processes.workers import WORKERS, Crew, Nursery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 1_000
SPENT = 300
REFUSED = {(200, ""), (429, "rate_limit_exceeded")}


@pytest.fixture(scope="module", params=STORES)
def private(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Server]]:
    with a_private_place(request.param, tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.mark.parametrize("kindly", [True, False], ids=["stopped", "killed"])
async def test_what_was_spent_is_spent_after_everything_was_started_again(
    nursery: Nursery, private: tuple[Place, Server], tmp_path: Path, *, kindly: bool
) -> None:
    place, server = private
    crew = Crew(nursery, place, tmp_path)
    try:
        async with place.manager() as keys:
            limits = [f"{LIMIT}/1h", f"{2 * LIMIT}/1d", f"{3 * LIMIT}/7d calendar"]
            issued = await keys.create("durable", limits=limits, quota=4 * LIMIT)
            crew.start()
            load = Load(crew.ports, issued.secret)
            await load.send(SPENT)
            assert load.admitted == SPENT
            before = await keys.status(issued.key.id)
        if kindly:
            crew.stop()
            server.stop()
        else:
            crew.kill()
            server.kill()
        server.start()
        crew.start()

        async with place.manager() as keys:
            after = await nothing_is_held(keys, issued.key.id)
            for budget in after:
                # Whoever is asked to stop gives back what it holds; whoever is killed takes it along.
                lost = 0 if kindly else WORKERS * budget.limit // 10
                assert SPENT <= budget.used <= SPENT + lost
            for window, earlier in zip(after, before.windows, strict=False):
                assert window.resets_at is not None
                assert earlier.resets_at is not None
                # A shared store tells times by way of its own clock, so they differ by a hair.
                assert abs(window.resets_at - earlier.resets_at) < timedelta(seconds=1)
            left = LIMIT - after[0].used
            load = Load(crew.ports, issued.secret)
            await load.send(LIMIT)
            await until_all_is_spent(load, left)
            assert load.codes == REFUSED
            assert (load.admitted, crew.admitted) == (left, SPENT + left)
    finally:
        crew.kill()
