"""A key has leaked: what one call does about it, on every backend, and what it says where it could not do all of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import ApiKeyMiddleware, InputError, KeyManager
from ak_guard.backends import MemoryBackend
from ak_guard.backends.base import KeepsUsage
from ak_guard.backends.workers import Worker
from ak_guard.leaks import next_name, variable_of
from ak_guard.usage import UsageRecord
from tests.ailing import Ailing
from tests.support import bearer, client_for, echo_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.backends import KeyStore
    from ak_guard.testing import ManualClock


@pytest.fixture
def at_hand(clock: ManualClock) -> KeyManager:
    """Keys in memory, where it makes no difference where they are."""
    return KeyManager(MemoryBackend(), clock=clock)


async def called(
    backend: KeyStore, key_id: str, at: float, *, ip: str, route: str = "/v1/models", times: int = 1
) -> None:
    """Requests that were admitted."""
    assert isinstance(backend, KeepsUsage)
    records = [UsageRecord(at, key_id, "default", ip, "GET", route, 200, "admitted", 2, 0.1, "ak_…abcd")] * times
    await backend.add_usage(f"batch-{ip}-{at}", records)


async def test_one_call_disables_replaces_and_tells_what_happened(
    keys: KeyManager, backend: KeyStore, clock: ManualClock
) -> None:
    old = await keys.create(
        "prod-web",
        quota=100,
        limits=["50/1h"],
        allow_ips=["203.0.113.0/24"],
        owner="ann",
        metadata={"team": "web"},
        expires_in="30d",
    )
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, usage=False)
    async with client_for(app) as client:
        for _ in range(3):
            await client.get("/", headers=bearer(old.secret))
        await called(backend, old.key.id, clock() - 2 * 86_400, ip="203.0.113.24", times=5)
        await called(backend, old.key.id, clock() - 600, ip="203.0.113.24", times=2)
        await called(backend, old.key.id, clock() - 500, ip="198.51.100.17", route="/v1/chat", times=4)
        report = await keys.acting_as("ann").leak(old.key.id, since=clock() - 3_600)
        assert (await client.get("/", headers=bearer(old.secret))).json()["code"] == "api_key_disabled"
        assert report.replacement is not None
        new = report.replacement
        assert (await client.get("/", headers=bearer(new.secret))).status_code == 200
    assert (report.disabled, report.complete, report.why_none, report.problems) == (True, True, "", ())
    assert (new.key.name, new.key.replaces) == ("prod-web-2", old.key.id)
    for field in ("group", "limits", "allow_ips", "deny_ips", "owner", "metadata", "expires_at"):
        assert getattr(new.key, field) == getattr(old.key, field)
    # What the old one has spent is spent.
    assert new.key.quota == 97
    assert (await keys.get(old.key.id)).replaced_by == new.key.id
    assert report.usage is not None
    assert report.usage.calls == 6
    assert [place.name for place in report.new_addresses] == ["198.51.100.17"]
    assert [place.name for place in report.new_routes] == ["GET /v1/chat"]
    assert report.environment_lines == (f"WEB_API_KEY={new.secret}",)
    assert [(entry.action, entry.actor) for entry in await keys.audit(old.key.id)] == [
        ("key.leak", "ann"),
        ("key.create", "python"),
    ]
    (made,) = await keys.audit(new.key.id)
    assert (made.actor, made.after["replaces"]) == ("ann", old.key.id)
    # The way back.
    assert (await keys.enable(old.key.id)).enabled


async def test_no_report_holds_the_secret(keys: KeyManager, backend: KeyStore, clock: ManualClock) -> None:
    old = await keys.create("prod_*web*")
    hostile = "/<script>|`x`\n# Not a heading"
    await called(backend, old.key.id, clock() - 60, ip="198.51.100.17", route=hostile)
    report = await keys.leak(old.key.id)
    assert report.replacement is not None
    secret = report.replacement.secret
    text, document = report.markdown(), report.as_json()
    for told in (text, json.dumps(document), repr(report)):
        assert secret not in told
        assert old.secret not in told
    assert document["replacement"]["hint"] == report.replacement.key.hint
    assert document["usage"]["addresses"][0]["new"] is True
    assert "# Leak of prod\\_\\*web\\*\n" in text
    assert "| **new** 2027-01-15" in text
    assert "\\<script\\>\\|\\`x\\`\\\\n\\# Not a heading" in text
    assert "- [ ] Public repositories: their history too" in text
    assert f"ak-guard keys enable {old.key.id}" in text


async def test_without_a_replacement_there_is_none(at_hand: KeyManager) -> None:
    old = await at_hand.create("prod-web")
    report = await at_hand.leak(old.key.id, replace=False)
    assert (report.replacement, report.why_none, report.environment_lines) == (None, "it was not asked for", ())
    assert len(await at_hand.list()) == 1
    assert "None: it was not asked for." in report.markdown()


async def test_a_second_leak_makes_no_second_replacement(at_hand: KeyManager) -> None:
    old = await at_hand.create("prod-web")
    first = await at_hand.leak(old.key.id)
    again = await at_hand.leak(old.key.id)
    assert first.replacement is not None
    assert again.replacement is None
    assert first.replacement.key.id in again.why_none
    # Once that one is gone, there is room for another.
    await at_hand.delete(first.replacement.key.id)
    third = await at_hand.leak(old.key.id)
    assert third.replacement is not None
    assert third.replacement.key.name == "prod-web-2"


async def test_two_who_report_a_leak_at_once_make_one_replacement(keys: KeyManager) -> None:
    old = await keys.create("prod-web")
    first, second = await asyncio.gather(keys.leak(old.key.id), keys.leak(old.key.id))
    made = [report.replacement for report in (first, second) if report.replacement is not None]
    assert len(made) == 1
    assert made[0].key.id in first.why_none + second.why_none
    assert (await keys.get(old.key.id)).replaced_by == made[0].key.id
    assert len(await keys.list()) == 2
    with pytest.raises(InputError, match="replaces"):
        await keys.create("another", replaces=old.key.id)


async def test_a_replacement_may_be_let_in_from_fewer_addresses(at_hand: KeyManager) -> None:
    old = await at_hand.create("prod-web")
    report = await at_hand.leak(old.key.id, allow_ips=["203.0.113.24/24"])
    assert report.replacement is not None
    assert report.replacement.key.allow_ips == ("203.0.113.0/24",)


async def test_an_expired_key_is_not_replaced(at_hand: KeyManager, clock: ManualClock) -> None:
    old = await at_hand.create("prod-web", expires_in="1h")
    clock.move("2h")
    report = await at_hand.leak(old.key.id)
    assert (report.replacement, report.why_none) == (None, "the key had expired")


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("since", {"since": "soon"}),
        ("since", {"since": 4_000_000_000}),
        ("wait", {"wait": -1}),
        ("allow_ips", {"allow_ips": ["example.org"]}),
    ],
)
async def test_bad_input_disables_nothing(at_hand: KeyManager, field: str, arguments: dict[str, Any]) -> None:
    old = await at_hand.create("prod-web")
    with pytest.raises(InputError) as caught:
        await at_hand.leak(old.key.id, **arguments)
    assert caught.value.field == field
    assert (await at_hand.get(old.key.id)).enabled


async def test_an_old_leak_is_told_by_days(keys: KeyManager, backend: KeyStore, clock: ManualClock) -> None:
    old = await keys.create("prod-web")
    await called(backend, old.key.id, clock() - 50 * 86_400, ip="198.51.100.17", times=3)
    report = await keys.leak(old.key.id, since=clock() - 60 * 86_400)
    assert report.usage is not None
    assert report.usage.calls == 3


@pytest.fixture
def ailing() -> Ailing:
    return Ailing()


def silent_workers() -> Sequence[Worker]:
    now = datetime(2027, 1, 15, 8, tzinfo=UTC)
    return [Worker("1", "web-1:77", now, now, now + timedelta(seconds=65), 1, (), silent=True, revision=6)]


async def test_while_a_worker_is_silent_the_old_key_is_not_replaced(ailing: Ailing, clock: ManualClock) -> None:
    keys = KeyManager(ailing, clock=clock)
    old = await keys.create("prod-web")
    ailing.silent = tuple(silent_workers())
    report = await keys.leak(old.key.id)
    assert (report.disabled, report.complete, report.replacement) == (True, False, None)
    assert "not every running worker refuses the old key yet" in report.why_none
    text = report.markdown()
    assert "**Not everywhere yet.** 1 running worker confirmed after 0.30 s. Not confirmed by:" in text
    assert "- web-1:77: last seen 2027-01-15 08:00:00 UTC, may let the key in until 2027-01-15 08:01:05 UTC" in text
    assert report.as_json()["confirmation"]["silent"][0]["name"] == "web-1:77"
    assert len(await keys.list()) == 1
    # When it has ended or answers again, the same call goes on.
    ailing.silent = ()
    again = await keys.leak(old.key.id)
    assert again.replacement is not None
    assert again.replacement.key.replaces == old.key.id


@pytest.mark.parametrize(
    ("failing", "problem", "replaced"),
    [
        ("confirm", "Which workers follow could not be asked: confirm failed.", False),
        ("usage", "The calls could not be read: usage failed.", True),
        ("insert", "The replacement could not be made: insert failed.", False),
    ],
)
async def test_what_fails_on_the_way_is_told_and_the_key_is_disabled_all_the_same(
    ailing: Ailing, failing: str, problem: str, replaced: bool
) -> None:
    keys = KeyManager(ailing)
    old = await keys.create("prod-web")
    ailing.failing = {failing}
    report = await keys.leak(old.key.id)
    assert report.problems == (problem,)
    assert problem in report.markdown()
    assert (report.replacement is not None) is replaced
    assert bool(report.why_none) is not replaced
    assert not (await keys.get(old.key.id)).enabled
    ailing.failing = set()
    if not replaced:
        assert (await keys.leak(old.key.id)).replacement is not None


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("prod-web", "WEB_API_KEY"),
        ("billing-worker", "BILLING_WORKER_API_KEY"),
        ("staging", "API_KEY"),
        ("7-eleven dev", "KEY_7_ELEVEN_API_KEY"),
        ("日本", "API_KEY"),
    ],
)
def test_a_variable_is_named_after_the_key_without_its_environment(name: str, variable: str) -> None:
    assert variable_of(name) == variable


@pytest.mark.parametrize(
    ("name", "taken", "found"),
    [
        ("prod-web", set(), "prod-web-2"),
        ("prod-web", {"prod-web-2", "prod-web-3"}, "prod-web-4"),
        ("prod-web-2", set(), "prod-web-3"),
        ("2027-01", set(), "2027-2"),
        ("x" * 200, set(), f"{'x' * 190}-2"),
    ],
)
def test_a_replacement_gets_the_next_name(name: str, taken: set[str], found: str) -> None:
    assert next_name(name, taken) == found
