"""The leak procedure on its page: one press, the secret once, the report to keep, the way back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ak_guard import ApiKeyMiddleware, KeyManager
from ak_guard.backends import MemoryBackend
from tests.admin.consoles import Visitor, visitor
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ak_guard.testing import ManualClock


@pytest.fixture
async def at(clock: ManualClock) -> AsyncIterator[Visitor]:
    async with KeyManager(MemoryBackend(), clock=clock) as keys, visitor(keys, clock) as there:
        await there.sign_in()
        yield there


async def test_one_press_disables_replaces_and_tells(at: Visitor, clock: ManualClock) -> None:
    issued = await at.keys.create("prod-web", quota=100, metadata={"stored_in": "vault: web"})
    guarded = ApiKeyMiddleware(echo_app(), backend=at.keys.backend, usage=True, clock=clock)
    path = f"/keys/{issued.key.id}/leak"
    async with client_for(guarded) as usual, client_for(guarded, ip="198.51.100.17") as thief:
        await usual.get("/v1/models", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=1)
        clock.move("2d")
        await at.sign_in()
        await thief.get("/v1/chat", headers=bearer(issued.secret))
        await at.usage_written(issued.key.id, calls=1)
        await at.go(path)
        assert (await at.keys.get(issued.key.id)).enabled
        assert "first call from a new address" in at.words
        assert "Only from where the usual calls come: 203.0.113.10" in at.words
        form = at.page
        await at.send(path, {"since": "24h", "replace": "1", "only_known": "1"})
        assert "Disabled everywhere confirmed" in at.words
        assert "1 of 1 calls came from addresses never seen before." in at.words
        assert "198.51.100.17 first seen" in at.words
        assert "You noted that it is stored in vault: web." in at.words
        secret = at.secret
        assert f"WEB_API_KEY={secret}" in at.text
        assert (await usual.get("/", headers=bearer(issued.secret))).status_code == 401
        assert (await usual.get("/", headers=bearer(secret))).status_code == 200
        assert (await thief.get("/", headers=bearer(secret))).status_code == 403
    made = next(key for key in await at.keys.list() if key.id != issued.key.id)
    assert (made.replaces, made.allow_ips) == (issued.key.id, ("203.0.113.10",))
    at.page = form
    await at.send(path, {"since": "24h", "replace": "1"})
    assert secret not in at.text
    assert "Its secret was shown once." in at.words
    assert len(await at.keys.list()) == 2
    report = at.page.url.path
    await at.send(f"{report}/looked", {"looked": ["0", "2"]})
    markdown = (await at.client.get(f"{report}/report.md")).text
    assert markdown.count("- [x] ") == 2
    document = json.loads((await at.client.get(f"{report}/report.json")).text)
    assert document["replacement"]["id"] == made.id
    for text in (markdown, json.dumps(document)):
        assert secret not in text
        assert issued.secret not in text
    await at.send(f"/keys/{issued.key.id}/enable")
    assert (await at.keys.get(issued.key.id)).enabled


async def test_a_moment_that_cannot_be_read_starts_nothing(at: Visitor) -> None:
    key = (await at.keys.create("prod-web")).key
    for date in ("", "whenever", "2999-01-01T00:00"):
        await at.go(f"/keys/{key.id}/leak")
        answer = await at.send(f"/keys/{key.id}/leak", {"since": "date", "since_date": date, "replace": "1"})
        assert answer.status_code == 422
    assert (await at.keys.get(key.id)).enabled


async def test_without_a_replacement_the_key_is_only_disabled(at: Visitor) -> None:
    key = (await at.keys.create("prod-web")).key
    await at.go(f"/keys/{key.id}/leak")
    await at.send(f"/keys/{key.id}/leak", {"since": "1h"})
    assert "No replacement" in at.words
    assert [one.enabled for one in await at.keys.list()] == [False]


async def test_the_report_of_another_key_is_not_shown(at: Visitor) -> None:
    key, other = (await at.keys.create("one")).key, (await at.keys.create("two")).key
    await at.go(f"/keys/{key.id}/leak")
    form = at.page
    await at.send(f"/keys/{key.id}/leak", {"since": "1h"})
    at.page = form
    await at.send(f"/keys/{key.id}/leak", {"since": "1h"})
    report = at.page.url.path.rpartition("/")[2]
    assert (await at.client.get(f"/keys/{other.id}/leak/{report}/report.md")).status_code == 404
