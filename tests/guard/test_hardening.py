"""What a hostile reviewer found once, and must not find again."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from ak_guard import ApiKeyMiddleware, BudgetError, ConfigurationError, Group, InputError, KeyManager, Limit, NotFound
from ak_guard.backends import Found, MemoryBackend, SQLBackend
from ak_guard.budgets import Ask, Change, MultiWindowSupport, Window
from ak_guard.budgets.sql import SQLStorage
from ak_guard.database.engine import Database
from ak_guard.testing import ManualClock, ready_key
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.backends import KeyStore
    from ak_guard.errors import AkGuardError


def test_a_plain_function_of_fastapi_may_charge(tmp_path: Path) -> None:
    for backend in (MemoryBackend(), SQLBackend(f"sqlite:///{tmp_path}/keys.db")):
        issued = asyncio.run(ready_key(backend, quota=100))
        app = FastAPI()

        @app.get("/")
        def work(request: Request) -> int:
            request.state.ak_guard.charge(5)
            return int(request.state.ak_guard.remaining)

        app.add_middleware(ApiKeyMiddleware, backend=backend)
        with TestClient(app) as client:
            assert client.get("/", headers=bearer(issued.secret)).json() == 94
            assert client.get("/", headers=bearer(issued.secret)).headers["ratelimit"] == '"quota";r=93'


@pytest.mark.parametrize("units", [2**63, 10**15])
async def test_a_charge_beyond_counting_is_refused_and_hurts_nobody(keys: KeyManager, units: int) -> None:
    issued = await keys.create("prod-api", quota=100)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(ValueError, match="units"):
            scope["state"]["ak_guard"].charge(units)
        await echo_app()(scope, receive, send)

    async with client_for(ApiKeyMiddleware(app, backend=keys.backend)) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        assert (await client.get("/", headers=bearer(issued.secret))).headers["ratelimit"] == '"quota";r=98'


class FlakyDatabase(Database):
    """A database that can be taken away."""

    away = False

    @asynccontextmanager
    async def write(self, failure: type[AkGuardError]) -> AsyncIterator[AsyncConnection]:
        if self.away:
            raise failure("away")
        async with super().write(failure) as connection:
            yield connection


@pytest.fixture
async def flaky(tmp_path: Path) -> AsyncIterator[FlakyDatabase]:
    database = FlakyDatabase(f"sqlite:///{tmp_path}/counters.db")
    yield database
    await database.aclose()


async def test_hundreds_of_requests_during_an_outage_are_answered_and_counted(
    flaky: FlakyDatabase, clock: ManualClock
) -> None:
    backend, storage = MemoryBackend(), SQLStorage(flaky)
    issued = await ready_key(backend, clock=clock, limits=["1000/1d"])
    app = ApiKeyMiddleware(echo_app(), backend=backend, limits=storage, clock=clock, on_unavailable="allow")
    async with client_for(app) as client:
        flaky.away = True
        for _ in range(300):
            assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        flaky.away = False
        answer = await client.get("/", headers=bearer(issued.secret))
        assert answer.headers["ratelimit"] == '"1d";r=699;t=86400'


async def test_settlements_wait_for_the_store_and_are_merged(flaky: FlakyDatabase) -> None:
    storage, window = SQLStorage(flaky), Window(10_000, 3_600)
    await storage.acquire("key/a", [Ask(window, 1)], lease=None, now=1.0)
    flaky.away = True
    for _ in range(1_000):
        storage.settle("key/a", [Change(window, 2, None)], now=2.0)
    with pytest.raises(BudgetError):
        await storage.flush()
    assert len(storage._queue._owed) == 1
    flaky.away = False
    assert (await storage.peek("key/a", [window], now=3.0))[0].used == 2_001


async def test_an_outage_at_the_end_of_a_response_is_not_raised(flaky: FlakyDatabase, clock: ManualClock) -> None:
    backend, storage = MemoryBackend(), SQLStorage(flaky)
    issued = await ready_key(backend, clock=clock, limits=["100/1d"])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["ak_guard"].charge(4)
        flaky.away = True
        await echo_app()(scope, receive, send)

    guarded = ApiKeyMiddleware(app, backend=backend, limits=storage, clock=clock)
    async with client_for(guarded) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        flaky.away = False
        assert (await storage.peek(f"key/{issued.key.id}", [Window(100, 86_400)], now=clock()))[0].used == 5


async def test_a_late_charge_goes_into_the_window_that_is_open_now(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["100/1m"])

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        clock.move(90)
        scope["state"]["ak_guard"].charge(40)
        await echo_app()(scope, receive, send)

    async with client_for(ApiKeyMiddleware(stream, backend=keys.backend, clock=clock)) as client:
        await client.get("/", headers=bearer(issued.secret))
    assert (await keys.status(issued.key.id)).windows[0].used == 40


class SlowBackend(MemoryBackend):
    """Look-ups that answer with what was true when they began."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gate = asyncio.Event(), asyncio.Event()

    async def find(self, digest: bytes) -> Found | None:
        found = await super().find(digest)
        self.asked.set()
        await self.gate.wait()
        return found


async def test_nobody_joins_a_question_that_was_asked_before_a_change(clock: ManualClock) -> None:
    backend = SlowBackend()
    keys = KeyManager(backend, clock=clock)
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)
    async with client_for(app) as client:
        early = asyncio.create_task(client.get("/", headers=bearer(issued.secret)))
        await backend.asked.wait()
        await keys.disable(issued.key.id)
        late = asyncio.create_task(client.get("/", headers=bearer(issued.secret)))
        await asyncio.sleep(0)
        backend.gate.set()
        assert (await late).json()["code"] == "api_key_disabled"
        await early


