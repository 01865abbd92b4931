"""What a case expects, compared with what came: one check for each word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.cases.downstream import check_downstream
from tests.cases.guarded import FAULTS
from tests.cases.language import UnknownWord, known_only
from tests.cases.refusals import check_refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.cases.wire import Outcome
    from tests.cases.world import World


@dataclass(eq=False)
class Step:
    """One line of a case's requests with everything that came of it."""

    world: World
    request: dict[str, Any]
    outcomes: list[Outcome]
    expected: dict[str, Any]
    logged: str = ""
    asked: list[bytes] = field(default_factory=list)

    @property
    def last(self) -> Outcome:
        return self.outcomes[-1]


async def check(step: Step) -> None:
    for word, value in step.expected.items():
        if word not in _CHECKS:
            raise UnknownWord("expected", word)
        done = _CHECKS[word](step, value)
        if done is not None:
            await done
    for outcome in step.outcomes:
        _check_promises(step, outcome)


def _check_promises(step: Step, outcome: Outcome) -> None:
    """What holds for every request, whether or not the case says so."""
    if outcome.code is not None:
        check_refusal(outcome, step.request)
    if outcome.raised is not None:
        assert "raised" in step.expected, f"raised {outcome.raised!r}"
    told = outcome.everything_sent
    assert not [secret for secret in step.world.texts.secrets if secret in told], "a key was sent back"
    behaviour = outcome.visit.behaviour
    if behaviour.get("sets_contextvar"):
        assert outcome.visit.contextvar_outside == "by the app"
    if wanted := behaviour.get("waits_for"):
        assert outcome.visit.received[-1]["type"] == wanted
    if outcome.visit.called and outcome.raised is None and step.request.get("method") != "HEAD":
        _check_app_answer(step, outcome)


def _check_app_answer(step: Step, outcome: Outcome) -> None:
    """What the app sent goes out as it was, in the pieces in which it was sent."""
    kind = step.request.get("type", "http")
    if kind == "http":
        pieces = [message["body"] for message in outcome.messages if message["type"] == "http.response.body"]
        assert pieces == [*(chunk.encode() for chunk in outcome.visit.behaviour.get("stream", ["fine"])), b""]
        assert outcome.visit.behaviour.get("status", 200) == outcome.status
    if kind == "websocket":
        said = [message["text"] for message in outcome.messages if message["type"] == "websocket.send"]
        assert said == step.request.get("says", [])


def _decision(step: Step, wanted: str) -> None:
    totals = {"admitted", "rejected"} & step.expected.keys()
    if wanted == "either" and not totals:
        raise UnknownWord("decision", "either without a settled answer")
    known_only({wanted: 1}, {"admit", "reject", "observe", "either", "config_error"}, "decision")
    for outcome in step.outcomes:
        called = step.expected.get("app_called", True)
        if wanted == "admit":
            assert outcome.code is None, f"refused with {outcome.code}"
            assert outcome.visit.called is called
        elif wanted in {"reject", "config_error"}:
            assert outcome.code is not None, f"let in with {outcome.status}"
            assert not outcome.visit.called
        if wanted == "config_error":
            assert (outcome.status, outcome.code) == (503, "misconfigured")


def _status(step: Step, wanted: list[int]) -> None:
    if not wanted:
        return
    if len(wanted) > 1:
        raise UnknownWord("status", f"{wanted} without a settled answer")
    for outcome in step.outcomes:
        totals = {"admitted", "rejected"} & step.expected.keys()
        if totals and outcome.code is None:
            continue
        if outcome.close is not None and step.request.get("extensions") is None:
            # A refused websocket has no status of its own where the server cannot send one.
            assert (outcome.close["code"], outcome.close["reason"]) == (1008, outcome.code)
        else:
            assert outcome.status == wanted[0]


def _code(step: Step, wanted: str) -> None:
    codes = {outcome.code for outcome in step.outcomes if outcome.code or not {"rejected"} & step.expected.keys()}
    assert codes == {wanted}


def _tightest(outcome: Outcome) -> dict[str, str]:
    return min(outcome.windows, key=lambda window: int(window["r"]))


def _remaining(step: Step, wanted: int | list[int]) -> None:
    for outcome in step.outcomes:
        left = [int(window["r"]) for window in outcome.windows]
        assert (left if isinstance(wanted, list) else min(left)) == wanted


def _of_tightest(parameter: str) -> Callable[[Step, Any], None]:
    def check_tightest(step: Step, wanted: int | str) -> None:
        assert {_tightest(outcome)[parameter] for outcome in step.outcomes} == {str(wanted)}

    return check_tightest


def _last_remaining(step: Step, wanted: int) -> None:
    assert _tightest(step.last)["r"] == str(wanted)


def _retry_after(step: Step, wanted: int | dict[str, int]) -> None:
    for outcome in step.outcomes:
        seconds = int(outcome.header("retry-after") or -1)
        if isinstance(wanted, dict):
            known_only(wanted, {"min", "max"}, "retry_after")
            assert wanted["min"] <= seconds <= wanted["max"]
        else:
            assert seconds == wanted


def _headers_absent(step: Step, names: list[str]) -> None:
    for outcome in step.outcomes:
        assert [name for name in names if outcome.headers(name)] == []


