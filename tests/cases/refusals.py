"""What every refusal has, whatever its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cases.wire import Outcome

_NEVER_WAIT = {"insufficient_quota", "cost_exceeds_limit"}
_ALWAYS_WAIT = {"rate_limit_exceeded", "too_many_failures", "limits_unavailable", "key_service_unavailable"}


def check_refusal(outcome: Outcome, request: dict[str, Any]) -> None:
    if outcome.close is not None:
        assert [message["type"] for message in outcome.messages] == ["websocket.close"]
        assert (outcome.close["code"], outcome.close["reason"]) == (1008, outcome.code)
        return
    assert outcome.header("cache-control") == "no-store"
    assert outcome.header("x-request-id") == outcome.header("request-id")
    assert outcome.header("x-request-id")
    wait = outcome.header("retry-after")
    if outcome.code in _NEVER_WAIT:
        assert (wait, outcome.header("x-should-retry")) == (None, "false")
    elif outcome.code in _ALWAYS_WAIT:
        assert int(wait or 0) >= 1
    else:
        assert wait is None
    if outcome.status == 401:
        assert (outcome.header("www-authenticate") or "").startswith('Bearer realm="api"')
        assert outcome.header("ratelimit") is None
    if request.get("method") == "HEAD":
        assert outcome.body == b""
        return
    _check_body(outcome, outcome.content)


def _check_body(outcome: Outcome, content: dict[str, Any]) -> None:
    assert content.keys() >= {"type", "title", "status", "detail", "code", "error"}
    assert (content["status"], content["code"]) == (outcome.status, outcome.code)
    error = content["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    assert (error["message"], error["code"]) == (content["detail"], outcome.code)