@pytest.mark.parametrize("steps", range(0, 40, 3))
async def test_requests_that_go_away_leave_nothing_taken_from_shared_limits_either(
    backend: KeyStore, clock: ManualClock, steps: int
) -> None:
    keys = KeyManager(backend, clock=clock)
    await keys.create_group(Group("team", shared_limits=["100/1d"]))
    issued = await keys.create("prod-api", group="team", quota=100)
    served = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal served
        served += 1
        await echo_app()(scope, receive, send)

    guarded = ApiKeyMiddleware(app, backend=backend, clock=clock)
    async with client_for(guarded) as client:
        calls = [asyncio.create_task(client.get("/", headers=bearer(issued.secret))) for _ in range(8)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for _ in range(2):
            for call in calls:
                call.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*calls, return_exceptions=True)
        counters: MultiWindowSupport = backend.counters  # type: ignore[attr-defined]  # both backends count
        await counters.flush()
        status = await keys.status(issued.key.id)
    assert status.quota is not None
    assert (status.quota.used, status.windows[0].used, status.windows[0].held) == (served, served, 0)


async def test_a_host_that_shares_its_state_between_requests_lets_nobody_in(clock: ManualClock) -> None:
    backend = MemoryBackend()
    issued = await ready_key(backend, clock=clock)
    shared: dict[str, Any] = {}
    inside, leave = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.set()
        await leave.wait()
        await echo_app()(scope, receive, send)

    guarded = ApiKeyMiddleware(app, backend=backend, clock=clock)

    async def host(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = shared
        await guarded(scope, receive, send)

    async with client_for(host) as client:
        first = asyncio.create_task(client.get("/", headers=bearer(issued.secret)))
        await inside.wait()
        assert (await client.get("/")).status_code == 401
        leave.set()
        assert (await first).status_code == 200
    assert shared == {}


async def test_a_flood_that_hangs_up_is_counted(clock: ManualClock) -> None:
    backend = SlowBackend()
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="5/1h")
    async with client_for(app) as client:
        for number in range(20):
            call = asyncio.create_task(client.get("/", headers=bearer(f"not-a-key-{number}")))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        answer = await client.get("/", headers=bearer("not-a-key-either"))
    assert answer.json()["code"] == "too_many_failures"


async def test_a_burst_with_one_new_key_is_no_flood(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, failure_limit="2/1h")
    async with client_for(app) as client:
        answers = await asyncio.gather(*(client.get("/", headers=bearer(issued.secret)) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}


async def test_a_burst_of_many_good_keys_from_one_address_is_no_flood(clock: ManualClock) -> None:
    backend = SlowBackend()
    keys = KeyManager(backend, clock=clock)
    secrets = [(await keys.create(f"key-{number}")).secret for number in range(40)]
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="5/1h")
    async with client_for(app) as client:
        calls = [asyncio.create_task(client.get("/", headers=bearer(secret))) for secret in secrets]
        await backend.asked.wait()
        backend.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*calls)} == {200}


async def test_a_secret_given_for_an_id_is_not_repeated(keys: KeyManager) -> None:
    issued = await keys.create("prod-api", key="x7Kq9ZmTr4WdLp2Vb8Nc")
    for call in (keys.get, keys.disable, keys.delete, keys.rotate, keys.status):
        with pytest.raises(NotFound) as caught:
            await call(issued.secret)
        assert issued.secret not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["redsi://:hunter2@localhost", "redis//:hunter2@localhost", "rediss://:hunter2@localhost?ssl_cert_reqs=no"]
)
def test_a_password_in_a_storage_uri_is_not_logged(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    app = ApiKeyMiddleware(echo_app(), backend="memory://", limits=uri)
    assert app._fault
    assert "hunter2" not in app._fault + caplog.text


async def test_a_backend_that_fails_in_its_own_way_is_an_outage_without_its_digest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Dict:
        async def find(self, digest: bytes) -> Found | None:
            raise KeyError(digest)

    caplog.set_level(logging.DEBUG)
    async with client_for(ApiKeyMiddleware(echo_app(), backend=Dict())) as client:
        answer = await client.get("/", headers=bearer("some-key-or-other"))
    assert (answer.status_code, answer.json()["code"]) == (503, "key_service_unavailable")
    assert "KeyError" in caplog.text
    assert "b'" not in caplog.text


def test_long_nonsense_is_refused_quickly() -> None:
    began = time.perf_counter()
    for text in (" " * 100_000, "1" * 100_000, "1/" + " " * 100_000 + "x", "1 " * 50_000):
        with pytest.raises(InputError):
            Limit.parse(text)
    with pytest.raises(InputError):
        Group("g", multiplier="1e99999999")
    with pytest.raises(InputError):
        Group("g", routes=["/files/*-*-*/x"])
    assert time.perf_counter() - began < 2  # minutes, when a pattern backtracks


async def test_a_newer_schema_is_told_and_not_touched(tmp_path: Path) -> None:
    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db")
    await backend.start()
    async with backend.database.write(ConfigurationError) as connection:
        await connection.exec_driver_sql("UPDATE ak_alembic SET version_num = '9999'")
    await backend.aclose()
    with pytest.raises(Exception, match="cannot open the database"):
        await backend.start()
    await backend.aclose()
