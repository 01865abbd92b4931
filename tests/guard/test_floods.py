"""Unknown keys: how often one address may try, and that nobody else suffers for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ak_guard import ApiKeyMiddleware, BackendError, KeyManager
from ak_guard.backends import Found, MemoryBackend
from ak_guard.floods import MAX_LOOKUPS
from ak_guard.keys import mint
from ak_guard.throttle import REFUSALS
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from starlette.types import Message

    from ak_guard.testing import ManualClock


class CountingBackend(MemoryBackend):
    """Counts look-ups; a look-up lasts until `gate` opens."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def find(self, digest: bytes) -> Found | None:
        self.lookups += 1
        await self.gate.wait()
        return await super().find(digest)


@pytest.fixture
def backend() -> CountingBackend:
    return CountingBackend()


async def codes(client: AsyncClient, secrets: list[str]) -> list[str]:
    answers = [await client.get("/", headers=bearer(secret)) for secret in secrets]
    return ["admitted" if answer.status_code == 200 else answer.json()["code"] for answer in answers]


async def turns_of_the_loop() -> None:
    """Time enough for everything that waits for nothing but its turn."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_a_flood_is_throttled_and_one_lookup_a_second_is_left(
    backend: CountingBackend, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="3/minute")
    good = (await KeyManager(backend, clock=clock).create("good")).secret
    async with client_for(app) as client:
        assert await codes(client, [mint() for _ in range(6)]) == ["invalid_api_key"] * 3 + ["too_many_failures"] * 3
        assert backend.lookups == 3
        refused = await client.get("/", headers=bearer(mint()))
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "1"
        assert await codes(client, [good]) == ["too_many_failures"]
        clock.move(1)
        assert await codes(client, [good]) == ["admitted"]
        assert await codes(client, [good, mint(), good]) == ["admitted", "too_many_failures", "admitted"]
        clock.move(60)
        assert await codes(client, [mint()]) == ["invalid_api_key"]


async def test_who_floods_again_is_throttled_again(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="3/minute")
    async with client_for(app) as client:
        for _ in range(3):
            flood = await codes(client, [mint() for _ in range(6)])
            assert flood == ["invalid_api_key"] * 3 + ["too_many_failures"] * 3
            clock.move(61)


async def test_who_floods_waits_for_his_refusals_and_keeps_nobody_else_waiting(
    backend: CountingBackend, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/minute")
    good = (await KeyManager(backend, clock=clock).create("good")).secret
    async with client_for(app, ip="203.0.113.10") as flooding, client_for(app, ip="203.0.113.11") as other:
        assert await codes(flooding, [mint()]) == ["invalid_api_key"]
        calls = [asyncio.create_task(flooding.get("/", headers=bearer(mint()))) for _ in range(8 * REFUSALS)]
        await turns_of_the_loop()
        at_once = [call for call in calls if call.done()]
        assert REFUSALS <= len(at_once) < len(calls)
        assert await codes(other, [good]) == ["admitted"]
        # The key that is known now passes from there, too, and does not stand in the line.
        assert await codes(flooding, [good]) == ["admitted"]
        assert not all(call.done() for call in calls)
        answers = await asyncio.gather(*calls)
    assert {answer.json()["code"] for answer in answers} == {"too_many_failures"}


async def test_a_key_known_to_be_nobodys_that_comes_again_and_again_waits_as_well(
    backend: CountingBackend, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/minute")
    wrong = mint()
    async with client_for(app) as client:
        await codes(client, [wrong])
        calls = [asyncio.create_task(client.get("/", headers=bearer(wrong))) for _ in range(8 * REFUSALS)]
        await turns_of_the_loop()
        assert not all(call.done() for call in calls)
        for call in calls:
            call.cancel()


async def test_who_calls_one_after_the_other_does_not_wait_to_be_refused(
    backend: CountingBackend, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/minute")
    async with client_for(app) as client:
        await codes(client, [mint(), mint()])
        # Where others come with it each refusal may be MOST_SECONDS late, which makes 50 s.
        async with asyncio.timeout(20):
            assert await codes(client, [mint() for _ in range(100)]) == ["too_many_failures"] * 100


async def test_a_flood_from_shared_addresses_leaves_time_for_others(
    backend: CountingBackend, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)
    good = (await KeyManager(backend, clock=clock).create("good")).secret
    async with client_for(app, ip="10.0.0.1") as client:
        assert await codes(client, [good]) == ["admitted"]
        backend.gate.clear()
        calls = [asyncio.create_task(client.get("/", headers=bearer(mint()))) for _ in range(MAX_LOOKUPS + 40)]
        await turns_of_the_loop()
        backend.gate.set()
        await turns_of_the_loop()
        assert not all(call.done() for call in calls)
        assert await codes(client, [good]) == ["admitted"]
        answers = await asyncio.gather(*calls)
    assert backend.lookups == 1 + MAX_LOOKUPS
    assert {answer.json()["code"] for answer in answers} == {"invalid_api_key", "too_many_failures"}


async def test_report_mode_holds_nobody_up(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/minute", mode="report")
    async with client_for(app) as client:
        calls = [asyncio.create_task(client.get("/", headers=bearer(mint()))) for _ in range(5 * REFUSALS)]
        await turns_of_the_loop()
        assert all(call.done() for call in calls)
    assert app.would_refuse["too_many_failures"]


async def test_a_known_key_goes_on_from_a_flooding_address_even_past_its_time(
    backend: CountingBackend, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/1h", cache_ttl=5)
    good = (await KeyManager(backend, clock=clock).create("good")).secret
    async with client_for(app) as client:
        assert await codes(client, [good, mint(), mint(), mint()]) == [
            "admitted",
            "invalid_api_key",
            "too_many_failures",
            "too_many_failures",
        ]
        clock.move(5.5)
        assert await codes(client, [mint(), good]) == ["invalid_api_key", "admitted"]


async def test_the_same_wrong_key_again_counts_without_a_lookup(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="3/minute")
    wrong = mint()
    async with client_for(app) as client:
        assert await codes(client, [wrong] * 4) == ["invalid_api_key"] * 3 + ["too_many_failures"]
    assert backend.lookups == 1


async def test_malformed_keys_cost_no_lookup_and_count_for_nothing(
    backend: CountingBackend, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="3/minute")
    async with client_for(app) as client:
        assert await codes(client, ["ak_" + "0" * 38] * 9) == ["invalid_api_key"] * 9
    assert backend.lookups == 0


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("203.0.113.10", "203.0.113.11", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:203.0.113.10", "203.0.113.10", True),
    ],
)
async def test_failures_count_per_address_and_per_64_of_ipv6(
    backend: CountingBackend, clock: ManualClock, first: str, second: str, shared: bool
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/minute")
    async with client_for(app, ip=first) as client:
        await codes(client, [mint(), mint(), mint()])
    async with client_for(app, ip=second) as client:
        assert await codes(client, [mint()]) == ["too_many_failures" if shared else "invalid_api_key"]


@pytest.mark.parametrize("ip", ["10.0.0.1", "127.0.0.1", "::1", "fe80::1", "fd00::1", "172.31.0.1", "not-an-address"])
async def test_shared_addresses_are_never_throttled(backend: CountingBackend, clock: ManualClock, ip: str) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/minute")
    async with client_for(app, ip=ip) as client:
        assert await codes(client, [mint() for _ in range(5)]) == ["invalid_api_key"] * 5


async def test_documentation_ranges_are_no_shared_addresses(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="1/minute")
    for ip in ("192.0.2.1", "198.51.100.1", "2001:db8::1"):
        async with client_for(app, ip=ip) as client:
            assert (await codes(client, [mint() for _ in range(3)]))[2] == "too_many_failures"


async def test_shared_addresses_have_a_cap_on_lookups_at_a_time(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)
    backend.gate.clear()
    async with client_for(app, ip="10.0.0.1") as client:
        calls = [asyncio.create_task(client.get("/", headers=bearer(mint()))) for _ in range(MAX_LOOKUPS + 10)]
        done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().json()["code"] for task in done} == {"too_many_failures"}
        backend.gate.set()
        answers = await asyncio.gather(*pending)
        assert backend.lookups == MAX_LOOKUPS
        assert {answer.json()["code"] for answer in answers} <= {"invalid_api_key", "too_many_failures"}
        assert await codes(client, [mint()]) == ["invalid_api_key"]


async def test_many_at_once_are_no_way_round_the_limit(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="3/minute")
    backend.gate.clear()
    async with client_for(app) as client:
        calls = [asyncio.create_task(client.get("/", headers=bearer(mint()))) for _ in range(20)]
        await turns_of_the_loop()
        assert backend.lookups == 3
        backend.gate.set()
        answers = await asyncio.gather(*calls)
    assert backend.lookups == 3
    assert sorted(answer.json()["code"] for answer in answers) == ["invalid_api_key"] * 3 + ["too_many_failures"] * 17


async def test_good_keys_that_come_at_once_from_one_address_wait_for_their_turn(
    backend: CountingBackend, clock: ManualClock
) -> None:
    manager = KeyManager(backend, clock=clock)
    secrets = [(await manager.create(f"good-{number}")).secret for number in range(10)]
    wrong = mint()
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="3/minute")
    backend.gate.clear()
    async with client_for(app) as client:
        calls = [asyncio.create_task(codes(client, [secret])) for secret in [*secrets, wrong, wrong, secrets[9]]]
        await turns_of_the_loop()
        assert backend.lookups == 3
        backend.gate.set()
        answers = [code for (code,) in await asyncio.gather(*calls)]
    assert answers == ["admitted"] * 10 + ["invalid_api_key"] * 2 + ["admitted"]
    assert backend.lookups == 11


async def test_who_goes_away_while_he_waits_keeps_nobody_waiting(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit="2/minute")
    manager = KeyManager(backend, clock=clock)
    good, better = [(await manager.create(name)).secret for name in ("good", "better")]
    async with client_for(app) as client:
        await codes(client, [mint()])
        backend.gate.clear()
        first, second, third = (asyncio.create_task(codes(client, [secret])) for secret in (good, mint(), better))
        await turns_of_the_loop()
        second.cancel()
        backend.gate.set()
        assert await first == ["admitted"]
        assert await third == ["admitted"]


async def test_whoever_waits_for_a_turn_very_often_is_answered_in_the_end(clock: ManualClock) -> None:
    class Away(MemoryBackend):
        async def find(self, digest: bytes) -> Found | None:
            await asyncio.sleep(0.0005)
            raise BackendError("away")

    app = ApiKeyMiddleware(echo_app(), backend=Away(), clock=clock, failure_limit="1/minute")
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def asks_on() -> None:
        # Each asks anew at once, before those who wait are told that there is a place.
        while len(statuses) < 1_500:
            headers = [(b"x-api-key", mint().encode())]
            scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": ("203.0.113.10", 1)}
            await app(scope, receive, send)

    await asyncio.gather(*(asks_on() for _ in range(20)))
    assert set(statuses) == {503}


async def test_without_a_failure_limit_nothing_is_throttled(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit=None)
    async with client_for(app) as client:
        assert await codes(client, [mint() for _ in range(50)]) == ["invalid_api_key"] * 50


async def test_without_a_failure_limit_nobody_is_held_up(backend: CountingBackend, clock: ManualClock) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, failure_limit=None)
    backend.gate.clear()
    async with client_for(app, ip="10.0.0.1") as client:
        # More than are looked up in half a second where somebody floods.
        calls = [asyncio.create_task(client.get("/", headers=bearer(mint()))) for _ in range(200)]
        await turns_of_the_loop()
        backend.gate.set()
        await turns_of_the_loop()
        assert all(call.done() for call in calls)
