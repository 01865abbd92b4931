"""A list of addresses that would lock out recent callers is saved only by who insists, whichever way it is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ak_guard import KeyManager, LocksOut
from ak_guard.admin import AdminTokens, admin_app
from ak_guard.backends import MemoryBackend
from ak_guard.backends.base import KeepsUsage
from ak_guard.usage import UsageRecord
from tests.support import bearer, client_for

if TYPE_CHECKING:
    from ak_guard.backends import KeyStore
    from ak_guard.testing import ManualClock

DAY = 86_400


async def called(backend: KeyStore, key_id: str, ip: str, at: float, code: str = "admitted", times: int = 1) -> None:
    assert isinstance(backend, KeepsUsage)
    record = UsageRecord(at, key_id, "default", ip, "GET", "/", 200, code, 1, 0.01)
    await backend.add_usage(f"batch-{ip}-{at}", [record] * times)


async def test_recent_callers_are_not_locked_out_unforced(
    keys: KeyManager, backend: KeyStore, clock: ManualClock
) -> None:
    key_id = (await keys.create("prod-api")).key.id
    await called(backend, key_id, "198.51.100.7", clock() - DAY, times=5)
    await called(backend, key_id, "198.51.100.8", clock() - 3 * DAY)
    await called(backend, key_id, "192.0.2.66", clock() - DAY, code="ip_not_allowed", times=9)
    await called(backend, key_id, "192.0.2.99", clock() - 20 * DAY, times=9)
    for lists, field, shut_out in (
        ({"allow_ips": ["192.0.2.1"]}, "allow_ips", ("198.51.100.7", "198.51.100.8")),
        ({"deny_ips": ["198.51.100.8"]}, "deny_ips", ("198.51.100.8",)),
        ({"allow_ips": ["198.51.100.0/24"], "deny_ips": ["198.51.100.7"]}, "allow_ips", ("198.51.100.7",)),
    ):
        with pytest.raises(LocksOut, match=f"would lock out {shut_out[0]}") as caught:
            await keys.update(key_id, name="renamed", **lists, spare_callers=True)  # type: ignore[arg-type]  # lists of texts
        assert (caught.value.field, caught.value.addresses) == (field, shut_out)
        kept = await keys.get(key_id)
        assert (kept.name, kept.allow_ips, kept.deny_ips) == ("prod-api", (), ())
    # Who is let in, or was never let in, is not locked out; and a list that stays keeps nobody out anew.
    await keys.update(key_id, allow_ips=["198.51.100.0/24"], deny_ips=["192.0.2.0/24"], spare_callers=True)
    forced = await keys.update(key_id, allow_ips=["192.0.2.1"])
    assert forced.allow_ips == ("192.0.2.1",)
    assert (
        await keys.update(key_id, allow_ips=["192.0.2.1"], name="same list", spare_callers=True)
    ).name == "same list"
    assert (await keys.update(key_id, allow_ips=None, spare_callers=True)).allow_ips == ()


async def test_the_api_saves_what_locks_out_recent_callers_when_it_is_forced(clock: ManualClock) -> None:
    backend = MemoryBackend()
    keys = KeyManager(backend, clock=clock)
    token = "the-owner-of-these-tests"
    key_id = (await keys.create("prod-api")).key.id
    await called(backend, key_id, "198.51.100.7", clock() - DAY)
    asked = {"allow_ips": ["192.0.2.1"]}
    headers = {**bearer(token), "if-match": "*"}
    async with client_for(admin_app(keys, tokens=AdminTokens(keys, environment=token))) as client:
        refused = await client.patch(f"/keys/{key_id}", json=asked, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == "allow_ips"
        assert "198.51.100.7" in refused.json()["detail"]
        saved = await client.patch(f"/keys/{key_id}", json={**asked, "force": True}, headers=headers)
    assert (saved.status_code, saved.json()["key"]["allow_ips"]) == (200, ["192.0.2.1"])
