"""What an administrator changes through one backend is followed by guards over another, and confirmed by them."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from contextlib import asynccontextmanager, closing, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine
from starlette.testclient import TestClient

from ak_guard import ApiKeyMiddleware, BackendError, ConfigurationError, Group, InputError, KeyManager
from ak_guard.backends import MemoryBackend, SQLBackend, feed
from ak_guard.budgets.place import place_of
from ak_guard.database import line, presence
from ak_guard.errors import Unconfirmed
from ak_guard.testing import ready_key
from tests.support import bearer, client_for, echo_app, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from httpx2 import AsyncClient
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.backends import Found
    from ak_guard.manager import Issued
    from tests.databases import Databases

REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")
SOON = 4.0


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> Iterator[str]:
    with databases.opened(request.param, tmp_path) as made:
        yield made


on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("url", ["postgres"], indirect=True)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SQLBackend]:
    backend = SQLBackend(url)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.aclose()


@pytest.fixture
async def here(url: str) -> AsyncIterator[SQLBackend]:
    """The backend of a guard."""
    async with opened(url) as backend:
        yield backend


@pytest.fixture
async def there(url: str) -> AsyncIterator[SQLBackend]:
    """The backend of an administrator, as if in another process: it shares nothing with the guard's but the store."""
    async with opened(url) as backend:
        yield backend


@pytest.fixture
async def elsewhere(there: SQLBackend) -> KeyManager:
    return KeyManager(there)


@pytest.fixture
async def client(here: SQLBackend) -> AsyncIterator[AsyncClient]:
    # What is recorded of requests would stand among the statements that are looked at here.
    app = ApiKeyMiddleware(echo_app(), backend=here, cache_ttl=3_600, usage=False)
    async with client_for(app) as calls:
        yield calls


async def code(client: AsyncClient, secret: str) -> str:
    answer = await client.get("/", headers=bearer(secret))
    return "admitted" if answer.status_code == 200 else str(answer.json()["code"])


@contextmanager
def statements(part: str = "") -> Iterator[list[str]]:
    """Every statement that goes to any database and holds this text."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if part in statement:
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def written(url: str, statement: str) -> list[Any]:
    """What somebody does to the file, or sees there, who knows nothing of ak_guard."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=5)) as connection, connection:
        return connection.execute(statement).fetchall()


async def execute(backend: SQLBackend, *statements: str, **values: Any) -> None:
    """Change the store behind everybody's back, in one transaction."""
    async with backend.database.write(BackendError) as connection:
        for statement in statements:
            await connection.execute(text(statement), values)


async def add_worker(backend: SQLBackend, name: str, *, silent_for: float) -> None:
    """A worker that was killed or is paused: it left its row."""
    row = "INSERT INTO ak_workers VALUES (:name, :name, :seen, :seen, 0, 60.0, '')"
    await execute(backend, row, name=name, seen=time.time() - silent_for)


CHANGES: dict[str, tuple[Callable[[KeyManager, Issued], Awaitable[Any]], str]] = {
    "disable": (lambda keys, issued: keys.disable(issued.key.id), "api_key_disabled"),
    "delete": (lambda keys, issued: keys.delete(issued.key.id), "invalid_api_key"),
    "rotate": (lambda keys, issued: keys.rotate(issued.key.id, grace=None), "invalid_api_key"),
    "narrower addresses": (lambda keys, issued: keys.update(issued.key.id, allow_ips=["10.0.0.1"]), "ip_not_allowed"),
    "expiry": (lambda keys, issued: keys.update(issued.key.id, expires_at="2020-01-01"), "api_key_expired"),
    "group": (lambda keys, _: keys.update_group(Group("paid", enabled=False)), "group_not_allowed"),
    "group gone": (lambda keys, _: keys.delete_group("paid"), "group_not_allowed"),
}


