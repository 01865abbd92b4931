"""Two who change the same thing, and one who asks twice: nobody overwrites anybody, and no key is made twice."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING

import pytest

from ak_guard import Conflict, Group, InputError, KeyManager, NotFound, Repeated
from ak_guard.admin import AdminTokens
from ak_guard.versions import version_of

if TYPE_CHECKING:
    from ak_guard.testing import ManualClock


async def test_of_two_editors_the_second_is_told(keys: KeyManager) -> None:
    key = (await keys.create("prod-api", quota=1, metadata={"b": 1, "a": [2]})).key
    seen = version_of(key)
    assert version_of(await keys.get(key.id)) == seen
    changed = await keys.update(key.id, quota=2, version=seen)
    assert version_of(changed) != seen
    for late in (
        keys.update(key.id, name="mine", version=seen),
        keys.rotate(key.id, version=seen),
        keys.delete(key.id, version=seen),
    ):
        with pytest.raises(Conflict):
            await late
    assert await keys.get(key.id) == changed
    await keys.rotate(key.id, version=version_of(changed))
    await keys.delete(key.id, version=version_of(await keys.get(key.id)))
    with pytest.raises(NotFound):
        await keys.update(key.id, quota=3, version=seen)


async def test_of_many_editors_at_once_exactly_one_wins(keys: KeyManager) -> None:
    key = (await keys.create("prod-api", quota=0)).key
    seen = version_of(key)
    outcomes = await asyncio.gather(
        *(keys.update(key.id, quota=number, version=seen) for number in range(1, 9)), return_exceptions=True
    )
    winners = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert [await keys.get(key.id)] == winners
    assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome not in winners)


async def test_groups_are_not_overwritten_either(keys: KeyManager) -> None:
    paid = await keys.create_group(Group("paid", limits=["60/1m"], multiplier="1/3"))
    seen = version_of(paid)
    assert version_of(await keys.get_group("paid")) == seen
    await keys.update_group(Group("paid", limits=["90/1m"]), version=seen)
    for late in (keys.update_group(Group("paid"), version=seen), keys.delete_group("paid", version=seen)):
        with pytest.raises(Conflict):
            await late
    await keys.delete_group("paid", version=version_of(await keys.get_group("paid")))


async def test_a_request_that_comes_again_makes_no_second_key(keys: KeyManager, clock: ManualClock) -> None:
    first = await keys.create("prod-api", quota=7, expires_in="30d", request_id="a")
    clock.move(1)
    with pytest.raises(Repeated) as again:
        await keys.create("prod-api", quota=7, expires_in="30d", request_id="a")
    assert (again.value.key_id, again.value.same) == (first.key.id, True)
    assert pickle.loads(pickle.dumps(again.value)).key_id == first.key.id
    with pytest.raises(Repeated) as another:
        await keys.create("prod-api", quota=8, expires_in="30d", request_id="a")
    assert (another.value.key_id, another.value.same) == (first.key.id, False)
    # Somebody else's request, and another one, have nothing to do with it.
    await keys.acting_as("ann").create("prod-api", quota=7, expires_in="30d", request_id="a")
    await keys.create("prod-api", quota=7, expires_in="30d", request_id="b")
    assert len(await keys.list()) == 3


async def test_a_request_that_failed_may_come_again(keys: KeyManager) -> None:
    taken = "x7Kq9ZmTr4WdLp2Vb8Nc"
    owner = await keys.create("first", key=taken)
    with pytest.raises(InputError):
        await keys.create("second", key=taken, request_id="a")
    await keys.delete(owner.key.id)
    await keys.create("second", key=taken, request_id="a")
    with pytest.raises(Repeated) as again:
        await keys.create("second", key=taken, request_id="a")
    assert again.value.same


async def test_tokens_that_are_made_and_revoked_stand_in_the_audit_trail(keys: KeyManager, clock: ManualClock) -> None:
    tokens = AdminTokens(keys, clock=clock).acting_as("api:ann")
    issued = await tokens.create("ci", role="viewer", expires_in="1h")
    await tokens.revoke(issued.token.id)
    revoked, made = await keys.audit()
    assert [(one.action, one.actor, one.subject, one.key_id) for one in (made, revoked)] == [
        ("token.create", "api:ann", "ci", None),
        ("token.revoke", "api:ann", "ci", None),
    ]
    assert made.after == revoked.before
    assert made.after["role"] == "viewer"
    assert issued.secret not in repr((made, revoked))
