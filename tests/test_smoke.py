"""The main job, end to end, on each backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard import ApiKeyMiddleware
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from ak_guard.testing import ManualClock


async def test_a_key_opens_the_app_and_its_limit_closes_it_again(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["2/5h"])
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        assert (await client.get("/v1/models")).status_code == 401
        answers = [await client.get("/v1/models", headers=bearer(issued.secret)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[0].json()["key"] == "prod-api"
        assert answers[0].headers["ratelimit"] == '"5h";r=1;t=18000'
        assert answers[2].headers["retry-after"] == "18000"
        clock.move("5h")
        assert (await client.get("/v1/models", headers=bearer(issued.secret))).status_code == 200
