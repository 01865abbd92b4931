"""How many bytes a live key takes, and a cached one."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING, Final

from limits import parse
from limits.aio.storage import MemoryStorage as LimitsStorage
from limits.aio.strategies import FixedWindowRateLimiter

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.budgets import MemoryStorage
from tests.benchmarks import ours
from tests.benchmarks.harness import Figure, call_each
from tests.benchmarks.report import Row, Table
from tests.benchmarks.traffic import requests, starlette_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp

BYTES_AT_MOST: Final = 1_000


async def _grown(fill: Callable[[], Awaitable[object]], count: int) -> Figure:
    """Bytes that are still held after `fill`, for each of `count`. What was there before is not counted."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        await fill()
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / count
    finally:
        tracemalloc.stop()
    return Figure(each, each, each)


async def bytes_per_key(count: int) -> Table:
    table = Table("memory", f"allocated for each of {count:,} keys (tracemalloc)", "bytes")
    storage = MemoryStorage()
    live = await _grown(lambda: ours.start_counters(storage, (f"key/key_{at:020x}" for at in range(count))), count)
    table.rows.append(Row("live key, three windows", live, target=BYTES_AT_MOST))

    backend = MemoryBackend()
    manager = KeyManager(backend)
    await manager.create_group(ours.PAID)
    secrets: list[str] = []

    async def issue() -> None:
        for _ in range(count // 10):
            secrets.append(await ours.issue(manager))  # noqa: PERF401  # extend() would take another list's bytes

    table.rows.append(Row("key in the memory backend", await _grown(issue, count // 10)))
    # Two guards over one backend: the first begins the counters, so that what the second adds is its cache alone.
    scopes = requests(secrets)
    await call_each(guard_of(backend), scopes)
    second = guard_of(backend)
    cached = await _grown(lambda: call_each(second, scopes), len(scopes))
    table.rows.append(Row("cached key, 3 windows, quota, 11 networks", cached))
    naive = FixedWindowRateLimiter(LimitsStorage())
    items = [parse(f"{ours.AMPLE}/{window}") for window in ("5 hour", "1 day", "7 day")]

    async def hit() -> None:
        for at in range(count // 10):
            for item in items:
                await naive.hit(item, f"key_{at:020x}")

    table.rows.append(Row("limits, naive: live key, three windows", await _grown(hit, count // 10)))
    await asyncio.sleep(0)
    return table


def guard_of(backend: MemoryBackend) -> ASGIApp:
    return ApiKeyMiddleware(starlette_app(), backend=backend, **ours.SERVICE)
