"""A change that is stored is never told as one that failed, whatever goes wrong after it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from ak_guard import ApiKeyMiddleware, BudgetError, KeyManager, NotFound
from ak_guard.admin import AdminTokens, admin_app
from ak_guard.budgets import MemoryStorage
from ak_guard.errors import Unconfirmed
from tests.ailing import Ailing
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.backends import KeyStore
    from ak_guard.budgets.windows import Window


class Forgetful(MemoryStorage):
    """Counters that are away when something is to be forgotten or given back."""

    async def forget(self, subject: str) -> None:
        raise BudgetError(f"the counters of {subject} are away")

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        raise BudgetError(f"the counters of {subject} are away")


async def test_a_rotated_key_is_handed_over_without_asking_the_store_again(keys: KeyManager, backend: KeyStore) -> None:
    issued = await keys.create("prod-api", owner="team-a")
    renewed = await keys.rotate(issued.key.id)
    assert renewed.key == await backend.get(issued.key.id)
    assert (renewed.key.owner, renewed.key.hint) == ("team-a", f"ak_…{renewed.secret[-4:]}")


async def test_nobody_can_be_asked_about_workers_but_the_change_is_told() -> None:
    backend = Ailing()
    keys = KeyManager(backend)
    issued = await keys.create("prod-api")
    backend.failing = {"confirm"}
    with pytest.raises(Unconfirmed, match="the change is stored, but not confirmed by anybody") as caught:
        await keys.disable(issued.key.id, wait=1.0)
    assert caught.value.confirmation is None
    assert not (await keys.get(issued.key.id)).enabled
    with pytest.raises(Unconfirmed):
        await keys.delete(issued.key.id, wait=1.0)
    with pytest.raises(NotFound):
        await keys.get(issued.key.id)


async def test_the_api_answers_a_stored_change_with_202_where_nobody_can_be_asked() -> None:
    backend = Ailing()
    keys = KeyManager(backend)
    token = "the-owner-of-these-tests"
    issued = await keys.create("prod-api")
    backend.failing = {"confirm"}
    async with client_for(admin_app(keys, tokens=AdminTokens(keys, environment=token))) as client:
        answer = await client.post(f"/keys/{issued.key.id}/disable?wait=1", headers=bearer(token))
        assert answer.status_code == 202, answer.text
        assert answer.json()["confirmation"] is None
        assert answer.json()["key"]["enabled"] is False
        again = await client.delete(f"/keys/{issued.key.id}?wait=1", headers=bearer(token))
        assert (again.status_code, again.json()["deleted"]) == (202, issued.key.id)


async def test_a_key_is_deleted_though_its_counters_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    backend = Ailing()
    keys = KeyManager(backend, limits=Forgetful())
    issued = await keys.create("prod-api", limits=["5/1h"])
    with caplog.at_level(logging.WARNING, "ak_guard"):
        await keys.delete(issued.key.id)
    assert f"{issued.key.id} is deleted; what was counted for it stays where it was" in caplog.text
    async with client_for(ApiKeyMiddleware(echo_app(), backend=backend)) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).json()["code"] == "invalid_api_key"


async def test_a_reset_that_fails_half_way_stands_in_the_trail() -> None:
    keys = KeyManager(Ailing(), limits=Forgetful())
    issued = await keys.create("prod-api", limits=["5/1h"], quota=10)
    with pytest.raises(BudgetError):
        await keys.reset(issued.key.id, quota=True, limits=True)
    assert [entry.action for entry in await keys.audit()] == ["key.reset", "key.create"]


async def test_a_leak_is_told_though_the_store_fails_after_the_key_was_disabled() -> None:
    backend = Ailing()
    keys = KeyManager(backend)
    old = await keys.create("prod-web")
    made = (await keys.leak(old.key.id)).replacement
    assert made is not None
    backend.failing = {f"get {made.key.id}"}
    report = await keys.leak(old.key.id)
    assert report.why_none == "it could not be made; ask again"
    assert report.problems == (f"The replacement could not be made: get {made.key.id} failed.",)
    backend.failing = set()
    assert "there is one already" in (await keys.leak(old.key.id)).why_none