@pytest.mark.parametrize(
    ("url", "change"),
    [
        *(("sqlite", change) for change in CHANGES),
        *((service, change) for service in ("postgres", "mysql") for change in ("disable", "rotate", "group")),
    ],
    indirect=["url"],
    ids=lambda name: name.replace(" ", "-"),
)
async def test_a_change_elsewhere_bites_within_a_second_without_a_read_for_each_request(
    client: AsyncClient, elsewhere: KeyManager, change: str
) -> None:
    make, expected = CHANGES[change]
    await elsewhere.create_group(Group("paid"))
    issued = await elsewhere.create("prod-api", group="paid")
    with statements("JOIN ak_keys ON") as lookups:
        for _ in range(20):
            assert await code(client, issued.secret) == "admitted"
        assert len(lookups) == 1

        await make(elsewhere, issued)

        async def bites() -> bool:
            return await code(client, issued.secret) == expected

        await until(bites)
        for _ in range(20):
            assert await bites()
        assert len(lookups) == 2


async def test_a_key_made_elsewhere_works_within_a_second_although_it_was_tried_before(
    client: AsyncClient, elsewhere: KeyManager
) -> None:
    custom = "x7Kq9ZmTr4WdLp2Vb8Nc"
    assert await code(client, custom) == "invalid_api_key"
    await elsewhere.create("custom", key=custom)

    async def works() -> bool:
        return await code(client, custom) == "admitted"

    await until(works)


async def test_a_touch_tells_of_a_key_that_was_not_changed(
    here: SQLBackend, client: AsyncClient, elsewhere: KeyManager
) -> None:
    told: list[str | None] = []
    here.watch(told.append)
    issued = await elsewhere.create("prod-api", limits=["5/1m"])
    assert await code(client, issued.secret) == "admitted"
    before = await elsewhere.get(issued.key.id)
    told.clear()
    await elsewhere.reset(issued.key.id, limits=True)

    async def heard() -> bool:
        return issued.key.id in told

    await until(heard)
    assert await elsewhere.get(issued.key.id) == before


async def test_an_answer_that_a_change_overtook_is_used_once_and_not_remembered(
    url: str, elsewhere: KeyManager
) -> None:
    class Slow(SQLBackend):
        asked, gate = asyncio.Event(), asyncio.Event()

        async def find(self, digest: bytes) -> Found | None:
            found = await super().find(digest)
            self.asked.set()
            await self.gate.wait()
            return found

    issued = await elsewhere.create("prod-api")
    slow, told = Slow(url), asyncio.Event()
    app = ApiKeyMiddleware(echo_app(), backend=slow, cache_ttl=3_600)
    slow.watch(lambda _: told.set())
    async with client_for(app) as client:
        call = asyncio.create_task(code(client, issued.secret))
        await slow.asked.wait()
        told.clear()
        await elsewhere.disable(issued.key.id)
        await asyncio.wait_for(told.wait(), SOON)
        slow.gate.set()
        assert await call == "admitted"
        assert await code(client, issued.secret) == "api_key_disabled"
    await slow.aclose()


async def test_whoever_is_behind_the_pruned_tail_drops_everything(
    here: SQLBackend, there: SQLBackend, client: AsyncClient, elsewhere: KeyManager
) -> None:
    told: list[str | None] = []
    issued = await elsewhere.create("prod-api")
    assert await code(client, issued.secret) == "admitted"
    here.watch(told.append)
    await execute(
        there,
        "UPDATE ak_revision SET revision = revision + 3",
        "INSERT INTO ak_changes SELECT revision, 'key_a', 0.0 FROM ak_revision",
        "UPDATE ak_keys SET enabled = false",
    )

    async def bites() -> bool:
        return await code(client, issued.secret) == "api_key_disabled"

    await until(bites)
    assert told == [None]


