"""A record of each request: what is in it, that nothing waits for it, and that little of it can be lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ak_guard import ApiKeyMiddleware, BackendError, ConfigurationError, Group, KeyManager, documents
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.keys import hint_of_unknown
from ak_guard.usage import UsageRecord, recorder
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import ASGIApp
    from starlette.websockets import WebSocket

    from ak_guard.testing import ManualClock

CUSTOM = "x7Kq9ZmTr4WdLp2Vb8Nc"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is written sooner than in life: nothing here depends on how soon."""
    monkeypatch.setattr(recorder, "WRITE_SECONDS", 0.02)


class Taken:
    """A function that takes usage, as a service may give one."""

    def __init__(self) -> None:
        self.records: list[UsageRecord] = []
        self._came = asyncio.Event()

    def __call__(self, records: list[UsageRecord]) -> None:
        self.records += records
        self._came.set()

    async def until(self, count: int) -> list[UsageRecord]:
        async with asyncio.timeout(5):
            while len(self.records) < count:
                self._came.clear()
                await self._came.wait()
        return self.records


async def said(keys: KeyManager, count: int) -> list[UsageRecord]:
    """The records of everybody, once there are so many, oldest first."""
    async with asyncio.timeout(5):
        while len(found := await keys.records()) < count:  # noqa: ASYNC110  # nobody else tells
            await asyncio.sleep(0.05)
    return list(reversed(found))


@pytest.fixture
async def sqlite(tmp_path: Path, clock: ManualClock) -> AsyncIterator[KeyManager]:
    async with KeyManager(SQLBackend(f"sqlite:///{tmp_path}/keys.db", own_time=False), clock=clock) as manager:
        yield manager


async def test_each_request_is_recorded_as_it_ended(sqlite: KeyManager, clock: ManualClock) -> None:
    await sqlite.create_group(Group("paid", routes=["/v1/*"], multiplier=2))
    issued = await sqlite.create("prod-api", group="paid", limits=["6/1h"])

    async def slow(request: Request) -> PlainTextResponse:
        clock.move(1.5)
        request.state.ak_guard.charge(1)
        return PlainTextResponse("made", status_code=201)

    app = ApiKeyMiddleware(Starlette(routes=[Route("/v1/{item}", slow)]), backend=sqlite.backend, clock=clock)
    began = clock()
    async with client_for(app) as client:
        for path in ("/v1/first", "/v1/second", "/admin", "/v1/third"):
            await client.get(path, headers=bearer(issued.secret))
    found = await said(sqlite, 4)
    assert [one._replace(id="") for one in found] == [
        UsageRecord(
            at, issued.key.id, "paid", "203.0.113.10", "GET", route, status, code, cost, duration, issued.key.hint
        )
        for at, route, status, code, cost, duration in [
            (began, "/v1/{item}", 201, "admitted", 4, 1.5),
            # The second one passes the limit when it charges more, which it may.
            (began + 1.5, "/v1/{item}", 201, "admitted", 4, 1.5),
            (began + 3, "/admin", 403, "group_not_allowed", 0, 0),
            (began + 3, "/v1/third", 429, "rate_limit_exceeded", 0, 0),
        ]
    ]
    assert (await sqlite.last_used([issued.key.id]))[issued.key.id].ip == "203.0.113.10"
    assert (await sqlite.page()).items[0].last_used_ip == "203.0.113.10"


async def test_unknown_keys_are_recorded_under_their_hint_alone(sqlite: KeyManager, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=sqlite.backend, clock=clock)
    nobodys = "ak_" + "9" * 32 + "3kQ9xZ"
    async with client_for(app, ip="10.0.0.9") as client:
        for headers in ({}, bearer(CUSTOM), bearer("hunter2"), bearer(nobodys)):
            assert (await client.get("/", headers=headers)).status_code == 401
    found = await said(sqlite, 4)
    assert [(one.key_id, one.code, one.hint) for one in found] == [
        (None, "missing_api_key", ""),
        (None, "invalid_api_key", "…b8Nc"),
        (None, "invalid_api_key", ""),
        (None, "invalid_api_key", "ak_…Q9xZ"),
    ]
    assert (await sqlite.usage()).by_code == {"invalid_api_key": 3, "missing_api_key": 1}


