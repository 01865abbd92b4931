"""Rotation while requests run: no request with either secret fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ak_guard import ApiKeyMiddleware
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from ak_guard.testing import ManualClock


async def test_no_request_with_either_secret_fails_during_rotations(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["100000/1d"])
    secrets = [issued.secret]
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock, cache_ttl=0.001)
    statuses: list[int] = []
    done, answered = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        async with client_for(app) as client:
            while not done.is_set():
                answers = [await client.get("/", headers=bearer(secret)) for secret in secrets[-2:]]
                statuses.extend(answer.status_code for answer in answers)
                clock.move(0.01)
                answered.set()
                await asyncio.sleep(0)  # in memory nothing else would let the others run

    callers = [asyncio.create_task(call()) for _ in range(8)]
    for _ in range(10):
        secrets.append((await keys.rotate(issued.key.id, grace="1h")).secret)
        for _ in range(5):
            answered.clear()
            await answered.wait()
    done.set()
    await asyncio.gather(*callers)
    assert len(statuses) >= 100
    assert set(statuses) == {200}
    assert (await keys.status(issued.key.id)).windows[0].used == len(statuses)
