"""What is special to the database: migrations, peppers, other processes, restarts, outages."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect
from starlette.testclient import TestClient

import ak_guard.database
from ak_guard import ApiKeyMiddleware, BackendError, ConfigurationError, KeyManager
from ak_guard.backends import KeyFilter, SQLBackend
from ak_guard.budgets import Ask, Window
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database.migrate import upgrade
from ak_guard.database.tables import HEAD, metadata
from ak_guard.keys import digest
from ak_guard.testing import ready_key
from tests.support import bearer, client_for, echo_app, printed_by_processes

if TYPE_CHECKING:
    from pathlib import Path

    from ak_guard.testing import ManualClock

OLD, NEW = "an old pepper of 32 characters…", "a new pepper of 32 characters!!"
MIGRATIONS = f"{ak_guard.database.__path__[0]}/migrations"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/keys.db"


def stored(url: str, query: str) -> list[Any]:
    """What stands in the file, read by somebody who knows nothing of ak_guard."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_the_newest_migration_is_the_one_the_tables_name() -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_migrations_make_the_tables_the_code_reads(tmp_path: Path) -> None:
    migrated, declared = (create_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("migrated", "declared"))
    with migrated.begin() as connection:
        upgrade(connection)
    metadata.create_all(declared)

    def shape(engine: Any) -> dict[str, Any]:
        found = inspect(engine)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)],
                sorted((index["name"], index["column_names"]) for index in found.get_indexes(table)),
                found.get_pk_constraint(table)["constrained_columns"],
                [key["referred_table"] for key in found.get_foreign_keys(table)],
            )
            for table in metadata.tables
        }

    assert shape(migrated) == shape(declared)
    for engine in (migrated, declared):
        engine.dispose()


def of_version(revision: str, url: str, *statements: str) -> None:
    """Make the database that an earlier version has made."""
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


async def test_keys_of_an_earlier_version_get_the_environment_that_their_names_say(url: str) -> None:
    columns = "id, name, group_name, enabled, created_at, updated_at, allow_ips, deny_ips, metadata, hint, folded"
    values = "'{0}', '{0}', 'default', 1, 1e9, 1e9, '[]', '[]', '{{}}', 'ak_…abcd', '{0} ak_…abcd'"
    rows = [f"INSERT INTO ak_keys ({columns}) VALUES ({values.format(name)})" for name in ("prod-api", "api")]
    await asyncio.to_thread(of_version, "0002", url, *rows)
    async with KeyManager(url) as keys:
        found = await keys.page(KeyFilter(environment="production"))
        assert [listed.key.name for listed in found.items] == ["prod-api"]


async def test_two_that_start_at_once_migrate_once(url: str) -> None:
    first, second = SQLBackend(url), SQLBackend(url)
    await asyncio.gather(first.start(), second.start())
    assert stored(url, "SELECT version_num FROM ak_alembic") == [(HEAD,)]
    for backend in (first, second):
        await backend.aclose()


async def test_the_text_of_a_key_is_nowhere_in_the_file(url: str, tmp_path: Path, clock: ManualClock) -> None:
    async with KeyManager(url, clock=clock) as keys:
        issued = await keys.create("prod-api", key="x7Kq9ZmTr4WdLp2Vb8Nc", limits=["1/1m"])
        rotated = await keys.rotate(issued.key.id)
    content = await asyncio.to_thread(lambda: b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir())))
    assert b"prod-api" in content
    for secret in (issued.secret, rotated.secret):
        assert secret.encode() not in content


async def test_windows_and_quota_survive_a_restart(url: str, clock: ManualClock) -> None:
    issued = None
    for expected in ('"7d";r=2;t=604800, "quota";r=4', '"7d";r=1;t=604740, "quota";r=3'):
        backend = SQLBackend(url)
        issued = issued or await ready_key(backend, clock=clock, limits=["3/7d"], quota=5)
        async with client_for(ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)) as client:
            assert (await client.get("/", headers=bearer(issued.secret))).headers["ratelimit"] == expected
        await backend.aclose()
        clock.move(60)


