"""No more requests of a key run at once than may, over four processes on each store; whoever dies frees its slots."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from ak_guard.budgets.shared_slots import HOLD_SECONDS
from tests.processes.demand import until
from tests.processes.stores import STORES, Place, a_place
from tests.processes.workers import WORKERS, Crew

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ak_guard import KeyManager
    from tests.databases import Databases
    from tests.processes.workers import Nursery

LIMIT = 5
SOON_SECONDS = 5.0
TIMES = 40


class House(NamedTuple):
    place: Place
    crew: Crew


@pytest.fixture
def houses(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[list[House]]:
    """Four workers over each store, all at the same time: most of what follows is waiting."""
    with ExitStack() as opened:
        found = []
        for store in STORES:
            place = opened.enter_context(a_place(store, tmp_path_factory.mktemp(store), databases))
            crew = Crew(nursery, place, tmp_path_factory.mktemp("crew"), (0.0,) * WORKERS)
            opened.callback(crew.kill)
            crew.start()
            found.append(House(place, crew))
        yield found
        assert not any("Traceback" in house.crew.log for house in found)


class Stay:
    """A request that runs until its client hangs up, if it was let in. `code` is empty where it was."""

    def __init__(self, port: int, code: str, writer: asyncio.StreamWriter) -> None:
        self.port = port
        self.code = code
        self._writer = writer

    @classmethod
    async def begin(cls, port: int, secret: str) -> Self:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /stay HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        code = ""
        if status != 200:
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
            code = json.loads(await reader.readexactly(int(length.split()[1])))["code"]
            assert (status, b"retry-after: 1\r\n" in head.lower()) == (429, True)
        return cls(port, code, writer)

    def hang_up(self) -> None:
        self._writer.close()


async def begin(house: House, secret: str, times: int) -> tuple[list[Stay], set[str]]:
    """So many requests at once, in turn to each worker: those that run, and why others do not."""
    ports = [port for _, port in zip(range(times), cycle(house.crew.ports), strict=False)]
    all_of_them = await asyncio.gather(*(Stay.begin(port, secret) for port in ports))
    running = [stay for stay in all_of_them if not stay.code]
    for stay in all_of_them:
        if stay.code:
            stay.hang_up()
    return running, {stay.code for stay in all_of_them if stay.code}


async def fill(house: House, secret: str, running: list[Stay]) -> None:
    """Ask on until as many run as may; there never are more."""

    async def full() -> bool:
        more, _ = await begin(house, secret, WORKERS)
        running.extend(more)
        assert len(running) <= LIMIT
        return len(running) == LIMIT

    await until(full, HOLD_SECONDS + SOON_SECONDS)


async def used(keys: KeyManager, key_id: str) -> int:
    concurrency = (await keys.status(key_id)).concurrency
    assert concurrency is not None
    return concurrency.used


async def story(house: House, storm: asyncio.Lock) -> None:
    async with house.place.manager() as keys:
        issued = await keys.create("crowded", limits=["1000/1h"], max_concurrency=LIMIT)
        # With all stores stormed at once, a small machine makes one wait longer for its store than any guard does.
        async with storm:
            running, refused = await begin(house, issued.secret, TIMES)
        assert refused == {"concurrency_limit_exceeded"}
        assert len(running) == house.crew.admitted == LIMIT
        assert await used(keys, issued.key.id) == LIMIT

        # Clients that hang up make room for others, in whichever worker.
        for _ in range(2):
            running.pop().hang_up()
        await fill(house, issued.secret, running)
        assert (await begin(house, issued.secret, WORKERS)) == ([], {"concurrency_limit_exceeded"})

        # What ran in a worker that was killed makes room too, once its time is over and not before.
        fallen = next(worker for worker in house.crew.workers if worker.port == running[0].port)
        house.crew.kill(fallen)
        lost = [stay for stay in running if stay.port == fallen.port]
        for stay in lost:
            running.remove(stay)
            stay.hang_up()
        assert (await begin(house, issued.secret, WORKERS)) == ([], {"concurrency_limit_exceeded"})
        await fill(house, issued.secret, running)

        for stay in running:
            stay.hang_up()

        async def nobody_runs() -> bool:
            return await used(keys, issued.key.id) == 0

        await until(nobody_runs, SOON_SECONDS)
        # A refusal cost nothing: what was used is what reached the app.
        assert (await keys.status(issued.key.id)).windows[0].used == house.crew.admitted


async def test_no_more_run_at_once_than_may_and_each_end_makes_room(houses: list[House]) -> None:
    storm = asyncio.Lock()
    async with asyncio.TaskGroup() as stories:
        for house in houses:
            stories.create_task(story(house, storm))