@on_sqlite
async def test_old_changes_are_removed_in_small_steps_and_young_ones_stay(url: str, elsewhere: KeyManager) -> None:
    issued = await elsewhere.create("prod-api")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as store, store:
        store.execute("DELETE FROM ak_changes")
        rows = [(number, "key_a", 0.0 if number <= 11_000 else time.time()) for number in range(1, 21_999)]
        store.executemany("INSERT INTO ak_changes VALUES (?, ?, ?)", rows)
        store.execute("UPDATE ak_revision SET revision = 21998")
    oldest = []
    for _ in range(102):
        await elsewhere.enable(issued.key.id)
        oldest += written(url, "SELECT min(revision) FROM ak_changes")[0]
    assert sorted(set(oldest)) == [1, 501, 1_001]
    written(url, "DELETE FROM ak_changes WHERE revision < 10999")
    written(url, "UPDATE ak_revision SET revision = 22199")
    await elsewhere.enable(issued.key.id)
    assert written(url, "SELECT min(revision) FROM ak_changes") == [(11_001,)]


@on_sqlite
async def test_changes_name_the_key_and_never_its_digests(url: str, elsewhere: KeyManager) -> None:
    issued = await elsewhere.create("prod-api")
    await elsewhere.rotate(issued.key.id)
    both = {digest.hex() for (digest,) in written(url, "SELECT digest FROM ak_secrets")}
    await elsewhere.delete(issued.key.id)
    await elsewhere.create_group(Group("paid"))
    rows = written(url, "SELECT * FROM ak_changes ORDER BY revision")
    assert [(revision, key_id) for revision, key_id, *_ in rows] == [
        (1, issued.key.id),
        (2, issued.key.id),
        (3, issued.key.id),
        (4, None),
    ]
    assert len(both) == 2
    assert not any(digest in repr(row) for digest in both for row in rows)


@on_sqlite
async def test_an_idle_file_is_not_read(here: SQLBackend, client: AsyncClient, elsewhere: KeyManager) -> None:
    issued = await elsewhere.create("prod-api")
    assert await code(client, issued.secret) == "admitted"
    with statements("PRAGMA data_version") as polls:

        async def polled() -> bool:
            return len(polls) >= 2

        await until(polled)
        with statements() as everything:
            seen = len(polls)

            async def polled_again() -> bool:
                return len(polls) >= seen + 3

            await until(polled_again)
    assert set(everything) == {"PRAGMA data_version"}


