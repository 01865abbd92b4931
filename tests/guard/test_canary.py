"""A call with a canary is refused, and said in the log: nobody should have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.backends import MemoryBackend
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from ak_guard.testing import ManualClock


@pytest.mark.parametrize("mode", ["enforce", "report"])
async def test_a_canary_that_is_called_is_told_once_a_minute_with_the_address(
    clock: ManualClock, caplog: pytest.LogCaptureFixture, mode: Literal["enforce", "report"]
) -> None:
    backend = MemoryBackend()
    keys = KeyManager(backend, clock=clock)
    canary = await keys.create("prod-spare", group="canary")
    told = f"the canary prod-spare ({canary.key.hint}) was called from 203.0.113.10: nobody should have it"
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend, mode=mode, clock=clock)) as app:
        for _ in range(3):
            status = (await app.get("/", headers=bearer(canary.secret))).status_code
            assert status == (403 if mode == "enforce" else 200)
        assert caplog.messages.count(told) == 1
        clock.move(60)
        await app.get("/", headers=bearer(canary.secret))
        assert caplog.messages.count(told) == 2
    assert canary.secret not in caplog.text


async def test_a_canary_learns_nothing_where_holders_see_their_keys(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend()
    canary = await KeyManager(backend, clock=clock).create("prod-spare", group="canary")
    guard = ApiKeyMiddleware(echo_app(), backend=backend, usage_path="/me", clock=clock)
    async with client_for(guard) as app:
        answer = await app.get("/me", headers=bearer(canary.secret))
    assert (answer.status_code, answer.json()["code"]) == (403, "group_not_allowed")
    assert "the canary prod-spare" in caplog.text


async def test_a_group_that_one_service_keeps_out_is_no_canary(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend()
    keys = KeyManager(backend, clock=clock)
    await keys.create_group(Group("canary"))
    secret = (await keys.create("prod-spare", group="canary")).secret
    guard = ApiKeyMiddleware(echo_app(), backend=backend, deny_groups=["canary"], clock=clock)
    async with client_for(guard) as app:
        assert (await app.get("/", headers=bearer(secret))).status_code == 403
    assert "canary prod-spare" not in caplog.text


async def test_a_key_of_a_group_that_somebody_has_defined_is_no_canary(
    clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    backend = MemoryBackend()
    keys = KeyManager(backend, clock=clock)
    await keys.create_group(Group("canary", routes=["/v1/models"]))
    secret = (await keys.create("prod-spare", group="canary")).secret
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend, clock=clock)) as app:
        assert (await app.get("/v1/chat", headers=bearer(secret))).status_code == 403
    assert "canary" not in caplog.text
