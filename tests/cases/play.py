"""Play a case: build its world, send its requests in order, and judge each of them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ak_guard import InputError
from tests.cases.judge import Step, check
from tests.cases.language import BASE, UnknownWord, known_only
from tests.cases.wire import Outcome, exchange
from tests.cases.world import World

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

    from ak_guard.backends import KeyStore
    from ak_guard.budgets.base import MultiWindowSupport
    from tests.cases.language import Case

_REQUEST_WORDS = {
    *("type", "method", "path", "query", "headers", "client", "cost", "app", "body", "says", "subprotocols"),
    *("extensions", "scope_headers_type", "root_path", "at", "at_epoch", "repeat", "concurrent", "after", "preset"),
    *("mode", "set", "admin", "disconnect_at"),
}


class Stores(NamedTuple):
    """Where a world keeps its keys, and its windows where they are not beside them."""

    backend: KeyStore
    limits: MultiWindowSupport | None = None


class Story:
    """One case in new stores. `reply_extension` is whether its server can refuse a websocket with a body.

    `upto` ends the story after the request of that number.
    """

    def __init__(
        self,
        case: Case,
        new_stores: Callable[[], Awaitable[Stores]],
        caplog: pytest.LogCaptureFixture,
        *,
        reply_extension: bool = False,
        upto: int | None = None,
    ) -> None:
        self._case = case
        self._new_stores = new_stores
        self._caplog = caplog
        self._reply_extension = reply_extension
        self._upto = upto
        self.steps: list[Step] = []

    async def play(self) -> None:
        variants = self._case.config.get("windows_each_alone")
        if variants is None:
            await self._play_with(self._case.config, self._case.expected)
            return
        rest = {word: value for word, value in self._case.config.items() if word != "windows_each_alone"}
        (expected,) = self._case.expected
        expected = dict(expected)
        each = expected.pop("each", [expected["decision"]] * len(variants))
        for variant, decision in zip(variants, each, strict=True):
            windows = variant if isinstance(variant, list) else [variant]
            await self._play_with({**rest, "windows": windows}, [{**expected, "decision": decision}])

    async def _play_with(self, config: dict[str, Any], expected: list[dict[str, Any]]) -> None:
        epochs = [_seconds(request["at_epoch"]) for request in self._case.requests if "at_epoch" in request]
        stores = await self._new_stores()
        world = World(stores.backend, config, min(epochs, default=BASE), stores.limits)
        if not await self._furnish(world, expected[0]):
            return
        for request, answer in list(zip(self._case.requests, expected, strict=bool(self._case.requests)))[: self._upto]:
            await self._step(world, request, answer)
        assert not [secret for secret in world.texts.secrets if secret in self._caplog.text], "a key was logged"

    async def _furnish(self, world: World, answer: dict[str, Any]) -> bool:
        """Whether there is a world to send requests to: not where a key that cannot be is rightly refused."""
        try:
            await world.furnish(self._case.keys)
        except InputError as error:
            if answer["decision"] != "config_error":
                raise AssertionError(f"refused: {error}") from error
            return False
        if self._case.requests:
            return True
        # Nothing but the making of the keys is asked about. Of the answer only `why` and `status: []` may stand beside.
        known_only(answer, {"decision", "why", "status"}, "expected without requests")
        known_only({answer["decision"]: 1}, {"config_error", "buildable"}, "decision")
        assert answer["decision"] == "buildable", "nonsense was accepted"
        return False

    async def _step(self, world: World, request: dict[str, Any], expected: dict[str, Any]) -> None:
        known_only(request, _REQUEST_WORDS, "request")
        if "at_epoch" in request:
            world.clock.now = _seconds(request["at_epoch"])
        elif "at" in request:
            world.clock.now = world.start + request["at"]
        if "after" in request:
            await world.change(request["after"])
        if "preset" in request:
            await world.preset(request["preset"])
        if "admin" in request:
            await _administer(world, request["admin"], expected)
            return
        request = world.texts.put_into(request)
        if self._reply_extension and "extensions" not in request:
            request["extensions"] = ["websocket.http.response"]
        if "disconnect_at" in request:
            world.clock.now = world.start + request["disconnect_at"]
        step = Step(world, request, await send(world, request), world.texts.put_into(expected))
        step.logged, step.asked = self._caplog.text, world.remote.asked
        self.steps.append(step)
        await check(step)


async def send(world: World, request: dict[str, Any]) -> list[Outcome]:
    """Send a request as often as it says: `repeat` in a row, or `concurrent` at once."""
    guard = world.guard(request.get("mode"), request.get("set", {}))

    async def once() -> Outcome:
        outcome = await exchange(guard, request)
        if not at_once and len(world.decisions) > before:
            outcome.decision = world.decisions[-1]
        return outcome

    before = len(world.decisions)
    at_once: int | None = request.get("concurrent")
    if at_once is None:
        outcomes = []
        for _ in range(request.get("repeat", 1)):
            before = len(world.decisions)
            outcomes.append(await once())
        return outcomes
    outcomes = list(await asyncio.gather(*(once() for _ in range(at_once))))
    _share_out(outcomes, world.decisions[before:])
    return outcomes


def _share_out(outcomes: list[Outcome], decisions: list[Any]) -> None:
    """Decisions come in any order; each goes to a request with the same code."""
    left = list(decisions)
    for outcome in outcomes:
        wanted = outcome.code or "admitted"
        outcome.decision = next(decision for decision in left if decision.code == wanted)
        left.remove(outcome.decision)


async def _administer(world: World, words: dict[str, Any], expected: dict[str, Any]) -> None:
    words = {word: world.moment(value) if word == "expires_at" else value for word, value in words.items()}
    status, shown = await world.administer(words)
    for word, wanted in world.texts.put_into(expected).items():
        match word:
            case "decision":
                known_only({wanted: 1}, {"admit", "reject"}, "decision")
                assert (status < 400) is (wanted == "admit"), shown
            case "why":
                pass
            case "status":
                assert [status] == wanted
            case "status_any":
                assert status in wanted
            case "secret_in_body":
                assert any(secret in shown for secret in world.texts.secrets) is wanted
            case "names":
                assert f"{wanted}: " in shown
            case _:
                raise UnknownWord("expected of an admin call", word)


def _seconds(moment: float | str) -> float:
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else float(moment)