@pytest.mark.parametrize("text", [b"", b"short", b"x" * 15, b"\xff" * 30, b"a b" * 20, b"tab\there" * 5])
def test_of_what_is_no_key_nothing_is_told(text: bytes) -> None:
    assert hint_of_unknown(text) == ""


async def test_streams_and_sockets_are_recorded_when_they_end() -> None:
    taken = Taken()
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api")
    go_on = asyncio.Event()

    async def stream(_: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            await go_on.wait()
            yield b"two"

        return StreamingResponse(parts(), status_code=206)

    app = ApiKeyMiddleware(Starlette(routes=[Route("/s", stream)]), backend=backend, usage=taken)
    async with client_for(app) as client:
        request = asyncio.create_task(client.get("/s", headers=bearer(issued.secret)))
        other = await client.get("/nowhere", headers=bearer(issued.secret))
        assert other.status_code == 404
        assert [one.status for one in await taken.until(1)] == [404]
        go_on.set()
        await request
    assert [(one.route, one.status) for one in await taken.until(2)] == [("/nowhere", 404), ("/s", 206)]


@pytest.mark.parametrize("cut_streams", [True, False])
def test_a_socket_has_the_status_of_its_handshake(cut_streams: bool) -> None:
    records: list[UsageRecord] = []
    backend = MemoryBackend()
    issued = asyncio.run(KeyManager(backend).create("prod-api"))

    async def accept(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    async def refuse(socket: WebSocket) -> None:
        await socket.close()

    inner = Starlette(routes=[WebSocketRoute("/yes", accept), WebSocketRoute("/no", refuse)])
    app = ApiKeyMiddleware(inner, backend=backend, usage=records.extend, cut_streams=cut_streams)
    with TestClient(app) as client:
        with client.websocket_connect("/yes", headers=bearer(issued.secret)):
            pass
        for headers in (bearer(issued.secret), {}):
            with pytest.raises(WebSocketDisconnect), client.websocket_connect("/no", headers=headers):
                pass
    assert [(one.route, one.status, one.code) for one in records] == [
        ("/yes", 101, "admitted"),
        ("/no", 403, "admitted"),
        ("/no", 401, "missing_api_key"),
    ]


async def test_a_route_is_the_apps_own_or_the_path_without_its_ids() -> None:
    taken = Taken()
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api")

    async def hello(_: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    mounted = Starlette(routes=[Mount("/shop", routes=[Route("/items/{item}/{rest:path}", hello)])])
    for app, paths in (
        (mounted, ["/shop/items/7/a/b"]),
        (echo_plainly, ["/v1/models", "/users/81723/keys", "/f/3f2504e0-4f89-11d3-9a0c-0305e82c3301", "/v2/beef"]),
    ):
        guarded = ApiKeyMiddleware(app, backend=backend, usage=taken)
        async with client_for(guarded) as client:
            for path in paths:
                assert (await client.get(path, headers=bearer(issued.secret))).status_code == 200
    assert [one.route for one in await taken.until(5)] == [
        "/shop/items/{item}/{rest:path}",
        "/v1/models",
        "/users/*/keys",
        "/f/*",
        "/v2/beef",
    ]


async def echo_plainly(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("plain")(scope, receive, send)


async def test_in_report_mode_the_code_is_what_it_would_have_been() -> None:
    taken = Taken()
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api", enabled=False)
    app = ApiKeyMiddleware(echo_app(), backend=backend, usage=taken, mode="report")
    async with client_for(app) as client:
        await client.get("/", headers=bearer(issued.secret))
        await client.get("/")
    assert [(one.key_id, one.status, one.code) for one in await taken.until(2)] == [
        (issued.key.id, 200, "api_key_disabled"),
        (None, 200, "missing_api_key"),
    ]


async def test_one_request_through_two_guards_is_one_record() -> None:
    taken = Taken()
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api")
    inner = ApiKeyMiddleware(echo_app(), backend=backend, usage=taken, deny_ips=["203.0.113.11"])
    app = ApiKeyMiddleware(inner, backend=backend, usage=taken)
    for ip in ("203.0.113.10", "203.0.113.11"):
        async with client_for(app, ip=ip) as client:
            await client.get("/", headers=bearer(issued.secret))
    assert [(one.status, one.code, one.cost) for one in await taken.until(2)] == [
        (200, "admitted", 1),
        (403, "ip_not_allowed", 1),
    ]


async def test_an_app_that_fails_is_recorded_without_a_status() -> None:
    taken = Taken()
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api")

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise OSError("broken")

    async with client_for(ApiKeyMiddleware(fail, backend=backend, usage=taken)) as client:
        with pytest.raises(OSError, match="broken"):
            await client.get("/", headers=bearer(issued.secret))
    assert [(one.status, one.code) for one in await taken.until(1)] == [(None, "admitted")]


@pytest.mark.parametrize(("usage", "kept"), [(None, 0), (False, 0), (True, 1)])
async def test_memory_keeps_usage_only_where_it_is_told_to(usage: bool | None, kept: int) -> None:
    backend = MemoryBackend()
    keys = KeyManager(backend)
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=backend, usage=usage)
    with TestClient(app) as client:
        client.get("/", headers=bearer(issued.secret))
    assert len(await keys.records()) == kept


async def test_a_wrong_setting_is_told() -> None:
    class Lookup:
        async def find(self, digest: bytes) -> None:
            return None

    for settings, text in (
        ({"usage": True}, "usage: Lookup keeps no usage"),
        ({"usage": 3}, "usage: 3 must be"),
        ({"usage_path": "/v1/*"}, "usage_path"),
    ):
        app = ApiKeyMiddleware(echo_app(), backend=Lookup(), **settings)
        with pytest.raises(ConfigurationError, match=text), TestClient(app):
            pass


async def test_a_full_queue_costs_records_and_no_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "MOST_WAITING", 3)
    taken = Taken()
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=backend, usage=taken)
    async with client_for(app) as client:
        for _ in range(5):
            assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        assert len(await taken.until(3)) == 3
        await client.get("/", headers=bearer(issued.secret))
        assert len(await taken.until(4)) == 4
    assert "2 usage records did not fit into the queue and are lost" in caplog.text


class Flaky(SQLBackend):
    """A store that is away as long as it is told, and one whose answers get lost."""

    away = False
    deaf = False
    batches: list[str]

    async def add_usage(self, batch_id: str, records: Any) -> None:
        self.batches.append(batch_id)
        if self.away:
            raise BackendError("away")
        await super().add_usage(batch_id, records)
        if self.deaf:
            raise BackendError("the answer was lost")


async def test_an_outage_and_a_lost_answer_lose_and_double_nothing(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    backend = Flaky(f"sqlite:///{tmp_path}/keys.db", own_time=False)
    backend.batches = []
    async with KeyManager(backend, clock=clock) as keys:
        issued = await keys.create("prod-api")
        app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)
        async with client_for(app) as client:
            backend.away = True
            for _ in range(3):
                assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
            await tried(backend, 3)
            assert await keys.records() == []
            backend.away, backend.deaf = False, True
            await tried(backend, 6)
            backend.deaf = False
            await client.get("/", headers=bearer(issued.secret))
            assert len(await said(keys, 4)) == 4
    # What came meanwhile is no part of the batch that may be there already.
    assert len(set(backend.batches)) == 2
    assert [entry.message for entry in caplog.records if "usage" in entry.message] == [
        "usage cannot be written and is tried again: BackendError: away",
        "usage is written again",
    ]


async def tried(backend: Flaky, times: int) -> None:
    async with asyncio.timeout(5):
        while len(backend.batches) < times:  # noqa: ASYNC110  # nobody else tells
            await asyncio.sleep(0.01)


async def test_a_writer_rests_between_batches_however_many_requests_come(monkeypatch: pytest.MonkeyPatch) -> None:
    noted: recorder.Noted = (1.0, 2.0, None, None, "GET", "/", None, None, 200, None, 1, "")
    batches: list[int] = []
    written = asyncio.Event()

    async def keep(_: str, records: list[UsageRecord]) -> None:
        batches.append(len(records))
        if len(batches) > 1:
            return
        # While this is written the next one comes, and the next batch is due in a minute.
        kept.add(noted)
        monkeypatch.setattr(recorder, "WRITE_SECONDS", 60)
        written.set()

    kept = recorder.Recorder(keep)
    kept.add(noted)
    async with asyncio.timeout(5):
        await written.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert batches == [1]
    kept.add(noted)
    await kept.aclose()
    assert batches == [1, 2]


async def test_who_comes_while_the_last_are_written_is_written_after_them_and_nobody_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recorder, "WRITE_SECONDS", 0)
    routes: list[str] = []
    called, answer = asyncio.Event(), asyncio.Event()

    async def take(records: list[UsageRecord]) -> None:
        routes.extend(record.route for record in records)
        called.set()
        await answer.wait()

    kept = recorder.Recorder(recorder.handed_to(take))
    kept.add((1.0, 2.0, None, None, "GET", "/first", None, None, 200, None, 1, ""))
    await called.wait()
    closing = asyncio.create_task(kept.aclose())
    for path in ("/second", "/third"):
        await asyncio.sleep(0)
        kept.add((1.0, 2.0, None, None, "GET", path, None, None, 200, None, 1, ""))
        for _ in range(20):
            await asyncio.sleep(0)
        assert routes == ["/first"]
    answer.set()
    await closing
    assert routes == ["/first", "/second", "/third"]
    await kept.aclose()


