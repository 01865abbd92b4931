"""Behaviour cases taken from the test suites of other gateways and limiters, and more of the same kind."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import pytest

from tests.cases.answers import SKIPPED, settled
from tests.cases.language import load
from tests.cases.play import Story, send

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.cases.language import Case
    from tests.cases.play import Stores

CASES: Final = [settled(case) for case in [*load("cases.yaml"), *load("more_cases.yaml")]]


def _params() -> list[object]:
    return [
        pytest.param(case, id=case.id, marks=[pytest.mark.skip(reason=SKIPPED[case.id])] if case.id in SKIPPED else [])
        for case in CASES
    ]


def _full_windows() -> list[object]:
    """Each request that a full window refuses: with its case, and its number."""
    return [
        pytest.param(case, number, id=f"{case.id}-{number}")
        for case in CASES
        for number, answer in enumerate(case.expected)
        if answer.get("code") == "rate_limit_exceeded" and not case.requests[number].get("concurrent")
    ]


@pytest.mark.parametrize("case", _params())
async def test_the_story_comes_out_as_it_should(
    case: Case, new_stores: Callable[[], Awaitable[Stores]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await Story(case, new_stores, caplog).play()
    if case.has_websockets:
        await Story(case, new_stores, caplog, reply_extension=True).play()


@pytest.mark.parametrize("new_stores", ["memory", "apart"], indirect=True)
@pytest.mark.parametrize(("case", "number"), _full_windows())
async def test_a_request_that_met_a_full_window_passes_after_the_wait_it_was_told_and_not_a_second_before(
    case: Case, number: int, new_stores: Callable[[], Awaitable[Stores]], caplog: pytest.LogCaptureFixture
) -> None:
    story = Story(case, new_stores, caplog, upto=number + 1)
    await story.play()
    step = story.steps[-1]
    wait = int(step.last.header("retry-after") or 0) if step.last.close is None else 60
    refused_at = step.world.clock()
    once = {**step.request, "repeat": 1}
    step.world.clock.now = refused_at + wait - 1
    (early,) = await send(step.world, once)
    assert early.code == "rate_limit_exceeded"
    step.world.clock.now = refused_at + wait
    (later,) = await send(step.world, once)
    assert later.code != "rate_limit_exceeded"
