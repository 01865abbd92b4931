"""A thousand keys that are used once a second each: a call to the store for each request, at the rate they come."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final

from tests.benchmarks import ours
from tests.benchmarks.harness import Figure, WrongAnswer, call_each
from tests.benchmarks.report import Row, Table
from tests.benchmarks.stores import Counted, counted_by, on_store
from tests.processes.stores import STORES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Message, Scope

    from tests.benchmarks.harness import Case

KEYS: Final = 1_000
AT_LEAST: Final = 0.6


async def rare(rounds: int, stores: Sequence[str] = STORES) -> Table:
    """Memory and store take turns of a second, in which each key is used once, at times spread over all of it."""
    table = Table("rare", f"{KEYS:,} keys used once a second each, one process", "requests/s", "of memory's throughput")
    alike = {"on_decision": counted_by(Counted()), "usage": False}
    memory = await ours.guarded("memory", live=KEYS, service=alike, checks="")
    for store in stores:
        async with on_store(store, KEYS) as (case, counted):
            figures: dict[str, list[float]] = {memory.name: [], case.name: []}
            waits: list[float] = []
            # One after another, or so many look-ups at once from one address would be taken for a flood.
            await call_each(memory.app, memory.scopes)
            await call_each(case.app, case.scopes)
            before = counted.calls
            for _ in range(rounds):
                figures[memory.name].append(await _second(memory, []))
                figures[case.name].append(await _second(case, waits))
            pairs = zip(figures[case.name], figures[memory.name], strict=True)
            share = Figure.of([its / mine for its, mine in pairs])
            table.rows.append(Row(case.name, Figure.of(figures[case.name]), share, AT_LEAST, at_least=True))
            table.rows.append(Row(f"  ms a request, {case.name}", Figure.of(waits)))
            calls = (counted.calls - before) / rounds / KEYS
            table.rows.append(Row(f"  calls to the store a request, {case.name}", Figure(calls, calls, calls)))
    return table


async def _second(case: Case, waits: list[float]) -> float:
    """Each key once, at its time whether or not those before were answered; answers a second until the last one."""
    order = list(case.scopes)
    random.Random(7).shuffle(order)
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, template in enumerate(order):
            late = time.perf_counter() - begin - number / KEYS
            await asyncio.sleep(max(0.0, -late))
            group.create_task(_one(case, {**template, "state": {}}, waits))
    return KEYS / (time.perf_counter() - begin)


async def _one(case: Case, scope: Scope, waits: list[float]) -> None:
    begin = time.perf_counter()

    async def send(message: Message) -> None:
        if message.get("status", case.status) != case.status:
            raise WrongAnswer(f"{case.name}: answered {message['status']}")

    await case.app(scope, _receive, send)
    waits.append(1_000 * (time.perf_counter() - begin))


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