async def test_a_function_that_fails_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    backend = MemoryBackend()
    issued = await KeyManager(backend).create("prod-api")

    async def fail(records: list[UsageRecord]) -> None:
        raise OSError("broken")

    with TestClient(ApiKeyMiddleware(echo_app(), backend=backend, usage=fail)) as client:
        assert client.get("/", headers=bearer(issued.secret)).status_code == 200
    assert "failed with a batch of 1 records" in caplog.text


def test_records_of_a_loop_that_was_closed_are_written_by_the_next(tmp_path: Path) -> None:
    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db")
    keys = KeyManager(backend)
    issued = asyncio.run(_created(keys))
    app = ApiKeyMiddleware(echo_app(), backend=backend)
    # Without `with`, each request has an event loop of its own, which is closed before anything could be written.
    client = TestClient(app)
    for _ in range(3):
        assert client.get("/", headers=bearer(issued.secret)).status_code == 200
    with TestClient(app) as client:
        client.get("/", headers=bearer(issued.secret))
    assert len(asyncio.run(_recorded(keys))) == 4


async def _created(keys: KeyManager) -> Any:
    async with keys:
        return await keys.create("prod-api")


async def _recorded(keys: KeyManager) -> Any:
    async with keys:
        return await keys.records()


def holder_app(keys: KeyManager, app: ASGIApp | None = None, **settings: Any) -> ApiKeyMiddleware:
    return ApiKeyMiddleware(app or echo_app(), backend=keys.backend, usage_path="/ak-guard/usage", **settings)


