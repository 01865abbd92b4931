"""What is remembered of a backend, for how long, and what happens while it is away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ak_guard import ApiKeyMiddleware, BackendError, Group, KeyManager
from ak_guard.backends import Found, MemoryBackend
from ak_guard.backends.cached import CachedLookup
from ak_guard.keys import digest, mint
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from ak_guard.testing import ManualClock


class Remote:
    """A backend somewhere else: it tells nobody of changes, and may be away or slow."""

    def __init__(self) -> None:
        self.store = MemoryBackend()
        self.away = False
        self.lookups = 0
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def find(self, digest: bytes) -> Found | None:
        self.lookups += 1
        self.asked.set()
        await self.gate.wait()
        if self.away:
            raise BackendError("away")
        return await self.store.find(digest)


@pytest.fixture
def remote() -> Remote:
    return Remote()


async def code(app: ApiKeyMiddleware, secret: str) -> str:
    async with client_for(app) as client:
        answer = await client.get("/", headers=bearer(secret))
    return "admitted" if answer.status_code == 200 else str(answer.json()["code"])


async def test_a_key_is_looked_up_once_per_ttl(remote: Remote, clock: ManualClock) -> None:
    keys = KeyManager(remote.store, clock=clock)
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock, cache_ttl=30)
    assert [await code(app, issued.secret) for _ in range(3)] == ["admitted"] * 3
    assert remote.lookups == 1
    await keys.disable(issued.key.id)
    clock.move(29.9)
    assert await code(app, issued.secret) == "admitted"
    clock.move(0.1)
    assert await code(app, issued.secret) == "api_key_disabled"
    assert remote.lookups == 2


async def test_expiry_is_judged_by_the_clock_and_not_by_the_cache(remote: Remote, clock: ManualClock) -> None:
    issued = await KeyManager(remote.store, clock=clock).create("prod-api", expires_in="10s")
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock, cache_ttl=30)
    assert await code(app, issued.secret) == "admitted"
    clock.move(10)
    assert await code(app, issued.secret) == "api_key_expired"
    assert remote.lookups == 1


async def test_a_miss_is_remembered_for_five_seconds_at_most(remote: Remote, clock: ManualClock) -> None:
    custom = "x7Kq9ZmTr4WdLp2Vb8Nc"
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock, cache_ttl=300)
    assert [await code(app, custom) for _ in range(3)] == ["invalid_api_key"] * 3
    assert remote.lookups == 1
    await KeyManager(remote.store, clock=clock).create("late", key=custom)
    clock.move(5)
    assert await code(app, custom) == "admitted"


async def test_many_callers_share_one_lookup(remote: Remote, clock: ManualClock) -> None:
    issued = await KeyManager(remote.store, clock=clock).create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock)
    remote.gate.clear()
    calls = [asyncio.create_task(code(app, issued.secret)) for _ in range(20)]
    await remote.asked.wait()
    calls[0].cancel()
    remote.gate.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1:] == ["admitted"] * 19
    # The one who asked went away, so one of the others asked again.
    assert remote.lookups == 2


async def test_a_known_key_goes_on_while_the_backend_is_away(remote: Remote, clock: ManualClock) -> None:
    issued = await KeyManager(remote.store, clock=clock).create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock, cache_ttl=10, stale_if_error=60)
    assert await code(app, issued.secret) == "admitted"
    remote.away = True
    clock.move(59.9)
    assert await code(app, issued.secret) == "admitted"
    assert await code(app, mint()) == "key_service_unavailable"
    clock.move(0.1)
    assert await code(app, issued.secret) == "key_service_unavailable"
    remote.away = False
    assert await code(app, issued.secret) == "admitted"


async def test_in_an_outage_one_request_a_second_waits_for_the_backend_and_no_other_with_its_key_does(
    remote: Remote, clock: ManualClock
) -> None:
    secret = (await KeyManager(remote.store, clock=clock).create("prod-api")).secret
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock, cache_ttl=10, stale_if_error=60)
    assert await code(app, secret) == "admitted"
    remote.away = True
    clock.move(10)
    assert [await code(app, secret) for _ in range(3)] == ["admitted"] * 3
    assert remote.lookups == 2
    # Now it does not even say that it is away.
    for lookups in (3, 4, 5):
        clock.move(1)
        remote.gate.clear()
        remote.asked.clear()
        waits = asyncio.create_task(code(app, secret))
        await remote.asked.wait()
        assert await code(app, secret) == "admitted"
        clock.move(2.5)
        assert await code(app, secret) == "admitted"
        assert not waits.done()
        remote.gate.set()
        assert await waits == "admitted"
        assert remote.lookups == lookups


async def test_a_key_that_cannot_be_read_keeps_no_other_from_being_looked_up(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable(Remote):
        broken = b""

        async def find(self, digest: bytes) -> Found | None:
            if digest == self.broken:
                raise BackendError("the stored rules of a key cannot be read")
            return await super().find(digest)

    backend = Unreadable()
    keys = KeyManager(backend.store, clock=clock)
    unreadable, revoked = [await keys.create(name) for name in ("unreadable", "revoked")]
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, cache_ttl=5, stale_if_error=60)
    assert [await code(app, one.secret) for one in (unreadable, revoked)] == ["admitted"] * 2
    backend.broken = digest(unreadable.secret.encode())
    await keys.disable(revoked.key.id)
    for _ in range(60):
        clock.move(0.1)
        assert await code(app, unreadable.secret) == "admitted"
    assert await code(app, revoked.secret) == "api_key_disabled"
    for _ in range(50):
        clock.move(0.5)
        assert await code(app, unreadable.secret) == "admitted"
        await code(app, mint())
    assert [record.message for record in caplog.records] == [
        "keys cannot be looked up: the stored rules of a key cannot be read; this is tried again until it works"
    ]


async def test_an_outage_is_told_when_it_begins_and_when_it_ends(
    remote: Remote, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = KeyManager(remote.store, clock=clock)
    issued = [await keys.create(f"key-{number}") for number in range(2)]
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock, cache_ttl=10, stale_if_error=60)
    assert [await code(app, one.secret) for one in issued] == ["admitted"] * 2
    remote.away = True
    for _ in range(5):
        clock.move(10)
        assert [await code(app, one.secret) for one in issued] == ["admitted"] * 2
        assert await code(app, mint()) == "key_service_unavailable"
    await keys.disable(issued[1].key.id)
    remote.away = False
    clock.move(1)
    assert await code(app, mint()) == "invalid_api_key"
    assert [await code(app, one.secret) for one in issued] == ["admitted", "api_key_disabled"]
    assert [record.message for record in caplog.records] == [
        "keys cannot be looked up: away; this is tried again until it works",
        "keys can be looked up again",
    ]


async def test_what_a_backend_says_when_it_fails_in_its_own_way_is_not_told(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Remote):
        async def find(self, digest: bytes) -> Found | None:
            raise OSError(f"no answer for {digest.hex()}")

    app = ApiKeyMiddleware(echo_app(), backend=Broken(), clock=clock)
    assert await code(app, mint()) == "key_service_unavailable"
    (record,) = caplog.records
    assert record.message.endswith("the key backend Broken failed with OSError")


async def test_without_stale_if_error_an_outage_is_told_at_once(remote: Remote, clock: ManualClock) -> None:
    issued = await KeyManager(remote.store, clock=clock).create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock, cache_ttl=10, stale_if_error=0)
    assert await code(app, issued.secret) == "admitted"
    remote.away = True
    assert await code(app, issued.secret) == "admitted"
    clock.move(10)
    assert await code(app, issued.secret) == "key_service_unavailable"


async def test_a_clock_set_back_makes_the_cache_ask_again(remote: Remote, clock: ManualClock) -> None:
    issued = await KeyManager(remote.store, clock=clock).create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=remote, clock=clock)
    await code(app, issued.secret)
    clock.move(-3_600)
    await code(app, issued.secret)
    assert remote.lookups == 2


async def test_the_cache_holds_no_more_than_its_size(clock: ManualClock) -> None:
    backend = MemoryBackend()
    secrets = [(await KeyManager(backend, clock=clock).create(f"key-{n}")).secret.encode() for n in range(5)]
    cache = CachedLookup(backend, lambda found: found.key.name, ttl=30, size=3, stale_if_error=0)
    for secret in secrets:
        await cache.resolve(digest(secret), clock())
    assert [cache.is_strange(digest(secret)) for secret in secrets] == [True, True, False, False, False]


async def test_a_change_during_a_lookup_keeps_its_answer_out_of_the_cache(clock: ManualClock) -> None:
    class Slow(MemoryBackend):
        asked, gate = asyncio.Event(), asyncio.Event()

        async def find(self, digest: bytes) -> Found | None:
            found = await super().find(digest)
            self.asked.set()
            await self.gate.wait()
            return found

    backend = Slow()
    keys = KeyManager(backend, clock=clock)
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)
    call = asyncio.create_task(code(app, issued.secret))
    await backend.asked.wait()
    await keys.disable(issued.key.id)
    backend.gate.set()
    await call
    assert await code(app, issued.secret) == "api_key_disabled"


async def test_a_key_that_was_changed_does_not_go_on_from_memory_when_the_store_goes_away(clock: ManualClock) -> None:
    class Failing(MemoryBackend):
        away = False

        async def find(self, digest: bytes) -> Found | None:
            if self.away:
                raise BackendError("away")
            return await super().find(digest)

    backend = Failing()
    keys = KeyManager(backend, clock=clock)
    disabled, other = await keys.create("disabled"), await keys.create("other")
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, cache_ttl=10)
    assert [await code(app, issued.secret) for issued in (disabled, other)] == ["admitted", "admitted"]
    await keys.disable(disabled.key.id)
    backend.away = True
    clock.move(15)
    assert await code(app, disabled.secret) == "key_service_unavailable"
    assert await code(app, other.secret) == "admitted"
    # Within the same outage, too, and however lately somebody asked in vain.
    await keys.disable(other.key.id)
    assert await code(app, other.secret) == "key_service_unavailable"
    backend.away = False
    assert await code(app, other.secret) == "api_key_disabled"


async def test_what_passed_once_is_judged_anew_for_another_address_route_and_time(
    keys: KeyManager, clock: ManualClock
) -> None:
    await keys.create_group(Group("chat", routes=["POST /v1/chat", "GET /v1/*/status"]))
    issued = await keys.create("prod-api", group="chat", allow_ips=["203.0.113.0/24"], expires_in="1h")
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)

    async def status(method: str, path: str, ip: str = "203.0.113.10") -> int:
        async with client_for(app, ip=ip) as client:
            return (await client.request(method, path, headers=bearer(issued.secret))).status_code

    for _ in range(2):
        assert await status("POST", "/v1/chat") == 200
        assert await status("GET", "/v1/chat") == 403
        assert await status("GET", "/v1/a/status") == 200
        assert await status("POST", "/v1/a/status") == 403
        assert await status("POST", "/v1/chat", "198.51.100.1") == 403
        assert await status("POST", "/v1/chat") == 200
    clock.move("1h")
    assert await status("POST", "/v1/chat") == 401


async def test_a_change_finds_every_secret_of_its_key_and_no_other_however_full_the_memory_is(
    clock: ManualClock,
) -> None:
    keys = KeyManager(MemoryBackend(), clock=clock)
    cache = CachedLookup(keys.backend, lambda found: found, ttl=60, size=4, stale_if_error=60)
    issued = [await keys.create(f"key-{number}") for number in range(4)]
    newer = await keys.rotate(issued[3].key.id, grace="1h")
    secrets = [digest(secret.encode()) for secret in (*(one.secret for one in issued), newer.secret)]
    for secret in secrets:  # the fifth puts the first out
        await cache.resolve(secret, clock())
    assert [cache.get(secret, clock()) is not None for secret in secrets] == [False, True, True, True, True]
    cache.drop(issued[3].key.id)
    assert [cache.get(secret, clock()) is not None for secret in secrets] == [False, True, True, False, False]
    assert [cache.is_strange(secret) for secret in secrets] == [True, False, False, False, False]
    cache.drop(issued[0].key.id)
    assert [cache.get(secret, clock()) is not None for secret in secrets] == [False, True, True, False, False]
