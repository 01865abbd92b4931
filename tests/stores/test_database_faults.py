"""A database that fails, for each kind: what the caller gets, that it recovers, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from ak_guard import AkGuardError, BackendError, BudgetError
from ak_guard.backends import SQLBackend
from ak_guard.budgets import Ask, Change, Window
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database import server, sqlite
from ak_guard.database.engine import Database
from tests.databases import ask
from tests.stores.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator
    from pathlib import Path

    from tests.databases import Databases

HOUR = Window(1_000, 3_600)
ASKS = [Ask(HOUR, 1)]


@pytest.fixture(params=["postgres", "mysql"])
def url(request: pytest.FixtureRequest, databases: Databases) -> Iterator[str]:
    with databases.migrated(request.param) as its_url:
        yield its_url


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    with Wire(url) as its_wire:
        yield its_wire


@pytest.fixture
async def storage(wire: Wire) -> AsyncIterator[SQLStorage]:
    store = SQLStorage(Database(wire.url))
    yield store
    await store.aclose()
    await store.database.aclose()


async def used(store: SQLStorage) -> int:
    return (await store.peek("key/a", [HOUR], now=time.time()))[0].used


async def take(store: SQLStorage) -> bool:
    return bool(await store.acquire("key/a", ASKS, lease=None, now=time.time()))


async def fails(call: Awaitable[Any], error: type[AkGuardError] = BudgetError) -> float:
    """How long it takes until the error comes; no other one may."""
    began = time.monotonic()
    with pytest.raises(error):
        await call
    return time.monotonic() - began


async def test_a_killed_connection_is_replaced_before_anybody_meets_it(url: str, storage: SQLStorage) -> None:
    assert await take(storage)
    assert await used(storage) == 1
    database = url.rpartition("/")[2]
    if url.startswith("postgres"):
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
        ask(url.replace(database, "postgres"), kill)
    else:
        for (number,) in ask(
            url, f"SELECT id FROM information_schema.processlist WHERE db = '{database}' AND time >= 0"
        ):
            if (number,) in ask(url, f"SELECT id FROM information_schema.processlist WHERE id = {number}"):
                ask(url, f"KILL {number}")
    assert await take(storage)
    assert await used(storage) == 2


async def test_a_lock_that_somebody_keeps_is_not_waited_for_long(url: str, storage: SQLStorage) -> None:
    assert await take(storage)
    other = SQLStorage(Database(url))
    storage.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
    async with other.database.write(BudgetError) as connection:
        await other.database.dialect.lock(connection, ["key/a"], time.time())
        assert await fails(take(storage)) < 5
        assert await storage.acquire("key/b", ASKS, lease=None, now=time.time()) is not None
    assert await take(storage)
    assert await used(storage) == 7
    await other.database.aclose()


async def test_a_server_that_does_not_answer_is_not_waited_for_long(wire: Wire, storage: SQLStorage) -> None:
    assert await take(storage)
    wire.block()
    storage.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
    assert await fails(take(storage)) < 7
    wire.mend()
    assert await take(storage)
    assert await used(storage) == 7


async def test_a_server_that_goes_away_and_comes_back_has_lost_and_doubled_nothing(
    wire: Wire, storage: SQLStorage
) -> None:
    assert await take(storage)
    wire.cut()
    for _ in range(3):
        storage.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
        assert await fails(take(storage)) < 5
    wire.mend()
    assert await take(storage)
    assert await used(storage) == 17


async def test_a_server_that_is_away_at_the_start_is_waited_for_by_nobody_and_then_used(wire: Wire) -> None:
    wire.cut()
    backend = SQLBackend(wire.url)
    assert await fails(backend.start(), BackendError) < 3
    assert await fails(backend.find(b"digest"), BackendError) < 3
    wire.mend()
    assert await backend.find(b"digest") is None
    await backend.aclose()


async def test_many_who_wait_for_a_silent_server_share_one_attempt(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("ak_guard.database.postgres.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("ak_guard.database.mysql.CONNECT_SECONDS", 0.5)
    wire.block()
    database = Database(wire.url)
    began = time.monotonic()
    outcomes = await asyncio.gather(*(database.start() for _ in range(40)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BackendError}
    assert time.monotonic() - began < 5
    wire.mend()
    await database.start()


# SQLite


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[SQLStorage]:
    store = SQLStorage(Database(f"sqlite:///{tmp_path}/keys.db"))
    assert await take(store)
    yield store
    await store.aclose()
    await store.database.aclose()


async def test_a_file_that_somebody_keeps_locked_is_not_waited_for_long(
    file: SQLStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_SECONDS", 0.2)
    await file.database.aclose()
    other = sqlite3.connect(str(file.database.url.database), isolation_level=None)
    assert await take(file)
    other.execute("BEGIN IMMEDIATE")
    file.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
    assert await fails(take(file)) < 5
    other.execute("ROLLBACK")
    other.close()
    assert await take(file)
    assert await used(file) == 8


async def test_a_full_disk_keeps_what_is_owed_until_there_is_room(file: SQLStorage) -> None:
    writers = file.database._pools.get().writers.sync_engine
    await file.database._pools.get().dispose()

    def full(connection: Any, _: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    event.listen(writers, "connect", full)
    file.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
    long = [file.acquire(f"{'x' * 200}{n}", ASKS, lease=None, now=time.time()) for n in range(200)]
    outcomes = await asyncio.gather(*long, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BudgetError}
    event.remove(writers, "connect", full)
    await file.database._pools.get().dispose()
    assert await take(file)
    assert await used(file) == 7


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
async def test_a_read_only_folder_is_told(file: SQLStorage, tmp_path: Path) -> None:
    await file.database.aclose()
    tmp_path.chmod(0o500)  # noqa: ASYNC240  # nothing else runs
    (tmp_path / "keys.db").chmod(0o400)
    await fails(take(file))
    tmp_path.chmod(0o700)  # noqa: ASYNC240
    (tmp_path / "keys.db").chmod(0o600)
    assert await take(file)


async def test_a_read_only_file_system_is_told_and_nothing_owed_is_lost(
    file: SQLStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers = file.database._pools.get().writers.sync_engine
    await file.database._pools.get().dispose()

    def read_only(connection: Any, _: object) -> None:
        connection.execute("PRAGMA query_only = ON")

    event.listen(writers, "connect", read_only)
    file.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
    await fails(take(file))
    event.remove(writers, "connect", read_only)
    await file.database._pools.get().dispose()
    assert await used(file) == 6
