"""Measure several ASGI apps fairly: in rounds, each answer checked, the cost of measuring taken off.

A round calls every contender once, in an order drawn anew, because each finds the processor's caches as the one before
left them. Ratios are taken within a round.

In process a figure is processor time, not time on the clock: nothing waits there, and what else runs on the machine
does not count. Every request gets one turn of the event loop, as a server gives it, so that work which a contender
leaves to the loop is paid by that contender. The garbage collector is off within a batch and run before it.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import math
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

EMPTY: Final = "(empty app)"


class WrongAnswer(Exception):
    """A contender did not answer as it should. Its figure would mean nothing."""


@dataclass(slots=True, eq=False)
class Case:
    """One thing to measure: an app, the requests it gets in turn, and the status it must answer.

    `base` names the case whose cost is what the app costs without a guard. `at_once` requests run together. `spend`
    requests are made and not looked at before anything is measured, to use a limit up.
    """

    name: str
    app: ASGIApp
    scopes: Sequence[dict[str, Any]]
    status: int = 200
    base: str = ""
    checks: str = ""
    at_once: int = 1
    spend: int = 0
    close: Callable[[], Awaitable[object]] | None = None
    turn: Iterator[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.turn = itertools.cycle(self.scopes)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to measure: so many rounds of batches that take about `batch_seconds` each."""

    rounds: int
    batch_seconds: float


@dataclass(frozen=True, slots=True)
class Figure:
    """The median of the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


#: Microseconds per request for each case, one value for each round.
Series = dict[str, list[float]]


def ratio(series: Series, name: str, base: str) -> Figure:
    """What `name` costs in units of `base`. The ratio is taken in each round, then the median."""
    return Figure.of([mine / theirs for mine, theirs in zip(series[name], series[base], strict=True)])


def added(series: Series, name: str, base: str) -> Figure:
    """What `name` adds to `base`, in units of `base`."""
    return Figure.of([mine / theirs - 1 for mine, theirs in zip(series[name], series[base], strict=True)])


async def measure(cases: Sequence[Case], plan: Plan, *, wall: bool = False) -> Series:
    """Run all cases in turn, `plan.rounds` times. `wall` measures time on the clock, for what truly waits."""
    clock = time.perf_counter_ns if wall else time.process_time_ns
    contenders = [Case(EMPTY, _empty, cases[0].scopes, at_once=cases[0].at_once), *cases]
    series: Series = {case.name: [] for case in contenders}
    shuffle = random.Random(7).shuffle  # the same orders in each run
    # What is prepared by now is set aside, so that collecting between batches costs little and empties no caches.
    gc.collect()
    gc.freeze()
    try:
        order = [(case, await _calibrate(case, plan, clock)) for case in contenders]
        for _ in range(plan.rounds):
            shuffle(order)
            for case, number in order:
                series[case.name].append(await _batch(case, number, clock))
    finally:
        gc.unfreeze()
    overhead = series.pop(EMPTY)
    return {
        name: [value - lost for value, lost in zip(values, overhead, strict=True)] for name, values in series.items()
    }


async def close(cases: Sequence[Case]) -> None:
    for case in cases:
        if case.close is not None:
            await case.close()


async def call_each(app: ASGIApp, scopes: Sequence[dict[str, Any]]) -> None:
    """One request each, of which all must be answered 200."""
    sink = _Sink(200)
    await _one_by_one(app, list(scopes), sink)
    if sink.answers != len(scopes):
        raise WrongAnswer(f"{sink.answers} of {len(scopes)} answered 200, another {sink.wrong}")


async def _calibrate(case: Case, plan: Plan, clock: Callable[[], int]) -> int:
    """Warm up, and find out how many requests make a batch."""
    await _one_by_one(case.app, list(itertools.islice(case.turn, case.spend)), _Sink(case.status))
    await _batch(case, min(len(case.scopes), 2_000), clock)
    few = await _batch(case, 20 * case.at_once, clock)
    return max(5 * case.at_once, math.ceil(plan.batch_seconds * 1e6 / few))


async def _batch(case: Case, number: int, clock: Callable[[], int]) -> float:
    """Microseconds per request over `number` requests."""
    sink = _Sink(case.status)
    # A few come first and are not counted: the contender before left its own code and data in the processor's caches.
    early = 4 * case.at_once
    templates = list(itertools.islice(case.turn, early + number))
    run = _one_by_one if case.at_once == 1 else functools.partial(_together, at_once=case.at_once)
    gc.collect()
    gc.disable()
    try:
        await run(case.app, templates[:early], sink)
        begin = clock()
        await run(case.app, templates[early:], sink)
        spent = clock() - begin
    finally:
        gc.enable()
    if sink.wrong is not None or sink.answers != early + number:
        raise WrongAnswer(f"{case.name}: {sink.answers} answers of {case.status}, another of {sink.wrong}")
    return spent / 1000 / number


async def _one_by_one(app: ASGIApp, templates: list[dict[str, Any]], sink: _Sink) -> None:
    send = sink.send
    for template in templates:
        scope = template.copy()
        scope["state"] = {}
        await app(scope, _receive, send)
        await asyncio.sleep(0)


async def _together(app: ASGIApp, templates: list[dict[str, Any]], sink: _Sink, at_once: int) -> None:
    for first in range(0, len(templates), at_once):
        scopes = [{**template, "state": {}} for template in templates[first : first + at_once]]
        async with asyncio.TaskGroup() as group:
            for scope in scopes:
                group.create_task(_call(app, scope, sink))


async def _call(app: ASGIApp, scope: Scope, sink: _Sink) -> None:
    await app(scope, _receive, sink.send)


class _Sink:
    """Takes the answers and sees whether each is the right one."""

    __slots__ = ("answers", "expected", "wrong")

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.answers = 0
        self.wrong: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            if message["status"] == self.expected:
                self.answers += 1
            else:
                self.wrong = message["status"]


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


_START: Final = {"type": "http.response.start", "status": 200, "headers": []}
_BODY: Final = {"type": "http.response.body", "body": b""}


async def _empty(scope: Scope, receive: Receive, send: Send) -> None:  # an ASGI app
    await send(_START)
    await send(_BODY)
