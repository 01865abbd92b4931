"""No page and no message of the Chinese console says anything in English but names and what a machine reads."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final

import pytest

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.keys import mint
from tests.admin.consoles import Visitor, visitor
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ak_guard.testing import ManualClock

#: What stands in a Chinese page as it is: names of things, words that are typed or read by a machine, keys to press.
NOT_ENGLISH: Final = {
    *("ak_guard", "API", "IP", "ID", "CIDR", "JavaScript", "Python", "OpenAI", "SDK", "curl", "env", "vault", "web"),
    *("CSV", "JSON", "Markdown", "UTC", "Europe", "Berlin", "Enter", "Esc"),
    *("GET", "POST", "PUT", "PATCH", "DELETE"),
    # The notation of limits, as it is typed
    *("units", "requests", "calendar", "sliding", "AMOUNT", "WINDOW"),
    # Tags and the groups, names and owners of these tests.
    *("prod", "staging", "dev", "test", "canary", "default", "paid", "team", "nothing", "python"),
}
_SILENT: Final = {"script", "style", "code", "pre", "kbd"}
_SPOKEN: Final = {"aria-label", "placeholder", "title", "alt"}
_TOLD_TO_SCRIPTS: Final = {"data-copied", "data-selected", "data-waiting", "data-sort", "data-spans"}
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z']+")
_VISITOR: Final = re.compile(r"(?:owner|editor|viewer) of the tests")
# Names, paths, addresses, durations and limits are one word with what is joined to them.
_JOINED: Final = re.compile(r"[\w.\-/:=…*@+<]*[0-9_.\-/:=…*@+<][\w.\-/:=…*@+<]*", re.ASCII)


class _Said(HTMLParser):
    """What a page says, in text and in attributes, without what is marked as another language or as code."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in {"input", "meta", "link", "br", "hr", "use"}:
            pass
        elif self._silent or tag in _SILENT or given.get("lang") == "en":
            self._silent.append(tag)
        self.said += [str(value) for name, value in given.items() if name in _SPOKEN | _TOLD_TO_SCRIPTS and value]

    def handle_endtag(self, tag: str) -> None:
        if self._silent and self._silent[-1] == tag:
            self._silent.pop()

    def handle_data(self, data: str) -> None:
        if not self._silent and data.strip():
            self.said.append(" ".join(data.split()))


def english(page: str) -> list[str]:
    """The words of a page that are English, each with where it stands."""
    reader = _Said()
    reader.feed(page)
    found = []
    for text in reader.said:
        plain = _JOINED.sub(" ", _VISITOR.sub(" ", text))
        words = [word for word in _WORD.findall(plain) if word not in NOT_ENGLISH]
        if words:
            found.append(f"{' '.join(words)}: {text[:120]}")
    return found


@pytest.fixture
async def at(clock: ManualClock) -> AsyncIterator[Visitor]:
    async with KeyManager(MemoryBackend(), clock=clock) as keys, visitor(keys, clock) as there:
        there.client.headers["accept-language"] = "zh-CN"
        yield there


def test_english_is_found_wherever_it_stands() -> None:
    page = (
        '<p>密钥 prod-api <code>never mind</code></p><input placeholder="Name"><b lang="en">English</b><i>two words</i>'
    )
    assert english(page) == ["Name: Name", "two words: two words"]


