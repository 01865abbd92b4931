"""A database that fails, for each kind: what the caller gets, that it recovers, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert
from sqlalchemy.exc import DBAPIError

from ak_guard import AkGuardError, BackendError, BudgetError
from ak_guard.backends import SQLBackend
from ak_guard.budgets import Ask, Change, Grant, Window
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database import server, sqlite
from ak_guard.database.engine import Database
from ak_guard.database.tables import settled
from tests.databases import ask
from tests.stores.wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncEngine

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
    other = Database(url)
    async with other.dialect.writers().begin() as connection:
        await other.dialect.lock(connection, ["key/a"], time.time())
        assert await storage.acquire("key/b", ASKS, lease=None, now=time.time())
        storage.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
        assert await fails(take(storage)) < 4
    await connection.engine.dispose()
    assert await take(storage)
    assert await used(storage) == 7


async def test_who_loses_a_deadlock_is_tried_again(url: str, storage: SQLStorage) -> None:
    waiting = (
        "SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND NOT granted"
        if url.startswith("postgres")
        else "SELECT 1 FROM information_schema.processlist WHERE db = database() AND time_ms > 20"
        " AND info LIKE 'INSERT INTO ak_windows%'"
    )
    await storage.database.start()
    other = Database(url)
    writers = other.dialect.writers()
    # Whom a server lets through is its own choice, and turns on who has waited how long on a busy machine.
    for _ in range(10):
        before = await used(storage)
        if tried_again := await _loses_and_takes(writers, other, storage, lambda: ask(url, waiting)):
            break
    await writers.dispose()
    assert tried_again
    assert await used(storage) == before + 1


async def _loses_and_takes(
    writers: AsyncEngine, other: Database, storage: SQLStorage, waits: Callable[[], object]
) -> bool:
    """Whether the storage loses where both want what the other has, and takes from both keys all the same."""
    async with writers.connect() as connection:
        # Whoever has written most is let through.
        await connection.execute(insert(settled), [{"id": f"{at}", "at": 0.0} for at in range(100)])
        await other.dialect.lock(connection, ["key/b"], time.time())
        calls = [storage.acquire(key, ASKS, lease=None, now=time.time()) for key in ("key/a", "key/b")]
        both = asyncio.gather(*calls, return_exceptions=True)
        while not await asyncio.to_thread(waits):  # noqa: ASYNC110  # a server has no event for it
            await asyncio.sleep(0.01)
        try:
            await other.dialect.lock(connection, ["key/a"], time.time())
        except DBAPIError:
            lost = False
        else:
            lost = True
        await connection.rollback()
        taken = await both
    return lost and all(isinstance(outcome, Grant) for outcome in taken)


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


async def on_another_disk(store: SQLStorage, pragma: str) -> Callable[[], Awaitable[None]]:
    """Let the disk behave otherwise, in a way that root feels too. Returns what undoes it."""
    pools = store.database._pools.get()
    writers = pools.writers.sync_engine

    def on_connect(connection: Any, _: object) -> None:
        connection.execute(f"PRAGMA {pragma}")

    async def undo() -> None:
        event.remove(writers, "connect", on_connect)
        await pools.dispose()

    event.listen(writers, "connect", on_connect)
    await pools.dispose()
    return undo


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
    make_room = await on_another_disk(file, "max_page_count = 1")
    file.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
    long = [file.acquire(f"{'x' * 200}{at}", ASKS, lease=None, now=time.time()) for at in range(200)]
    outcomes = await asyncio.gather(*long, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {BudgetError}
    await make_room()
    assert await take(file)
    assert await used(file) == 7


async def test_a_read_only_file_is_told_and_nothing_owed_is_lost(file: SQLStorage) -> None:
    make_writable = await on_another_disk(file, "query_only = ON")
    file.settle("key/a", [Change(HOUR, 5, None)], now=time.time())
    await fails(take(file))
    await make_writable()
    assert await take(file)
    assert await used(file) == 7
