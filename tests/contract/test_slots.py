"""What every storage that workers share does with slots: each call says the whole of what a worker holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from ak_guard.budgets.slots import Share, SlotSupport, Stake
from tests.contract.storages import HTTP, SHARED, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.databases import Databases

NOW = 1_800_000_000.0
SECONDS = 6.0
LIMIT = 5


@pytest.fixture(params=[*SHARED, *HTTP])
async def store(request: pytest.FixtureRequest, tmp_path: Path, databases: Databases) -> AsyncIterator[SlotSupport]:
    async with opened(request.param, tmp_path, databases) as found:
        assert isinstance(found, SlotSupport)
        yield found


async def hold(
    store: SlotSupport, worker: str, number: int, want: int, *, floor: int = 0, limit: int = LIMIT, at: float = NOW
) -> Share:
    return await store.hold_slots("key/a", Stake(worker, number, floor, want, limit, SECONDS), now=at)


async def test_workers_hold_no_more_than_the_limit_together(store: SlotSupport) -> None:
    assert await hold(store, "a", 1, 3) == Share(3, 0)
    assert await hold(store, "b", 1, 3) == Share(2, 3)
    assert await hold(store, "c", 1, 1) == Share(0, 5, wanted=True)
    assert await store.held_slots(["key/b", "key/a"], now=NOW) == [0, 5]


async def test_what_a_worker_lets_go_others_may_have(store: SlotSupport) -> None:
    await hold(store, "a", 1, 5)
    assert await hold(store, "a", 2, 1) == Share(1, 0)
    assert await hold(store, "b", 1, 9) == Share(4, 1)
    assert await hold(store, "a", 3, 0) == Share(0, 4, wanted=True)
    assert await store.held_slots(["key/a"], now=NOW) == [4]


async def test_nobody_loses_what_it_counts_on_when_the_limit_is_lowered(store: SlotSupport) -> None:
    await hold(store, "a", 1, 4)
    assert await hold(store, "a", 2, 5, floor=4, limit=2) == Share(4, 0)
    assert await hold(store, "b", 1, 1, limit=2) == Share(0, 4, wanted=True)


async def test_at_its_deadline_what_a_worker_held_is_free(store: SlotSupport) -> None:
    await hold(store, "a", 1, 5)
    late = NOW + SECONDS
    assert await hold(store, "b", 1, 1, at=late - 0.01) == Share(0, 5)
    assert await store.held_slots(["key/a"], now=late) == [0]
    assert await hold(store, "b", 2, 5, at=late) == Share(5, 0)


async def test_each_call_prolongs(store: SlotSupport) -> None:
    await hold(store, "a", 1, 5)
    await hold(store, "a", 2, 5, floor=5, at=NOW + 4)
    assert await store.held_slots(["key/a"], now=NOW + 9) == [5]
    assert await hold(store, "b", 1, 5, at=NOW + 9) == Share(0, 5)


async def test_whoever_comes_back_late_keeps_what_runs_and_gets_nothing_more(store: SlotSupport) -> None:
    await hold(store, "a", 1, 3)
    late = NOW + SECONDS
    assert await hold(store, "b", 1, 5, at=late) == Share(5, 0)
    assert await hold(store, "a", 2, 4, floor=3, at=late) == Share(3, 5)
    assert await hold(store, "b", 2, 6, floor=5, at=late) == Share(5, 3, wanted=True)


async def test_a_call_that_was_overtaken_changes_nothing(store: SlotSupport) -> None:
    await hold(store, "a", 2, 4)
    await hold(store, "a", 1, 1)
    assert await store.held_slots(["key/a"], now=NOW) == [4]
    # Also where nothing is held any more.
    await hold(store, "a", 4, 0)
    await hold(store, "a", 3, 3)
    assert await store.held_slots(["key/a"], now=NOW) == [0]


async def test_many_at_once_hold_exactly_what_there_is(store: SlotSupport) -> None:
    found = await asyncio.gather(*(hold(store, f"worker-{n}", 1, 2, limit=37) for n in range(40)))
    assert sum(share.held for share in found) == 37
    assert await store.held_slots(["key/a"], now=NOW) == [37]


async def test_subjects_do_not_share(store: SlotSupport) -> None:
    await hold(store, "a", 1, 5)
    other = await store.hold_slots("key/b", Stake("b", 1, 0, 5, LIMIT, SECONDS), now=NOW)
    assert other == Share(5, 0)


async def test_a_worker_is_told_that_another_wanted_more_until_it_has_it_or_is_gone(store: SlotSupport) -> None:
    await hold(store, "a", 1, 5)
    await hold(store, "b", 1, 1)
    assert (await hold(store, "a", 2, 4)).wanted
    await hold(store, "b", 2, 1)
    assert not (await hold(store, "a", 3, 4, floor=4)).wanted
    await hold(store, "b", 3, 2, floor=1)
    assert (await hold(store, "a", 4, 4, floor=4)).wanted
    assert not (await hold(store, "a", 5, 4, at=NOW + SECONDS)).wanted