async def test_a_holder_sees_what_his_key_may_spend_and_has_spent(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=10, limits=["4/1h", "100 requests/1d"], expires_in="30d")
    app = holder_app(keys, clock=clock)
    async with client_for(app) as client:
        for _ in range(4):
            await client.get("/", headers=bearer(issued.secret))
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 429
        answer = await client.get("/ak-guard/usage", headers=bearer(issued.secret))
        again = await client.get("/ak-guard/usage", headers=bearer(issued.secret))
        bare = await client.head("/ak-guard/usage", headers=bearer(issued.secret))
        posted = await client.post("/ak-guard/usage", headers=bearer(issued.secret))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    told = answer.json()
    assert told["key"] == {"id": issued.key.id, "name": "prod-api", "hint": issued.key.hint, "group": "default"}
    assert told["state"] == "active"
    assert told["expires_at"] == "2027-02-14T08:00:00Z"
    assert told["now"] == "2027-01-15T08:00:00Z"
    quota = told["quota"]
    hour, day = told["windows"]
    assert (quota["limit"], quota["used"] + quota["held"], quota["remaining"]) == (10, 4, 6)
    assert (hour["name"], hour["remaining"], hour["resets_at"]) == ("1h", 0, "2027-01-15T09:00:00Z")
    assert (day["unit"], day["remaining"]) == ("requests", 96)
    assert again.json() == told
    assert (bare.status_code, bare.content) == (200, b"")
    assert bare.headers["content-length"] == str(len(answer.content))
    # What is no question about the key is the app's own affair, and charged.
    assert posted.status_code == 429


