"""The list of keys: what is unused, and that a full page asks the store no more often than a short one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.usage.records import UsageRecord
from tests.admin.consoles import Visitor, visitor
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from ak_guard.errors import AkGuardError
    from ak_guard.testing import ManualClock


@pytest.fixture
async def at(clock: ManualClock) -> AsyncIterator[Visitor]:
    async with KeyManager(MemoryBackend(), clock=clock) as keys, visitor(keys, clock) as there:
        yield there


async def used(at: Visitor, key_id: str, ip: str = "203.0.113.7") -> None:
    """As a guard records it."""
    backend = at.keys.backend
    assert isinstance(backend, MemoryBackend)
    record = UsageRecord(at.clock(), key_id, "default", ip, "GET", "/", 200, "admitted", 1, 0.1)
    await backend.add_usage(f"{key_id} {at.clock()}", [record])


async def a_year_of_use(at: Visitor) -> None:
    """`prod-api` is used all the time, `old-import` was once, `spare` never; `off` is disabled, `young` is new."""
    ids = {name: (await at.keys.create(name)).key.id for name in ("prod-api", "old-import", "off")}
    await at.keys.update(ids["off"], enabled=False)
    await used(at, ids["old-import"])
    at.clock.move("100d")
    await at.keys.create("spare")
    for _ in range(2):
        await used(at, ids["prod-api"])
        at.clock.move("100d")
    await used(at, ids["prod-api"])
    await at.keys.create("young")


def looks(at: Visitor) -> str:
    """What is named as worth a look."""
    return at.words.partition("Worth a look")[2].partition("Search name, last four")[0]


async def test_a_key_that_nobody_uses_is_worth_a_look_and_leads_to_all_of_them(at: Visitor) -> None:
    await a_year_of_use(at)
    await at.sign_in()
    assert looks(at).strip() == "spare was never used. Does anybody need it? Show all unused keys"
    (way,) = re.findall(r'<a href="([^"]+)">Show all unused keys</a>', at.page.text)
    await at.go(way.replace("&amp;", "&"))
    assert re.findall(r'class="name" href="[^"]+">([^<]+)<', at.page.text) == ["spare", "old-import"]
    assert "2 keys match" in at.words
    assert re.search(r'<option value="unused" selected>Not used for 90 days</option>', at.page.text)
    assert "Worth a look" not in at.words


async def test_a_call_from_a_network_that_is_new_to_the_key_is_marked_and_worth_a_look(at: Visitor) -> None:
    key_id = (await at.keys.create("prod-api")).key.id
    for _ in range(25):
        await used(at, key_id)
        at.clock.move(1)
    at.clock.move("2d")
    await at.sign_in()
    assert "new network" not in at.words
    await used(at, key_id, "198.51.100.17")
    await at.go("/")
    assert "198.51.100.17 new network" in at.words
    told = "prod-api was called just now from 198.51.100.0/24, a network it never used before. See the calls prod-api"
    assert looks(at).strip() == told


async def test_keys_that_are_near_a_limit_are_found_the_fullest_first(at: Visitor) -> None:
    spent = {"prod-new": 0, "prod-full": 10, "prod-most": 9, "prod-some": 8, "dev-half": 5}
    backend = at.keys.backend
    assert isinstance(backend, MemoryBackend)
    guard = ApiKeyMiddleware(echo_app(), backend=backend, clock=at.clock)
    async with client_for(guard) as app:
        for name, calls in spent.items():
            made = await at.keys.create(name, quota=100, limits=["10/5h"])
            await used(at, made.key.id)
            for _ in range(calls):
                await app.get("/", headers=bearer(made.secret))
    await at.sign_in()

    async def names(path: str) -> list[str]:
        await at.go(path)
        return re.findall(r'class="name" href="[^"]+">([^<]+)<', at.page.text)

    assert await names("/?state=near") == ["prod-full", "prod-most", "prod-some"]
    assert "Of the 250 keys used last: those with 80% or more of a limit used." in at.words
    assert '<option value="near" selected>Near a limit</option>' in at.page.text
    assert await names("/?state=near&sort=name") == ["prod-full", "prod-most", "prod-some"]
    assert await names("/?state=near&sort=-name") == ["prod-some", "prod-most", "prod-full"]
    assert await names("/?state=near&env=development") == []
    assert "No key matches" in at.words
    assert len(await names("/?state=near&sort=colour")) == len(spent)


async def test_when_a_key_was_last_used_is_told_with_it(at: Visitor) -> None:
    await a_year_of_use(at)
    (spare,) = await at.keys.list(search="spare")
    await at.keys.delete(spare.id)
    await at.sign_in()
    assert looks(at).strip() == "old-import was last used 300 days ago. Does anybody need it? Show all unused keys"


async def test_of_what_may_have_been_forgotten_it_is_not_said_that_it_never_was(at: Visitor) -> None:
    ids = {name: (await at.keys.create(name)).key.id for name in ("prod-api", "spare")}
    await used(at, ids["prod-api"])
    at.clock.move("400d")
    await used(at, ids["prod-api"])
    await at.sign_in()
    assert "spare was not used for a year." in looks(at)


async def test_unused_keys_are_told_in_chinese_too(at: Visitor) -> None:
    await a_year_of_use(at)
    at.client.headers["accept-language"] = "zh"
    await at.sign_in()
    assert "spare 从未使用过。" in at.words
    assert "查看所有未使用的密钥" in at.words
    assert "90 天未使用" in at.words


async def test_nobody_is_called_unused_where_use_is_not_recorded(at: Visitor) -> None:
    await at.keys.create("prod-api")
    at.clock.move("200d")
    made = await at.keys.create("young")
    await at.sign_in()
    assert "Worth a look" not in at.words
    # It has been recorded since today only.
    await used(at, made.key.id)
    await at.go("/")
    assert "Worth a look" not in at.words


async def test_unused_keys_leave_room_for_what_stops_by_itself(at: Visitor) -> None:
    await a_year_of_use(at)
    for days, name in enumerate(("first", "second", "third"), start=2):
        await at.keys.create(name, expires_in=f"{days}d")
    await at.sign_in()
    assert re.findall(r"(\S+) (?:ends in|was never)", looks(at)) == ["first", "second", "spare"]


async def test_a_filter_that_finds_nothing_tells_how_many_there_are_without_it(at: Visitor) -> None:
    await at.keys.create("prod-api")
    await at.sign_in()
    await at.go("/?state=unused")
    assert "No key matches" in at.words
    assert "1 key is there without it." in at.words


async def test_a_full_page_asks_the_store_no_more_often_than_one_of_a_few_keys(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db")
    read = backend.database.read
    asked: list[int] = [0]

    def counted(failure: type[AkGuardError], *, as_it_is: bool = False) -> AbstractAsyncContextManager[AsyncConnection]:
        asked[-1] += 1
        return read(failure, as_it_is=as_it_is)

    async with KeyManager(backend, clock=clock) as keys, visitor(keys, clock) as at:
        await keys.create("prod-00", quota=100, limits=["10/5h", "20/1d"])
        await at.sign_in()
        monkeypatch.setattr(backend.database, "read", counted)
        await at.go("/")
        asked.append(0)
        for number in range(1, 25):
            await keys.create(f"prod-{number:02}", quota=100, limits=["10/5h", "20/1d"])
        asked[-1] = 0
        await at.go("/")
    assert at.page.text.count("of 100") >= 25
    assert asked[0] == asked[1]
