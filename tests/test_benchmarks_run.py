"""The benchmarks still run: never what they find, only that they measure what they say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks import peers, sections
from tests.benchmarks.harness import Case, Figure, Plan, WrongAnswer, measure, ratio
from tests.benchmarks.list_page import list_page
from tests.benchmarks.million import million
from tests.benchmarks.ours import guarded
from tests.benchmarks.rare import rare
from tests.benchmarks.report import Row, Table
from tests.benchmarks.service_cold import cold
from tests.benchmarks.traffic import request, requests, starlette_app

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

A_FEW = Plan(rounds=3, batch_seconds=0.0001)


async def test_guarded_and_bare_app_are_measured_in_the_same_rounds() -> None:
    bare = await peers.bare("bare Starlette", 1, 1)
    ours = await guarded("ak_guard")
    series = await measure([bare, ours], A_FEW)
    assert {name: len(values) for name, values in series.items()} == {"bare Starlette": 3, "ak_guard": 3}
    assert ratio(series, "ak_guard", "bare Starlette").median > 1


async def test_every_request_of_a_batch_reaches_the_contender() -> None:
    paths: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["headers"][3][1].decode())
        await starlette_app()(scope, receive, send)

    await measure([Case("spied on", app, requests(["ak_first", "ak_second"]))], A_FEW)
    assert set(paths) == {"Bearer ak_first", "Bearer ak_second"}
    assert abs(paths.count("Bearer ak_first") - paths.count("Bearer ak_second")) <= 1


async def test_a_contender_that_answers_wrongly_gets_no_figure() -> None:
    case = await guarded("refuses", scopes=[request(None)])
    with pytest.raises(WrongAnswer, match="refuses: 0 answers of 200, another of 401"):
        await measure([case], A_FEW)


async def test_a_section_says_what_it_found_as_text_and_as_json() -> None:
    table = await sections.anchors(A_FEW)
    assert [row.name for row in table.rows] == ["first-use", "calendar", "sliding"]
    assert "of first-use" in table.as_text()
    assert json.loads(json.dumps(table.as_json()))["rows"][1]["ratio"]["median"] > 0


async def test_keys_that_were_copied_within_a_database_are_keys() -> None:
    table = await million(400, 1, 40, ["sqlite"], few=220)
    assert [row.name for row in table.rows[:4]] == [
        "sqlite, create",
        "sqlite, list the first page",
        "sqlite, list a page within",
        "sqlite, cold look-up",
    ]


async def test_the_page_of_keys_is_looked_at_in_every_way() -> None:
    table = await list_page(3_000, 1, ["sqlite"])
    names = [row.name for row in table.rows]
    assert names[0] == "sqlite, plain"
    assert {"sqlite, sorted by name", "sqlite, search, last four", "sqlite, create a key"} < set(names)
    assert all(row.figure.median > 0 for row in table.rows)


async def test_a_key_that_is_used_once_a_second_is_answered_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.rare.KEYS", 40)
    table = await rare(1, ["sqlite"])
    assert table.rows[0].figure.median > 0
    assert table.rows[2].figure.median == 1


async def test_a_key_service_is_asked_for_what_is_not_known_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.benchmarks.service_cold._WARM_UP", 1)
    table = await cold(3, 30)
    rows = {row.name: row for row in table.rows}
    assert rows["request, key never seen"].figure.median > 0
    assert rows["calls a warm request, key with no budgets"].met


def test_a_row_tells_whether_its_target_is_met() -> None:
    table = Table("wire", "over uvicorn", "requests/s", "of its bare app")
    half = Figure.of([0.5, 0.5, 0.5])
    table.rows = [Row("slow", half, half, 0.88, at_least=True), Row("light", half, target=1.0), Row("other", half)]
    assert [row.met for row in table.rows] == [False, True, None]
    slow, light, other = table.as_text().splitlines()[2:]
    assert ">= 0.88x MISSED" in slow
    assert "<= 1 met" in light
    assert "met" not in other
