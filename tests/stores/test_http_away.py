"""The key service goes away, loses answers and comes back, between a guard and its keys."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, PlainTextResponse

from ak_guard import ApiKeyMiddleware, BackendError, BudgetError, KeyManager
from ak_guard.backends import HTTPBackend, MemoryBackend
from ak_guard.budgets import Ask, Change, Lease, Leases, Window
from ak_guard.keys import mint
from ak_guard.usage import UsageRecord
from tests.served import TOKEN, Tap, served
from tests.stores.wire import Wire
from tests.support import bearer, client_for, echo_app, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from httpx2 import AsyncClient
    from starlette.types import Receive, Scope, Send

    from ak_guard.budgets import MultiWindowSupport
    from ak_guard.testing import ManualClock

HOUR = Window(1_000, 3_600)
NOW = time.time()


@pytest.fixture
def keys() -> KeyManager:
    return KeyManager(MemoryBackend())


@pytest.fixture
def tap() -> Tap:
    return Tap()


@pytest.fixture
def wire(keys: KeyManager, tap: Tap) -> Iterator[Wire]:
    """The way to the service."""
    with served(keys, tap=tap) as url, Wire(url) as opened:
        yield opened


@pytest.fixture
async def backend(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HTTPBackend]:
    # What took long is not asked again; on a busy machine everything does.
    monkeypatch.setattr("ak_guard.backends.http.wire._QUICK_SECONDS", 10.0)
    opened = HTTPBackend(wire.url, token=TOKEN, connect=2.0, read=2.0)
    await opened.start()
    yield opened
    wire.mend()
    await opened.aclose()


@pytest.fixture
def store(backend: HTTPBackend) -> MultiWindowSupport:
    assert isinstance(backend.counters, Leases)
    return backend.counters.store


async def code(client: AsyncClient, secret: str) -> str:
    answer = await client.get("/", headers=bearer(secret))
    return "admitted" if answer.status_code == 200 else str(answer.json()["code"])


async def test_keys_without_budgets_go_on_as_long_as_they_were_known_lately(
    keys: KeyManager, wire: Wire, backend: HTTPBackend, clock: ManualClock
) -> None:
    issued, other = await keys.create("prod-api"), await keys.create("prod-web")
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, cache_ttl=5, stale_if_error=60)
    async with client_for(app) as client:
        assert await code(client, issued.secret) == "admitted"
        wire.cut()
        assert await code(client, other.secret) == "key_service_unavailable"
        clock.move(59)
        assert await code(client, issued.secret) == "admitted"
        clock.move(1)
        assert await code(client, issued.secret) == "key_service_unavailable"
        wire.mend()

        async def back() -> bool:
            return [await code(client, made.secret) for made in (issued, other)] == ["admitted", "admitted"]

        await until(back)


async def test_keys_with_budgets_go_on_until_what_was_lent_is_spent(
    keys: KeyManager, wire: Wire, backend: HTTPBackend
) -> None:
    issued = await keys.create("prod-api", limits=["10000/5h"])
    app = ApiKeyMiddleware(echo_app(), backend=backend)
    async with client_for(app) as client:
        admitted = 0
        for _ in range(300):
            admitted += await code(client, issued.secret) == "admitted"
        wire.cut()
        first = await code(client, issued.secret)
        codes = [first]
        while codes[-1] == "admitted":
            codes.append(await code(client, issued.secret))
        assert codes[-1] == "limits_unavailable"
        admitted += codes.count("admitted")
        wire.mend()

        async def back() -> bool:
            return await code(client, issued.secret) == "admitted"

        await until(back)
    assert admitted > 300
    await backend.counters.flush()
    (window,) = (await keys.status(issued.key.id)).windows
    # What was lent and could not be given back counts as used, too.
    assert window.limit - window.remaining > admitted


async def test_told_to_allow_it_counts_here_and_posts_what_was_counted(
    keys: KeyManager, wire: Wire, backend: HTTPBackend
) -> None:
    issued = await keys.create("prod-api", limits=["5/5h"])
    app = ApiKeyMiddleware(echo_app(), backend=backend, on_unavailable="allow")
    async with client_for(app) as client:
        assert await code(client, issued.secret) == "admitted"
        wire.cut()
        codes = [await code(client, issued.secret) for _ in range(7)]
        assert codes == ["admitted"] * 5 + ["rate_limit_exceeded"] * 2
        wire.mend()

        # Nobody has to ask for anything.
        async def posted() -> bool:
            return (await keys.status(issued.key.id)).windows[0].used == 6

        await until(posted)
        assert await code(client, issued.secret) == "rate_limit_exceeded"


async def test_once_the_breaker_is_open_nobody_asks_but_the_probe(
    wire: Wire, backend: HTTPBackend, caplog: pytest.LogCaptureFixture
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend)
    async with client_for(app) as client:
        wire.cut()
        tried = wire.tried
        secrets = [mint() for _ in range(60)]
        assert {await code(client, secret) for secret in secrets[:10]} == {"key_service_unavailable"}
        assert "the key service does not answer" in caplog.text
        assert wire.tried > tried
        tried = wire.tried
        assert {await code(client, secret) for secret in secrets[10:]} == {"key_service_unavailable"}
        # Fifty requests; a probe or two may have come between.
        assert wire.tried <= tried + 3
        wire.mend()

        async def back() -> bool:
            return await code(client, secrets[0]) == "invalid_api_key"

        await until(back)
        assert "the key service answers again" in caplog.text


async def test_a_service_that_hangs_is_given_up_and_found_again(keys: KeyManager, wire: Wire) -> None:
    issued = await keys.create("prod-api")
    backend = HTTPBackend(wire.url, token=TOKEN, connect=1.0, read=1.0)
    app = ApiKeyMiddleware(echo_app(), backend=backend, cache_ttl=0)
    async with client_for(app) as client:
        assert await code(client, issued.secret) == "admitted"
        wire.block()
        assert await code(client, mint()) == "key_service_unavailable"
        wire.mend()

        async def back() -> bool:
            return await code(client, mint()) == "invalid_api_key"

        await until(back)
    await backend.aclose()


async def test_a_take_whose_answer_was_lost_is_taken_once(tap: Tap, store: MultiWindowSupport) -> None:
    tap.lose.add("/v1/acquire")
    lease = Lease("lease-1", "worker", 10.0)
    assert await store.acquire("key/a", [Ask(HOUR, 3)], lease=lease, now=NOW)
    assert tap.calls["/v1/acquire"] == 2
    (level,) = await store.peek("key/a", [HOUR], now=NOW)
    assert (level.used, level.held) == (3, 3)


async def test_a_settlement_whose_answer_was_lost_counts_once(tap: Tap, store: MultiWindowSupport) -> None:
    tap.lose.add("/v1/settle")
    store.settle("key/a", [Change(HOUR, 7, None)], now=NOW)
    await store.flush()
    assert tap.calls["/v1/settle"] == 2
    assert (await store.peek("key/a", [HOUR], now=NOW))[0].used == 7


async def test_a_settlement_that_the_service_will_not_have_is_lost_alone(
    tap: Tap, store: MultiWindowSupport, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(9):
        units = 10**15 if number == 4 else 2
        store.settle(f"key/{number}", [Change(HOUR, units, None)], now=NOW)
    assert await store.acquire("key/other", [Ask(HOUR, 1)], lease=None, now=NOW)
    assert [await _used(store, f"key/{number}") for number in range(9)] == [2, 2, 2, 2, 0, 2, 2, 2, 2]
    assert [record.message for record in caplog.records] == [
        "1 settlements are lost: the key service refused POST /v1/settle (422 invalid)"
    ]


@pytest.mark.parametrize("status", [409, 410, 418])
async def test_settlements_that_are_refused_for_good_stand_in_nobodys_way(
    tap: Tap, store: MultiWindowSupport, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    tap.instead["/v1/settle"] = JSONResponse({}, status)
    store.settle("key/a", [Change(HOUR, 2, None)], now=NOW)
    store.settle("key/b", [Change(HOUR, 2, None)], now=NOW)
    assert await store.acquire("key/c", [Ask(HOUR, 1)], lease=None, now=NOW)
    # Whether it was counted nobody knows, so it is not sent under another name.
    assert tap.calls["/v1/settle"] == 1
    assert f"2 settlements are lost: the key service refused POST /v1/settle ({status})" in caplog.text
    tap.instead.clear()
    store.settle("key/a", [Change(HOUR, 5, None)], now=NOW)
    assert await _used(store, "key/a") == 5


@pytest.mark.parametrize("status", [302, 401, 404, 429, 503])
async def test_settlements_that_the_service_does_not_take_now_are_kept(
    tap: Tap, store: MultiWindowSupport, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    tap.instead["/v1/settle"] = JSONResponse({}, status)
    store.settle("key/a", [Change(HOUR, 2, None)], now=NOW)
    with pytest.raises(BudgetError, match="key service"):
        await store.acquire("key/b", [Ask(HOUR, 1)], lease=None, now=NOW)
    assert "lost" not in caplog.text
    tap.instead.clear()
    assert await _used(store, "key/a") == 2


async def test_what_may_not_be_done_twice_is_sent_once(tap: Tap, store: MultiWindowSupport) -> None:
    tap.lose.add("/v1/restart")
    with pytest.raises(BudgetError, match="key service failed"):
        await store.restart("key/a", [HOUR])
    assert tap.calls["/v1/restart"] == 1


async def test_the_second_try_comes_a_moment_later_and_not_at_the_same_moment_for_all(
    tap: Tap, backend: HTTPBackend
) -> None:
    arrivals: list[float] = []

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        arrivals.append(time.monotonic())
        await PlainTextResponse("not now", 503)(scope, receive, send)

    pauses = []
    for number in range(8):
        tap.instead["/v1/resolve"] = fails
        with pytest.raises(BackendError):
            await backend.find(bytes([number]) * 32)
        first, second = arrivals[-2:]
        pauses.append(second - first)
        # A good answer in between: it is not yet taken to be away.
        del tap.instead["/v1/resolve"]
        assert await backend.find(bytes([number]) * 32) is None
    assert len(arrivals) == 16
    assert min(pauses) >= 0.01
    assert max(pauses) - min(pauses) > 0.004


async def test_a_refusal_is_an_answer_and_not_asked_for_again(tap: Tap, store: MultiWindowSupport) -> None:
    tap.instead["/v1/acquire"] = JSONResponse({"code": "conflict"}, 409)
    with pytest.raises(BudgetError, match="409 conflict"):
        await store.acquire("key/a", [Ask(HOUR, 3)], lease=None, now=NOW)
    assert tap.calls["/v1/acquire"] == 1


async def test_settlements_of_an_outage_are_kept_in_order_and_counted_once(
    wire: Wire, tap: Tap, store: MultiWindowSupport
) -> None:
    await store.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=NOW)
    wire.cut()
    for number in range(20):
        store.settle(f"key/{number % 2}", [Change(HOUR, 1, None)], now=NOW)
        with pytest.raises(BudgetError, match="key service"):
            await store.flush()
    wire.mend()

    async def written() -> bool:
        return [(await _used(store, f"key/{number}")) for number in (0, 1)] == [10, 10]

    await until(written)
    tap.lose.add("/v1/settle")
    store.settle("key/0", [Change(HOUR, 1, None)], now=NOW)
    await store.flush()
    assert await _used(store, "key/0") == 11


async def test_what_a_caller_who_went_away_was_given_comes_back(wire: Wire, store: MultiWindowSupport) -> None:
    await store.acquire("key/a", [Ask(HOUR, 1)], lease=None, now=NOW)
    wire.block()
    asking = asyncio.ensure_future(store.acquire("key/a", [Ask(HOUR, 5)], lease=None, now=NOW))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    wire.mend()

    async def given_back() -> bool:
        return await _used(store, "key/a") == 1

    await until(given_back)


async def test_usage_records_whose_answer_was_lost_are_kept_once(
    keys: KeyManager, tap: Tap, backend: HTTPBackend
) -> None:
    issued = await keys.create("prod-api")
    record = UsageRecord(keys.clock(), issued.key.id, "default", "203.0.113.7", "GET", "/", 200, "admitted", 2, 0.01)
    tap.lose.add("/v1/usage")
    await backend.add_usage("one", [record, record])
    assert tap.calls["/v1/usage"] == 2
    usage = await keys.usage(issued.key.id)
    assert (usage.calls, usage.cost) == (2, 4)


async def test_usage_that_a_busy_service_does_not_take_now_is_sent_again(
    keys: KeyManager, tap: Tap, backend: HTTPBackend
) -> None:
    issued = await keys.create("prod-api")
    record = UsageRecord(keys.clock(), issued.key.id, "default", "203.0.113.7", "GET", "/", 200, "admitted", 2, 0.01)
    tap.instead["/v1/usage"] = JSONResponse({}, 429)
    with pytest.raises(BackendError, match="429"):
        await backend.add_usage("one", [record])
    tap.instead.clear()
    await backend.add_usage("one", [record])
    assert (await keys.usage(issued.key.id)).calls == 1


async def test_usage_is_sent_again_a_minute_after_the_service_took_none(
    keys: KeyManager, wire: Wire, tap: Tap, clock: ManualClock
) -> None:
    issued = await keys.create("prod-api")
    record = UsageRecord(keys.clock(), issued.key.id, "default", "203.0.113.7", "GET", "/", 200, "admitted", 2, 0.01)
    backend = HTTPBackend(wire.url, token=TOKEN, clock=clock)
    tap.instead["/v1/usage"] = JSONResponse({}, 404)
    await backend.add_usage("one", [record])
    tap.instead.clear()
    clock.move(59)
    await backend.add_usage("two", [record])
    assert tap.calls["/v1/usage"] == 1
    clock.move(1)
    await backend.add_usage("three", [record])
    assert (await keys.usage(issued.key.id)).calls == 1
    await backend.aclose()


async def _used(store: MultiWindowSupport, subject: str) -> int | None:
    """How much is used; None where nobody can say."""
    try:
        (level,) = await store.peek(subject, [HOUR], now=NOW)
    except BudgetError:
        return None
    return level.used


async def test_what_requests_did_is_written_when_the_backend_is_closed_and_opens_it_not_again(
    keys: KeyManager, tap: Tap
) -> None:
    issued = await keys.create("prod-api")
    with served(keys, tap=tap) as url:
        backend = HTTPBackend(url, token=TOKEN)
        await backend.start()
        # No lifespan, as under a plain test client: only the backend knows of its end.
        async with client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as client:
            assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
            await backend.aclose()
        assert (await keys.usage(issued.key.id)).calls == 1