def _header_equals(step: Step, wanted: dict[str, str]) -> None:
    for outcome in step.outcomes:
        assert {name: outcome.header(name) for name in wanted} == wanted


def _client_seen(step: Step, wanted: str | None) -> None:
    for outcome in step.outcomes:
        assert outcome.decision is not None
        assert outcome.decision.client == wanted
        if outcome.visit.called:
            assert outcome.visit.admission is not None
            assert outcome.visit.admission.client == wanted


def _identity(step: Step, name: str) -> None:
    admission = step.last.visit.admission
    assert admission is not None
    assert admission.key.name == name


async def _quota_after(step: Step, wanted: int) -> None:
    assert step.last.decision is not None
    assert step.last.decision.key is not None
    quota = (await step.world.status(step.last.decision.key)).quota
    assert quota is not None
    assert quota.remaining == wanted


async def _window_remaining(step: Step, wanted: list[int]) -> None:
    assert step.last.decision is not None
    assert step.last.decision.key is not None
    windows = (await step.world.status(step.last.decision.key)).windows
    assert [window.remaining for window in windows] == wanted


def _total(*, admitted: bool) -> Callable[[Step, int], None]:
    def check_total(step: Step, wanted: int) -> None:
        assert sum(outcome.visit.called is admitted for outcome in step.outcomes) == wanted

    return check_total


def _raised(step: Step, wanted: str) -> None:
    for outcome in step.outcomes:
        if wanted in FAULTS:
            assert outcome.raised is FAULTS[wanted]
        else:
            assert type(outcome.raised).__name__ == wanted


def _not_contained(where: str) -> Callable[[Step, list[str]], None]:
    def check_absence(step: Step, texts: list[str]) -> None:
        told = step.logged if where == "log" else step.last.everything_sent
        assert [text for text in texts if text in told] == []

    return check_absence


def _backend_request(step: Step, wanted: dict[str, str]) -> None:
    """Backends are asked by digest alone, so no text of a caller can become a header of that request."""
    known_only(wanted, {"no_injected_header"}, "backend_request")
    assert all(isinstance(digest, bytes) and len(digest) == 32 for digest in step.asked)


def _handshake(step: Step, wanted: str) -> None:
    known_only({wanted: 1}, {"refused_before_accept"}, "handshake")
    assert not step.last.accepted


def _own_headers(step: Step, allowed: list[str]) -> None:
    known_only(dict.fromkeys(allowed), {"77 only"}, "acceptable_headers")
    for name, value in step.request["app"]["own_headers"]:
        assert step.last.headers(name) == [value]


def _simply(test: Callable[[Outcome, Any], bool]) -> Callable[[Step, Any], None]:
    def check_each(step: Step, wanted: Any) -> None:
        for outcome in step.outcomes:
            assert test(outcome, wanted), f"not {wanted!r}"

    return check_each


def _note(step: Step, value: Any) -> None:
    """For people: says in other words what the rest of the answer says."""


_CHECKS: dict[str, Callable[[Step, Any], Awaitable[None] | None]] = {
    "decision": _decision,
    "why": _note,
    "recommended": _note,
    "by_policy": _note,
    "acceptable": _note,
    "status": _status,
    "code": _code,
    "remaining": _remaining,
    "remaining_header": _remaining,
    "last_remaining": _last_remaining,
    "limit": _of_tightest("q"),
    "header_window": _of_tightest("w"),
    "reset": _of_tightest("t"),
    "header_count": _simply(lambda outcome, wanted: len(outcome.headers("ratelimit")) == wanted),
    "retry_after": _retry_after,
    "headers_absent": _headers_absent,
    "header_absent": _headers_absent,
    "header_equals": _header_equals,
    "acceptable_headers": _own_headers,
    "client_seen": _client_seen,
    "identity": _identity,
    "downstream": lambda step, wanted: check_downstream(step.last.visit, wanted),
    "app_called": _simply(lambda outcome, wanted: outcome.visit.called is wanted),
    "key_needed": _simply(lambda outcome, wanted: (outcome.decision is None) is not wanted),
    "quota_after": _quota_after,
    "window_remaining": _window_remaining,
    "admitted": _total(admitted=True),
    "rejected": _total(admitted=False),
    "raised": _raised,
    "log_must_not_contain": _not_contained("log"),
    "error_must_not_contain": _not_contained("answer"),
    "backend_request": _backend_request,
    "handshake": _handshake,
    "wire_body": _simply(lambda outcome, wanted: outcome.body.decode() == wanted),
    "wire_status": _status,
    "body_required": _simply(lambda outcome, wanted: bool(outcome.body) is wanted),
    "violated": _simply(lambda outcome, wanted: outcome.content.get("violated-policies") == wanted),
    "detail_contains": _simply(lambda outcome, wanted: wanted in outcome.content["detail"]),
    "detail_omits": _simply(lambda outcome, wanted: wanted not in outcome.body.decode()),
    "top_level_type": _simply(lambda outcome, wanted: outcome.content["type"] == wanted),
    "would_refuse": _simply(lambda outcome, wanted: outcome.decision is not None and outcome.decision.code == wanted),
}
