"""What is changed in the store is followed by guards behind a key service, and confirmed by them."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.backends import HTTPBackend, MemoryBackend, SQLBackend
from ak_guard.backends.workers import KnowsWorkers
from ak_guard.budgets import MemoryStorage
from ak_guard.errors import Unconfirmed
from ak_guard.keys import digest, mint
from ak_guard.testing import ManualClock
from tests.served import TOKEN, Tap, served
from tests.stores.wire import Wire
from tests.support import bearer, client_for, echo_app, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from httpx2 import AsyncClient

SOON = 4.0


@pytest.fixture(params=["memory", "sqlite"])
async def keys(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyManager]:
    """What an administrator works with, beside the key service."""
    store = MemoryBackend() if request.param == "memory" else SQLBackend(f"sqlite:///{tmp_path}/keys.db")
    async with KeyManager(store) as manager:
        yield manager


in_memory = pytest.mark.parametrize("keys", ["memory"], indirect=True)


@pytest.fixture
def tap() -> Tap:
    return Tap()


@pytest.fixture
def url(keys: KeyManager, tap: Tap) -> Iterator[str]:
    with served(keys, tap=tap) as where:
        yield where


@asynccontextmanager
async def asking(url: str, **options: Any) -> AsyncIterator[HTTPBackend]:
    backend = HTTPBackend(url, token=TOKEN, **options)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.aclose()


@asynccontextmanager
async def guarded(backend: HTTPBackend) -> AsyncIterator[AsyncClient]:
    """Only the feed can tell this guard anything: it remembers for an hour."""
    app = ApiKeyMiddleware(echo_app(), backend=backend, cache_ttl=3_600, usage=False)
    async with client_for(app) as client:
        yield client


async def code(client: AsyncClient, secret: str) -> str:
    answer = await client.get("/", headers=bearer(secret))
    return "admitted" if answer.status_code == 200 else str(answer.json()["code"])


async def becomes(client: AsyncClient, secret: str, wanted: str) -> None:
    async def is_so() -> bool:
        return await code(client, secret) == wanted

    await until(is_so, SOON)


async def test_changes_are_followed_within_a_second(keys: KeyManager, url: str) -> None:
    issued = await keys.create("prod-api", group="paid")
    async with asking(url) as backend, guarded(backend) as client:
        assert await code(client, issued.secret) == "group_not_allowed"
        await keys.create_group(Group("paid"))
        await becomes(client, issued.secret, "admitted")
        await keys.disable(issued.key.id)
        await becomes(client, issued.secret, "api_key_disabled")
        await keys.enable(issued.key.id)
        await becomes(client, issued.secret, "admitted")
        renewed = await keys.rotate(issued.key.id, grace=None)
        await becomes(client, issued.secret, "invalid_api_key")
        assert await code(client, renewed.secret) == "admitted"
        await keys.delete(issued.key.id)
        await becomes(client, renewed.secret, "invalid_api_key")


async def test_a_change_that_somebody_else_made_in_the_database_is_told_too(tmp_path: Path) -> None:
    file = f"sqlite:///{tmp_path}/keys.db"
    async with KeyManager(file) as elsewhere, KeyManager(file) as keys:
        issued = await elsewhere.create("prod-api")
        with served(keys) as url:
            async with asking(url) as backend, guarded(backend) as client:
                assert await code(client, issued.secret) == "admitted"
                await elsewhere.disable(issued.key.id)
                await becomes(client, issued.secret, "api_key_disabled")


async def test_whoever_disables_a_key_can_wait_for_guards_behind_the_service(keys: KeyManager, url: str) -> None:
    issued = await keys.create("prod-api")
    async with asking(url) as one, asking(url) as two, guarded(one) as client, guarded(two) as other:
        assert [await code(calls, issued.secret) for calls in (client, other)] == ["admitted"] * 2
        workers = await keys.workers()
        assert [worker.counters for worker in workers] == [("beside the keys",)] * 2
        assert [worker.silent for worker in workers] == [False, False]
        assert await one.workers() == await two.workers() == workers
        await keys.disable(issued.key.id, wait=5.0)
        assert [await code(calls, issued.secret) for calls in (client, other)] == ["api_key_disabled"] * 2
        confirmation = await keys.confirm(timeout=5.0)
        assert len(confirmation.workers) == 2
        assert isinstance(one, KnowsWorkers)
        assert len((await one.confirm(timeout=5.0)).workers) == 2
    assert await keys.workers() == []


async def test_a_guard_that_is_cut_off_is_named(keys: KeyManager, url: str) -> None:
    issued = await keys.create("prod-api")
    with Wire(url) as wire:
        async with asking(wire.url) as backend, guarded(backend) as client:
            assert await code(client, issued.secret) == "admitted"
            wire.cut()
            with pytest.raises(Unconfirmed, match="may go on until"):
                await keys.disable(issued.key.id, wait=0.2)
            assert await code(client, issued.secret) == "admitted"
            wire.mend()
            await until(lambda: _is(client, issued.secret, "api_key_disabled"))
            assert (await keys.confirm(timeout=5.0)).complete


async def test_a_reset_is_seen_at_once_by_guards_that_were_refused(keys: KeyManager, url: str) -> None:
    issued = await keys.create("prod-api", quota=1)
    async with asking(url) as backend, guarded(backend) as client:
        assert [await code(client, issued.secret) for _ in range(2)] == ["admitted", "insufficient_quota"]
        await keys.reset(issued.key.id, quota=True)
        await becomes(client, issued.secret, "admitted")
        await backend.counters.restart(f"key/{issued.key.id}", [])
        await backend.touch(issued.key.id)
        assert await code(client, issued.secret) == "insufficient_quota"


async def test_a_service_that_began_anew_in_memory_makes_guards_forget(tap: Tap) -> None:
    first, second = KeyManager(MemoryBackend()), KeyManager(MemoryBackend())
    with served(first, tap=tap) as url:
        issued = await first.create("prod-api")
        async with asking(url) as backend, guarded(backend) as client:
            assert await code(client, issued.secret) == "admitted"
            with served(second, tap=(other := Tap())):
                # Another process answers there now, which has seen fewer changes and knows no keys.
                tap.service = other.service
                await first.update(issued.key.id, name="prod-web")
                await becomes(client, issued.secret, "invalid_api_key")


@in_memory
async def test_a_warm_request_makes_no_call(keys: KeyManager, url: str, tap: Tap) -> None:
    issued = await keys.create("prod-api")
    async with asking(url) as backend, guarded(backend) as client:
        assert await code(client, issued.secret) == "admitted"
        before = +tap.calls
        for _ in range(50):
            assert await code(client, issued.secret) == "admitted"
        made = tap.calls - before
        # Those that follow changes and tell that this guard lives are nobody's request.
        assert {path for path in made if not path.startswith(("/v1/workers/", "/v1/changes"))} == set()


@in_memory
async def test_many_who_hold_the_same_key_ask_once(keys: KeyManager, url: str, tap: Tap) -> None:
    issued = await keys.create("prod-api")
    async with asking(url) as backend, guarded(backend) as client:
        codes = await asyncio.gather(*(code(client, issued.secret) for _ in range(40)))
    assert set(codes) == {"admitted"}
    assert tap.calls["/v1/resolve"] == 1


@in_memory
async def test_of_a_flood_of_unknown_keys_few_reach_the_service(keys: KeyManager, url: str, tap: Tap) -> None:
    issued = await keys.create("prod-api")
    async with asking(url) as backend:
        clock = ManualClock()
        app = ApiKeyMiddleware(echo_app(), backend=backend, failure_limit="30/minute", clock=clock, usage=False)
        async with client_for(app, ip="198.51.100.7") as flood, client_for(app) as client:
            assert await code(client, issued.secret) == "admitted"
            codes = [await code(flood, mint()) for _ in range(400)]
            assert set(codes) == {"invalid_api_key", "too_many_failures"}
            # Also who sends them at the same time; one look-up a second is kept for everybody.
            await asyncio.gather(*(code(flood, mint()) for _ in range(100)))
            assert tap.calls["/v1/resolve"] <= 1 + 30 + 1
            assert await code(client, issued.secret) == "admitted"
            again = mint()
            async with client_for(app, ip="198.51.100.8") as other:
                before = tap.calls["/v1/resolve"]
                assert {await code(other, again) for _ in range(20)} == {"invalid_api_key"}
                assert tap.calls["/v1/resolve"] == before + 1


@in_memory
async def test_a_service_that_can_only_resolve_is_enough(keys: KeyManager, url: str, tap: Tap) -> None:
    limited, free = await keys.create("prod-api", limits=["2/1h"]), await keys.create("prod-web")
    missing = JSONResponse({"detail": "Not Found"}, 404)
    clock = ManualClock()

    class Only(Tap):
        async def __call__(self, scope: object, receive: object, send: object) -> None:
            path = scope["path"].removeprefix(scope["root_path"])  # type: ignore[index]  # of a Scope
            answer = self.service if path == "/v1/resolve" else missing
            await answer(scope, receive, send)  # type: ignore[arg-type]

    tap.service, only = Only(), tap.service
    tap.service.service = only
    async with asking(url) as backend:
        app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, usage=True)
        async with client_for(app) as client:
            assert await code(client, free.secret) == "admitted"
            assert await code(client, limited.secret) == "limits_unavailable"
            # Nothing is told, so what is known is asked again when it is old.
            await keys.disable(free.key.id)
            assert await code(client, free.secret) == "admitted"
            clock.move(30)
            assert await code(client, free.secret) == "api_key_disabled"
    counting = HTTPBackend(url, token=TOKEN, counters=MemoryStorage())
    async with client_for(ApiKeyMiddleware(echo_app(), backend=counting, clock=clock)) as client:
        codes = [await code(client, limited.secret) for _ in range(3)]
    assert codes == ["admitted", "admitted", "rate_limit_exceeded"]
    await counting.aclose()


@in_memory
async def test_what_was_missing_while_a_service_was_replaced_is_found_when_it_is_there(
    keys: KeyManager, url: str, tap: Tap, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ak_guard.backends.feed.BEAT_SECONDS", 0.1)
    monkeypatch.setattr("ak_guard.backends.http.bulletin._WAIT_SECONDS", 0.1)
    issued = await keys.create("prod-api")
    service, missing = tap.service, JSONResponse({"detail": "Not Found"}, 404)

    class Ingress(Tap):
        """It sends on what it knows of already."""

        async def __call__(self, scope: object, receive: object, send: object) -> None:
            path = scope["path"].removeprefix(scope["root_path"])  # type: ignore[index]  # of a Scope
            await (service if path == "/v1/resolve" else missing)(scope, receive, send)  # type: ignore[arg-type]

    tap.service, clock = Ingress(), ManualClock()
    async with asking(url, clock=clock) as backend, guarded(backend) as client:
        assert await code(client, issued.secret) == "admitted"
        tap.service = service
        await keys.disable(issued.key.id)
        # It is not asked at once: many services offer no more than that.
        before = +tap.calls
        clock.move(59)
        assert await code(client, issued.secret) == "admitted"
        assert set(tap.calls - before) == set()
        clock.move(1)
        await becomes(client, issued.secret, "api_key_disabled")

        async def listed() -> bool:
            return [worker.behind for worker in await keys.workers()] == [0]

        await until(listed)
        await keys.enable(issued.key.id)
        await becomes(client, issued.secret, "admitted")
    assert await keys.workers() == []
    for told in ("tells no changes", "lists no workers", "tells changes now", "lists workers now"):
        assert len([record for record in caplog.records if told in record.message]) == 1


@in_memory
async def test_a_service_that_stays_small_is_asked_once_a_minute_for_more(
    keys: KeyManager, url: str, tap: Tap, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ak_guard.backends.feed.BEAT_SECONDS", 0.1)
    monkeypatch.setattr("ak_guard.backends.http.bulletin._WAIT_SECONDS", 0.1)
    issued = await keys.create("prod-api")
    service, asked = tap.service, 0

    class Small(Tap):
        async def __call__(self, scope: object, receive: object, send: object) -> None:
            nonlocal asked
            path = scope["path"].removeprefix(scope["root_path"])  # type: ignore[index]  # of a Scope
            asked += path == "/v1/changes"
            answer = service if path == "/v1/resolve" else JSONResponse({"detail": "Not Found"}, 404)
            await answer(scope, receive, send)  # type: ignore[arg-type]

    tap.service, clock = Small(), ManualClock()
    async with asking(url, clock=clock) as backend, guarded(backend) as client:
        assert await code(client, issued.secret) == "admitted"
        for more in (1, 2, 3):
            before = asked

            async def asked_again(before: int = before) -> bool:
                return asked > before

            clock.move(60)
            await until(asked_again)
            # Two may have found at the same moment that the minute is over.
            assert asked <= 1 + 2 * more
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


@in_memory
def test_a_plain_test_client_leaves_no_stale_answer_behind(
    keys: KeyManager, url: str, recwarn: pytest.WarningsRecorder
) -> None:
    issued = asyncio.run(keys.create("prod-api"))
    backend = HTTPBackend(url, token=TOKEN)
    client = TestClient(ApiKeyMiddleware(echo_app(), backend=backend, cache_ttl=3_600, usage=False))
    assert client.get("/", headers=bearer(issued.secret)).status_code == 200
    asyncio.run(keys.disable(issued.key.id))
    assert client.get("/", headers=bearer(issued.secret)).json()["code"] == "api_key_disabled"
    assert asyncio.run(keys.workers()) == []
    asyncio.run(backend.aclose())
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_the_digest_is_all_that_is_sent(keys: KeyManager, url: str, tap: Tap) -> None:
    issued = await keys.create("prod-api")
    bodies: list[bytes] = []

    class Overheard(Tap):
        async def __call__(self, scope: object, receive: object, send: object) -> None:
            message = await receive()  # type: ignore[operator]  # of a Receive
            bodies.append(message["body"])

            async def again() -> object:
                return message

            await self.service(scope, again, send)  # type: ignore[arg-type]

    overheard = Overheard()
    overheard.service, tap.service = tap.service, overheard
    async with asking(url) as backend, guarded(backend) as client:
        assert await code(client, issued.secret) == "admitted"
    sent = b"".join(bodies)
    assert digest(issued.secret.encode()).hex().encode() in sent
    assert issued.secret.encode() not in sent


async def _is(client: AsyncClient, secret: str, wanted: str) -> bool:
    return await code(client, secret) == wanted
