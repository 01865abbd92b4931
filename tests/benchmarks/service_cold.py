"""A key service beside the app that asks it: what a key costs that was never seen, and what one that was."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

from tests.benchmarks import ours
from tests.benchmarks.caller import connection, message
from tests.benchmarks.harness import Figure, WrongAnswer
from tests.benchmarks.processes import House, house
from tests.benchmarks.report import Row, Table
from tests.benchmarks.traffic import PATH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.processes import Process

COLD_AT_MOST_MS: Final = 3.0
_WARM_UP: Final = 20


async def cold(keys: int, requests: int) -> Table:
    """So many keys for the first time and again, and then so many requests with one of them."""
    table = Table("service-cold", "`ak-guard serve` on SQLite and a guarded app, each a process of one machine", "ms")
    async with house() as at:
        await at.keys.create_group(ours.PAID)
        plain = [await _key(at, limits=[], quota=None) for _ in range(keys + _WARM_UP)]
        limited = [await _key(at) for _ in range(keys + _WARM_UP)]
        guarded = await at.guarded(await at.service())
        first, again = await _twice(guarded, plain)
        with_budgets, _ = await _twice(guarded, limited)
        table.rows.append(Row("request, key never seen", Figure.of(first), target=COLD_AT_MOST_MS))
        table.rows.append(Row("  the fastest", Figure(min(first), min(first), min(first))))
        table.rows.append(Row("the same key again", Figure.of(again)))
        alone = [one - other for one, other in zip(first, again, strict=True)]
        table.rows.append(Row("  the look-up alone", Figure.of(alone), target=COLD_AT_MOST_MS))
        table.rows.append(Row("request, key never seen with four budgets", Figure.of(with_budgets)))
        table.rows += await _calls(at, plain[0], limited[0], requests)
    return table


async def _key(at: House, **changes: object) -> str:
    return await ours.issue(at.keys, **changes)


async def _twice(guarded: Process, secrets: Sequence[str]) -> tuple[list[float], list[float]]:
    """Milliseconds of each key's first request and of its second."""
    first: list[float] = []
    again: list[float] = []
    async with connection(guarded.port) as caller:
        for secret in secrets:
            asked = message(secret, PATH)
            for series in (first, again):
                begin = time.perf_counter()
                answer = await caller.ask(asked)
                series.append(1000 * (time.perf_counter() - begin))
                if answer.status != 200:
                    raise WrongAnswer(f"a good key was answered {answer}")
    return first[_WARM_UP:], again[_WARM_UP:]


async def _calls(at: House, plain: str, limited: str, requests: int) -> list[Row]:
    """How often the service is asked for each request with a key that is known."""
    service = await at.service(counted=True)
    guarded = await at.guarded(service)
    rows = []
    for name, secret, most in (("no budgets", plain, 0.0), ("four budgets", limited, 0.01)):
        async with connection(guarded.port) as caller:
            asked = message(secret, PATH)
            await caller.ask(asked)
            counted(service)
            for _ in range(requests):
                await caller.ask(asked)
        paths = counted(service)["paths"]
        calls = (paths.get("/v1/resolve", 0) + paths.get("/v1/acquire", 0) + paths.get("/v1/give-back", 0)) / requests
        rows.append(Row(f"calls a warm request, key with {name}", Figure(calls, calls, calls), target=most))
    return rows


def counted(service: Process) -> dict[str, dict[str, int]]:
    """How often it was asked since this was last called."""
    with urlopen(f"http://127.0.0.1:{service.port}/counted", timeout=10) as answer:
        told: dict[str, dict[str, int]] = json.load(answer)
    return told
