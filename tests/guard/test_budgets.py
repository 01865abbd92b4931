"""Quota and windows as a caller meets them, on each backend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ak_guard import Admission, ApiKeyMiddleware, BudgetError, Group
from ak_guard.backends import MemoryBackend
from ak_guard.budgets import MemoryStorage
from ak_guard.testing import ready_key
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from ak_guard import KeyManager
    from ak_guard.testing import ManualClock


@pytest.mark.parametrize("limits", [{"limits": ["37/5h", "1000/1d", "5000/7d"]}, {"quota": 37}])
async def test_a_thousand_at_once_admit_exactly_the_limit(
    keys: KeyManager, clock: ManualClock, limits: dict[str, Any]
) -> None:
    issued = await keys.create("prod-api", **limits)
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        answers = await asyncio.gather(*(client.get("/", headers=bearer(issued.secret)) for _ in range(1_000)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (37, 963)
    status = await keys.status(issued.key.id)
    for budget in (*status.windows, *([status.quota] if status.quota else [])):
        assert budget.used == 37


async def test_a_cost_beyond_every_number_is_refused_by_budgets_and_breaks_nothing(
    keys: KeyManager, clock: ManualClock
) -> None:
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, cost=lambda _: 10**30)
    codes = []
    async with client_for(app) as client:
        for rules in ({"limits": ["5/1h"]}, {"limits": ["5/1h sliding"]}, {"quota": 10**15 - 2}, {}):
            issued = await keys.create("prod-api", **rules)
            answer = await client.get("/", headers=bearer(issued.secret))
            codes.append("admitted" if answer.status_code == 200 else answer.json()["code"])
    assert codes == ["cost_exceeds_limit", "cost_exceeds_limit", "insufficient_quota", "admitted"]


async def test_quota_and_windows_in_two_stores_are_taken_together_or_not_at_all(
    keys: KeyManager, clock: ManualClock
) -> None:
    issued = await keys.create("prod-api", quota=5, limits=["3/1m"])
    windows = MemoryStorage()
    manager = type(keys)(keys.backend, limits=windows, clock=clock)
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, limits=windows, clock=clock)
    async with client_for(app) as client:

        async def many() -> list[int]:
            calls = (client.get("/", headers=bearer(issued.secret)) for _ in range(50))
            return [answer.status_code for answer in await asyncio.gather(*calls)]

        assert (await many()).count(200) == 3
        status = await manager.status(issued.key.id)
        assert status.quota is not None
        assert (status.quota.used, status.windows[0].used, status.windows[0].held) == (3, 3, 0)
        clock.move("1m")
        assert (await many()).count(200) == 2
        status = await manager.status(issued.key.id)
        assert status.quota is not None
        assert (status.quota.used, status.windows[0].used) == (5, 2)
        refused = await client.get("/", headers=bearer(issued.secret))
        assert refused.json()["code"] == "insufficient_quota"
        assert refused.headers["ratelimit"] == '"1m";r=1;t=60, "quota";r=0'


async def test_a_shared_limit_holds_for_all_keys_of_a_group_together(keys: KeyManager, clock: ManualClock) -> None:
    await keys.create_group(Group("paid", limits=["4/1m"], shared_limits=["5/1m"]))
    first = await keys.create("first", group="paid")
    second = await keys.create("second", group="paid")
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        statuses = [(await client.get("/", headers=bearer(first.secret))).status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 200, 429]
        answer = await client.get("/", headers=bearer(second.secret))
        assert answer.headers["ratelimit"] == '"1m";r=3;t=60, "shared-1m";r=0;t=60'
        refused = await client.get("/", headers=bearer(second.secret))
        assert refused.json()["violated-policies"] == ["shared-1m"]
        assert refused.headers["ratelimit"] == '"1m";r=3;t=60, "shared-1m";r=0;t=60'
    assert (await keys.status(second.key.id)).windows[0].used == 1


async def test_a_key_of_its_own_limits_replaces_the_groups_but_not_the_shared(
    keys: KeyManager, clock: ManualClock
) -> None:
    await keys.create_group(Group("paid", limits=["4/1m"], shared_limits=["9/1h"]))
    names = {
        "inherits": None,
        "none": [],
        "own": ["7/1d"],
    }
    found = {}
    for name, limits in names.items():
        issued = await keys.create(name, group="paid", limits=limits)
        found[name] = [window.name for window in (await keys.status(issued.key.id)).windows]
    assert found == {"inherits": ["1m", "shared-1h"], "none": ["shared-1h"], "own": ["1d", "shared-1h"]}


async def test_the_multiplier_rounds_up_and_requests_count_once(keys: KeyManager, clock: ManualClock) -> None:
    await keys.create_group(Group("half", multiplier="1.1"))
    issued = await keys.create("prod-api", group="half", quota=100, limits=["100/1m", "100 requests/1h"])
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, cost=10)
    async with client_for(app) as client:
        answer = await client.get("/", headers=bearer(issued.secret))
    assert answer.headers["ratelimit"] == '"1m";r=89;t=60, "1h-requests";r=99;t=3600, "quota";r=89'


async def test_a_cost_of_nothing_passes_full_budgets_and_starts_nothing(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=0, limits=["1/1m", "1 requests/1h"])
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, cost=lambda _: 0)
    async with client_for(app) as client:
        answers = [await client.get("/", headers=bearer(issued.secret)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[2].headers["ratelimit"] == '"1m";r=1;t=0, "1h-requests";r=1;t=0, "quota";r=0'
    assert [window.resets_at for window in (await keys.status(issued.key.id)).windows] == [None, None]


@pytest.mark.parametrize("cost", [-1, 1.5, None, True, "3"])
async def test_a_cost_that_is_no_cost_is_raised_and_nothing_is_charged(
    keys: KeyManager, clock: ManualClock, cost: Any
) -> None:
    issued = await keys.create("prod-api", quota=10)
    called = []

    async def app(*_: Any) -> None:
        called.append(1)

    guarded = ApiKeyMiddleware(app, backend=keys.backend, clock=clock, cost=lambda _: cost)
    async with client_for(guarded) as client:
        with pytest.raises(ValueError, match="cost"):
            await client.get("/", headers=bearer(issued.secret))
    assert not called
    status = await keys.status(issued.key.id)
    assert status.quota is not None
    assert status.quota.used == 0


def charging_app(*charges: Any) -> Starlette:
    """Charges what it is told, and says what remains and what it cost."""

    async def work(request: Request) -> PlainTextResponse:
        admission: Admission = request.state.ak_guard
        for units in charges:
            admission.charge(units)
        return PlainTextResponse(f"{admission.cost} {admission.remaining}")

    return Starlette(routes=[Route("/", work)])


async def test_charge_adds_to_every_budget_that_counts_units(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=100, limits=["50/1m", "9 requests/1m"])
    app = ApiKeyMiddleware(charging_app(4, 5), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).text == "10 8"
    status = await keys.status(issued.key.id)
    assert [window.used for window in status.windows] == [10, 1]
    assert status.quota is not None
    assert status.quota.used == 10


async def test_charge_may_pass_a_limit_after_which_the_key_is_refused(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["10/1m"])
    app = ApiKeyMiddleware(charging_app(99), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).text == "100 0"
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 429
        clock.move("1m")
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200


async def test_charge_gives_back_with_the_groups_multiplier(keys: KeyManager, clock: ManualClock) -> None:
    await keys.create_group(Group("double", multiplier=2))
    issued = await keys.create("prod-api", group="double", quota=100)
    app = ApiKeyMiddleware(charging_app(-7), backend=keys.backend, clock=clock, cost=10)
    async with client_for(app) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).text == "6 94"
    status = await keys.status(issued.key.id)
    assert status.quota is not None
    assert status.quota.used == 6


@pytest.mark.parametrize("units", [1.5, True, "1", -2])
async def test_a_charge_that_is_no_charge_is_an_error_of_the_app(
    keys: KeyManager, clock: ManualClock, units: Any
) -> None:
    issued = await keys.create("prod-api", quota=10)
    app = ApiKeyMiddleware(charging_app(units), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        with pytest.raises(ValueError, match="units"):
            await client.get("/", headers=bearer(issued.secret))


async def test_charge_after_the_response_is_an_error(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=10)
    kept: list[Admission] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(scope["state"]["ak_guard"])
        await PlainTextResponse("ok")(scope, receive, send)

    async with client_for(ApiKeyMiddleware(app, backend=keys.backend, clock=clock)) as client:
        await client.get("/", headers=bearer(issued.secret))
    with pytest.raises(RuntimeError, match="after the response"):
        kept[0].charge(1)


async def test_a_request_the_app_fails_stays_charged(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=10)

    async def app(*_: Any) -> None:
        raise LookupError("the app's own")

    async with client_for(ApiKeyMiddleware(app, backend=keys.backend, clock=clock)) as client:
        with pytest.raises(LookupError):
            await client.get("/", headers=bearer(issued.secret))
    status = await keys.status(issued.key.id)
    assert status.quota is not None
    assert status.quota.used == 1


async def test_changed_limits_keep_what_was_used(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["2/1d"], quota=3)
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:

        async def left() -> str:
            return str((await client.get("/", headers=bearer(issued.secret))).headers["ratelimit"])

        assert await left() == '"1d";r=1;t=86400, "quota";r=2'
        await keys.update(issued.key.id, limits=["10/1d"], quota=10)
        assert await left() == '"1d";r=8;t=86400, "quota";r=8'
        await keys.update(issued.key.id, limits=["1/1d"])
        assert await left() == '"1d";r=0;t=86400, "quota";r=8'


async def test_reset_gives_back_what_is_named(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["1/1d"], quota=1)
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:

        async def code() -> str:
            answer = await client.get("/", headers=bearer(issued.secret))
            return "admitted" if answer.status_code == 200 else str(answer.json()["code"])

        assert [await code(), await code()] == ["admitted", "insufficient_quota"]
        await keys.reset(issued.key.id, quota=True)
        assert await code() == "rate_limit_exceeded"
        await keys.reset(issued.key.id, limits=True)
        assert await code() == "admitted"
    with pytest.raises(ValueError, match="nothing to reset"):
        await keys.reset(issued.key.id)


async def test_while_the_store_is_away_budgets_can_be_counted_locally(clock: ManualClock) -> None:
    class Flaky(MemoryStorage):
        STORAGE_SCHEME = None  # not to be found by URI
        away = True

        async def acquire(self, *args: Any, **options: Any) -> Any:
            if self.away:
                raise BudgetError("away")
            return await super().acquire(*args, **options)

    backend, storage = MemoryBackend(), Flaky()
    issued = await ready_key(backend, clock=clock, limits=["3/1d"])
    app = ApiKeyMiddleware(echo_app(), backend=backend, limits=storage, clock=clock, on_unavailable="allow")
    async with client_for(app) as client:
        statuses = [(await client.get("/", headers=bearer(issued.secret))).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        storage.away = False
        refused = await client.get("/", headers=bearer(issued.secret))
        assert refused.headers["ratelimit"] == '"1d";r=0;t=86400'


async def test_a_message_that_the_app_sends_again_and_again_is_left_as_it_is(keys: KeyManager) -> None:
    issued = await keys.create("prod-api", limits=["100/1m"])
    start = {"type": "http.response.start", "status": 200, "headers": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)
        await send({"type": "http.response.body", "body": b"pong"})

    async with client_for(ApiKeyMiddleware(app, backend=keys.backend)) as client:
        answers = [await client.get("/", headers=bearer(issued.secret)) for _ in range(3)]
    assert [len(answer.headers.get_list("ratelimit")) for answer in answers] == [1, 1, 1]
    assert start["headers"] == []