async def test_another_process_counts_in_the_same_windows(url: str) -> None:
    script = (
        "import asyncio, sys\n"
        "from ak_guard.budgets import Ask, Window\n"
        "from ak_guard.backends import SQLBackend\n"
        "async def main():\n"
        "    backend = SQLBackend(sys.argv[1])\n"
        "    asks = [Ask(Window(50, 3600), 1)]\n"
        "    calls = (backend.counters.acquire('key/a', asks, lease=None, now=1.0) for _ in range(100))\n"
        "    print(sum(map(bool, await asyncio.gather(*calls))))\n"
        "    await backend.aclose()\n"
        "asyncio.run(main())\n"
    )

    assert sum(await printed_by_processes(3, script, url)) == 50


async def test_a_change_by_another_process_is_seen_within_the_ttl(url: str, clock: ManualClock) -> None:
    here, there = SQLBackend(url), SQLBackend(url)
    issued = await ready_key(here, clock=clock)
    elsewhere = KeyManager(there, clock=clock)
    app = ApiKeyMiddleware(echo_app(), backend=here, clock=clock, cache_ttl=30)
    async with client_for(app) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        await elsewhere.disable(issued.key.id)
        clock.move(30)
        assert (await client.get("/", headers=bearer(issued.secret))).json()["code"] == "api_key_disabled"
    for backend in (here, there):
        await backend.aclose()


async def test_under_a_pepper_the_plain_digest_is_not_stored(url: str) -> None:
    backend = SQLBackend(url, pepper=NEW)
    secret = (await ready_key(backend, key="x7Kq9ZmTr4WdLp2V")).secret.encode()
    (row,) = stored(url, "SELECT digest FROM ak_secrets")
    assert row[0] != digest(secret)
    found = await backend.find(digest(secret))
    assert found is not None
    await backend.aclose()
    without = SQLBackend(url)
    assert await without.find(digest(secret)) is None
    await without.aclose()


@pytest.mark.parametrize("before", [None, OLD])
async def test_older_peppers_still_match_and_move_to_the_newest(url: str, before: str | None) -> None:
    backend = SQLBackend(url, pepper=before)
    issued = await ready_key(backend)
    await backend.aclose()
    (old,) = stored(url, "SELECT digest, pepper_id FROM ak_secrets")
    rotated = SQLBackend(url, pepper=[NEW, *([before] if before else [])])
    assert await rotated.find(digest(issued.secret.encode())) is not None
    (new,) = stored(url, "SELECT digest, pepper_id FROM ak_secrets")
    assert new != old
    await rotated.aclose()
    newest_only = SQLBackend(url, pepper=[NEW])
    assert await newest_only.find(digest(issued.secret.encode())) is not None
    await newest_only.aclose()


async def test_the_pepper_may_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AK_GUARD_PEPPER", f"{NEW},{OLD}")
    backend = SQLBackend(url)
    assert backend.peppered
    await backend.aclose()


async def test_peppers_of_the_environment_may_have_blanks_around_commas(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AK_GUARD_PEPPER", "o" * 32)
    async with KeyManager(SQLBackend(url)) as keys:
        secret = (await keys.create("prod-api")).secret
    monkeypatch.setenv("AK_GUARD_PEPPER", f" {'n' * 32} , {'o' * 32} ")
    backend = SQLBackend(url)
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as app:
        assert (await app.get("/", headers=bearer(secret))).status_code == 200
    await backend.aclose()
    for wrong, said in ((",", "comma"), (f"{'n' * 32},", "comma"), (f"{'n' * 32},{'n' * 32}", "twice")):
        monkeypatch.setenv("AK_GUARD_PEPPER", wrong)
        with pytest.raises(ConfigurationError, match=said):
            SQLBackend(url)


def test_a_short_pepper_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="pepper") as caught:
        SQLBackend(url, pepper="short")
    assert "short" not in str(caught.value).removeprefix("pepper")


