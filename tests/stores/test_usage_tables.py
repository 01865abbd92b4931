"""What is special to usage in a database: how long it is kept, and how much room callers can make it take."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from starlette.testclient import TestClient

from ak_guard import ApiKeyMiddleware, ConfigurationError, InputError, KeyManager
from ak_guard.backends import SQLBackend
from ak_guard.database import usage as usage_tables
from ak_guard.usage import UsageRecord
from ak_guard.usage.packing import OTHER, Packing, Places, unpacked
from tests.databases import ask
from tests.support import echo_app

if TYPE_CHECKING:
    from pathlib import Path

    from tests.databases import Databases

KEY = "key_" + "1" * 20
DAY = 86_400


def record(at: float, ip: str = "203.0.113.7", **more: object) -> UsageRecord:
    return UsageRecord(at, KEY, "default", ip, "GET", "/v1", 200, "admitted", 1, 0.1)._replace(**more)  # type: ignore[arg-type]


async def test_records_go_when_they_have_been_kept_for_long_enough_and_days_stay(tmp_path: Path) -> None:
    now = time.time()
    backend = SQLBackend(f"sqlite:///{tmp_path}/keys.db", usage_kept="7d")
    async with KeyManager(backend) as keys:
        await backend.add_usage("old", [record(now - 8 * DAY), record(now - 500 * DAY)])
        await backend.add_usage("older", [record(now - 6 * DAY)])
        # Whoever begins to write looks for what is old, and then once a minute.
        other = SQLBackend(f"sqlite:///{tmp_path}/keys.db", usage_kept="7d")
        await other.add_usage("new", [record(now)])
        await other.aclose()
        assert {round((now - one.at) / DAY) for one in await keys.records(KEY)} == {0, 6}
        by_day = await keys.usage(KEY, since=now - 10 * DAY, bucket="day")
        assert by_day.calls == 3
        assert sum(place.calls for place in by_day.addresses) == 2
        # What is more than 400 days old is gone from the days too.
        assert (await keys.usage(KEY, since=now - 600 * DAY, bucket="day")).calls == 3


async def test_however_young_no_more_rows_are_kept_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_tables, "_ROWS_KEPT", 3)
    now = time.time()
    async with KeyManager(SQLBackend(f"sqlite:///{tmp_path}/keys.db")) as keys:
        backend = keys.backend
        assert isinstance(backend, SQLBackend)
        for number in range(6):
            await backend.add_usage(str(number), [record(now + number)])
        other = SQLBackend(f"sqlite:///{tmp_path}/keys.db")
        await other.add_usage("last", [record(now + 6)])
        await other.aclose()
        assert [round(one.at - now) for one in await keys.records(KEY)] == [6, 5, 4, 3]
        # Sums tell of all of them.
        assert (await keys.usage(KEY)).calls == 7


def test_a_time_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="usage_kept"):
        SQLBackend("sqlite:///keys.db", usage_kept="soon")
    monkeypatch.setenv("AK_GUARD_USAGE_KEPT", "soon")
    app = ApiKeyMiddleware(echo_app(), backend=f"sqlite:///{tmp_path}/keys.db")
    with pytest.raises(ConfigurationError, match="usage_kept"), TestClient(app):
        pass


def test_one_key_makes_no_more_than_so_many_rows_an_hour_and_strangers_one_a_code() -> None:
    places = Places()
    packing = Packing(places)
    packing.add(record(1_800_000_000, f"2001:db8::{number:x}") for number in range(600))
    packing.add(
        record(1_800_000_000, f"2001:db8::{number:x}", key_id=None, code="invalid_api_key") for number in range(600)
    )
    hours, days, last = packing.sums()
    assert len([hour for hour in hours if hour.key_id == KEY]) == 501
    assert sum(sums[0] for hour, sums in hours.items() if hour.key_id == KEY) == 600
    assert [sums[0] for hour, sums in hours.items() if hour.address == OTHER] == [100]
    assert [sums[0] for hour, sums in hours.items() if not hour.key_id] == [600]
    assert {day.key_id: sums for day, sums in days.items()} == {KEY: [600, 600], "": [600, 600]}
    assert set(last) == {KEY}
    # An hour later there is room again.
    assert places.known(1_800_003_600, KEY, "2001:db8::ffff", "GET /") == ("2001:db8::ffff", "GET /")
    blocks = {block["key_id"]: block for block in packing.blocks()}
    assert len(unpacked(KEY, 1, blocks[KEY]["records"])) == 600
    assert len(unpacked("", 1, blocks[""]["records"])) == 200


@pytest.mark.parametrize("service", ["postgres", "mysql"])
async def test_writers_at_the_same_time_add_up(databases: Databases, service: str) -> None:
    now = time.time()
    with databases.migrated(service) as url:
        writers = [SQLBackend(url) for _ in range(3)]

        async def write(writer: int) -> None:
            # Each knows the keys in another order.
            names = [f"key_{number:020x}" for number in range(12)]
            order = [*names[writer * 4 :], *names[: writer * 4]]
            for batch in range(6):
                await writers[writer].add_usage(
                    f"{writer} {batch}", [record(now, f"203.0.113.{writer}", key_id=name) for name in order]
                )

        await asyncio.gather(*(write(writer) for writer in range(3)))
        async with KeyManager(writers[0]) as keys:
            assert (await keys.usage(since=now - DAY)).calls == 3 * 6 * 12
            assert len(await keys.records(limit=1_000)) == 3 * 6 * 12
        for writer in writers[1:]:
            await writer.aclose()
        assert ask(url, "SELECT count(*) FROM ak_usage_batches") == [(18,)]
