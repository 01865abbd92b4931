"""The console without a script: who gets in, the list, making a key, and what is done with several."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from ak_guard import Group, KeyManager
from ak_guard.admin.console.app import POLICY
from ak_guard.admin.console.sessions import FAILURES, Sessions
from ak_guard.admin.tokens import AdminIdentity
from ak_guard.backends import MemoryBackend
from tests.admin.consoles import Visitor, visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ak_guard.testing import ManualClock


@pytest.fixture
async def at(clock: ManualClock) -> AsyncIterator[Visitor]:
    async with KeyManager(MemoryBackend(), clock=clock) as keys, visitor(keys, clock) as there:
        yield there


async def test_nobody_sees_a_page_without_a_token(at: Visitor) -> None:
    for path in ("/", "/keys/new", "/groups", "/audit", "/settings"):
        page = await at.go(path)
        assert page.url.path == "/sign-in"
        assert "worker" not in at.words


async def test_a_token_opens_the_console_and_leads_on_to_the_page_that_was_asked_for(at: Visitor) -> None:
    token = await at.tokens.create("mine", role="viewer")
    await at.go("/?group=paid")
    assert (await at.send("/sign-in", {"token": token.secret, "next": "/?group=paid"})).url.query == b"group=paid"
    assert "mine" in at.text


async def test_a_next_page_elsewhere_is_not_followed(at: Visitor) -> None:
    token = await at.tokens.create("mine", role="viewer")
    for elsewhere in ("https://evil.example/", "//evil.example/", "/\\evil.example"):
        await at.go("/sign-in")
        answer = await at.send("/sign-in", {"token": token.secret, "next": elsewhere}, follow=False)
        assert answer.headers["location"] == "/"


async def test_a_wrong_token_an_api_key_and_an_ended_token_get_the_same_answer(at: Visitor, clock: ManualClock) -> None:
    ended = await at.tokens.create("old", role="owner", expires_in="1h")
    api_key = await at.keys.create("prod-api")
    clock.move("2h")
    said = set()
    for text in ("no-token-at-all", api_key.secret, ended.secret):
        await at.go("/sign-in")
        answer = await at.send("/sign-in", {"token": text})
        assert answer.status_code == 403
        assert text not in at.text
        said.add(at.words)
    assert len(said) == 1


async def test_five_wrong_tokens_close_the_form_for_a_minute(at: Visitor, clock: ManualClock) -> None:
    right = await at.tokens.create("mine", role="owner")
    for _ in range(5):
        await at.go("/sign-in")
        await at.send("/sign-in", {"token": "wrong"})
    await at.go("/sign-in")
    assert (await at.send("/sign-in", {"token": right.secret})).status_code == 429
    clock.move("61s")
    await at.go("/sign-in")
    assert (await at.send("/sign-in", {"token": right.secret})).url.path == "/"


async def test_many_guesses_at_once_are_no_way_round_the_limit(at: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    who = at.tokens.who

    async def after_a_moment(text: str | bytes) -> AdminIdentity | None:
        await asyncio.sleep(0.001)  # as a database takes it
        return await who(text)

    monkeypatch.setattr(at.tokens, "who", after_a_moment)
    await at.go("/sign-in")
    proof = re.findall(r'name="proof" value="([^"]+)"', at.page.text)[0]
    guesses = [at.client.post("/sign-in", data={"proof": proof, "token": f"wrong {n}"}) for n in range(40)]
    answers = await asyncio.gather(*guesses)
    assert Counter(answer.status_code for answer in answers) == {403: FAILURES, 429: 40 - FAILURES}


async def test_no_number_of_sign_outs_brings_a_session_back(at: Visitor, clock: ManualClock) -> None:
    sessions = Sessions(clock)
    owner = AdminIdentity("tok_owner", "owner", "owner", None)
    viewer = AdminIdentity("tok_viewer", "viewer", "viewer", None)
    left = sessions.begin(owner)
    stays = sessions.begin(owner)
    session = sessions.read(left)
    assert session is not None
    sessions.end(session)
    for _ in range(20_000):
        other = sessions.read(sessions.begin(viewer))
        assert other is not None
        sessions.end(other)
    assert sessions.read(left) is None
    # Whoever signs in often signs out nobody but himself.
    for _ in range(500):
        sessions.begin(viewer)
    assert sessions.read(stays) is not None


async def test_pages_with_other_letters_lead_on_and_back(at: Visitor) -> None:
    token = await at.tokens.create("mine", role="viewer")
    await at.go("/sign-in")
    answer = await at.send("/sign-in", {"token": token.secret, "next": "/?search=键"}, follow=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?search=%E9%94%AE")
    await at.go("/?search=键")
    answer = await at.send("/language", {"language": "zh", "back": "/?search=键&group=a%20b"}, follow=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?search=%E9%94%AE&group=a%20b")


@pytest.mark.parametrize("before", ["9" * 26, "²", "-1", "x"])
async def test_a_place_in_the_trail_that_is_none_is_its_beginning(at: Visitor, before: str) -> None:
    await at.sign_in()
    assert (await at.go(f"/audit?before={before}")).status_code == 200


async def test_every_page_has_the_strict_policy_and_is_not_stored(at: Visitor) -> None:
    await at.sign_in()
    for path in ("/", "/keys/new", "/sign-in", "/nowhere"):
        answer = await at.client.get(path)
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["cache-control"] == "no-store"
        assert "style=" not in answer.text
        assert "onclick" not in answer.text


async def test_the_cookie_of_a_session_is_for_the_server_alone(at: Visitor) -> None:
    token = await at.tokens.create("mine", role="owner")
    await at.go("/sign-in")
    answer = await at.send("/sign-in", {"token": token.secret}, follow=False)
    cookie = next(line for line in answer.headers.get_list("set-cookie") if line.startswith("ak_guard_session"))
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert token.secret not in cookie


async def test_a_token_with_the_longest_name_there_is_opens_the_console_and_changes_keys(at: Visitor) -> None:
    name = "n" * 200
    token = await at.tokens.create(name, role="editor")
    key = (await at.keys.create("prod-api")).key
    await at.go("/sign-in")
    await at.send("/sign-in", {"token": token.secret})
    await at.go(f"/keys/{key.id}")
    await at.send(f"/keys/{key.id}/disable")
    assert "prod-api is disabled." in at.words
    (entry,) = await at.keys.audit(limit=1)
    assert (entry.action, entry.actor) == ("key.disable", f"token {name}"[:200])


async def test_a_form_without_its_proof_changes_nothing(at: Visitor) -> None:
    await at.sign_in()
    answer = await at.client.post("/keys/new", data={"name": "sneaked-in", "expires": "never", "proof": "guessed"})
    assert answer.status_code == 403
    assert await at.keys.list() == []


async def test_a_form_from_another_site_changes_nothing(at: Visitor) -> None:
    await at.sign_in()
    at.client.headers["sec-fetch-site"] = "cross-site"
    assert (await at.send("/keys/new", {"name": "sneaked-in", "expires": "never"})).status_code == 403
    assert await at.keys.list() == []


async def test_signing_out_ends_the_session_also_for_a_kept_cookie(at: Visitor) -> None:
    await at.sign_in()
    kept = at.client.cookies["ak_guard_session"]
    await at.send("/sign-out")
    at.client.cookies.set("ak_guard_session", kept)
    assert (await at.go("/")).url.path == "/sign-in"


async def test_signing_out_everywhere_ends_the_other_sessions_of_the_token(at: Visitor, clock: ManualClock) -> None:
    token = await at.sign_in()
    other = at.client.cookies["ak_guard_session"]
    at.client.cookies.clear()
    clock.move(1)
    await at.go("/sign-in")
    await at.send("/sign-in", {"token": token})
    await at.send("/sign-out", {"everywhere": "1"})
    at.client.cookies.set("ak_guard_session", other)
    assert (await at.go("/")).url.path == "/sign-in"


async def test_a_session_ends_with_its_token(at: Visitor) -> None:
    await at.sign_in()
    assert (await at.go("/")).url.path == "/"
    for token in await at.tokens.list():
        await at.tokens.revoke(token.id)
    assert (await at.go("/")).url.path == "/sign-in"


async def test_a_session_ends_by_itself(at: Visitor, clock: ManualClock) -> None:
    await at.sign_in()
    clock.move("13h")
    assert (await at.go("/")).url.path == "/sign-in"


async def test_a_viewer_may_look_and_change_nothing(at: Visitor) -> None:
    await at.keys.create("prod-api")
    await at.sign_in("viewer")
    assert "Create key" not in at.words
    assert (await at.go("/keys/new")).status_code == 403
    assert "It may look, and nothing else. Somebody with a token of a higher role can." in at.words
    await at.go("/")
    key = (await at.keys.list())[0]
    assert (await at.send("/keys/bulk", {"do": "disable", "id": key.id})).status_code == 403
    assert (await at.keys.get(key.id)).enabled


async def test_a_key_is_made_and_its_secret_shown_once(at: Visitor) -> None:
    await at.keys.create_group(Group("paid", routes=["POST /v1/chat/*"], limits=["60/1m"]))
    await at.sign_in()
    await at.go("/keys/new?template=contractor")
    fields = {
        "name": "contractor-search",
        "group": "paid",
        "expires": "14d",
        "allow_ips": "203.0.113.5/24\n2001:db8::1",
        "deny_ips": "203.0.113.9",
        "quota": "4,000",
        "window_amount": ["200", "500", ""],
        "window_unit": ["units", "requests", "units"],
        "window_length": ["5h", "1d", ""],
        "window_anchor": ["first-use", "calendar Europe/Berlin", "first-use"],
        "owner": "web team",
        "stored_in": "vault: search",
    }
    answer = await at.send("/keys/new", fields)
    assert answer.status_code == 200
    assert answer.url.path == "/keys/new"
    secret = at.secret
    title = answer.text.partition("<title>")[2].partition("</title>")[0]
    assert secret not in title
    assert f"CONTRACTOR_SEARCH_API_KEY={secret}" in at.text
    key = (await at.keys.list())[0]
    assert (await at.keys.explain(secret, ip="203.0.113.7", path="/v1/chat/x", method="POST")).admitted
    assert [str(limit) for limit in key.limits or ()] == ["200/5h", "500 requests/1d calendar Europe/Berlin"]
    assert (key.allow_ips, key.deny_ips) == (("203.0.113.0/24", "2001:db8::1"), ("203.0.113.9",))
    assert (key.quota, key.owner, key.group) == (4000, "web team", "paid")
    assert key.metadata["stored_in"] == "vault: search"
    await at.go("/")
    assert secret not in at.text
    assert "contractor-search" in at.words


async def test_the_same_form_sent_again_makes_no_second_key(at: Visitor) -> None:
    await at.sign_in()
    await at.go("/keys/new")
    form = at.page
    fields = {"name": "prod-api", "expires": "90d"}
    await at.send("/keys/new", fields)
    secret = at.secret
    at.page = form
    await at.send("/keys/new", fields)
    assert "was shown once at" in at.words
    assert secret not in at.text
    assert len(await at.keys.list()) == 1


async def test_mistakes_are_told_at_their_fields_and_nothing_typed_is_lost(at: Visitor) -> None:
    await at.sign_in()
    await at.go("/keys/new")
    fields = {
        "name": "",
        "allow_ips": "203.0.113.1\n203.0.113.0/33",
        "quota": "many",
        "window_amount": ["500"],
        "window_unit": ["units"],
        "window_length": ["1 dy"],
        "window_anchor": ["first-use"],
    }
    answer = await at.send("/keys/new", fields)
    assert answer.status_code == 422
    assert "<title>Error: " in answer.text
    for text in (
        "A key needs a name, such as prod-api.",
        "Choose when this key ends, or that it never does.",
        "Line 2 is not an address: 203.0.113.0/33.",
        "“many” is not a whole number of units.",
        "“1 dy” is not a length of time. Write it as 1d, 24h or 90m.",
    ):
        assert at.words.count(text) >= 2, text
    assert ">203.0.113.1\n203.0.113.0/33</textarea>" in at.text
    assert 'value="1 dy"' in at.text
    assert await at.keys.list() == []


async def test_a_key_that_is_pasted_as_a_name_or_an_owner_is_told_as_such(at: Visitor) -> None:
    pasted = (await at.keys.create("prod-api")).secret
    await at.sign_in()
    for field in ("name", "owner"):
        await at.go("/keys/new")
        fields = {"name": "prod-web", "expires": "never", field: pasted}
        assert (await at.send("/keys/new", fields)).status_code == 422
        assert "This looks like a key, and everybody here can read it. Write something else." in at.words
        assert "200 printable characters" not in at.words
    await at.go("/keys/new")
    await at.send("/keys/new", {"name": "n" * 201, "owner": "o" * 201, "expires": "never"})
    assert "A name has at most 200 printable characters." in at.words
    assert "At most 200 printable characters." in at.words
    assert "This looks like a key" not in at.words


async def test_a_custom_key_that_is_easily_guessed_is_told_and_never_sent_back(at: Visitor) -> None:
    await at.sign_in()
    await at.go("/keys/new")
    answer = await at.send("/keys/new", {"name": "prod-api", "expires": "never", "key": "password-password-1"})
    assert answer.status_code == 422
    assert "This text cannot be a key" in at.words
    assert "password-password-1" not in at.text


async def test_checking_creates_nothing_and_reads_the_rules_back(at: Visitor) -> None:
    await at.sign_in()
    await at.go("/keys/new")
    fields = {
        "name": "prod-api",
        "expires": "14d",
        "quota": "20000",
        "window_amount": ["2000"],
        "window_unit": ["units"],
        "window_length": ["7d"],
        "window_anchor": ["first-use"],
    }
    await at.send("/keys/new", {**fields, "do": "check"})
    assert "Everything can be read. Nothing was created yet." in at.words
    assert "That quota can never be reached: no more than 4,000 units fit into 14 days of these windows." in at.words
    assert await at.keys.list() == []
    await at.send("/keys/check", fields)
    assert "That quota can never be reached" in at.text


async def test_one_s_own_address_is_added_to_the_list(at: Visitor) -> None:
    await at.sign_in()
    await at.go("/keys/new")
    await at.send("/keys/new", {"name": "prod-api", "allow_ips": "10.0.0.0/8", "do": "add-mine"})
    assert ">10.0.0.0/8\n203.0.113.10</textarea>" in at.text
    assert "Your own address, 203.0.113.10, is among them." in at.words


async def test_the_list_tells_state_expiry_and_budgets(at: Visitor) -> None:
    await at.keys.create("prod-api", quota=100, limits=["10/5h", "20/1d"], allow_ips=["10.0.0.0/8", "10.1.1.1"])
    await at.keys.create("dev-local", expires_in="3d", limits=[])
    await at.keys.create("staging-old", enabled=False)
    await at.sign_in()
    assert "3 keys: 2 can call now, 1 is disabled, 1 ends within a week." in at.words
    row = at.words.partition("prod-api prod")[2]
    assert "2 networks Active never expires" in row
    assert "of 100 0% 100 left" in row
    assert "5 h 0% not started. 0 used, 10 of 10 left 1 day 0% not started" in row
    assert "ends in 3 days" in at.words
    assert 'datetime="2027-01-18T08:00:00Z" data-left>3 days</time>' in at.page.text
    assert "dev-local ends in 3 days, on" in at.words


async def test_the_list_is_searched_filtered_and_sorted(at: Visitor) -> None:
    for name, group in (("prod-api", "paid"), ("prod-web", None), ("dev-api", "paid")):
        await at.keys.create(name, group=group)
    await at.sign_in()

    def names() -> list[str]:
        return [name for name in ("prod-api", "prod-web", "dev-api") if f'">{name}</a>' in at.page.text]

    await at.go("/?q=api")
    assert names() == ["prod-api", "dev-api"]
    await at.go("/?group=paid&env=production")
    assert names() == ["prod-api"]
    await at.go("/?state=disabled")
    assert "No key matches" in at.words
    assert "3 keys are there without it." in at.words
    await at.go("/?sort=name")
    assert (
        at.page.text.index(">dev-api</a>") < at.page.text.index(">prod-api</a>") < at.page.text.index(">prod-web</a>")
    )
    assert 'aria-sort="ascending"' in at.page.text
    await at.go("/?sort=nonsense")
    assert len(names()) == 3


async def test_pages_lead_on_and_back(at: Visitor, clock: ManualClock) -> None:
    for number in range(30):
        clock.move(1)
        await at.keys.create(f"key-{number:02}")
    await at.sign_in()
    await at.go("/?sort=-created")
    assert ">key-29</a>" in at.page.text
    assert ">key-04</a>" not in at.page.text
    onward = at.text.partition('rel="next"')[0].rpartition('href="')[2].partition('"')[0]
    await at.go(onward)
    assert ">key-04</a>" in at.page.text
    assert ">key-29</a>" not in at.page.text
    back = at.text.partition('rel="prev"')[0].rpartition('href="')[2].partition('"')[0]
    await at.go(back)
    assert ">key-29</a>" in at.page.text


async def test_several_keys_are_disabled_moved_and_deleted(at: Visitor) -> None:
    await at.keys.create_group(Group("paid"))
    ids = [(await at.keys.create(name)).key.id for name in ("one", "two", "three")]
    await at.sign_in()
    await at.send("/keys/bulk", {"do": "disable", "id": ids[:2], "back": "/?sort=name"})
    assert at.page.url.params["sort"] == "name"
    assert "2 keys are disabled. No app is running on this backend, so it holds at once." in at.words
    assert [(await at.keys.get(key_id)).enabled for key_id in ids] == [False, False, True]
    await at.send("/keys/bulk", {"do": "enable", "id": ids[:1]})
    assert (await at.keys.get(ids[0])).enabled
    await at.send("/keys/bulk", {"do": "group", "id": ids[:2]})
    assert "Move 2 keys to a group" in at.words
    await at.send("/keys/bulk", {"do": "group", "id": ids[:2], "to": "paid"})
    assert [(await at.keys.get(key_id)).group for key_id in ids] == ["paid", "paid", "default"]
    await at.send("/keys/bulk", {"do": "delete", "id": ids[:2]})
    assert "Type 2 to delete these keys" in at.words
    await at.send("/keys/bulk", {"do": "delete", "id": ids[:2], "typed": "3"})
    assert "Nothing was deleted" in at.words
    await at.send("/keys/bulk", {"do": "delete", "id": ids[:2], "typed": "2"})
    assert [key.name for key in await at.keys.list()] == ["three"]


async def test_the_console_speaks_the_viewer_s_language_and_zone(at: Visitor) -> None:
    await at.keys.create("prod-api", expires_at="2027-03-01T12:00:00Z")
    at.client.headers["accept-language"] = "fr, zh-CN;q=0.9, en;q=0.8"
    at.client.cookies.set("ak_tz", "Asia%2FShanghai")
    await at.sign_in()
    assert 'lang="zh-Hans"' in at.page.text
    assert "API 密钥" in at.words
    assert "时间按 Asia/Shanghai 显示" in at.words
    await at.send("/language", {"language": "en", "back": "/?sort=name"})
    assert "API Keys" in at.words
    assert at.page.url.params["sort"] == "name"


async def test_what_people_type_is_never_markup(at: Visitor) -> None:
    name = '<img src=x onerror="alert(1)">&'
    await at.keys.create(name, owner="<b>", expires_in="2d")
    await at.sign_in()
    assert "<img" not in at.page.text.partition("<main")[2]
    assert name in at.text
    await at.go("/?q=<script>")
    assert "<script>" not in at.page.text.partition("<main")[2]


async def test_the_keys_that_end_soonest_are_named_wherever_they_stand(at: Visitor, clock: ManualClock) -> None:
    await at.keys.create("contractor-audit", expires_in="2d")
    for number in range(26):
        clock.move(1)
        await at.keys.create(f"key-{number:02}")
    await at.sign_in()
    await at.go("/?sort=-created")
    assert ">contractor-audit</a></span>" not in at.page.text
    assert "contractor-audit ends in 2 days, on" in at.words


async def test_keys_are_found_by_their_owner(at: Visitor) -> None:
    await at.keys.create("one", owner="web team")
    await at.keys.create("two", owner="billing")
    await at.sign_in()
    await at.go("/?owner=billing")
    assert ">two</a>" in at.page.text
    assert ">one</a>" not in at.page.text
