"""Four workers over one store: what the store is asked, whether a limit holds, how soon a revoked key is refused."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis import Redis

from tests.benchmarks import ours
from tests.benchmarks.caller import connection, message
from tests.benchmarks.harness import Figure, WrongAnswer
from tests.benchmarks.latency import added_by_redis
from tests.benchmarks.report import Row, Table
from tests.databases import Databases
from tests.processes.private import a_private_place
from tests.processes.stores import a_place
from tests.processes.workers import WORKERS, Crew, Nursery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from ak_guard import KeyManager
    from tests.processes.stores import Place

#: Requests a second on one key, over all workers.
RATE: Final = 1_000
CALLS_AT_MOST: Final = 0.01
REVOKED_WITHIN_SECONDS: Final = 0.5
_CONNECTIONS: Final = 32
_LIMIT: Final = 2_000


async def steady(seconds: float) -> Table:
    """Redis of its own, one key at 1,000 requests a second."""
    table = Table("steady", f"{WORKERS} workers on Redis, one key at {RATE:,} requests/s", "")
    async with _crew("redis", private=True) as (place, crew):
        async with place.manager() as keys:
            await _round_trips(table, keys, crew, place, seconds)
        table.rows.append(await added_by_redis(str(place.limits), 400 if seconds < 5 else 20_000))
    return table


async def _round_trips(table: Table, keys: KeyManager, crew: Crew, place: Place, seconds: float) -> None:
    url = str(place.limits)
    hot = (await keys.create("hot", limits=ours.limits())).secret
    await paced(crew.ports, hot, 1.5)
    before = _calls(url)
    answers = await paced(crew.ports, hot, seconds)
    _only(answers, 200)
    table.notes.append(f"{answers.total() / seconds:,.0f} requests/s were answered")
    asked = (_calls(url) - before) / answers.total()
    table.rows.append(Row("round trips a decision", _one(asked), target=CALLS_AT_MOST))

    full = (await keys.create("full", limits=["100/5h", "1000/1d", "5000/7d"])).secret
    await paced(crew.ports, full, 2.5)
    before = _calls(url)
    _only(await paced(crew.ports, full, seconds), 429)
    refused = (_calls(url) - before) / WORKERS / seconds
    table.rows.append(Row("round trips a worker and second, all refused", _one(refused), target=1.0))

    some = (await keys.create("some", limits=[f"{_LIMIT}/5h", f"{10 * _LIMIT}/1d", f"{50 * _LIMIT}/7d"])).secret
    passed = (await paced(crew.ports, some, 2 * _LIMIT / RATE))[200]
    table.rows.append(Row(f"admitted of {2 * _LIMIT:,} at a limit of {_LIMIT:,}", _one(passed), target=_LIMIT))


async def revocation(trials: int) -> Table:
    """From when it is stored that a key is disabled until each worker refuses it; storing it is told beside that."""
    table = Table("revocation", f"a key is disabled, {WORKERS} workers that are asked all the time", "ms")
    for store in ("sqlite", "postgres", "mysql"):
        async with _crew(store) as (place, crew), place.manager() as keys:
            found = [await _revoke(keys, crew) for _ in range(trials)]
        delays = [1000 * max(0.0, refused - stored) for stored, each in found for refused in each]
        table.rows.append(Row(f"{store}, median of {len(delays)}", Figure.of(delays)))
        last = statistics.quantiles(delays, n=100, method="inclusive")[-1]
        table.rows.append(Row(f"{store}, p99", _one(last), target=1000 * REVOKED_WITHIN_SECONDS))
        table.rows.append(Row(f"  storing it, {store}", Figure.of([1000 * stored for stored, _ in found])))
    return table


async def _revoke(keys: KeyManager, crew: Crew) -> tuple[float, list[float]]:
    """Seconds from the command: until it is done, and until each worker refuses."""
    issued = await keys.create("leaked", limits=ours.limits())
    # Workers poll four times a second; nobody's trials shall keep step with them.
    await asyncio.sleep(random.random() / 4)  # spreads trials, guards nothing
    said: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    asking = [asyncio.create_task(_until_refused(port, issued.secret, said)) for port in crew.ports]
    await asyncio.sleep(0.05)
    said.set_result(time.perf_counter())
    await keys.disable(issued.key.id)
    stored = time.perf_counter() - said.result()
    return stored, await asyncio.gather(*asking)


async def _until_refused(port: int, secret: str, said: asyncio.Future[float]) -> float:
    async with connection(port) as caller:
        asked = message(secret)
        while (await caller.ask(asked)).status == 200:  # noqa: ASYNC110  # only asking tells
            await asyncio.sleep(0.01)
    if not said.done():
        raise WrongAnswer("a key was refused before it was disabled")
    return time.perf_counter() - said.result()


async def paced(ports: Sequence[int], secret: str, seconds: float) -> Counter[int]:
    """So many answers by status: each request is sent at its time, or as soon after it as its connection is free."""
    begin = time.perf_counter() + 0.05
    total = int(RATE * seconds)
    answers = Counter[int]()

    async def caller(first: int, port: int) -> None:
        asked = message(secret)
        async with connection(port) as opened:
            for number in range(first, total, _CONNECTIONS):
                await asyncio.sleep(max(0.0, begin + number / RATE - time.perf_counter()))
                answers[(await opened.ask(asked)).status] += 1

    async with asyncio.TaskGroup() as group:
        for first, port in zip(range(_CONNECTIONS), itertools.cycle(ports), strict=False):
            group.create_task(caller(first, port))
    return answers


def _only(answers: Counter[int], status: int) -> None:
    if set(answers) != {status}:
        raise WrongAnswer(f"all should be answered {status}: {dict(answers)}")


def _calls(url: str) -> int:
    """How often Redis was asked about budgets since it runs."""
    with Redis.from_url(url) as redis:
        found: Any = redis.info("commandstats")
    return int(found.get("cmdstat_evalsha", {}).get("calls", 0))


def _one(value: float) -> Figure:
    return Figure(value, value, value)


@contextlib.asynccontextmanager
async def _crew(store: str, *, private: bool = False) -> AsyncIterator[tuple[Place, Crew]]:
    """Four workers over a place of their own. What starts and ends processes blocks, so it has a thread."""
    manager = _blocking_crew(store, private=private)
    found = await asyncio.to_thread(manager.__enter__)
    try:
        yield found
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@contextlib.contextmanager
def _blocking_crew(store: str, *, private: bool) -> Iterator[tuple[Place, Crew]]:
    databases = Databases()
    with tempfile.TemporaryDirectory() as folder, Nursery() as nursery, contextlib.ExitStack() as stack:
        stack.callback(databases.close)
        if private:
            place, _ = stack.enter_context(a_private_place(store, Path(folder)))
        else:
            place = stack.enter_context(a_place(store, Path(folder), databases))
        crew = Crew(nursery, place, Path(folder))
        crew.start()
        stack.callback(crew.kill)
        yield place, crew
