"""The console while its store does not answer: what was seen last, marked as such, and nothing that changes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import BackendError, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.backends.workers import Confirmation, Worker
from tests.admin.consoles import Visitor, visitor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ak_guard.testing import ManualClock


class Flaky(MemoryBackend):
    """A store that can go away, with one app running on it."""

    away = False

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def __getattribute__(self, name: str) -> Any:
        asked = name in {"walk", "count", "get", "list_groups", "change", "tokens", "insert", "workers"}
        if asked and object.__getattribute__(self, "away"):
            raise BackendError("the store is away")
        return object.__getattribute__(self, name)

    async def workers(self) -> list[Worker]:
        seen = datetime.fromtimestamp(self._clock.now, UTC)
        return [Worker("w1", "app-1", seen, seen, seen + timedelta(seconds=65), 0, (), silent=False, revision=7)]

    async def confirm(self, *, timeout: float) -> Any:  # noqa: ASYNC109  # the interface of a backend
        raise AssertionError("nothing was changed")


class Leaving(Flaky):
    """One that goes away right after it has kept a change."""

    leaves = ""

    async def insert(self, *args: Any, **more: Any) -> None:
        await super().insert(*args, **more)
        self.away = self.leaves == "after insert"

    async def confirm(self, *, timeout: float) -> Confirmation:  # noqa: ASYNC109  # the interface of a backend
        self.away = self.leaves == "before confirm"
        if self.away:
            raise BackendError("the store is away")
        return Confirmation(0.0)


@pytest.fixture
async def at(clock: ManualClock) -> AsyncIterator[Visitor]:
    async with KeyManager(Flaky(clock), clock=clock) as keys, visitor(keys, clock) as there:
        yield there


@pytest.fixture
async def left(clock: ManualClock) -> AsyncIterator[Visitor]:
    async with KeyManager(Leaving(clock), clock=clock) as keys, visitor(keys, clock) as there:
        yield there


def leave(left: Visitor, when: str) -> None:
    assert isinstance(left.keys.backend, Leaving)
    left.keys.backend.leaves = when


def go_away(at: Visitor, *, away: bool = True) -> None:
    assert isinstance(at.keys.backend, Flaky)
    at.keys.backend.away = away


def buttons(at: Visitor) -> list[str]:
    """Those that change something: all but the language, the appearance and the way out."""
    page = at.page.text.partition("<main")[2].partition("<footer")[0]
    forms = re.findall(r'<form[^>]*method="post".*?</form>', page, re.DOTALL)
    changing = [form for form in forms if '/appearance"' not in form]
    return [button for form in changing for button in re.findall(r"<button(?! type)[^>]*>", form)]


async def test_the_page_seen_last_is_shown_with_its_time_and_nothing_can_be_changed(
    at: Visitor, clock: ManualClock
) -> None:
    key = (await at.keys.create("prod-api", quota=100, limits=["10/5h"])).key
    await at.sign_in()
    for path in ("/?sort=name", f"/keys/{key.id}", f"/keys/{key.id}/edit", "/keys/new", "/groups", "/settings"):
        await at.go(path)
        assert "prod-api" in at.words or path in {"/keys/new", "/groups", "/settings"}
        before = at.words
        clock.move(20)
        go_away(at)
        answer = await at.go(path)
        assert answer.status_code == 503
        banner, _, page = at.words.partition("Try again ")
        assert before.endswith(page)
        assert page.count(" ") > 20
        seen = clock.now - 20
        assert f"What you see is from {datetime.fromtimestamp(seen, UTC):%H:%M:%S}." in banner
        assert f"in until {datetime.fromtimestamp(seen + 60, UTC):%H:%M:%S} at least." in banner
        assert "Nothing you change now would be kept, so changing is off." in banner
        assert buttons(at) or path == "/groups"
        assert all(' disabled aria-describedby="stale"' in button for button in buttons(at))
        go_away(at, away=False)
        await at.go(path)
        assert 'id="stale"' not in at.page.text
        assert not any("disabled" in button for button in buttons(at))


async def test_how_long_keys_go_on_is_not_promised_when_nobody_can_know(at: Visitor, clock: ManualClock) -> None:
    await at.sign_in()
    await at.go("/")
    clock.move("1h")
    go_away(at)
    await at.go("/")
    assert "Running apps go on with the keys they know, for a minute unless they are set otherwise." in at.words
    assert "at least" not in at.words


async def test_what_nobody_has_seen_is_said_to_be_away(at: Visitor) -> None:
    await at.sign_in()
    go_away(at)
    answer = await at.go("/groups")
    assert answer.status_code == 503
    assert "The database does not answer." in at.words
    assert 'href="/"' in at.page.text


async def test_a_viewer_is_not_told_of_changes_that_he_may_not_make(at: Visitor) -> None:
    await at.sign_in("viewer")
    go_away(at)
    await at.go("/")
    assert "What you see is from" in at.words
    assert "changing is off" not in at.words


async def test_a_page_is_shown_again_to_the_session_that_saw_it_and_to_nobody_else(at: Visitor) -> None:
    await at.keys.create("prod-api")
    await at.sign_in()
    await at.go("/")
    first = dict(at.client.cookies)
    at.client.cookies.clear()
    await at.sign_in("viewer")
    await at.go("/settings")
    go_away(at)
    await at.go("/groups")
    assert "What you see is from" not in at.words
    at.client.cookies.clear()
    assert (await at.go("/")).url.path == "/sign-in"
    at.client.cookies.update(first)
    await at.go("/")
    assert "prod-api" in at.words
    # Signing out asks no store, and nothing is left behind.
    await at.send("/sign-out")
    assert at.page.url.path == "/sign-in"
    at.client.cookies.update(first)
    assert (await at.go("/")).url.path == "/sign-in"


async def test_a_form_that_could_not_be_kept_is_sent_again_with_everything_typed(at: Visitor) -> None:
    await at.sign_in()
    await at.go("/keys/new")
    go_away(at)
    fields = {
        "name": "prod-<api>",
        "expires": "never",
        "window_amount": ["5", "9"],
        "window_unit": ["units", "requests"],
        "window_length": ["1h", "1d"],
        "window_anchor": ["first-use", "first-use"],
    }
    answer = await at.send("/keys/new", fields)
    assert answer.status_code == 503
    assert "Nothing was changed." in at.words
    form = at.page.text.partition("<main")[2]
    again = [(unescape(name), unescape(value)) for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', form)]
    go_away(at, away=False)
    typed: dict[str, Any] = {name: [value for other, value in again if other == name] for name, _ in again}
    at.page = await at.client.post("/keys/new", data=typed)
    assert at.secret
    key = (await at.keys.list())[0]
    assert key.name == "prod-<api>"
    assert [str(limit) for limit in key.limits or ()] == ["5/1h", "9 requests/1d"]


async def test_the_text_of_a_key_is_not_sent_back_with_a_form_that_could_not_be_kept(at: Visitor) -> None:
    await at.sign_in()
    await at.go("/keys/new")
    go_away(at)
    chosen = "a-text_That.7people-chose"
    await at.send("/keys/new", {"name": "prod-api", "expires": "never", "key": chosen})
    assert at.page.status_code == 503
    assert chosen not in at.text


async def test_nobody_signs_in_and_nothing_is_changed_meanwhile(at: Visitor) -> None:
    key = (await at.keys.create("prod-api")).key
    token = await at.sign_in()
    await at.go("/")
    go_away(at)
    assert (await at.send(f"/keys/{key.id}/disable")).status_code == 503
    at.client.cookies.clear()
    await at.go("/sign-in")
    assert (await at.send("/sign-in", {"token": token})).status_code == 503
    go_away(at, away=False)
    await at.go("/sign-in")
    assert (await at.send("/sign-in", {"token": token})).url.path == "/"
    assert (await at.keys.get(key.id)).enabled


async def test_a_rotated_secret_is_shown_though_nobody_can_be_asked_who_follows(left: Visitor) -> None:
    key = (await left.keys.create("prod-api")).key
    await left.sign_in()
    await left.go(f"/keys/{key.id}")
    leave(left, "before confirm")
    answer = await left.send(f"/keys/{key.id}/rotate", {"grace": ""})
    assert answer.status_code == 200
    assert "The old one may still be let in. Which workers follow could not be asked." in left.words
    go_away(left, away=False)
    assert (await left.keys.explain(left.secret)).admitted


async def test_the_replacement_of_a_leaked_key_is_shown_though_the_store_is_away_by_then(left: Visitor) -> None:
    key = (await left.keys.create("prod-web")).key
    await left.sign_in()
    await left.go(f"/keys/{key.id}/leak")
    leave(left, "after insert")
    answer = await left.send(f"/keys/{key.id}/leak", {"since": "24h", "replace": "1"})
    assert answer.status_code == 200
    assert "False alarm: enable again" in left.words
    assert "No call with the new key yet." in left.words
    go_away(left, away=False)
    assert (await left.keys.explain(left.secret)).admitted


async def test_a_change_that_is_stored_is_told_as_such_though_nobody_can_be_asked_who_follows(left: Visitor) -> None:
    key = (await left.keys.create("prod-api")).key
    await left.sign_in()
    await left.go(f"/keys/{key.id}")
    leave(left, "before confirm")
    # The way back leads to a page that was seen, and for a deleted key to one that was not.
    await left.send(f"/keys/{key.id}/disable")
    assert "prod-api is disabled. Which workers follow could not be asked." in left.words
    assert "What you see is from" in left.words
    assert "Nothing was changed." not in left.words
    assert all(" disabled" in button for button in buttons(left))
    go_away(left, away=False)
    assert not (await left.keys.get(key.id)).enabled
    await left.go(f"/keys/{key.id}")
    await left.send(f"/keys/{key.id}/delete", {"typed": "prod-api"})
    assert "prod-api is deleted. Which workers follow could not be asked." in left.words
    assert "Nothing was changed." not in left.words
    go_away(left, away=False)
    assert await left.keys.list() == []


async def test_several_keys_are_told_to_be_disabled_though_nobody_can_be_asked_who_follows(left: Visitor) -> None:
    ids = [(await left.keys.create(name)).key.id for name in ("prod-api", "prod-web")]
    await left.sign_in()
    await left.go("/")
    leave(left, "before confirm")
    await left.send("/keys/bulk", {"do": "disable", "id": ids})
    assert "2 keys are disabled. Which workers follow could not be asked." in left.words
