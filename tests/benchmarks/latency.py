"""What one request waits for the guard, on the clock."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.budgets import counters_from
from tests.benchmarks import ours
from tests.benchmarks.harness import Figure, WrongAnswer
from tests.benchmarks.report import Row
from tests.benchmarks.traffic import request, starlette_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

#: Microseconds that Redis may add to counters in memory, at the median.
ADDED_AT_MOST: Final = 5.0
_TURN: Final = 100


async def added_by_redis(url: str, count: int) -> Row:
    """One hot key, one request after another, memory and Redis taking turns of a hundred."""
    memory, keys, secret = await _guarded(None)
    redis, others, other = await _guarded(url)
    taken: dict[int, list[float]] = {0: [], 1: []}
    contenders = [(0, memory, secret), (1, redis, other)]
    shuffle = random.Random(7).shuffle  # the same orders in each run
    for _ in range(max(2, count // _TURN)):
        shuffle(contenders)
        for at, app, key in contenders:
            await _turn(app, request(key), taken[at])
    added = [theirs - mine for mine, theirs in zip(*(_medians(taken[at]) for at in (0, 1)), strict=True)]
    await others.__aexit__(None, None, None)
    await keys.__aexit__(None, None, None)
    return Row("latency added over memory at the median, us", Figure.of(added), target=ADDED_AT_MOST)


def _medians(values: list[float]) -> list[float]:
    """Of each turn."""
    return [statistics.median(values[at : at + _TURN]) for at in range(0, len(values), _TURN)]


async def _guarded(url: str | None) -> tuple[ASGIApp, KeyManager, str]:
    backend = MemoryBackend()
    counters: Any = None if url is None else counters_from(url)
    keys = KeyManager(backend, limits=counters)
    await keys.__aenter__()
    await keys.create_group(ours.PAID)
    secret = await ours.issue(keys, quota=None)
    app = starlette_app()
    app.add_middleware(ApiKeyMiddleware, backend=backend, limits=counters, cache_ttl=3_600, **ours.SERVICE)
    return app, keys, secret


async def _turn(app: ASGIApp, template: dict[str, Any], taken: list[float]) -> None:
    answered = 0

    async def send(message: Message) -> None:
        nonlocal answered
        answered += message.get("status") == 200

    for _ in range(_TURN):
        scope = {**template, "state": {}}
        begin = time.perf_counter_ns()
        await app(scope, _receive, send)
        taken.append((time.perf_counter_ns() - begin) / 1_000)
        # As a server gives each request a turn of its own.
        await asyncio.sleep(0)
    if answered != _TURN:
        raise WrongAnswer(f"{answered} of {_TURN} were answered 200")


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
