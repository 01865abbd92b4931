"""`explain` says what would become of a request, and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import ApiKeyMiddleware, Group, InputError
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from ak_guard.testing import ManualClock


def when(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


async def test_every_rule_is_told_with_its_margin(keys: KeyManager, clock: ManualClock) -> None:
    await keys.create_group(Group("paid", routes=["POST /v1/chat/*"], multiplier=2, shared_limits=["9/1h"]))
    issued = await keys.create(
        "prod-api", group="paid", quota=10, limits=["5/1m"], allow_ips=["203.0.113.0/24"], expires_in="1d"
    )
    told = await keys.explain(issued.secret, ip="203.0.113.7", path="/v1/chat/completions", method="post", cost=2)
    assert told.admitted
    assert told.key == issued.key
    assert told.passes_at == when(clock())
    assert [(rule.name, rule.passed, rule.margin) for rule in told.rules] == [
        ("state", True, 86_400),
        ("address", True, None),
        ("group and route", True, None),
        ("1m", True, 1),
        ("shared-1h", True, 5),
        ("quota", True, 6),
    ]
    assert [rule.need for rule in told.rules] == [None, None, None, 4, 4, 4]


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"ip": "198.51.100.1"}, "ip_not_allowed"),
        ({}, "ip_not_allowed"),
        ({"ip": "203.0.113.7", "path": "/v2"}, "group_not_allowed"),
        ({"ip": "203.0.113.7", "cost": 6}, "cost_exceeds_limit"),
        ({"ip": "203.0.113.7", "cost": 4}, "insufficient_quota"),
        ({"ip": "203.0.113.7", "at": "2099-01-01"}, "api_key_expired"),
    ],
)
async def test_the_first_rule_that_refuses_gives_the_code(
    keys: KeyManager, request_: dict[str, Any], code: str
) -> None:
    await keys.create_group(Group("v1", routes=["/v1"]))
    issued = await keys.create(
        "prod-api", group="v1", quota=3, limits=["5/1m"], allow_ips=["203.0.113.0/24"], expires_in="1d"
    )
    told = await keys.explain(issued.key.id, **{"path": "/v1", **request_})
    assert (told.code, told.admitted, told.passes_at) == (code, False, None)


async def test_it_agrees_with_the_guard_and_says_when_the_request_passes(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["4/1m", "6/1h", "50/1d sliding"])
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, cost=3)
    async with client_for(app) as client:
        for _ in range(30):
            told = await keys.explain(issued.key.id, cost=3)
            before = await keys.status(issued.key.id)
            answer = await client.get("/", headers=bearer(issued.secret))
            assert told.admitted == (answer.status_code == 200)
            if not told.admitted:
                assert told.code == answer.json()["code"]
                assert before == await keys.status(issued.key.id)
                assert told.passes_at is not None
                earlier = told.passes_at - timedelta(milliseconds=2)
                assert not (await keys.explain(issued.key.id, cost=3, at=earlier)).admitted
                clock.now = told.passes_at.timestamp() + 1e-6
                assert (await keys.explain(issued.key.id, cost=3)).admitted


async def test_a_request_that_would_pass_after_the_keys_end_never_passes(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["1/1d"], expires_in="1h")
    async with client_for(ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)) as client:
        await client.get("/", headers=bearer(issued.secret))
    told = await keys.explain(issued.key.id)
    assert (told.code, told.passes_at) == ("rate_limit_exceeded", None)


async def test_bad_questions_name_their_field(keys: KeyManager) -> None:
    issued = await keys.create("prod-api")
    for field, question in (("cost", {"cost": -1}), ("at", {"at": "soon"})):
        with pytest.raises(InputError) as caught:
            await keys.explain(issued.key.id, **question)
        assert caught.value.field == field
