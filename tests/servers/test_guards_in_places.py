"""Guards below a mount, inside other guards, in many event loops, and with apps that treat lifespan as they like."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.backends import MemoryBackend, SQLBackend
from tests.servers.bare import http_scope, plain, status_of
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from ak_guard.backends import KeyStore


async def _used(keys: KeyManager, key_id: str) -> int:
    return (await keys.status(key_id)).windows[0].used


async def test_a_guard_below_a_mount_works_without_a_lifespan(keys: KeyManager) -> None:
    await keys.create_group(Group("chat", routes=["GET /chat/*"]))
    issued = await keys.create("test", group="chat", limits=["3/5h"])
    inner = ApiKeyMiddleware(echo_app(), backend=keys.backend, public_paths=["/health"], clock=keys._clock)

    async def home(_: Request) -> PlainTextResponse:
        return PlainTextResponse("open to all")

    app = Starlette(routes=[Route("/", home), Mount("/v1", app=inner)])
    async with client_for(app) as client:

        async def status(path: str) -> int:
            return (await client.get(path, headers=bearer(issued.secret))).status_code

        assert (await client.get("/")).text == "open to all"
        assert (await client.get("/v1/health")).status_code == 200
        assert (await client.get("/v1/v1/health")).status_code == 401
        assert (await client.get("/v1/chat/x")).status_code == 401
        assert [await status("/v1/admin"), await status("/v1/chat/x")] == [403, 200]
    assert await _used(keys, issued.key.id) == 1


async def test_a_guard_inside_a_guard_with_the_same_backend_charges_once(keys: KeyManager) -> None:
    issued = await keys.create("test", limits=["3/5h"])
    options: dict[str, Any] = {"backend": keys.backend, "clock": keys._clock}
    app = ApiKeyMiddleware(ApiKeyMiddleware(ApiKeyMiddleware(echo_app(), **options), **options), **options)
    async with client_for(app) as client:
        answers = [await client.get("/v1", headers=bearer(issued.secret)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers.get_list("ratelimit") == ['"5h";r=2;t=18000']
    assert answers[0].json()["key"] == "test"


async def test_a_guard_inside_a_guard_with_another_backend_charges_for_itself(keys: KeyManager) -> None:
    secret = "Kx7-mQ2v.Zp9_Wt4Lr8Yc"
    inner_keys = KeyManager(MemoryBackend(), clock=keys._clock)
    outside = await keys.create("outside", key=secret, limits=["9/5h"])
    inside = await inner_keys.create("inside", key=secret, limits=["2/5h"])
    inner = ApiKeyMiddleware(echo_app(), backend=inner_keys.backend, clock=keys._clock)
    app = ApiKeyMiddleware(inner, backend=keys.backend, clock=keys._clock)
    async with client_for(app) as client:
        answers = [await client.get("/v1", headers=bearer(secret)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].json()["key"] == "inside"
    assert (await _used(keys, outside.key.id), await _used(inner_keys, inside.key.id)) == (3, 2)


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ({"deny_ips": ["203.0.113.0/24"]}, "ip_not_allowed"),
        ({"allow_ips": ["198.51.100.0/24"]}, "ip_not_allowed"),
        ({"allow_groups": ["paid"]}, "group_not_allowed"),
        ({"deny_groups": ["default"]}, "group_not_allowed"),
    ],
    ids=str,
)
async def test_a_guard_inside_applies_the_rules_of_its_own_service(
    keys: KeyManager, rules: dict[str, Any], code: str
) -> None:
    issued = await keys.create("test", limits=["9/5h"])
    inner = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=keys._clock, **rules)
    async with client_for(ApiKeyMiddleware(inner, backend=keys.backend, clock=keys._clock)) as client:
        answer = await client.get("/v1", headers=bearer(issued.secret))
    assert (answer.status_code, answer.json()["code"]) == (403, code)


async def test_a_public_path_outside_is_not_public_inside(keys: KeyManager) -> None:
    inner = ApiKeyMiddleware(echo_app(), backend=keys.backend)
    async with client_for(ApiKeyMiddleware(inner, backend=keys.backend, public_paths=["/health"])) as client:
        assert (await client.get("/health")).status_code == 401


def _store(kind: str, folder: Path) -> KeyStore:
    return MemoryBackend() if kind == "memory" else SQLBackend(f"sqlite:///{folder}/keys.db")


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_every_request_may_run_in_a_loop_of_its_own(kind: str, tmp_path: Path) -> None:
    backend = _store(kind, tmp_path)
    issued = asyncio.run(KeyManager(backend).create("test", limits=["3/5h"]))
    client = TestClient(ApiKeyMiddleware(echo_app(), backend=backend))
    statuses = [client.get("/v1", headers=bearer(issued.secret)).status_code for _ in range(5)]
    assert statuses == [200, 200, 200, 429, 429]
    assert asyncio.run(_used(KeyManager(backend), issued.key.id)) == 3
    if isinstance(backend, SQLBackend):
        asyncio.run(backend.aclose())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_loops_of_several_threads_share_one_limit_exactly(kind: str, tmp_path: Path) -> None:
    backend = _store(kind, tmp_path)
    issued = asyncio.run(KeyManager(backend).create("test", limits=["10/5h"]))
    guard = ApiKeyMiddleware(echo_app(), backend=backend)
    statuses: list[int] = []

    def ask() -> None:
        client = TestClient(guard)
        statuses.extend(client.get("/v1", headers=bearer(issued.secret)).status_code for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 10 + [429] * 10
    if isinstance(backend, SQLBackend):
        asyncio.run(backend.aclose())


def test_a_charge_is_not_lost_with_the_loop_it_was_made_in(tmp_path: Path) -> None:
    async def charging(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["ak_guard"].charge(4)
        await plain(scope, receive, send)

    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db")
    issued = asyncio.run(KeyManager(backend).create("test", limits=["100/5h"]))
    client = TestClient(ApiKeyMiddleware(charging, backend=backend))
    for _ in range(2):
        assert client.get("/v1", headers=bearer(issued.secret)).status_code == 200
    assert asyncio.run(_used(KeyManager(backend), issued.key.id)) == 10
    asyncio.run(backend.aclose())


class _Server:
    """The server's side of a lifespan: it starts, later shuts down, and notes what it is told."""

    def __init__(self, app: Any) -> None:
        self.told: list[str] = []
        self._shut_down = asyncio.Event()
        self._messages = iter(["lifespan.startup", "lifespan.shutdown"])
        self._answered = asyncio.Event()
        self.task = asyncio.create_task(app({"type": "lifespan", "asgi": {}}, self._receive, self._send))

    async def _receive(self) -> Message:
        kind = next(self._messages)
        if kind == "lifespan.shutdown":
            await self._shut_down.wait()
        return {"type": kind}

    async def _send(self, message: Message) -> None:
        self.told.append(message["type"])
        self._answered.set()

    async def started(self) -> None:
        await asyncio.wait_for(self._answered.wait(), 5)

    async def stop(self) -> None:
        self._shut_down.set()
        await asyncio.wait_for(self.task, 5)


