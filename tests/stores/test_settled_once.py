"""Settlements count once, also where nobody knows whether the database has committed them."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from ak_guard import BudgetError
from ak_guard.budgets import Ask, Change, Lease, Quota, Window
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database.engine import Database
from ak_guard.database.tables import leases, settled, windows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard import AkGuardError
    from tests.databases import Databases

NOW = 1_800_000_000.0
HOUR = Window(1_000, 3_600)
DAY = Window(1_000, 86_400)


class Doubtful(Database):
    """A database whose connection is lost around a commit: `before` it, or after it was made and `unheard`."""

    fault = ""

    @asynccontextmanager
    async def write(self, failure: type[AkGuardError]) -> AsyncIterator[AsyncConnection]:
        async with super().write(failure) as connection:
            yield connection
            if self.fault == "before":
                raise ConnectionResetError
        if self.fault == "unheard":
            raise failure("the connection was lost")


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> AsyncIterator[SQLStorage]:
    with databases.opened(request.param, tmp_path) as url:
        store = SQLStorage(Doubtful(url), own_time=False)
        yield store
        await store.aclose()
        await store.database.aclose()


def doubt(store: SQLStorage, fault: str) -> None:
    store.database.fault = fault  # type: ignore[attr-defined]  # of a Doubtful


async def used(store: SQLStorage, now: float = NOW) -> list[int]:
    return [level.used for level in await store.peek("key/a", [HOUR, DAY], now=now)]


async def rows_of(store: SQLStorage, table: Any) -> int:
    async with store.database.read(BudgetError) as connection:
        query = select(func.count()).select_from(table)
        if table is windows:
            query = query.where(table.c.slot != "")
        return int((await connection.execute(query)).scalar_one())


@pytest.mark.parametrize("fault", ["before", "unheard"])
async def test_what_may_have_been_written_is_counted_once(storage: SQLStorage, fault: str) -> None:
    await storage.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=NOW)
    doubt(storage, fault)
    for _ in range(3):
        storage.settle("key/a", [Change(HOUR, 5, None), Change(DAY, 5, None)], now=NOW)
        with pytest.raises(BudgetError):
            await storage.flush()
    doubt(storage, "")
    assert await used(storage) == [16, 15]
    storage.settle("key/a", [Change(HOUR, 5, None)], now=NOW)
    assert await used(storage) == [21, 15]


async def test_a_take_that_may_have_been_written_fails_and_is_not_sent_again(storage: SQLStorage) -> None:
    doubt(storage, "unheard")
    with pytest.raises(BudgetError):
        await storage.acquire("key/a", [Ask(HOUR, 7)], lease=None, now=NOW)
    doubt(storage, "before")
    with pytest.raises(BudgetError):
        await storage.acquire("key/a", [Ask(DAY, 7)], lease=None, now=NOW)
    doubt(storage, "")
    # The first was written, whatever the caller was told; the second was not.
    assert await used(storage) == [7, 0]


async def test_settlements_of_a_long_outage_are_written_before_anybody_takes(storage: SQLStorage) -> None:
    doubt(storage, "before")
    for number in range(1_300):
        storage.settle(f"key/{number}", [Change(HOUR, 2, None)], now=NOW)
    storage.settle("key/a", [Change(HOUR, 1_000, None)], now=NOW)
    with pytest.raises(BudgetError):
        await storage.flush()
    doubt(storage, "")
    assert not await storage.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=NOW)
    assert await rows_of(storage, windows) == 1_301


async def test_what_was_cancelled_while_it_was_written_counts_once(storage: SQLStorage) -> None:
    await storage.database.start()
    for turns in range(0, 120, 3):
        storage.settle("key/a", [Change(HOUR, 1, None)], now=NOW)
        flushing = asyncio.create_task(storage.flush())
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        writing = storage._queue._waiting.get().task
        if writing is not None:
            writing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
    assert (await used(storage))[0] == 40


async def test_what_is_over_is_swept_with_ordinary_writes_and_a_quota_never(
    storage: SQLStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ak_guard.budgets.sql._SWEEP_EVERY", 8)
    sliding = Window(1_000, 3_600, anchor="sliding")
    for number in range(30):
        lease = Lease(f"lease-{number}", "worker", 10.0)
        asks = [Ask(HOUR, 1), Ask(sliding, 1), Ask(Quota(100), 1)]
        await storage.acquire(f"old/{number}", asks, lease=lease, now=NOW)
        storage.settle(f"old/{number}", [Change(HOUR, 1, None)], now=NOW)
        await storage.flush()
    assert (await rows_of(storage, windows), await rows_of(storage, leases)) == (90, 30)

    async def sweep(now: float) -> None:
        for _ in range(20):
            await storage.acquire("key/a", [Ask(Quota(10_000), 1)], lease=None, now=now)

    await sweep(NOW + 3_599)
    assert (await rows_of(storage, windows), await rows_of(storage, leases)) == (91, 0)
    assert await rows_of(storage, settled) == 0
    await sweep(NOW + 3_601)
    assert await rows_of(storage, windows) == 61
    await sweep(NOW + 7_300)
    assert await rows_of(storage, windows) == 31
    (level,) = await storage.peek("old/7", [Quota(100)], now=NOW + 10**7)
    assert (level.used, level.end) == (1, None)


async def test_a_swept_window_begins_anew(storage: SQLStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ak_guard.budgets.sql._SWEEP_EVERY", 8)
    grant = await storage.acquire("key/a", [Ask(HOUR, 1_000)], lease=None, now=NOW)
    for _ in range(10):
        await storage.acquire("key/b", [Ask(DAY, 1)], lease=None, now=NOW + 4_000)
    storage.settle("key/a", [Change(HOUR, -1_000, grant.generations[0])], now=NOW + 4_000)  # type: ignore[union-attr]
    assert await storage.acquire("key/a", [Ask(HOUR, 1_000)], lease=None, now=NOW + 4_000)
    assert not await storage.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=NOW + 4_000)
    assert not math.isinf((await storage.peek("key/a", [HOUR], now=NOW + 4_000))[0].end or math.inf)
