"""Admin tokens in every store: who is recognised, what they may do, and what is never one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ak_guard import ConfigurationError, InputError, KeyManager, NotFound
from ak_guard.admin import AdminTokens
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.keys import digest, is_well_formed
from tests.stores.test_sql import NEW, OLD, stored

if TYPE_CHECKING:
    from pathlib import Path

    from ak_guard.testing import ManualClock

ENVIRONMENT = "a-token-from-outside-1"


@pytest.fixture
def tokens(keys: KeyManager, clock: ManualClock) -> AdminTokens:
    return AdminTokens(keys, environment=ENVIRONMENT, clock=clock)


async def test_a_token_is_recognised_until_it_is_revoked_or_over(tokens: AdminTokens, clock: ManualClock) -> None:
    lasting = await tokens.create("ann", role="editor")
    clock.move(1)
    ending = await tokens.create("ci", role="viewer", expires_in="1h")
    assert lasting.secret.startswith("akadm_")
    assert lasting.secret not in repr(lasting)
    who = await tokens.who(lasting.secret)
    assert who is not None
    assert (who.id, who.name, who.role, who.expires_at) == (lasting.token.id, "ann", "editor", None)
    assert await tokens.named(who.id) == who
    assert await tokens.list() == [lasting.token, ending.token]

    clock.move(3_599)
    assert await tokens.who(ending.secret) is not None
    clock.move(1)
    assert await tokens.who(ending.secret) is None
    assert await tokens.named(ending.token.id) is None

    await tokens.revoke(who.id)
    assert await tokens.who(lasting.secret) is None
    assert await tokens.named(who.id) is None
    assert await tokens.list() == [ending.token]
    with pytest.raises(NotFound):
        await tokens.revoke(who.id)


async def test_roles_say_what_may_be_done(tokens: AdminTokens) -> None:
    may = {}
    for role in ("viewer", "editor", "owner", "service"):
        issued = await tokens.create(role, role=role)
        who = await tokens.who(issued.secret)
        assert who is not None
        deeds = ("view", "edit", "own", "serve")
        may[role] = [deed for deed in deeds if who.may(deed)]  # type: ignore[arg-type]  # they are all there is
        assert await tokens.serves(digest(issued.secret.encode())) == (role == "service")
    assert may == {
        "viewer": ["view"],
        "editor": ["view", "edit"],
        "owner": ["view", "edit", "own"],
        "service": ["serve"],
    }


async def test_an_api_key_is_no_admin_token_and_an_admin_token_no_api_key(
    keys: KeyManager, tokens: AdminTokens
) -> None:
    key = await keys.create("prod-api")
    token = await tokens.create("ann", role="owner")
    assert await tokens.who(key.secret) is None
    assert not await tokens.serves(digest(key.secret.encode()))
    assert await keys.backend.find(digest(token.secret.encode())) is None
    with pytest.raises(InputError, match="key"):
        await keys.create("forged", key=token.secret)
    # The same text chosen for both: whoever has the key must not become an owner by it.
    assert (await tokens.who(ENVIRONMENT)) is not None
    await keys.create("unlucky", key=ENVIRONMENT)
    assert await tokens.who(ENVIRONMENT) is None


async def test_the_token_of_the_environment_is_an_owner(tokens: AdminTokens) -> None:
    who = await tokens.who(ENVIRONMENT)
    assert who is not None
    assert who.may("own")
    assert await tokens.named(who.id) == who
    assert await tokens.who(ENVIRONMENT + "x") is None


async def test_texts_that_are_no_token_are_nobody(tokens: AdminTokens) -> None:
    issued = await tokens.create("ann", role="owner")
    wrong_end = issued.secret[:-1] + ("a" if issued.secret[-1] != "a" else "b")
    for text in ("", " ", "akadm_", wrong_end, issued.secret.upper(), issued.secret + " ", "é" * 600, "\ud800"):
        assert await tokens.who(text) is None, text
    assert await tokens.who(issued.secret.encode()) is not None
    assert is_well_formed(issued.secret.encode())


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("role", {"role": "admin"}),
        ("name", {"role": "owner", "name": "a\nb"}),
        ("expires_in", {"role": "owner", "expires_in": "soon"}),
        ("expires_at", {"role": "owner", "expires_at": "2020-01-01"}),
    ],
)
async def test_a_token_that_cannot_be_made_names_the_field(field: str, arguments: dict[str, str]) -> None:
    tokens = AdminTokens(KeyManager(MemoryBackend()))
    with pytest.raises(InputError) as caught:
        await tokens.create(**{"name": "ann", **arguments})
    assert caught.value.field == field
    assert await tokens.list() == []


@pytest.mark.parametrize("text", ["short", "with blanks in between", "é" * 20, "a" * 20, "abcde" * 103])
def test_a_token_of_the_environment_that_is_easily_guessed_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="AK_GUARD_ADMIN_TOKEN") as caught:
        AdminTokens(KeyManager(MemoryBackend()), environment=text)
    assert text not in str(caught.value)


def test_the_environment_is_read_where_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AK_GUARD_ADMIN_TOKEN", "short")
    with pytest.raises(ConfigurationError, match="AK_GUARD_ADMIN_TOKEN"):
        AdminTokens(KeyManager(MemoryBackend()))


def test_no_api_key_is_minted_with_the_prefix_of_admin_tokens() -> None:
    with pytest.raises(InputError, match="prefix"):
        KeyManager(MemoryBackend(), prefix="akadm")


async def test_tokens_are_stored_as_digests_and_move_to_the_newest_pepper(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/keys.db"
    secrets: list[str] = []
    for peppers in ([], [OLD]):
        async with KeyManager(SQLBackend(url, pepper=peppers)) as keys:
            secrets.append((await AdminTokens(keys).create("ann", role="owner")).secret)
    async with KeyManager(SQLBackend(url, pepper=[NEW, OLD])) as keys:
        for secret in secrets:
            assert await AdminTokens(keys).who(secret) is not None
    rows = stored(url, "SELECT digest, pepper_id FROM ak_admin_tokens")
    assert len({pepper for _, pepper in rows}) == 1
    assert not {digest(secret.encode()) for secret in secrets} & {found for found, _ in rows}
    async with KeyManager(SQLBackend(url, pepper=[NEW])) as keys:
        assert [await AdminTokens(keys).who(secret) is not None for secret in secrets] == [True, True]
