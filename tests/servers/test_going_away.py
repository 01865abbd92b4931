"""Requests that go away at any moment leave nothing taken, nothing held and nobody waiting."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.backends import SQLBackend
from tests.servers.bare import call, http_scope, plain, status_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send

    from ak_guard.backends import Found

# Enough turns of the event loop for a request whose key is remembered to reach the one thing it must wait for.
_TURNS = 50

RULES: dict[str, dict[str, Any]] = {
    "windows": {"limits": ["100/5h", "200/1d"]},
    "windows and quota": {"limits": ["100/5h"], "quota": 100},
    "windows and those that the group shares": {"limits": ["100/5h"], "group": "sharing"},
    "windows, shared ones and quota": {"limits": ["100/5h"], "quota": 100, "group": "sharing"},
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SQLBackend]:
    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db")
    async with KeyManager(backend) as keys:
        await keys.create_group(Group("sharing", shared_limits=["100/7d"]))
        yield backend


async def _all_used(keys: KeyManager, key_id: str) -> set[int]:
    status = await keys.status(key_id)
    budgets = [*status.windows, *([status.quota] if status.quota else [])]
    assert all(budget.held == 0 for budget in budgets)
    return {budget.used for budget in budgets}


async def _settles_at(keys: KeyManager, key_id: str, used: int) -> bool:
    """Whether all counters come to stand at `used` by themselves: a refund is written a moment after the take."""
    deadline = time.monotonic() + 5
    now = await _all_used(keys, key_id)
    while now != {used} and time.monotonic() < deadline:
        now = await _all_used(keys, key_id)
    return now == {used}


async def _turn(turns: int) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
async def test_a_request_cancelled_while_its_take_is_written_gives_back_what_it_took(
    store: SQLBackend, rules: dict[str, Any]
) -> None:
    keys = KeyManager(store)
    issued = await keys.create("test", **rules)
    guard = ApiKeyMiddleware(plain, backend=store)
    for _ in range(3):
        assert await status_of(guard, http_scope(issued.secret)) == 200

    other_writer = sqlite3.connect(str(store.database.url.database), isolation_level=None)
    other_writer.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(call(guard, http_scope(issued.secret)))
    await _turn(_TURNS)
    assert not waiting.done()
    waiting.cancel()
    await _turn(_TURNS)
    other_writer.execute("ROLLBACK")
    other_writer.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert await _settles_at(keys, issued.key.id, 3)
    assert await status_of(guard, http_scope(issued.secret)) == 200
    assert await _all_used(keys, issued.key.id) == {4}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
async def test_cancelled_after_any_number_of_turns_only_what_reached_the_app_is_charged(
    store: SQLBackend, rules: dict[str, Any]
) -> None:
    entered = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal entered
        entered += 1
        await plain(scope, receive, send)

    keys = KeyManager(store)
    issued = await keys.create("test", **rules)
    guard = ApiKeyMiddleware(app, backend=store)
    outcomes = set()
    for turns in range(0, 60, 2):
        task = asyncio.create_task(call(guard, http_scope(issued.secret)))
        await _turn(turns)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        outcomes.add(type(outcome).__name__)
    assert "CancelledError" in outcomes
    assert await _settles_at(keys, issued.key.id, entered)


async def test_a_crowd_that_goes_away_takes_nothing(store: SQLBackend) -> None:
    keys = KeyManager(store)
    issued = await keys.create("test", limits=["20/5h"])
    guard = ApiKeyMiddleware(plain, backend=store)
    tasks = [asyncio.create_task(call(guard, http_scope(issued.secret))) for _ in range(40)]
    await _turn(_TURNS)
    for task in tasks[::2]:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    passed = [outcome for outcome in outcomes if isinstance(outcome, list) and outcome[0]["status"] == 200]
    assert await _settles_at(keys, issued.key.id, len(passed))
    # Whatever was given back can be taken.
    rest = [await status_of(guard, http_scope(issued.secret)) for _ in range(21 - len(passed))]
    assert rest == [200] * (20 - len(passed)) + [429]


class _SlowLookup:
    """A backend that answers when it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked = 0

    async def find(self, digest: bytes) -> Found | None:
        self.asked += 1
        await self.open.wait()
        return None


async def test_strangers_who_go_away_while_looked_up_keep_no_place() -> None:
    lookup = _SlowLookup()
    guard = ApiKeyMiddleware(plain, backend=lookup)
    loopback = ("127.0.0.1", 1)
    tasks = [asyncio.create_task(call(guard, http_scope(f"stranger-{n}", client=loopback))) for n in range(64)]
    await _turn(_TURNS)
    assert lookup.asked == 64
    assert await status_of(guard, http_scope("one-too-many", client=loopback)) == 429
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    lookup.open.set()
    assert await status_of(guard, http_scope("one-too-many", client=loopback)) == 401


async def test_one_who_goes_away_does_not_take_the_answer_from_others(store: SQLBackend) -> None:
    issued = await KeyManager(store).create("test")
    guard = ApiKeyMiddleware(plain, backend=store)
    tasks = [asyncio.create_task(call(guard, http_scope(issued.secret))) for _ in range(5)]
    await _turn(3)
    tasks[0].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [outcome[0]["status"] for outcome in outcomes[1:] if isinstance(outcome, list)] == [200] * 4


async def test_a_client_that_is_gone_when_the_answer_comes_still_has_it_settled(store: SQLBackend) -> None:
    async def charging(scope: Scope, _: Receive, send: Send) -> None:
        scope["state"]["ak_guard"].charge(9)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(_: Any) -> None:
        raise OSError("the client is gone")

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    keys = KeyManager(store)
    issued = await keys.create("test", limits=["100/5h"])
    guard = ApiKeyMiddleware(charging, backend=store)
    with pytest.raises(OSError, match="the client is gone"):
        await guard(http_scope(issued.secret), receive, send)
    assert await _all_used(keys, issued.key.id) == {10}