async def _filled(at: Visitor) -> dict[str, str]:
    """Keys in every state, with calls that were admitted and refused."""
    await at.keys.create_group(Group("paid", routes=["POST /v1/chat/*"], limits=["60/1m"], shared_limits=["600/1h"]))
    await at.keys.create_group(Group("team", enabled=False, multiplier=2))
    made = {
        "prod-api": await at.keys.create(
            "prod-api",
            quota=3,
            limits=["2/5h", "9 requests/1d calendar Europe/Berlin", "90/7d sliding", "900/30d"],
            allow_ips=["203.0.113.0/24"],
            deny_ips=["203.0.113.9"],
            owner="team",
            max_concurrency=2,
            metadata={"stored_in": "vault"},
        ),
        "staging-web": await at.keys.create("staging-web", group="paid", expires_in="2d"),
        "dev-local": await at.keys.create("dev-local", limits=[], expires_in="1h"),
        "test-used": await at.keys.create("test-used", quota=1),
        "prod-web": await at.keys.create("prod-web"),
        "prod-old": await at.keys.create("prod-old", group="team"),
        "test-bait": await at.keys.create("test-bait", group="canary"),
        "dev-bait": await at.keys.create("dev-bait", group="canary"),
    }
    guarded = ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=at.clock)
    async with client_for(guarded) as usual, client_for(guarded, ip="198.51.100.17") as stranger:
        for _ in range(30):
            await usual.get("/v1/models", headers=bearer(made["prod-web"].secret))
        await at.usage_written(made["prod-web"].key.id, calls=30)
        at.clock.move("26h")
        for name in (
            "prod-api",
            "prod-api",
            "prod-api",
            "test-used",
            "staging-web",
            "dev-local",
            "prod-web",
            "prod-old",
            "dev-bait",
        ):
            await usual.get("/v1/models", headers=bearer(made[name].secret))
        for _ in range(25):
            await stranger.get("/v1/models", headers=bearer(made["prod-api"].secret))
        await stranger.get("/v1/models", headers=bearer(made["prod-web"].secret))
        await at.usage_written(made["prod-api"].key.id, calls=28)
        await at.usage_written(made["prod-web"].key.id, calls=1)
    await at.keys.disable(made["prod-old"].key.id)
    return {name: issued.key.id for name, issued in made.items()}


async def test_no_page_says_anything_in_english(at: Visitor) -> None:
    found: dict[str, list[str]] = {}

    def looked_at(where: str) -> None:
        if told := english(at.page.text):
            found[where] = told

    await at.go("/sign-in")
    looked_at("sign-in")
    await at.send("/sign-in", {"token": "wrong"})
    looked_at("sign-in refused")
    await at.sign_in()
    looked_at("no keys")
    ids = await _filled(at)
    # So long a time ends a session.
    await at.sign_in()
    key, web = f"/keys/{ids['prod-api']}", f"/keys/{ids['prod-web']}"
    for path in (
        *("/", "/?sort=nonsense", "/?q=nothing&group=paid&owner=x&state=expired&env=none", "/nowhere"),
        *("/keys/new", *(f"/keys/new?template={kind}" for kind in ("production", "contractor", "canary"))),
        *(key, web, f"{key}?p=30d&path=/&cost=9&ip=10.0.0.1&method=GET", f"{key}?p=7d&path=/&cost=许多"),
        *(f"{key}?path=/&ip=无", f"{key}?path=/&at=何时", f"{key}?path=/&cost=-1"),
        *(f"/keys/{one}" for one in ids.values()),
        *(f"{key}/edit", f"{key}/leak", f"{web}/leak", "/groups", "/groups/new", "/groups/one?name=paid"),
        *("/audit", "/audit?action=key.disable", "/settings"),
    ):
        await at.go(path)
        looked_at(path)
    for role in ("viewer", "editor"):
        await at.sign_in(role)
        await at.send("/settings/tokens", {"name": "team", "role": "owner"})
        assert at.page.status_code == 403
        looked_at(f"refused to a {role}")
    assert found == {}


