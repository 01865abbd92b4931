"""What every backend does, whatever it keeps its keys in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import ApiKeyMiddleware, Group, InputError, Limit, NotFound
from ak_guard.backends import KeyLookup, KeyStore
from ak_guard.keys import digest
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from ak_guard.testing import ManualClock

CUSTOM = "x7Kq9ZmTr4WdLp2Vb8Nc"


def _deep(levels: int) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(levels):
        nested = {"a": nested}
    return nested


def test_a_backend_is_what_the_protocols_ask_for(backend: KeyStore) -> None:
    assert isinstance(backend, KeyLookup)
    assert isinstance(backend, KeyStore)


async def test_a_created_key_is_found_by_its_digest_and_nothing_else(keys: KeyManager, backend: KeyStore) -> None:
    issued = await keys.create("prod-api")
    found = await backend.find(digest(issued.secret.encode()))
    assert found is not None
    assert found.key == issued.key
    assert found.valid_until is None
    assert await backend.find(digest(b"another text")) is None


async def test_every_field_comes_back_as_it_went_in(keys: KeyManager) -> None:
    issued = await keys.create(
        "billing-worker",
        group="paid",
        allow_ips=["10.0.0.5/8", "2001:db8::1"],
        deny_ips=["::ffff:10.1.0.0/112"],
        quota=100_000,
        expires_in="30d",
        limits=["1000/5h", "500 requests/1d calendar Europe/Berlin"],
        owner="team-billing",
        metadata={"ticket": 42, "tags": ["a", "b"]},
    )
    key = await keys.get(issued.key.id)
    assert key == issued.key
    assert key.allow_ips == ("10.0.0.0/8", "2001:db8::1")
    assert key.deny_ips == ("10.1.0.0/16",)
    assert key.limits == (
        Limit(1000, 18_000),
        Limit(500, 86_400, unit="requests", anchor="calendar", zone="Europe/Berlin"),
    )
    assert key.metadata == {"ticket": 42, "tags": ["a", "b"]}


async def test_no_limits_and_an_empty_list_of_limits_stay_apart(keys: KeyManager) -> None:
    inheriting = await keys.create("a")
    unlimited = await keys.create("b", limits=[])
    assert (await keys.get(inheriting.key.id)).limits is None
    assert (await keys.get(unlimited.key.id)).limits == ()


async def test_the_secret_shows_in_no_repr(keys: KeyManager) -> None:
    issued = await keys.create("prod-api")
    assert issued.secret not in repr(issued)
    assert issued.key.hint == f"ak_…{issued.secret[-4:]}"


async def test_the_same_custom_key_cannot_be_taken_twice(keys: KeyManager) -> None:
    await keys.create("first", key=CUSTOM)
    with pytest.raises(InputError) as caught:
        await keys.create("second", key=CUSTOM)
    assert caught.value.field == "key"
    assert CUSTOM not in str(caught.value)
    assert [key.name for key in await keys.list()] == ["first"]


async def test_lists_are_newest_first_filtered_and_paged(keys: KeyManager, clock: ManualClock) -> None:
    for number in range(5):
        await keys.create(f"key-{number}", group="even" if number % 2 == 0 else "odd", owner="ann")
        clock.move(1)
    await keys.disable((await keys.list(search="KEY-4"))[0].id)
    assert [key.name for key in await keys.list()] == ["key-4", "key-3", "key-2", "key-1", "key-0"]
    first = await keys.list(limit=2)
    assert [key.name for key in await keys.list(limit=2, after=first[-1].id)] == ["key-2", "key-1"]
    assert [key.name for key in await keys.list(group="even", enabled=True)] == ["key-2", "key-0"]
    assert await keys.list(owner="bob") == []


async def test_a_search_takes_wild_cards_as_letters(keys: KeyManager) -> None:
    await keys.create("rate_100%")
    await keys.create("rate-1000")
    assert [key.name for key in await keys.list(search="100%")] == ["rate_100%"]
    assert [key.name for key in await keys.list(search="rate_")] == ["rate_100%"]


async def test_update_changes_what_is_named_and_nothing_else(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", quota=10, owner="ann", limits=["5/1m"], allow_ips=["203.0.113.7"])
    clock.move(60)
    key = await keys.update(issued.key.id, quota=None, name="prod-web", allow_ips=None)
    assert (key.name, key.quota, key.allow_ips) == ("prod-web", None, ())
    assert (key.owner, key.limits) == ("ann", (Limit(5, 60),))
    assert key.created_at == issued.key.created_at
    assert key.updated_at is not None
    assert key.updated_at.timestamp() == clock()
    assert await keys.get(issued.key.id) == key


async def test_unknown_ids_are_not_found(keys: KeyManager) -> None:
    for call in (
        keys.get("key_nobody"),
        keys.update("key_nobody", quota=1),
        keys.disable("key_nobody"),
        keys.delete("key_nobody"),
        keys.rotate("key_nobody"),
        keys.status("key_nobody"),
        keys.reset("key_nobody", quota=True),
        keys.explain("key_nobody"),
        keys.list(after="key_nobody"),
        keys.get_group("nobody"),
        keys.update_group(Group("nobody")),
        keys.delete_group("nobody"),
    ):
        with pytest.raises(NotFound):
            await call


async def test_groups_come_back_as_they_went_in(keys: KeyManager) -> None:
    group = Group("paid", routes=["POST /v1/chat/*"], limits=["60/1m"], shared_limits=["600/1m"], multiplier=0.1)
    await keys.create_group(group)
    await keys.create_group(Group("free", enabled=False))
    assert await keys.get_group("paid") == group
    assert [found.name for found in await keys.list_groups()] == ["free", "paid"]
    with pytest.raises(InputError, match="name"):
        await keys.create_group(Group("paid"))
    await keys.update_group(Group("paid", multiplier=2))
    assert (await keys.get_group("paid")).routes == ()
    await keys.delete_group("free")
    assert [found.name for found in await keys.list_groups()] == ["paid"]


async def test_changes_bite_at_once_in_the_process_that_makes_them(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api")
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:

        async def code(secret: str = issued.secret) -> str:
            answer = await client.get("/v1/models", headers=bearer(secret))
            return "admitted" if answer.status_code == 200 else str(answer.json()["code"])

        assert await code() == "admitted"
        await keys.disable(issued.key.id)
        assert await code() == "api_key_disabled"
        await keys.enable(issued.key.id)
        assert await code() == "admitted"
        await keys.update(issued.key.id, deny_ips=["203.0.113.0/24"])
        assert await code() == "ip_not_allowed"
        await keys.update(issued.key.id, deny_ips=None, group="ghost")
        assert await code() == "group_not_allowed"
        await keys.create_group(Group("ghost"))
        assert await code() == "admitted"
        await keys.update_group(Group("ghost", enabled=False))
        assert await code() == "group_not_allowed"
        await keys.update(issued.key.id, group=None, expires_at="2020-01-01")
        assert await code() == "api_key_expired"
        await keys.delete(issued.key.id)
        assert await code() == "invalid_api_key"
        assert await code(CUSTOM) == "invalid_api_key"
        await keys.create("custom", key=CUSTOM)
        assert await code(CUSTOM) == "admitted"


async def test_after_a_rotation_both_secrets_work_until_the_grace_ends(keys: KeyManager, clock: ManualClock) -> None:
    issued = await keys.create("prod-api", limits=["10/1d"])
    app = ApiKeyMiddleware(echo_app(), backend=keys.backend, clock=clock)
    async with client_for(app) as client:
        assert (await client.get("/", headers=bearer(issued.secret))).status_code == 200
        renewed = await keys.rotate(issued.key.id, grace="1h")
        assert renewed.key.id == issued.key.id
        assert renewed.key.hint != issued.key.hint
        clock.move(3_599)
        answers = [await client.get("/", headers=bearer(issued.secret)) for issued in (issued, renewed)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[1].headers["ratelimit"].startswith('"1d";r=7')
        clock.move(1)
        refused = await client.get("/", headers=bearer(issued.secret))
        assert refused.json()["code"] == "invalid_api_key"
        assert (await client.get("/", headers=bearer(renewed.secret))).status_code == 200


async def test_a_second_rotation_never_prolongs_an_older_secret(keys: KeyManager, clock: ManualClock) -> None:
    first = await keys.create("prod-api")
    await keys.rotate(first.key.id, grace="1m")
    last = await keys.rotate(first.key.id, grace="1d")
    clock.move("1m")
    assert (await keys.explain(first.secret)).code == "invalid_api_key"
    assert (await keys.explain(last.secret)).code == "admitted"


@pytest.mark.parametrize("grace", [None, "0s", timedelta(0)])
async def test_without_grace_the_old_secret_ends_at_once(keys: KeyManager, grace: str | timedelta | None) -> None:
    issued = await keys.create("prod-api")
    await keys.rotate(issued.key.id, grace=grace)
    assert (await keys.explain(issued.secret)).code == "invalid_api_key"


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("name", {"name": " "}),
        ("name", {"name": "a\nb"}),
        ("quota", {"quota": -1}),
        ("quota", {"quota": True}),
        ("quota", {"quota": 1.5}),
        ("limits", {"limits": "1000/5h"}),
        ("limits", {"limits": ["1000/0 day"]}),
        ("limits", {"limits": ["10/1m", "20/60s"]}),
        ("allow_ips", {"allow_ips": ["10.0.0.0/33"]}),
        ("allow_ips", {"allow_ips": "10.0.0.0/8"}),
        ("deny_ips", {"deny_ips": ["example.org"]}),
        ("expires_at", {"expires_at": "2020-01-01"}),
        ("expires_at", {"expires_at": "soon"}),
        ("expires_in", {"expires_in": "soon"}),
        ("expires_in", {"expires_in": "1d", "expires_at": "2030-01-01"}),
        ("key", {"key": "short"}),
        ("metadata", {"metadata": {"a": object()}}),
        ("metadata", {"metadata": _deep(5_000)}),
        ("owner", {"owner": ""}),
        ("enabled", {"enabled": "no"}),
    ],
)
async def test_bad_input_names_its_field_and_stores_nothing(
    keys: KeyManager, field: str, arguments: dict[str, object]
) -> None:
    with pytest.raises(InputError) as caught:
        await keys.create(**{"name": "good", **arguments})  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)
    assert await keys.list() == []


async def test_moving_an_expiry_into_the_past_is_allowed(keys: KeyManager) -> None:
    issued = await keys.create("prod-api")
    await keys.update(issued.key.id, expires_at="2020-01-01")
    assert (await keys.explain(issued.secret)).code == "api_key_expired"


async def test_the_text_of_a_key_is_refused_where_everybody_may_read_it(keys: KeyManager) -> None:
    made = await keys.create("prod-api")
    for field in ("name", "owner", "metadata"):
        value: Any = {"note": made.secret} if field == "metadata" else f"it is {made.secret}"
        with pytest.raises(InputError, match="looks like the text of a key") as caught:
            await keys.update(made.key.id, **{field: value})
        assert caught.value.field == field
        assert made.secret not in str(caught.value)
    # Nothing that stands right before it hides it, however JSON would write that.
    for before in ("token", "\n", "\uff1a", "_", "x" * 40):
        for field in ("name", "owner", "metadata") if before.isprintable() else ("metadata",):
            value = {"note": before + made.secret} if field == "metadata" else before + made.secret
            with pytest.raises(InputError, match="looks like the text of a key"):
                await keys.update(made.key.id, **{field: value})
    # The same shape without the checksum is no key.
    await keys.update(made.key.id, metadata={"commit": "rev_" + "0123456789abcdef0123456789abcdef01234567"})