async def test_a_holder_is_told_what_is_left_as_everybody_else_is(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=10, limits=["4/1h"], max_concurrency=3)
    async with client_for(holder_app(keys, clock=clock)) as client:
        told = (await client.get("/ak-guard/usage", headers=bearer(issued.secret))).json()
    assert told["concurrency"] == {"limit": 3, "used": 0, "remaining": 3}
    status = documents.status(await keys.status(issued.key.id))
    assert {member: told[member] for member in status} == status


async def test_an_expired_key_sees_its_usage_and_a_disabled_one_does_not(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", expires_in="1h", allow_ips=["203.0.113.0/24"])
    app = holder_app(keys, clock=clock)
    clock.move("2h")
    async with client_for(app) as client, client_for(app, ip="198.51.100.1") as stranger:

        async def asked(secret: str = issued.secret) -> tuple[int, str]:
            answer = await client.get("/ak-guard/usage", headers=bearer(secret))
            return answer.status_code, str(answer.json().get("state") or answer.json()["code"])

        assert (await client.get("/", headers=bearer(issued.secret))).json()["code"] == "api_key_expired"
        assert await asked() == (200, "expired")
        elsewhere = await stranger.get("/ak-guard/usage", headers=bearer(issued.secret))
        assert elsewhere.json()["code"] == "ip_not_allowed"
        await keys.disable(issued.key.id)
        assert await asked() == (401, "api_key_disabled")
        await keys.delete(issued.key.id)
        assert await asked() == (401, "invalid_api_key")
        assert (await client.get("/ak-guard/usage")).json()["code"] == "missing_api_key"


async def test_whoever_guesses_keys_at_the_usage_path_is_throttled(clock: ManualClock) -> None:
    keys = KeyManager(MemoryBackend(), clock=clock)
    app = holder_app(keys, clock=clock, failure_limit="2/minute", usage=True)
    async with client_for(app, ip="198.51.100.7") as client:
        codes = [
            (await client.get("/ak-guard/usage", headers=bearer(f"{CUSTOM}{guess}"))).json()["code"]
            for guess in range(4)
        ]
    assert codes[:2] == ["invalid_api_key"] * 2
    assert codes[3] == "too_many_failures"


async def test_without_the_setting_the_path_is_the_apps_own(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        answer = await client.get("/ak-guard/usage", headers=bearer(issued.secret))
    assert answer.json()["path"] == "/ak-guard/usage"
