"""A cap on the requests of a key that run at once, as a caller meets it, on each backend."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from ak_guard import ApiKeyMiddleware, InputError, KeyManager
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.budgets import MemoryStorage
from ak_guard.budgets.slots import Slots
from ak_guard.errors import BudgetError
from ak_guard.testing import ready_key
from tests.support import bearer, client_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from httpx2 import AsyncClient, Response
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send
    from starlette.websockets import WebSocket

    from ak_guard.budgets.slots import Full, Slot
    from ak_guard.testing import ManualClock


class Slow:
    """An app whose requests wait until they are let go. `most` is how many were in it at once."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.open = asyncio.Event()
        self.came = asyncio.Semaphore(0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.came.release()
        try:
            await self.open.wait()
            await PlainTextResponse("done")(scope, receive, send)
        finally:
            self.inside -= 1

    @asynccontextmanager
    async def occupied(
        self, client: AsyncClient, secret: str, times: int
    ) -> AsyncIterator[list[asyncio.Task[Response]]]:
        """While so many requests run; they end with it."""
        tasks = [asyncio.create_task(client.get("/", headers=bearer(secret))) for _ in range(times)]
        for _ in range(times):
            await self.came.acquire()
        yield tasks
        self.open.set()
        assert {(await task).status_code for task in tasks if not task.cancelled()} <= {200}


async def test_one_more_than_may_run_is_refused_and_costs_nothing(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["100/1h"], quota=50, max_concurrency=2)
    app = Slow()
    async with client_for(ApiKeyMiddleware(app, backend=keys.backend, clock=clock)) as client:
        async with app.occupied(client, issued.secret, 2):
            refused = await client.get("/", headers=bearer(issued.secret))
            status = await keys.status(issued.key.id)
        assert refused.status_code == 429
        assert refused.json()["code"] == "concurrency_limit_exceeded"
        assert refused.json()["violated-policies"] == ["concurrency"]
        assert refused.headers["retry-after"] == "1"
        assert "x-should-retry" not in refused.headers
        assert refused.headers["ratelimit-policy"] == '"concurrency";q=2;qu="concurrent-requests"'
        assert refused.headers["ratelimit"] == '"concurrency";r=0'
        assert status.concurrency is not None
        assert (status.concurrency.limit, status.concurrency.used, status.concurrency.remaining) == (2, 2, 0)
        assert status.quota is not None
        assert (status.quota.used, status.windows[0].used) == (2, 2)
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
    assert app.most == 2


async def test_a_hundred_at_once_never_are_more_in_the_app_than_may(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["1000/1h"], max_concurrency=7)
    inside = most = 0
    full = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        if inside == 7:
            full.set()
        await full.wait()
        await PlainTextResponse("done")(scope, receive, send)
        inside -= 1

    async with client_for(ApiKeyMiddleware(app, backend=keys.backend, clock=clock)) as client:
        answers = await asyncio.gather(*(client.get("/", headers=bearer(issued.secret)) for _ in range(100)))
    admitted = sum(answer.status_code == 200 for answer in answers)
    assert most == 7
    assert admitted >= 7
    assert (await keys.status(issued.key.id)).windows[0].used == admitted


async def test_a_full_window_is_told_before_the_cap_and_holds_no_slot(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["3/1h"], max_concurrency=2)
    app = Slow()
    async with client_for(ApiKeyMiddleware(app, backend=keys.backend, clock=clock)) as client:
        async with app.occupied(client, issued.secret, 2):
            assert (await client.get("/", headers=bearer(issued.secret))).json()["code"] == "concurrency_limit_exceeded"
            await keys.update(issued.key.id, limits=["2/1h"])
            both = await client.get("/", headers=bearer(issued.secret))
        assert both.json()["code"] == "rate_limit_exceeded"
        for _ in range(3):
            assert (await client.get("/", headers=bearer(issued.secret))).json()["code"] == "rate_limit_exceeded"
        await keys.update(issued.key.id, limits=[])
        app.open.clear()
        async with app.occupied(client, issued.secret, 2):
            pass


async def test_a_changed_cap_holds_for_the_next_request(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", max_concurrency=1)
    app = Slow()
    guarded = ApiKeyMiddleware(app, backend=keys.backend, clock=clock)
    async with client_for(guarded) as client, app.occupied(client, issued.secret, 1):
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 429
        changed = await keys.update(issued.key.id, max_concurrency=None)
        assert changed.max_concurrency is None
        async with app.occupied(client, issued.secret, 5):
            assert (await keys.status(issued.key.id)).concurrency is None


async def test_the_headers_tell_how_many_more_may_run(keys: KeyManager, clock: ManualClock) -> None:
    both = await keys.create("both", limits=["10/1h"], max_concurrency=3)
    only = await keys.create("only", max_concurrency=3)
    app = Slow()
    app.open.set()
    async with client_for(ApiKeyMiddleware(app, backend=keys.backend, clock=clock)) as client:
        answer = await client.get("/", headers=bearer(both.secret))
        policy = '"1h";q=10;w=3600, "concurrency";q=3;qu="concurrent-requests"'
        assert answer.headers["ratelimit-policy"] == policy
        assert answer.headers["ratelimit"] == '"1h";r=9;t=3600, "concurrency";r=2'
        answer = await client.get("/", headers=bearer(only.secret))
        assert answer.headers["ratelimit"] == '"concurrency";r=2'
    guarded = ApiKeyMiddleware(app, backend=keys.backend, clock=clock, ratelimit_headers=False)
    async with client_for(guarded) as client:
        assert "ratelimit" not in (await client.get("/", headers=bearer(only.secret))).headers


async def test_explain_has_a_rule_for_it(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", max_concurrency=2)
    app = Slow()
    guarded = ApiKeyMiddleware(app, backend=keys.backend, clock=clock)
    async with client_for(guarded) as client, app.occupied(client, issued.secret, 1):
        one = await keys.explain(issued.secret)
        assert (one.admitted, one.rules[-1].name, one.rules[-1].margin) == (True, "concurrency", 0)
        async with app.occupied(client, issued.secret, 1):
            full = await keys.explain(issued.key.id)
    assert (full.admitted, full.code) == (False, "concurrency_limit_exceeded")
    assert full.rules[-1].margin == -1
    assert full.passes_at is not None
    assert full.passes_at.timestamp() == clock() + 1


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3", 10**9])
async def test_a_cap_that_cannot_be_is_an_input_error(value: Any) -> None:
    keys = KeyManager(MemoryBackend())
    with pytest.raises(InputError) as caught:
        await keys.create("prod-api", max_concurrency=value)
    assert caught.value.field == "max_concurrency"
    issued = await keys.create("prod-api")
    with pytest.raises(InputError):
        await keys.update(issued.key.id, max_concurrency=value)


# What ends a request


@pytest.fixture
async def backend_in_memory() -> MemoryBackend:
    return MemoryBackend()


async def test_an_app_that_fails_leaves_its_slot(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=1)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    async with client_for(ApiKeyMiddleware(app, backend=backend_in_memory)) as client:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await client.get("/", headers=bearer(issued.secret))


async def test_a_request_that_is_cancelled_leaves_its_slot(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", max_concurrency=1)
    app = Slow()
    guarded = ApiKeyMiddleware(app, backend=keys.backend, clock=clock)
    async with client_for(guarded) as client, app.occupied(client, issued.secret, 1) as (task,):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with app.occupied(client, issued.secret, 1):
            pass


async def test_what_an_app_does_after_its_response_takes_nobodys_place(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=1)
    working, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        working.set()
        await done.wait()

    async def respond(request: Request) -> PlainTextResponse:
        return PlainTextResponse("soon", background=None if working.is_set() else BackgroundTask(work))

    app = Starlette(routes=[Route("/", respond)])
    async with client_for(ApiKeyMiddleware(app, backend=backend_in_memory)) as client:
        first = asyncio.create_task(client.get("/", headers=bearer(issued.secret)))
        await working.wait()
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        done.set()
        assert (await first).status_code == 200


async def test_a_stream_holds_its_slot_until_its_last_part(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=1)
    keys = KeyManager(backend_in_memory)
    seen: list[int] = []

    async def used() -> None:
        status = (await keys.status(issued.key.id)).concurrency
        assert status is not None
        seen.append(status.used)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for more in (True, True, False):
            await used()
            await send({"type": "http.response.body", "body": b"x", "more_body": more})
        await used()

    async with client_for(ApiKeyMiddleware(app, backend=backend_in_memory)) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).text == "xxx"
    assert seen == [1, 1, 1, 0]


async def test_a_stream_that_is_cut_leaves_its_slot(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=1)
    keys = KeyManager(backend_in_memory)
    began = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": not began.is_set()})
        if not began.is_set():
            began.set()
            await asyncio.Event().wait()

    async with client_for(ApiKeyMiddleware(app, backend=backend_in_memory)) as client:
        first = asyncio.create_task(client.get("/", headers=bearer(issued.secret)))
        await began.wait()
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 429
        await keys.disable(issued.key.id)
        await first
        await keys.enable(issued.key.id)
        assert (await client.get("/", headers=bearer(issued.secret))).text == "x"


async def _talk(websocket: WebSocket) -> None:
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        await websocket.receive_text()
        await websocket.close()


def test_a_websocket_holds_its_slot_until_it_ends() -> None:
    backend = MemoryBackend()
    issued = asyncio.run(ready_key(backend, max_concurrency=1))
    routes = [WebSocketRoute("/ws", _talk), Route("/", lambda _: PlainTextResponse("ok"))]
    app = ApiKeyMiddleware(Starlette(routes=routes), backend=backend)
    with TestClient(app, headers=bearer(issued.secret)) as client:
        with client.websocket_connect("/ws") as socket:
            assert client.get("/").json()["code"] == "concurrency_limit_exceeded"
            with pytest.raises(WebSocketDenialResponse) as caught, client.websocket_connect("/ws"):
                pass
            assert (caught.value.status_code, caught.value.headers["retry-after"]) == (429, "1")
            socket.send_text("enough")
            assert socket.receive()["type"] == "websocket.close"
        assert client.get("/").status_code == 200
        # Also where the client is the one who goes.
        with client.websocket_connect("/ws"):
            pass
        assert client.get("/").status_code == 200


async def test_counters_that_know_no_slots_leave_them_to_those_beside_the_keys(
    backend_in_memory: MemoryBackend,
) -> None:
    issued, keys = await ready_key(backend_in_memory, max_concurrency=2), KeyManager(backend_in_memory)
    app = Slow()
    guarded = ApiKeyMiddleware(app, backend=keys.backend, limits="async+memory://")
    async with client_for(guarded) as client, app.occupied(client, issued.secret, 2):
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 429
        status = (await keys.status(issued.key.id)).concurrency
    assert status is not None
    assert status.used == 2


class Slotless(MemoryStorage):
    """Somebody's own counters, which know no slots."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = None


async def test_of_counters_without_slots_all_who_share_them_know_who_runs_and_no_others() -> None:
    own, other = MemoryBackend(), MemoryBackend()
    own.counters, other.counters = Slotless(), Slotless()
    issued, keys = await ready_key(own, max_concurrency=1), KeyManager(own)
    # The same key elsewhere, as in a copy of the data.
    other.find = own.find  # type: ignore[method-assign]  # nothing else of it is asked for
    app = Slow()
    one, two, elsewhere = (ApiKeyMiddleware(app, backend=backend) for backend in (own, own, other))
    async with (
        client_for(one) as client,
        client_for(two) as beside,
        client_for(elsewhere) as apart,
        app.occupied(client, issued.secret, 1),
    ):
        assert (await beside.get("/", headers=bearer(issued.secret))).status_code == 429
        status = (await keys.status(issued.key.id)).concurrency
        async with app.occupied(apart, issued.secret, 1):
            assert app.inside == 2
    assert status is not None
    assert status.used == 1


async def test_report_mode_counts_and_lets_in(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=1)
    app = Slow()
    guarded = ApiKeyMiddleware(app, backend=backend_in_memory, mode="report")
    async with client_for(guarded) as client, app.occupied(client, issued.secret, 3):
        pass
    assert guarded.would_refuse == {"concurrency_limit_exceeded": 2}


async def test_a_guard_within_a_guard_takes_one_slot(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=1)
    app = Slow()
    app.open.set()
    guarded = ApiKeyMiddleware(ApiKeyMiddleware(app, backend=backend_in_memory), backend=backend_in_memory)
    async with client_for(guarded) as client:
        for _ in range(2):
            assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200


def test_a_test_client_with_a_loop_for_each_request_finds_the_slot_free_again(tmp_path: Path) -> None:
    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db")
    issued = asyncio.run(ready_key(backend, max_concurrency=1))
    client = TestClient(ApiKeyMiddleware(PlainTextResponse("ok"), backend=backend), headers=bearer(issued.secret))
    assert [client.get("/").status_code for _ in range(3)] == [200] * 3
    asyncio.run(backend.aclose())


# When the counters are away


class Away(MemoryStorage):
    """Counters whose slots nobody can ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = AwaySlots()


class AwaySlots(Slots):
    def enter(self, subject: str, limit: int) -> None:
        return None

    async def wait(self, subject: str, limit: int) -> Slot | Full:
        raise BudgetError("away")

    async def used(self, subjects: Sequence[str]) -> list[int]:
        raise BudgetError("away")


async def test_it_fails_closed_when_nobody_can_say_how_many_run(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=1)
    app = Slow()
    app.open.set()
    async with client_for(ApiKeyMiddleware(app, backend=backend_in_memory, limits=Away())) as client:
        answer = await client.get("/", headers=bearer(issued.secret))
    assert (answer.status_code, answer.json()["code"]) == (503, "limits_unavailable")


async def test_on_unavailable_allow_counts_those_that_run_in_the_process(backend_in_memory: MemoryBackend) -> None:
    issued = await ready_key(backend_in_memory, max_concurrency=2, limits=["10/1h"])
    app = Slow()
    guarded = ApiKeyMiddleware(app, backend=backend_in_memory, limits=Away(), on_unavailable="allow")
    async with client_for(guarded) as client:
        async with app.occupied(client, issued.secret, 2):
            refused = await client.get("/", headers=bearer(issued.secret))
        assert refused.json()["code"] == "concurrency_limit_exceeded"
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