async def test_after_an_outage_the_feed_goes_on_from_where_it_was(
    client: AsyncClient, elsewhere: KeyManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    issued = await elsewhere.create("prod-api")
    assert await code(client, issued.secret) == "admitted"
    tries = 0

    async def away(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise OSError("the network is gone")

    with monkeypatch.context() as outage:
        outage.setattr(line, "news_after", away)
        await elsewhere.disable(issued.key.id)

        async def tried() -> bool:
            return tries >= 3

        await until(tried)
        assert await code(client, issued.secret) == "admitted"
        assert len([record for record in caplog.records if "changes are not heard" in record.message]) == 1

    async def bites() -> bool:
        return await code(client, issued.secret) == "api_key_disabled"

    await until(bites)
    assert len([record for record in caplog.records if "answers again" in record.message]) == 1


@on_postgres
async def test_postgres_tells_of_a_change_without_being_asked(
    client: AsyncClient, elsewhere: KeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await elsewhere.create("prod-api")
    with statements("ak_revision LEFT OUTER JOIN ak_changes") as polls:
        assert await code(client, issued.secret) == "admitted"

        async def listens() -> bool:
            return bool(polls)

        await until(listens)
        monkeypatch.setattr(feed, "POLL_SECONDS", 3_600.0)
        await elsewhere.disable(issued.key.id)

        async def bites() -> bool:
            return await code(client, issued.secret) == "api_key_disabled"

        # The pause that was under way may have ended by itself; the next one does not.
        await until(bites)
        await elsewhere.enable(issued.key.id)

        async def works() -> bool:
            return await code(client, issued.secret) == "admitted"

        await until(works)


@on_postgres
async def test_a_feed_whose_connection_was_cut_connects_again(
    there: SQLBackend, client: AsyncClient, elsewhere: KeyManager, caplog: pytest.LogCaptureFixture
) -> None:
    issued = await elsewhere.create("prod-api")
    with statements("ak_revision LEFT OUTER JOIN ak_changes") as polls:
        assert await code(client, issued.secret) == "admitted"

        async def listens() -> bool:
            return bool(polls)

        await until(listens)
    others = "pid <> pg_backend_pid() AND datname = current_database()"
    await execute(there, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
    await elsewhere.disable(issued.key.id)

    async def bites() -> bool:
        return await code(client, issued.secret) == "api_key_disabled"

    await until(bites)
    assert "changes are not heard" in caplog.text


async def test_while_a_worker_cannot_be_entered_nothing_is_remembered(
    client: AsyncClient, elsewhere: KeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await elsewhere.create("prod-api")

    async def refused(*_: object) -> int:
        raise OSError("read-only")

    with monkeypatch.context() as outage, statements("JOIN ak_keys ON") as lookups:
        outage.setattr(presence, "enter", refused)
        for _ in range(3):
            assert await code(client, issued.secret) == "admitted"
        assert len(lookups) == 3
        assert await elsewhere.workers() == []

    async def entered() -> bool:
        return bool(await elsewhere.workers())

    await until(entered)
    with statements("JOIN ak_keys ON") as lookups:
        for _ in range(3):
            assert await code(client, issued.secret) == "admitted"
        assert len(lookups) == 1


@on_sqlite
async def test_an_entry_whose_answer_was_lost_is_made_again(
    client: AsyncClient, elsewhere: KeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = await elsewhere.create("prod-api")
    really, lost = presence.enter, [True]

    async def enter(connection: AsyncConnection, *report: Any) -> int:
        newest = await really(connection, *report)
        if lost:
            lost.clear()
            await connection.commit()
            raise OSError("the reply is lost")
        return newest

    monkeypatch.setattr(presence, "enter", enter)
    assert await code(client, issued.secret) == "admitted"
    with statements("JOIN ak_keys ON") as lookups:

        async def is_remembered() -> bool:
            lookups.clear()
            return await code(client, issued.secret) == "admitted" and not lookups

        await until(is_remembered)
    assert len(await elsewhere.workers()) == 1


async def test_disable_waits_until_every_guard_has_confirmed(
    url: str, client: AsyncClient, elsewhere: KeyManager
) -> None:
    issued = await elsewhere.create("prod-api")
    other = SQLBackend(url)
    async with client_for(ApiKeyMiddleware(echo_app(), backend=other, cache_ttl=3_600)) as second:
        clients = (client, second)
        assert [await code(each, issued.secret) for each in clients] == ["admitted"] * 2
        assert len(await elsewhere.workers()) == 2
        began = time.monotonic()
        key = await elsewhere.disable(issued.key.id, wait=10.0)
        assert time.monotonic() - began < SOON
        assert not key.enabled
        assert [await code(each, issued.secret) for each in clients] == ["api_key_disabled"] * 2
        confirmation = await elsewhere.confirm()
        assert (len(confirmation.workers), confirmation.complete) == (2, True)
        await elsewhere.delete(issued.key.id, wait=10.0)
        assert [await code(each, issued.secret) for each in clients] == ["invalid_api_key"] * 2
        await other.aclose()
    assert len(await elsewhere.workers()) == 1


async def test_a_worker_that_stopped_reporting_is_named_until_what_it_knew_is_too_old(
    there: SQLBackend, client: AsyncClient, elsewhere: KeyManager
) -> None:
    issued = await elsewhere.create("prod-api")
    assert await code(client, issued.secret) == "admitted"
    await add_worker(there, "paused:1", silent_for=20.0)
    await add_worker(there, "long-gone:2", silent_for=70.0)
    with pytest.raises(Unconfirmed, match=r"not confirmed by paused:1 \(last seen") as caught:
        await elsewhere.disable(issued.key.id, wait=2.0)
    confirmation = caught.value.confirmation
    assert confirmation.seconds >= 2.0
    assert len(confirmation.workers) == 1
    (silent,) = confirmation.silent
    assert silent.silent
    # What it knew just before it should have reported again counts for another minute.
    assert (silent.good_until - silent.seen_at).total_seconds() == pytest.approx(65.0)
    # The change itself is made.
    assert await code(client, issued.secret) == "api_key_disabled"
    assert next(worker.name for worker in await elsewhere.workers()) == "paused:1"
    await execute(there, "UPDATE ak_workers SET beat_at = beat_at - 43 WHERE id = 'paused:1'")
    waited = await elsewhere.confirm(timeout=10.0)
    # It was waited for as long as it could still act, and no longer.
    assert waited.complete
    assert 0.0 < waited.seconds < 5.0


@on_sqlite
async def test_rows_of_workers_that_were_killed_long_ago_are_swept(
    url: str, there: SQLBackend, client: AsyncClient
) -> None:
    await add_worker(there, "killed:1", silent_for=4_000.0)
    await add_worker(there, "killed:2", silent_for=3_000.0)
    assert await code(client, "x7Kq9ZmTr4WdLp2Vb8Nc") == "invalid_api_key"
    names = {name for (name,) in written(url, "SELECT name FROM ak_workers")}
    assert "killed:1" not in names
    assert "killed:2" in names


async def test_a_worker_whose_row_was_taken_away_enters_again(
    there: SQLBackend, client: AsyncClient, elsewhere: KeyManager
) -> None:
    issued = await elsewhere.create("prod-api")
    assert await code(client, issued.secret) == "admitted"
    await execute(there, "DELETE FROM ak_workers")
    await elsewhere.disable(issued.key.id)

    async def listed() -> bool:
        return [worker.behind for worker in await elsewhere.workers()] == [0]

    await until(listed)
    assert await code(client, issued.secret) == "api_key_disabled"


@on_sqlite
async def test_a_wait_that_is_no_time_is_refused_before_anything_is_changed(elsewhere: KeyManager) -> None:
    issued = await elsewhere.create("prod-api")
    for wait in (-1.0, float("nan"), float("inf"), True, "10s"):
        with pytest.raises(InputError, match="wait"):
            await elsewhere.disable(issued.key.id, wait=wait)  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(InputError, match="timeout"):
            await elsewhere.confirm(timeout=wait)  # type: ignore[arg-type]  # wrong on purpose
    assert (await elsewhere.get(issued.key.id)).enabled


async def test_a_backend_in_the_process_confirms_at_once() -> None:
    async with KeyManager(MemoryBackend()) as keys:
        issued = await keys.create("prod-api")
        assert not (await keys.disable(issued.key.id, wait=0.0)).enabled
        assert (await keys.confirm()).complete
        assert list(await keys.workers()) == []


async def test_a_manager_alone_polls_nothing_and_is_no_worker(url: str) -> None:
    before = asyncio.all_tasks()
    async with KeyManager(SQLBackend(url)) as keys:
        issued = await keys.create("prod-api")
        await keys.explain(issued.secret)
        assert await keys.workers() == []
        assert asyncio.all_tasks() == before


@on_sqlite
async def test_the_feed_ends_with_the_last_user_and_leaves_no_row(url: str) -> None:
    before = asyncio.all_tasks()
    backend = SQLBackend(url)
    app = ApiKeyMiddleware(echo_app(), backend=backend)
    issued = await ready_key(backend)
    await backend.start()
    async with client_for(app) as client:
        assert await code(client, issued.secret) == "admitted"
        assert len(await backend.workers()) == 1
        await backend.aclose()
        assert asyncio.all_tasks() == before
        assert written(url, "SELECT * FROM ak_workers") == []
        # Whoever goes on without a lifespan is entered anew, and what was remembered is not believed.
        written(url, "UPDATE ak_keys SET enabled = 0")
        assert await code(client, issued.secret) == "api_key_disabled"
        assert len(await backend.workers()) == 1
    await backend.aclose()


@on_sqlite
def test_a_plain_test_client_leaves_no_worker_and_no_stale_answer(url: str, recwarn: pytest.WarningsRecorder) -> None:
    backend = SQLBackend(url)
    issued = asyncio.run(ready_key(backend))
    client = TestClient(ApiKeyMiddleware(echo_app(), backend=backend, cache_ttl=3_600))
    assert client.get("/", headers=bearer(issued.secret)).status_code == 200
    assert written(url, "SELECT * FROM ak_workers") == []
    # Nobody was there to hear of this.
    written(url, "UPDATE ak_keys SET enabled = 0")
    assert client.get("/", headers=bearer(issued.secret)).json()["code"] == "api_key_disabled"
    asyncio.run(backend.aclose())
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


@on_sqlite
def test_a_lifespan_enters_the_worker_before_any_request(url: str) -> None:
    backend = SQLBackend(url)
    asyncio.run(ready_key(backend))
    app = ApiKeyMiddleware(echo_app(), backend=backend)
    with TestClient(app) as client:
        deadline = time.monotonic() + SOON
        while not written(url, "SELECT * FROM ak_workers"):
            assert time.monotonic() < deadline
            client.get("/")
    assert written(url, "SELECT * FROM ak_workers") == []


async def test_the_feed_keeps_nothing_of_the_request_that_began_it(
    here: SQLBackend, client: AsyncClient, elsewhere: KeyManager
) -> None:
    heard: list[str] = []
    issued = await elsewhere.create("prod-api")
    REQUEST.set("the first")
    assert await code(client, issued.secret) == "admitted"
    here.watch(lambda _: heard.append(REQUEST.get()))
    await elsewhere.disable(issued.key.id)

    async def told() -> bool:
        return bool(heard)

    await until(told)
    assert heard == ["none"]


@on_sqlite
async def test_a_manager_that_looks_at_other_counters_is_told_so(here: SQLBackend, there: SQLBackend) -> None:
    beside_the_keys, in_memory = KeyManager(there), KeyManager(there, limits="memory://")
    issued = await beside_the_keys.create("prod-api", limits=["5/1m"])
    assert (await beside_the_keys.status(issued.key.id)).windows[0].limit == 5
    app = ApiKeyMiddleware(echo_app(), backend=here, limits="memory://", stale_if_error=30, cache_ttl=10)
    async with client_for(app) as client:
        assert await code(client, issued.secret) == "admitted"
    looking = KeyManager(there)
    for call in (looking.status, lambda key_id: looking.reset(key_id, limits=True)):
        with pytest.raises(ConfigurationError, match=r"^limits: .*the memory of .* this manager \(beside the keys\)"):
            await call(issued.key.id)
    assert (await in_memory.status(issued.key.id)).windows[0].limit == 5
    (worker,) = await looking.workers()
    assert worker.counters == (place_of("memory://"),)
    assert (worker.good_until - worker.seen_at).total_seconds() == pytest.approx(35.0)


def test_a_place_is_named_without_its_password_and_with_what_is_left_out() -> None:
    assert place_of("redis://:secret@Cache.internal") == "redis://cache.internal:6379/0"
    assert place_of("async+redis://user:secret@cache.internal:6379/0?password=secret") == place_of(
        "redis://cache.internal"
    )
    assert place_of("redis+cluster://b:7001,a:7000") == "redis+cluster://a:7000,b:7001"
    assert place_of("memcached://10.0.0.5") == "memcached://10.0.0.5:11211"
    assert place_of(None) == "beside the keys"


async def test_a_store_that_is_away_is_no_confirmation(tmp_path: Path) -> None:
    (tmp_path / "keys.db").write_bytes(b"this is a text and no database" * 100)
    with pytest.raises(BackendError):
        await KeyManager(f"sqlite:///{tmp_path}/keys.db").confirm()
