"""What is special to databases that many machines share: exact over all of them, by the database's own time."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from ak_guard import ApiKeyMiddleware, BackendError, ConfigurationError, Group, InputError, KeyManager
from ak_guard.backends import SQLBackend
from ak_guard.budgets import Ask, Grant, Lease, Quota, Shortfall, Window
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database.engine import Database
from ak_guard.database.tables import HEAD
from ak_guard.testing import ready_key
from tests.databases import ask
from tests.support import bearer, echo_app, printed_by_processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.databases import Databases

HOUR = Window(50, 3_600)


@pytest.fixture(params=["postgres", "mysql"])
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def url(service: str, databases: Databases) -> Iterator[str]:
    with databases.migrated(service) as its_url:
        yield its_url


@pytest.fixture
async def storage(url: str) -> AsyncIterator[SQLStorage]:
    database = Database(url)
    store = SQLStorage(database)
    yield store
    await store.aclose()
    await database.aclose()


async def take_all(url: str, subject: str, times: int) -> int:
    """How many of so many takes at once are granted, over pools of their own."""
    database = Database(url)
    store = SQLStorage(database)
    asks = [Ask(HOUR, 1), Ask(Quota(1_000), 1)]
    outcomes = await asyncio.gather(*(store.acquire(subject, asks, lease=None, now=1.0) for _ in range(times)))
    await store.aclose()
    await database.aclose()
    return sum(isinstance(outcome, Grant) for outcome in outcomes)


def test_first_takes_of_several_event_loops_are_exact(url: str) -> None:
    granted: list[int] = []

    def work() -> None:
        async def rounds() -> None:
            database = Database(url)
            stores = [SQLStorage(database), SQLStorage(database)]
            for number in range(10):
                asks = [Ask(Window(5, 3_600), 1)]
                calls = [store.acquire(f"key/{number}", asks, lease=None, now=1.0) for store in stores for _ in "1234"]
                granted.extend(number for outcome in await asyncio.gather(*calls) if outcome)
            await database.aclose()

        asyncio.run(rounds())

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(granted) == sorted(list(range(10)) * 5)


async def test_several_processes_on_one_hot_key_are_exact(url: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from tests.stores.test_postgres_mysql import take_all\n"
        "print(asyncio.run(take_all(sys.argv[1], 'key/hot', 40)))\n"
    )

    assert sum(await printed_by_processes(3, script, url)) == 50
    assert ask(url, "SELECT used FROM ak_windows WHERE slot = 'quota'") == [(50,)]


async def test_many_keys_in_any_order_from_both_sides_end_without_an_error(url: str) -> None:
    stores = [SQLStorage(Database(url)) for _ in range(3)]
    asks = [Ask(Window(1_000, 3_600), 1), Ask(Window(1_000, 60), 1)]
    for number in range(8):
        order = [f"key/{(at * 7 + number) % 20}" for at in range(20)]
        calls = [
            store.acquire(subject, asks, lease=None, now=1.0)
            for at, store in enumerate(stores)
            for subject in (order if at % 2 else reversed(order))
        ]
        assert all(await asyncio.gather(*calls))
    assert ask(url, "SELECT count(*), min(used), max(used) FROM ak_windows WHERE slot <> ''") == [(40, 24, 24)]
    for store in stores:
        await store.aclose()
        await store.database.aclose()


@pytest.mark.parametrize("off", [-3_600.0, 0.0, 3_600.0], ids=["slow", "right", "fast"])
async def test_the_store_decides_and_the_caller_is_told_in_its_own_time(storage: SQLStorage, off: float) -> None:
    now = time.time() + off
    grant = await storage.acquire("key/a", [Ask(HOUR, 50)], lease=Lease("l", "worker", 5.0), now=now)
    assert isinstance(grant, Grant)
    assert grant.ends == [pytest.approx(now + 3_600, abs=1e-3)]
    short = await storage.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=now)
    assert isinstance(short, Shortfall)
    assert short.ends == [pytest.approx(now + 3_600, abs=5)]
    assert short.retry_at == pytest.approx(now + 5, abs=5)
    (level,) = await storage.peek("key/a", [HOUR], now=now)
    assert (level.used, level.held) == (50, 50)
    assert level.end == pytest.approx(now + 3_600, abs=5)
    assert level.start == pytest.approx(now, abs=5)


async def test_a_fast_clock_rolls_no_window_early(storage: SQLStorage) -> None:
    now = time.time()
    assert await storage.acquire("key/a", [Ask(HOUR, 50)], lease=None, now=now)
    assert not await storage.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=now + 7_200)
    assert not await storage.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=now - 7_200)


async def test_a_server_whose_clock_is_behind_takes_over_and_rolls_no_window_back(
    storage: SQLStorage, url: str
) -> None:
    daily = Window(50, 86_400, anchor="calendar")
    assert await storage.acquire("key/a", [Ask(daily, 50)], lease=None, now=time.time())
    # As if it had been counted by a server that is a day ahead of this one.
    columns = "start = start + 86400, " + ('"end" = "end" + 86400' if "postgres" in url else "`end` = `end` + 86400")
    ask(url, f"UPDATE ak_windows SET {columns} WHERE slot <> ''")
    now = time.time()
    short = await storage.acquire("key/a", [Ask(daily, 1)], lease=None, now=now)
    assert isinstance(short, Shortfall)
    # Told from the start of the window, the latest time that anybody has seen, and not from this server's.
    assert short.ends == [pytest.approx(now + 86_400, abs=1e-3)]


async def test_names_and_subjects_differ_in_case_and_in_blanks(url: str, storage: SQLStorage) -> None:
    for subject in ("key/a", "key/A", "key/a ", "key/ä"):
        assert await storage.acquire(subject, [Ask(HOUR, 50)], lease=None, now=1.0), subject
    async with KeyManager(url) as keys:
        for name in ("paid", "Paid", "paid "):
            await keys.create_group(Group(name, multiplier=2 if name == "Paid" else 1))
        await keys.create("prod-api", group="Paid", owner="Ann")
        assert (await keys.get_group("Paid")).multiplier == 2
        assert [group.name for group in await keys.list_groups()] == ["Paid", "paid", "paid "]
        assert await keys.list(group="paid") == []
        assert await keys.list(owner="ann") == []
        assert len(await keys.list(search="PROD-API")) == 1


async def test_a_search_takes_every_sign_as_it_stands(url: str) -> None:
    async with KeyManager(url) as keys:
        for name in ("a\\b", "a/b", "a'b", 'a"b', "a_b", "a%b", "ÄÖ🔑"):
            await keys.create(name)
        for name in ("a\\b", "a/b", "a'b", 'a"b', "a_b", "a%b", "äö🔑"):
            assert [key.name.casefold() for key in await keys.list(search=name)] == [name]


async def test_two_who_create_the_same_key_at_once_are_told_apart(url: str) -> None:
    backends = [SQLBackend(url) for _ in range(2)]
    managers = [KeyManager(backend) for backend in backends]
    for number in range(5):
        text = f"x7Kq9ZmTr4WdLp2Vb8N{number}"
        made = await asyncio.gather(*(keys.create("same", key=text) for keys in managers), return_exceptions=True)
        (error,) = [outcome for outcome in made if isinstance(outcome, BaseException)]
        assert isinstance(error, InputError)
        assert error.field == "key"
    for backend in backends:
        await backend.aclose()


async def test_an_unchanged_update_is_no_missing_key(url: str) -> None:
    async with KeyManager(url) as keys:
        await keys.create_group(Group("paid"))
        assert await keys.update_group(Group("paid")) == Group("paid")
        key = (await keys.create("prod-api")).key
        assert (await keys.update(key.id, name="prod-api")).name == "prod-api"


def start_in_a_process(url: str) -> None:
    script = (
        "import asyncio, sys\nfrom ak_guard.database.engine import Database\n"
        "asyncio.run(Database(sys.argv[1]).start())\n"
    )
    subprocess.run([sys.executable, "-c", script, url], capture_output=True, check=True, timeout=50)


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "mysql"])
async def test_processes_that_start_at_once_migrate_once(kind: str, databases: Databases, tmp_path: Path) -> None:
    async def together(url: str) -> None:
        await asyncio.gather(*(asyncio.to_thread(start_in_a_process, url) for _ in range(3)))
        async with KeyManager(url) as keys:
            assert await keys.list() == []

    if kind == "sqlite":
        await together(f"sqlite:///{tmp_path}/keys.db")
        return
    with databases.empty(kind) as url:
        await together(url)
        assert ask(url, "SELECT version_num FROM ak_alembic") == [(HEAD,)]
        assert ask(url, "SELECT id, revision FROM ak_revision") == [(1, 0)]


@pytest.mark.parametrize("steps", [["DELETE FROM ak_alembic"], ["DELETE FROM ak_alembic", "DROP TABLE ak_settled"]])
async def test_a_migration_that_stopped_half_way_is_finished(databases: Databases, steps: list[str]) -> None:
    with databases.empty("mysql") as url:
        database = Database(url)
        await database.start()
        undone = "ALTER TABLE ak_windows DROP INDEX ix_ak_windows_keep_until, DROP COLUMN keep_until"
        ask(url, *steps, "DELETE FROM ak_revision", undone, "ALTER TABLE ak_leases DROP INDEX ix_ak_leases_deadline")
        await database.aclose()
        async with KeyManager(url) as keys:
            assert (await keys.create("prod-api", quota=5)).key.quota == 5
        assert ask(url, "SELECT version_num FROM ak_alembic") == [(HEAD,)]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_plain_test_client_with_a_new_loop_for_each_request_works(url: str, caplog: pytest.LogCaptureFixture) -> None:
    backend = SQLBackend(url)
    issued = asyncio.run(ready_key(backend, limits=["2/1d"]))
    client = TestClient(ApiKeyMiddleware(echo_app(), backend=backend))
    statuses = [client.get("/", headers=bearer(issued.secret)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    asyncio.run(backend.aclose())
    del client, backend
    gc.collect()  # sockets of loops that are gone close here, and say so
    assert not [record for record in caplog.records if record.name.startswith("sqlalchemy")]


async def test_an_option_that_the_driver_does_not_know_is_told(url: str) -> None:
    with pytest.raises(ConfigurationError, match="nonsense") as caught:
        await SQLBackend(f"{url}?nonsense=hunter2secret").start()
    assert "hunter2secret" not in str(caught.value)


async def test_options_that_the_driver_knows_reach_it(databases: Databases) -> None:
    with databases.migrated("postgres") as url:
        database = Database(f"{url}?sslmode=disable&prepared_statement_cache_size=0")
        assert await SQLStorage(database).check()
        await database.aclose()


async def test_a_wrong_password_is_told_without_it(databases: Databases) -> None:
    with databases.migrated("mysql") as url:
        backend = SQLBackend(url.replace("root@", "nobody:hunter2secret@"))
        with pytest.raises(BackendError) as caught:
            await backend.start()
        await backend.aclose()
        chain: Any = caught.value
        while chain is not None:
            assert "hunter2secret" not in f"{chain}{chain!r}"
            chain = chain.__cause__