async def test_no_message_is_english(at: Visitor) -> None:
    found: dict[str, list[str]] = {}
    await at.sign_in()
    ids = await _filled(at)
    await at.sign_in()
    key, web = f"/keys/{ids['prod-api']}", f"/keys/{ids['prod-web']}"
    wrong = {
        "name": "字\x07",
        "allow_ips": "203.0.113.0/33",
        "deny_ips": "处处",
        "quota": "许多",
        "window_amount": ["500", "9", "一", "5"],
        "window_unit": ["units", "requests", "units", "units"],
        "window_length": ["1 天天", "", "5h", "0d"],
        "window_anchor": ["first-use", "calendar 无处", "first-use", "first-use"],
        "at_once": "-1",
        "expires": "date",
        "date": "何时",
        "owner": "字" * 300,
        "key": "password-password-1",
        "stored_in": "字" * 300,
        "group": "字" * 300,
    }
    right: dict[str, str | Sequence[str]] = {
        "name": "prod-web",
        "expires": "never",
        "window_amount": "5",
        "window_unit": "units",
    }
    right |= {"window_length": "5h", "window_anchor": "first-use"}
    pasted = mint("ak")
    both = [ids["prod-api"], ids["prod-web"]]
    group: dict[str, str | Sequence[str]] = {
        "name": "team/x",
        "routes": "POST /v1/*",
        "multiplier": "1",
        "enabled": "1",
    }
    steps: list[tuple[str, str, dict[str, str | Sequence[str]]]] = [
        ("/keys/new", "/keys/new", wrong),
        ("/keys/new", "/keys/new", {"key": "sk-1234"}),
        ("/keys/new", "/keys/new", {**wrong, "name": ""}),
        ("/keys/new", "/keys/new", {**wrong, "name": pasted, "owner": pasted, "stored_in": pasted}),
        ("/keys/new", "/keys/new", {**wrong, "expires": "无", "quota": "9" * 30, "at_once": "一"}),
        ("/keys/new", "/keys/check", wrong),
        ("/keys/new", "/keys/new", {**right, "do": "check"}),
        ("/keys/new", "/keys/new", {**right, "do": "add-mine"}),
        ("/keys/new", "/keys/new", right),
        (f"{key}/edit", f"{key}/edit", {**wrong, "key": ""}),
        (f"{key}/edit", f"{key}/edit", {**right, "allow_ips": "10.0.0.1", "deny_ips": "10.0.0.1"}),
        (f"{key}/edit", f"{key}/edit", {**right, "name": "prod-other", "no_windows": "1", "force": "1"}),
        (f"{key}/edit", f"{key}/edit", {**right, "lock": "0"}),
        (key, f"{key}/rotate", {"grace": "9999d"}),
        (key, f"{key}/rotate", {"grace": "24h"}),
        (key, f"{key}/rotate", {"grace": ""}),
        (key, f"{key}/reset", {"reset": "全部"}),
        (key, f"{key}/reset", {"reset": "windows"}),
        (key, f"{key}/reset", {"reset": "quota"}),
        (key, f"{key}/delete", {"typed": "密"}),
        (key, f"{key}/stored", {"stored_in": "ak_" + "a" * 38}),
        (web, f"{web}/ours", {"network": "198.51.100.0/24"}),
        (web, f"{web}/ours", {"forget": "198.51.100.0/24"}),
        (web, f"{web}/ours", {"network": "某网"}),
        (key, f"{key}/disable", {}),
        (key, f"{key}/enable", {}),
        ("/", "/keys/bulk", {"do": "disable"}),
        ("/", "/keys/bulk", {"do": "disable", "id": both}),
        ("/", "/keys/bulk", {"do": "enable", "id": both}),
        ("/", "/keys/bulk", {"do": "group", "id": both}),
        ("/", "/keys/bulk", {"do": "group", "id": both, "to": "字" * 300}),
        ("/", "/keys/bulk", {"do": "group", "id": both, "to": "default"}),
        ("/", "/keys/bulk", {"do": "delete", "id": both, "typed": "3"}),
        ("/groups/new", "/groups/new", {"name": "", "multiplier": "1"}),
        ("/groups/new", "/groups/new", {**group, "multiplier": "二"}),
        ("/groups/new", "/groups/new", {**group, "multiplier": "-1"}),
        ("/groups/new", "/groups/new", {**group, "routes": "一 二"}),
        ("/groups/new", "/groups/new", {**group, "limits": "九"}),
        ("/groups/new", "/groups/new", {**group, "limits": "9/9", "shared_limits": "1/1m"}),
        ("/groups/new", "/groups/new", {**group, "shared_limits": "0/1m"}),
        ("/groups/new", "/groups/new", {**group, "name": "paid"}),
        ("/groups/new", "/groups/new", group),
        ("/groups/one?name=paid", "/groups/one?name=paid", {"routes": "/x", "limits": "1/1m", "multiplier": "3"}),
        ("/groups/one?name=paid", "/groups/delete?name=paid", {"typed": "密"}),
        ("/groups/one?name=paid", "/groups/delete?name=paid", {"typed": "paid"}),
        (f"{web}/leak", f"{web}/leak", {"since": "date", "since_date": ""}),
        (f"{web}/leak", f"{web}/leak", {"since": "24h", "replace": "1", "only_known": "1"}),
        ("/settings", "/settings/tokens", {"name": "", "role": "owner"}),
        ("/settings", "/settings/tokens", {"name": pasted, "role": "owner"}),
        ("/settings", "/settings/tokens", {"name": "team", "role": "owner", "ends": "30d"}),
        ("/settings", "/keys/new", {"proof": "guessed"}),
        ("/audit", "/sign-out", {}),
    ]
    for number, (before, path, fields) in enumerate(steps):
        await at.go(before)
        await at.send(path, fields)
        if told := english(at.page.text):
            found[f"{number} {path} {at.page.status_code}"] = told
    assert found == {}
