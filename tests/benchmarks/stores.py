"""Counters that are shared and outlive the process: what they cost beside counters in memory."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import SQLBackend
from ak_guard.budgets import Leases, MultiWindowSupport, counters_from
from tests.benchmarks import ours
from tests.benchmarks.harness import Case, Figure, Plan, Series, measure
from tests.benchmarks.report import Row, Table
from tests.benchmarks.traffic import requests, starlette_app
from tests.databases import Databases
from tests.processes.stores import STORES, a_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AT_ONCE: Final = 32
#: Guarded throughput beside counters in memory on a hot key; `rare.py` has keys that are used once a second.
HOT_AT_LEAST: Final = 0.9
_PROMISED: Final = ("sqlite", "postgres")
#: Calls to the store for each decision, once leases are under way.
CALLS_AT_MOST: Final = 0.01


async def stores(plan: Plan) -> Table:
    """One process with 32 requests at a time, time on the clock, in rounds with the same guard on memory."""
    table = Table(
        "stores",
        f"counters on a store, {AT_ONCE} requests at once, time on the clock",
        "us/request",
        "of memory's speed",
    )
    short = Plan(max(3, plan.rounds // 10), max(plan.batch_seconds, 0.1))
    # Told of each decision and recording nothing, as those that are compared with it.
    alike = {"on_decision": counted_by(Counted()), "usage": False}
    memory = await ours.guarded("memory, hot key", at_once=AT_ONCE, service=alike, checks="")
    for store in STORES:
        async with on_store(store, 1) as (case, counted):
            series = await measure([memory, case], short, wall=True)
            before, asked = counted.calls, counted.decisions
            await measure([case], Plan(1, 0.3), wall=True)
            share = Figure.of([mine / its for mine, its in zip(*_pair(series, memory, case), strict=True)])
            hot = HOT_AT_LEAST if store in _PROMISED else None
            table.rows.append(Row(case.name, Figure.of(series[case.name]), share, hot, at_least=True))
            calls = (counted.calls - before) / max(1, counted.decisions - asked)
            figure = Figure(calls, calls, calls)
            table.rows.append(Row(f"  calls to the store, {case.name}", figure, target=CALLS_AT_MOST))
    return table


def _pair(series: Series, memory: Case, case: Case) -> tuple[list[float], list[float]]:
    return series[memory.name], series[case.name]


class Counted:
    """How often the store was asked, and how often a request was decided."""

    def __init__(self) -> None:
        self.calls = 0
        self.decisions = 0

    def watch(self, counters: MultiWindowSupport) -> None:
        assert isinstance(counters, Leases)
        inner = counters.store.acquire

        async def acquire(*asked: Any, **how: Any) -> Any:
            self.calls += 1
            return await inner(*asked, **how)

        counters.store.acquire = acquire  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def on_store(store: str, live: int) -> AsyncIterator[tuple[Case, Counted]]:
    """A guard over a store of its own with `live` keys."""
    with tempfile.TemporaryDirectory() as folder:
        async with contextlib.AsyncExitStack() as stack:
            place = await stack.enter_async_context(a_place_apart(store, Path(folder)))
            backend = SQLBackend(place.backend)
            counters = backend.counters if place.limits is None else counters_from(place.limits)
            keys = await stack.enter_async_context(KeyManager(backend))
            await keys.create_group(ours.PAID)
            secrets = [await ours.issue(keys) for _ in range(live)]
            counted = Counted()
            counted.watch(counters)
            app = starlette_app()
            service: dict[str, Any] = {**ours.SERVICE, "on_decision": counted_by(counted), "usage": False}
            app.add_middleware(ApiKeyMiddleware, backend=backend, limits=counters, cache_ttl=3_600, **service)
            name = f"{store}, {live:,} keys" if live > 1 else f"{store}, hot key"
            yield Case(name, app, requests(secrets), at_once=AT_ONCE), counted
            await counters.aclose()


def counted_by(counted: Counted) -> Any:
    def note(_: object) -> None:
        counted.decisions += 1

    return note


@contextlib.asynccontextmanager
async def a_place_apart(store: str, folder: Path) -> AsyncIterator[Any]:
    """`a_place` makes and drops a database with a loop of its own, so it needs a thread of its own."""
    databases = Databases()
    manager = a_place(store, folder, databases)
    place = await asyncio.to_thread(manager.__enter__)
    try:
        yield place
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)
        await asyncio.to_thread(databases.close)
