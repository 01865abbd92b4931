"""Who changed what: every backend keeps it, with the change or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ak_guard import ConfigurationError, Group, InputError, KeyManager, NotFound
from ak_guard.backends import KeyStore, MemoryBackend

if TYPE_CHECKING:
    from ak_guard.testing import ManualClock

CUSTOM = "x7Kq9ZmTr4WdLp2Vb8Nc"


async def test_each_change_of_a_key_is_told_with_who_when_before_and_after(
    keys: KeyManager, clock: ManualClock
) -> None:
    ann = keys.acting_as("ann")
    issued = await ann.create("prod-api", quota=10, limits=["5/1m"], metadata={"team": "billing"})
    began = clock()
    clock.move(60)
    await ann.update(issued.key.id, quota=20, name="prod-web", limits=["5/1m"])
    await keys.disable(issued.key.id)
    await keys.enable(issued.key.id)
    renewed = await ann.rotate(issued.key.id, grace="1h")
    await keys.reset(issued.key.id, quota=True)
    await keys.delete(issued.key.id)
    trail = list(reversed(await keys.audit(issued.key.id)))
    assert [(entry.action, entry.actor, entry.subject) for entry in trail] == [
        ("key.create", "ann", "prod-api"),
        ("key.update", "ann", "prod-web"),
        ("key.disable", "python", "prod-web"),
        ("key.enable", "python", "prod-web"),
        ("key.rotate", "ann", "prod-web"),
        ("key.reset", "python", "prod-web"),
        ("key.delete", "python", "prod-web"),
    ]
    created, updated, disabled, enabled, rotated, reset, deleted = trail
    assert created.at.timestamp() == began
    assert updated.at.timestamp() == began + 60
    assert created.before == {}
    assert created.after["quota"] == 10
    assert created.after["limits"] == ["5/1m"]
    assert created.after["metadata"] == {"team": "billing"}
    assert (updated.before, updated.after) == ({"name": "prod-api", "quota": 10}, {"name": "prod-web", "quota": 20})
    assert (disabled.before, disabled.after) == ({"enabled": True}, {"enabled": False})
    assert (enabled.before, enabled.after) == ({"enabled": False}, {"enabled": True})
    assert rotated.before == {"hint": issued.key.hint}
    assert rotated.after["hint"] == renewed.key.hint
    assert rotated.after["old_secret_until"].startswith("2027-01-15T09:")
    assert reset.after == {"quota": True, "limits": False}
    assert deleted.before["name"] == "prod-web"
    assert deleted.after == {}
    assert [entry.id for entry in trail] == sorted(entry.id for entry in trail)
    text = repr(trail)
    assert issued.secret not in text
    assert renewed.secret not in text


async def test_each_change_of_a_group_is_told(keys: KeyManager) -> None:
    await keys.create_group(Group("paid", limits=["60/1m"], multiplier=0.5))
    await keys.update_group(Group("paid", limits=["90/1m"], multiplier=0.5))
    await keys.create("paid")
    await keys.delete_group("paid")
    trail = list(reversed(await keys.audit(group="paid")))
    assert [entry.action for entry in trail] == ["group.create", "group.update", "group.delete"]
    assert all(entry.key_id is None for entry in trail)
    assert trail[0].after["multiplier"] == "1/2"
    assert (trail[1].before, trail[1].after) == ({"limits": ["60/1m"]}, {"limits": ["90/1m"]})


async def test_what_was_refused_leaves_no_entry(keys: KeyManager) -> None:
    await keys.create("first", key=CUSTOM)
    await keys.create_group(Group("paid"))
    for refused in (
        keys.create("second", key=CUSTOM),
        keys.create_group(Group("paid")),
        keys.update_group(Group("nobody")),
        keys.disable("key_" + "0" * 20),
        keys.delete("key_" + "0" * 20),
    ):
        with pytest.raises((InputError, NotFound)):
            await refused
    assert [entry.action for entry in await keys.audit()] == ["group.create", "key.create"]


async def test_the_trail_is_filtered_and_paged_newest_first(keys: KeyManager, clock: ManualClock) -> None:
    first = await keys.create("a")
    clock.move(10)
    second = await keys.acting_as("bob").create("b")
    clock.move(10)
    await keys.disable(second.key.id)
    assert [entry.subject for entry in await keys.audit(actor="bob")] == ["b"]
    assert [entry.action for entry in await keys.audit(second.key.id)] == ["key.disable", "key.create"]
    assert [entry.key_id for entry in await keys.audit(action="key.create")] == [second.key.id, first.key.id]
    assert [entry.action for entry in await keys.audit(since=clock())] == ["key.disable"]
    assert [entry.subject for entry in await keys.audit(until=clock() - 10)] == ["a"]
    page = await keys.audit(limit=2)
    assert [entry.subject for entry in await keys.audit(limit=2, before=page[-1].id)] == ["a"]
    for wrong in (keys.audit(limit=0), keys.audit(since="soon")):
        with pytest.raises(InputError):
            await wrong


async def test_an_actor_is_printable_text() -> None:
    keys = KeyManager(MemoryBackend())
    for name in ("", "a\nb", "x" * 201):
        with pytest.raises(InputError, match="actor"):
            keys.acting_as(name)


async def test_a_key_may_name_the_one_it_replaces_and_is_named_by_it(keys: KeyManager) -> None:
    old = await keys.create("prod-web")
    new = await keys.create("prod-web-2", replaces=old.key.id)
    assert new.key.replaces == old.key.id
    assert (await keys.get(old.key.id)).replaced_by == new.key.id
    assert (await keys.get(new.key.id)).replaces == old.key.id
    with pytest.raises(NotFound):
        await keys.create("prod-web-3", replaces="key_" + "0" * 20)
    await keys.delete(old.key.id)
    assert (await keys.get(new.key.id)).replaces == old.key.id


async def test_a_store_without_a_trail_says_so() -> None:
    class Bare:
        peppered = False

        def __getattr__(self, name: str) -> object:
            if name in {"note", "audit", "records", "last_used", "usage", "add_usage", "start"}:
                raise AttributeError(name)
            return lambda *_: None

    bare = KeyManager(Bare())  # type: ignore[arg-type]  # it answers to every name that is asked for
    assert isinstance(bare.backend, KeyStore)
    for asked in (bare.audit(), bare.usage(), bare.records()):
        with pytest.raises(ConfigurationError, match="Bare"):
            await asked
