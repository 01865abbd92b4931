"""Everything ends and begins anew, the store's server too: what was spent is spent, and the rest can be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.processes.demand import nothing_is_held, until, until_all_is_spent, until_all_is_used
from tests.processes.load import Load, ask
from tests.processes.private import Server, a_private_place
from tests.processes.stores import SHARED_STORES, STORES, Place
from tests.processes.workers import WORKERS, Crew, Nursery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIMIT = 1_000
SPENT = 300
RECOVERY_SECONDS = 10
REFUSED = {(200, ""), (429, "rate_limit_exceeded")}


@pytest.fixture(scope="module")
def private(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Server]]:
    with a_private_place(request.param, tmp_path_factory.mktemp(request.param)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("private", "kindly"),
    [("sqlite", True), ("postgres", True), *((store, False) for store in STORES)],
    indirect=["private"],
    ids=["sqlite-stopped", "postgres-stopped", *(f"{store}-killed" for store in STORES)],
)
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


@pytest.mark.parametrize("private", SHARED_STORES, indirect=True)
async def test_when_the_server_of_the_store_is_killed_under_load_the_limit_still_stands(
    nursery: Nursery, private: tuple[Place, Server], tmp_path: Path
) -> None:
    place, server = private
    crew = Crew(nursery, place, tmp_path)
    try:
        async with place.manager() as keys:
            issued = await keys.create("durable", limits=[f"{LIMIT}/1h", f"{2 * LIMIT}/1d"], quota=4 * LIMIT)
            crew.start()
            load = Load(crew.ports, issued.secret)
            sending = asyncio.create_task(load.send(4 * LIMIT))
            await until(lambda: crew.admitted >= LIMIT // 5, 10)
            server.kill()
            assert crew.admitted < LIMIT
            server.start()
            await sending
            assert load.codes <= {*REFUSED, (503, "limits_unavailable")}
            assert load.count(0) == 0

            for port in crew.ports:
                await until(partial(recovered, port, issued.secret), RECOVERY_SECONDS)
            after = Load(crew.ports, issued.secret)
            await after.send(LIMIT)
            await until_all_is_used(after, keys, issued.key.id)
            assert after.codes <= REFUSED
            # What the store granted while it died, and nobody heard of, counts as spent.
            assert LIMIT - WORKERS * LIMIT // 10 <= crew.admitted <= LIMIT
    finally:
        crew.kill()


async def recovered(port: int, secret: str) -> bool:
    return (await ask(port, secret)).status != 503