@pytest.mark.parametrize(
    ("column", "text"),
    [("limits", '["a lot"]'), ("limits", "7"), ("allow_ips", '"10.0.0.0/8"'), ("expires_at", "1e300"), ("limits", "{")],
)
async def test_a_stored_row_that_cannot_be_read_refuses_the_key(
    url: str, clock: ManualClock, column: str, text: str
) -> None:
    backend = SQLBackend(url)
    issued = await ready_key(backend, clock=clock)
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute(f"UPDATE ak_keys SET {column} = ?", (text,))
    connection.commit()
    connection.close()
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).json()["code"] == "key_service_unavailable"
    await backend.aclose()


async def test_a_stored_address_that_cannot_be_read_lets_nobody_in(url: str, clock: ManualClock) -> None:
    backend = SQLBackend(url)
    issued = await ready_key(backend, clock=clock)
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute("UPDATE ak_keys SET deny_ips = '[\"nonsense\"]'")
    connection.commit()
    connection.close()
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).json()["code"] == "ip_not_allowed"
    await backend.aclose()


async def test_a_file_that_is_no_database_is_told_at_start(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.write_text("this is no database, and long enough to be looked at" * 10)
    backend = SQLBackend(f"sqlite:///{path}")
    with pytest.raises(BackendError, match="cannot open"):
        await backend.start()
    await backend.aclose()


def test_a_plain_test_client_with_a_new_loop_for_each_request_works(url: str) -> None:
    backend = SQLBackend(url)
    issued = asyncio.run(ready_key(backend, limits=["2/1d"]))
    client = TestClient(ApiKeyMiddleware(echo_app(), backend=backend))
    statuses = [client.get("/", headers=bearer(issued.secret)).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    asyncio.run(backend.aclose())


async def test_a_request_that_goes_away_while_it_takes_leaves_nothing_taken(url: str) -> None:
    backend = SQLBackend(url)
    await backend.start()
    storage = SQLStorage(backend.database)
    asks = [Ask(Window(10, 3_600), 4)]
    for steps in range(12):
        call = asyncio.create_task(storage.acquire("key/a", asks, lease=None, now=1.0))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        outcome = (await asyncio.gather(call, return_exceptions=True))[0]
        await storage.flush()
        (level,) = await storage.peek("key/a", [asks[0].window], now=1.0)
        assert level.used == (0 if isinstance(outcome, asyncio.CancelledError) else 4), steps
    await backend.aclose()


async def test_the_last_user_closes(url: str, clock: ManualClock) -> None:
    backend = SQLBackend(url)
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)
    issued = await ready_key(backend, clock=clock)
    with TestClient(app) as client:
        async with KeyManager(backend, clock=clock) as keys:
            assert (await keys.get(issued.key.id)).name == "test-key"
        assert client.get("/", headers=bearer(issued.secret)).status_code == 200
    assert not list(backend.database._pools.drain())


async def test_what_requests_did_is_written_when_the_database_is_closed_and_opens_it_not_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/keys.db"
    backend = SQLBackend(url)
    await backend.start()
    issued = await KeyManager(backend).create("prod-api")
    # No lifespan, as under a plain test client: only the backend knows of its end.
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        await backend.aclose()
    async with KeyManager(url) as keys:
        assert (await keys.usage(issued.key.id)).calls == 1


def test_what_migrates_is_imported_only_where_there_is_something_to_migrate(url: str) -> None:
    script = "import asyncio, sys; from ak_guard.backends import SQLBackend; store = SQLBackend(sys.argv[1]); "
    script += "asyncio.run(store.start()); print('alembic' in sys.modules)"
    command = [sys.executable, "-c", script, url]
    told = [subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout for _ in range(2)]
    assert told == ["True\n", "False\n"]