async def _raises(_: Scope, __: Receive, ___: Send) -> None:
    raise RuntimeError("no lifespan here")


async def _reads_and_raises(_: Scope, receive: Receive, __: Send) -> None:
    await receive()
    raise RuntimeError("no lifespan here")


async def _returns(_: Scope, __: Receive, ___: Send) -> None:
    return


async def _takes_part(_: Scope, receive: Receive, send: Send) -> None:
    for kind in ("startup", "shutdown"):
        assert (await receive())["type"] == f"lifespan.{kind}"
        await send({"type": f"lifespan.{kind}.complete"})


@pytest.mark.parametrize("lifespan", [_raises, _reads_and_raises, _returns, _takes_part])
async def test_a_guard_starts_and_stops_whatever_its_app_makes_of_lifespan(tmp_path: Path, lifespan: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (lifespan if scope["type"] == "lifespan" else plain)(scope, receive, send)

    url = f"sqlite:///{tmp_path}/keys.db"
    async with KeyManager(url) as keys:
        secret = (await keys.create("test", limits=["9/5h"])).secret
    guard = ApiKeyMiddleware(app, backend=url)
    server = _Server(guard)
    await server.started()
    assert server.told == ["lifespan.startup.complete"]
    assert await status_of(guard, http_scope(secret)) == 200
    await server.stop()
    assert server.told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_an_app_that_raises_on_starting_is_told_in_the_log_with_its_exception(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = _Server(ApiKeyMiddleware(_reads_and_raises, backend="memory://"))
    await server.started()
    await server.stop()
    assert server.told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    (record,) = caplog.records
    assert (record.levelname, record.message) == (
        "WARNING",
        "the app failed on starting; it is served as one without lifespan",
    )
    assert "RuntimeError: no lifespan here" in caplog.text


async def test_an_app_that_knows_of_http_alone_is_no_matter_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "of HTTP alone"
        await plain(scope, receive, send)

    caplog.set_level("INFO", "ak_guard")
    server = _Server(ApiKeyMiddleware(app, backend="memory://"))
    await server.started()
    await server.stop()
    assert server.told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert "served as one without lifespan: AssertionError: of HTTP alone" in record.message
    assert record.exc_info is None


async def test_an_app_that_fails_to_start_is_heard() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = _Server(ApiKeyMiddleware(app, backend="memory://"))
    await server.stop()
    assert server.told == ["lifespan.startup.failed"]


async def test_an_app_that_breaks_while_it_runs_is_heard() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise RuntimeError("broke at the end")

    server = _Server(ApiKeyMiddleware(app, backend="memory://"))
    await server.started()
    with pytest.raises(RuntimeError, match="broke at the end"):
        await server.stop()
    assert server.told == ["lifespan.startup.complete"]
