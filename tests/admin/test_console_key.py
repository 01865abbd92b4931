"""The pages of one key, of groups, audit and settings, without a script."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from ak_guard import ApiKey, ApiKeyMiddleware, Group, KeyManager
from ak_guard.audit import Note
from ak_guard.backends import MemoryBackend, SQLBackend
from tests.admin.consoles import Visitor, visitor
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ak_guard.testing import ManualClock


@pytest.fixture
async def at(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Visitor]:
    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db") if hasattr(request, "param") else MemoryBackend()
    async with KeyManager(backend, clock=clock) as keys, visitor(keys, clock) as there:
        await there.sign_in()
        yield there


async def test_a_key_is_disabled_at_once_with_the_way_back(at: Visitor) -> None:
    key = (await at.keys.create("prod-api")).key
    await at.go(f"/keys/{key.id}")
    await at.send(f"/keys/{key.id}/disable")
    assert "prod-api is disabled. No app is running on this backend, so it holds at once. Enable again" in at.words
    assert not (await at.keys.get(key.id)).enabled
    await at.send(f"/keys/{key.id}/enable")
    assert "prod-api is enabled. No app is running on this backend, so it holds at once. Disable now" in at.words
    assert (await at.keys.get(key.id)).enabled


@pytest.mark.parametrize("at", ["sqlite"], indirect=True)
async def test_a_disable_says_that_the_running_worker_has_confirmed(at: Visitor) -> None:
    issued = await at.keys.create("prod-api")
    async with client_for(ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True)) as app:
        assert (await app.get("/", headers=bearer(issued.secret))).status_code == 200
        await at.go(f"/keys/{issued.key.id}")
        await at.send(f"/keys/{issued.key.id}/disable")
        assert "The one running worker confirmed in 0." in at.words
        assert (await app.get("/", headers=bearer(issued.secret))).status_code == 401


async def test_a_key_is_rotated_once_with_grace(at: Visitor) -> None:
    issued = await at.keys.create("prod-api")
    await at.go(f"/keys/{issued.key.id}")
    form = at.page
    await at.send(f"/keys/{issued.key.id}/rotate", {"grace": "1h"})
    assert "The old one works for another 1 h." in at.words
    new = at.secret
    assert new != issued.secret
    for secret in (issued.secret, new):
        assert (await at.keys.explain(secret)).admitted
    at.page = form
    await at.send(f"/keys/{issued.key.id}/rotate", {"grace": "1h"})
    assert "was shown once" in at.words
    assert (await at.keys.explain(new)).admitted
    await at.go("/")
    assert "Rotating old secret 1 h more" in at.words


async def test_a_grace_that_is_not_offered_is_refused_and_nothing_rotated(at: Visitor) -> None:
    issued = await at.keys.create("prod-api")
    await at.go(f"/keys/{issued.key.id}")
    answer = await at.send(f"/keys/{issued.key.id}/rotate", {"grace": "9999d"})
    assert answer.status_code == 422
    assert (await at.keys.get(issued.key.id)).hint == issued.key.hint


async def test_quota_and_windows_are_reset(at: Visitor) -> None:
    issued = await at.keys.create("prod-api", quota=10, limits=["5/1d"])
    async with client_for(ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True)) as app:
        await app.get("/", headers=bearer(issued.secret))
    await at.go(f"/keys/{issued.key.id}")
    await at.send(f"/keys/{issued.key.id}/reset", {"reset": "windows"})
    assert "The windows are empty again." in at.words
    await at.send(f"/keys/{issued.key.id}/reset", {"reset": "quota"})
    assert "The quota is whole again." in at.words
    status = await at.keys.status(issued.key.id)
    assert status.quota is not None
    assert (status.quota.remaining, status.windows[0].remaining) == (10, 5)
    answer = await at.send(f"/keys/{issued.key.id}/reset", {"reset": "everything"})
    assert answer.status_code == 422


async def test_a_key_is_deleted_by_its_name_alone(at: Visitor) -> None:
    key = (await at.keys.create("prod-api")).key
    await at.go(f"/keys/{key.id}")
    answer = await at.send(f"/keys/{key.id}/delete", {"typed": "prod"})
    assert answer.status_code == 422
    assert "“prod” is not prod-api. Nothing was deleted." in at.words
    await at.send(f"/keys/{key.id}/delete", {"typed": "prod-api"})
    assert "prod-api is deleted." in at.words
    assert (await at.go(f"/keys/{key.id}")).status_code == 404


async def test_usage_is_drawn_and_stands_in_a_table_too(at: Visitor) -> None:
    issued = await at.keys.create("prod-api", limits=["2/1d"])
    guarded = ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=at.clock)
    async with client_for(guarded) as app:
        for _ in range(3):
            await app.get("/v1/models", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=3)
    for period in ("24h", "7d", "30d"):
        await at.go(f"/keys/{issued.key.id}?p={period}")
        assert "2 admitted, 1 refused" in at.words
        assert "window full rate_limit_exceeded 1" in at.words
        assert "203.0.113.10 3" in at.words
        assert at.page.text.count('class="no"') >= 1
    assert "last used just now from 203.0.113.10" in at.words


async def test_explain_draws_every_rule_with_its_margin(at: Visitor) -> None:
    await at.keys.create_group(Group("paid", routes=["POST /v1/chat/*"], multiplier=2))
    key = (await at.keys.create("prod-api", group="paid", quota=100, limits=["50/5h"])).key
    await at.go(f"/keys/{key.id}?ip=203.0.113.7&method=POST&path=/v1/chat/x&cost=20")
    assert "It would be let in." in at.words
    assert "5 h passes. needs 40 of 50 left 10 to spare" in at.words
    assert "Quota passes. needs 40 of 100 left 60 to spare" in at.words
    await at.go(f"/keys/{key.id}?ip=203.0.113.7&method=GET&path=/other&cost=30")
    assert "Refused: route not in the group. 403 group_not_allowed" in at.words
    assert "5 h refused. needs 60 of 50 left 10 short" in at.words
    for wrong in ("cost=many", "cost=-1", "ip=nonsense", "at=whenever", "at=0001-01-01T00:00%2B14:00"):
        answer = await at.go(f"/keys/{key.id}?path=/&{wrong}")
        assert answer.status_code == 200
        assert "It would be let in." not in at.words


async def test_explain_tells_what_a_group_of_the_service_s_settings_charges(clock: ManualClock) -> None:
    paid = Group("paid", routes=["/v1/*"], limits=["10/1d", "5 requests/1h"], multiplier=3)
    async with (
        KeyManager(MemoryBackend(), groups=[paid], clock=clock) as keys,
        visitor(keys, clock) as at,
    ):
        key = (await keys.create("prod-api", group="paid", max_concurrency=2)).key
        await at.sign_in()
        await at.go(f"/keys/{key.id}?path=/v1/models&cost=2&method=GET&ip=203.0.113.7")
        for words in ("needs 6 of 10 left 4 to spare", "needs 1 of 5 left 4 to spare", "needs 1 of 2 left 1 to spare"):
            assert words in at.words
        assert "those of the app" not in at.words


async def test_a_key_is_edited_and_the_change_stands_in_its_history(at: Visitor) -> None:
    token = next(token.name for token in await at.tokens.list())
    key = (await at.keys.create("prod-api", quota=10, expires_in="30d", metadata={"team": "x"})).key
    await at.go(f"/keys/{key.id}/edit")
    fields = {"name": "prod-web", "expires": "keep", "quota": "20,000", "no_windows": "1", "stored_in": "vault"}
    await at.send(f"/keys/{key.id}/edit", fields)
    assert "Saved. Running apps follow within a second." in at.words
    changed = await at.keys.get(key.id)
    assert (changed.name, changed.quota, changed.limits) == ("prod-web", 20_000, ())
    assert (changed.expires_at, changed.metadata) == (key.expires_at, {"team": "x", "stored_in": "vault"})
    assert f"token {token}" in at.words
    assert "quota 10 → 20,000" in at.words


async def test_what_somebody_else_saved_meanwhile_is_shown_beside_what_was_typed(
    at: Visitor, clock: ManualClock
) -> None:
    key = (await at.keys.create("prod-api", quota=10)).key
    await at.go(f"/keys/{key.id}/edit")
    clock.move(60)
    await at.keys.update(key.id, quota=30)
    answer = await at.send(f"/keys/{key.id}/edit", {"name": "prod-web", "expires": "never", "quota": "10"})
    assert answer.status_code == 412
    assert "Somebody else changed this key" in at.words
    assert "Name prod-api prod-web" in at.words
    assert "Quota 30 10" in at.words
    assert (await at.keys.get(key.id)).name == "prod-api"
    await at.send(f"/keys/{key.id}/edit", {"name": "prod-web", "expires": "never", "quota": "30", "lock": at.lock})
    assert (await at.keys.get(key.id)).name == "prod-web"


async def test_a_list_that_locks_out_recent_callers_is_saved_only_when_forced(at: Visitor) -> None:
    issued = await at.keys.create("prod-api")
    async with client_for(ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=at.clock)) as app:
        await app.get("/", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=1)
    await at.go(f"/keys/{issued.key.id}/edit")
    fields = {"name": "prod-api", "expires": "never", "allow_ips": "10.0.0.0/8", "lock": at.lock}
    answer = await at.send(f"/keys/{issued.key.id}/edit", fields)
    assert answer.status_code == 409
    assert "This would lock out an address that called in the last 7 days. 203.0.113.10" in at.words
    assert (await at.keys.get(issued.key.id)).allow_ips == ()
    await at.send(f"/keys/{issued.key.id}/edit", {**fields, "force": "1"})
    assert (await at.keys.get(issued.key.id)).allow_ips == ("10.0.0.0/8",)


async def test_the_list_of_addresses_is_learned_from_who_called_and_saved_by_the_reader(at: Visitor) -> None:
    issued = await at.keys.create("prod-api")
    path = f"/keys/{issued.key.id}/edit"
    async with client_for(ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=at.clock)) as app:
        await app.get("/", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=1)
    filled = '<textarea class="mono" id="allow_ips" name="allow_ips" rows="2"'
    await at.go(f"{path}?allow=learned")
    assert re.search(rf"{filled}[^>]*>203.0.113.10</textarea>", at.page.text)
    await at.go(path)
    assert re.search(rf"{filled}[^>]*></textarea>", at.page.text)
    fields = {"name": "prod-api", "expires": "never", "quota": "77", "lock": at.lock}
    await at.send(path, {**fields, "do": "learned"})
    assert re.search(rf"{filled}[^>]*>203.0.113.10</textarea>", at.page.text)
    # What was typed stays, and nothing is saved by it.
    assert 'value="77"' in at.page.text
    assert (await at.keys.get(issued.key.id)).allow_ips == ()
    await at.send(path, {**fields, "allow_ips": "203.0.113.10"})
    assert (await at.keys.get(issued.key.id)).allow_ips == ("203.0.113.10",)


async def test_the_note_of_where_a_key_is_kept_never_holds_the_key(at: Visitor) -> None:
    issued = await at.keys.create("prod-api")
    await at.go(f"/keys/{issued.key.id}")
    await at.send(f"/keys/{issued.key.id}/stored", {"stored_in": issued.secret})
    assert "This looks like a key." in at.words
    assert issued.secret not in at.text
    await at.send(f"/keys/{issued.key.id}/stored", {"stored_in": "vault: web"})
    assert "Stored in vault: web" in at.words


async def test_the_note_overwrites_nothing_that_somebody_else_saved_meanwhile(
    at: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await at.keys.create("prod-api")).key
    read = KeyManager.get

    async def somebody_is_quicker(keys: KeyManager, key_id: str) -> ApiKey:
        found = await read(keys, key_id)
        await keys.backend.change(key_id, {"metadata": {"team": "blue"}}, note=Note("ann", "key.update", at.clock()))
        return found

    await at.go(f"/keys/{key.id}")
    with monkeypatch.context() as patch:
        patch.setattr(KeyManager, "get", somebody_is_quicker)
        answer = await at.send(f"/keys/{key.id}/stored", {"stored_in": "vault: web"}, follow=False)
    assert answer.status_code == 409
    assert (await at.keys.get(key.id)).metadata == {"team": "blue"}


async def test_groups_are_made_changed_and_deleted(at: Visitor) -> None:
    await at.go("/groups/new")
    fields = {"name": "team/paid", "routes": "POST /v1/chat/*\n/v1/models", "limits": "60/1m", "enabled": "1"}
    answer = await at.send("/groups/new", {**fields, "multiplier": "two"})
    assert answer.status_code == 422
    assert "'two' must be a number from 0 up" in at.words
    await at.send("/groups/new", {**fields, "multiplier": "0.5", "shared_limits": "600/1m"})
    assert "Group team/paid is created." in at.words
    assert "0.5" in at.words.partition("Price")[2]
    await at.keys.create("one", group="team/paid")
    await at.go("/groups/one?name=team/paid")
    answer = await at.send("/groups/one?name=team/paid", {**fields, "limits": "10/1m", "multiplier": "0.5"})
    assert answer.status_code == 409
    assert "A window gets tighter: it holds for 1 key that can call now." in at.words
    assert [str(limit) for limit in (await at.keys.get_group("team/paid")).limits] == ["60/1m"]
    await at.send("/groups/one?name=team/paid", {**fields, "limits": "10/1m", "multiplier": "1", "force": "1"})
    assert [str(limit) for limit in (await at.keys.get_group("team/paid")).limits] == ["10/1m"]
    await at.go("/groups/one?name=team/paid")
    await at.send("/groups/delete?name=team/paid", {"typed": "team/paid"})
    assert "Group team/paid is deleted." in at.words


async def test_a_route_that_goes_is_told_with_its_recent_calls(at: Visitor) -> None:
    await at.keys.create_group(Group("paid", routes=["/v1/*"]))
    issued = await at.keys.create("one", group="paid")
    async with client_for(ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=at.clock)) as app:
        await app.get("/v1/models", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=1)
    await at.go("/groups/one?name=paid")
    answer = await at.send("/groups/one?name=paid", {"routes": "POST /v2/*", "multiplier": "1", "enabled": "1"})
    assert answer.status_code == 409
    assert "Called in the last 24 hours and no longer allowed:" in at.words


async def test_a_mistake_in_a_group_is_never_markup(at: Visitor) -> None:
    await at.go("/groups/new")
    await at.send("/groups/new", {"name": "x", "routes": "<img src=x>", "multiplier": "1"})
    assert "<img" not in at.page.text.partition("<main")[2]
    assert "'<img src=x>' is no route" in at.words


async def test_the_audit_trail_is_shown_filtered_and_exported(at: Visitor) -> None:
    key = (await at.keys.create("=cmd", quota=5)).key
    await at.keys.disable(key.id)
    await at.go("/audit")
    assert "=cmd created: group default; quota 5" in at.words
    assert "=cmd disabled" in at.words
    await at.go("/audit?action=key.disable")
    assert "created: group" not in at.words
    lines = (await at.client.get("/audit.jsonl")).text.splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["key.disable", "key.create", "token.create"]
    exported = await at.client.get("/audit.csv")
    assert ",'=cmd," in exported.text
    assert exported.headers["content-disposition"] == 'attachment; filename="ak_guard-audit.csv"'


async def test_admin_tokens_are_made_shown_once_and_revoked(at: Visitor) -> None:
    await at.go("/settings")
    form = at.page
    fields = {"name": "ci-deploy", "role": "editor", "ends": "30d"}
    await at.send("/settings/tokens", fields)
    secret = at.secret
    found = await at.tokens.who(secret)
    assert found is not None
    assert (found.name, found.role) == ("ci-deploy", "editor")
    at.page = form
    await at.send("/settings/tokens", fields)
    assert "This token was shown once." in at.words
    assert secret not in at.text
    await at.go("/settings")
    assert "ci-deploy" in at.words
    await at.send(f"/settings/tokens/{found.id}/revoke")
    assert await at.tokens.who(secret) is None
    await at.send("/settings/tokens", {"name": "", "role": "editor"})
    assert "must be 1 to 200 printable characters" in at.words


async def test_an_editor_sees_tokens_and_changes_none(at: Visitor) -> None:
    at.client.cookies.clear()
    await at.sign_in("editor")
    await at.go("/settings")
    assert "Create token" not in at.words
    assert (await at.send("/settings/tokens", {"name": "mine", "role": "owner"})).status_code == 403
    assert "It may look, and change keys and groups, and nothing else." in at.words
    assert len(await at.tokens.list()) == 2


@pytest.mark.parametrize("at", ["sqlite"], indirect=True)
async def test_settings_show_the_running_workers(at: Visitor) -> None:
    async with client_for(ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True)) as app:
        await app.get("/", headers=bearer((await at.keys.create("prod-api")).secret))
        await at.go("/settings")
        (worker,) = await at.keys.workers()
        assert worker.revision > 0
        assert f"up to date {worker.revision} 0" in at.words
        assert f"1 worker live, all at revision {worker.revision}" in at.text


async def test_shortcuts_theme_and_zone_are_chosen(at: Visitor) -> None:
    await at.go("/settings")
    fields = {"shortcuts": "off", "theme": "dark", "zone": "Asia/Shanghai", "back": "/settings"}
    await at.send("/appearance", fields)
    assert 'data-theme="dark"' in at.page.text
    assert 'data-keys="off"' in at.page.text
    assert "Times in Asia/Shanghai" in at.text


async def test_the_zone_that_was_chosen_wins_over_that_of_the_browser_also_under_a_prefix(clock: ManualClock) -> None:
    async with (
        KeyManager(MemoryBackend(), clock=clock) as keys,
        visitor(keys, clock, prefix="/console") as at,
    ):
        token = await at.tokens.create("mine", role="owner")
        # As the script does it.
        at.client.cookies.set("ak_tz", "America%2FNew_York", domain="testserver.local", path="/")
        await at.go("/console/sign-in")
        await at.send("/console/sign-in", {"token": token.secret})
        assert "Times in America/New_York" in at.text
        await at.send("/console/appearance", {"zone": "Asia/Shanghai", "back": "/settings"})
        assert "Times in Asia/Shanghai" in at.text


async def test_the_console_works_under_a_prefix(clock: ManualClock) -> None:
    async with (
        KeyManager(MemoryBackend(), clock=clock) as keys,
        visitor(keys, clock, prefix="/console") as at,
    ):
        key = (await keys.create("prod-api")).key
        token = await at.tokens.create("mine", role="owner")
        await at.go(f"/console/keys/{key.id}")
        await at.send("/console/sign-in", {"token": token.secret, "next": f"/keys/{key.id}"})
        assert at.page.url.path == f"/console/keys/{key.id}"
        await at.send(f"/console/keys/{key.id}/disable")
        assert "prod-api is disabled." in at.words
        hrefs = {part.partition('"')[0] for part in at.page.text.split('href="')[1:]}
        assert all(href.startswith(("/console", "#")) for href in hrefs)


async def test_a_network_that_was_ours_is_not_told_as_new_again_until_that_is_taken_back(at: Visitor) -> None:
    issued = await at.keys.create("prod-web", metadata={"stored_in": "vault: web"})
    path = f"/keys/{issued.key.id}"
    guarded = ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=at.clock)
    async with client_for(guarded) as usual, client_for(guarded, ip="198.51.100.17") as travelling:
        for _ in range(25):
            await usual.get("/", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=25)
        at.clock.move("30h")
        await at.sign_in()
        await travelling.get("/", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=1)
    await at.go(path)
    assert "A new network." in at.words
    assert "Not us: it leaked It was us Allow only known addresses" in at.words
    await at.send(f"{path}/ours", {"network": "198.51.100.0/24"})
    assert "198.51.100.0/24 is kept as yours." in at.words
    assert "A new network." not in at.words
    assert "Said to be ours 198.51.100.0/24 Take it back" in at.words
    assert "known_networks" in at.words.partition("History")[2]
    assert not await at.keys.anomalies(issued.key.id)
    assert (await at.keys.get(issued.key.id)).metadata["stored_in"] == "vault: web"
    await at.send(f"{path}/ours", {"forget": "198.51.100.0/24"})
    assert "A new network." in at.words
    answer = await at.send(f"{path}/ours", {"network": "<b>"})
    assert answer.status_code == 422


async def test_a_canary_is_silent_until_somebody_calls_with_it(at: Visitor) -> None:
    await at.go("/keys/new?template=canary")
    assert "A canary: every call with it is refused and is an alarm." in at.words
    await at.send("/keys/new", {"name": "front-end-bundle", "group": "canary", "expires": "never"})
    secret, key = at.secret, (await at.keys.list())[0]
    await at.go("/")
    assert "Canary, silent never expires" in at.words
    assert "Worth a look" not in at.words
    await at.go(f"/keys/{key.id}")
    assert "A silent canary." in at.words
    guarded = ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=at.clock)
    async with client_for(guarded, ip="198.51.100.17") as thief:
        assert (await thief.get("/", headers=bearer(secret))).status_code == 403
        await at.usage_written(key.id, calls=1)
    # It is told wherever it stands.
    for number in range(26):
        at.clock.move(1)
        await at.keys.create(f"key-{number:02}")
    await at.go("/?sort=-created")
    assert "front-end-bundle was called 26 s ago from 198.51.100.17. It is a canary: nobody should have it." in at.words
    assert ">front-end-bundle</a></span>" not in at.page.text
    await at.go("/?q=bundle")
    assert "Canary called never expires" in at.words
    await at.go(f"/keys/{key.id}")
    assert "A canary was called. It was called 26 s ago from 198.51.100.17 and refused." in at.words


async def test_a_group_of_that_name_that_lets_callers_in_has_ordinary_keys(at: Visitor) -> None:
    key = (await at.keys.create("prod-next", group="canary")).key
    await at.keys.create_group(Group("canary"))
    await at.go("/")
    assert "Canary, silent" not in at.words
    assert "prod-next prod" in at.words
    await at.keys.update_group(Group("canary", enabled=False))
    await at.go("/groups")
    assert "canary Alarm only" in at.words
    await at.go(f"/keys/{key.id}")
    assert "Canary, silent" in at.words
