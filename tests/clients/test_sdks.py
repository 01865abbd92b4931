"""The SDKs of OpenAI and Anthropic against a real server: the right exception, and no call made in vain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import anthropic
import openai
import pytest

from tests.clients.service import COST_HEADER, TOO_LONG, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.clients.conftest import Served


class Told(NamedTuple):
    """What a user of an SDK learns from its exception."""

    kinds: list[str]
    status: int
    code: str | None
    error_type: str | None
    message: str
    request_id: str | None


def _kinds(error: Exception) -> list[str]:
    """The names of the exception's class and of those above it: any of them may stand in an `except`."""
    return [kind.__name__ for kind in type(error).__mro__]


class Sdk(Protocol):
    """One SDK with its own retries left as they come."""

    def ask(self, key: str, headers: Mapping[str, str] | None = None) -> str: ...

    def stream(self, key: str) -> list[str]: ...

    def refusal(self, key: str, headers: Mapping[str, str] | None = None, *, stream: bool = False) -> Told: ...


class OpenAI:
    def __init__(self, url: str) -> None:
        self.url = url

    def _client(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(api_key=key or "none", base_url=f"{self.url}/v1", timeout=10)

    def ask(self, key: str, headers: Mapping[str, str] | None = None) -> str:
        # Without a key this SDK calls nobody, unless it is told to leave the header out.
        sent: Any = headers if key else {"Authorization": openai.Omit()}
        with self._client(key) as client:
            answer = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hello"}], extra_headers=sent
            )
        return answer.choices[0].message.content or ""

    def stream(self, key: str) -> list[str]:
        with self._client(key) as client:
            chunks = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "hello"}], stream=True
            )
            return [chunk.choices[0].delta.content or "" for chunk in chunks]

    def refusal(self, key: str, headers: Mapping[str, str] | None = None, *, stream: bool = False) -> Told:
        with pytest.raises(openai.APIStatusError) as caught:
            self.stream(key) if stream else self.ask(key, headers)
        error = caught.value
        return Told(_kinds(error), error.status_code, error.code, error.type, error.message, error.request_id)


class Anthropic:
    def __init__(self, url: str) -> None:
        self.url = url

    def _client(self, key: str) -> anthropic.Anthropic:
        omitted: Any = {} if key else {"Authorization": anthropic.Omit()}
        return anthropic.Anthropic(api_key=key or None, base_url=self.url, timeout=10, default_headers=omitted)

    def ask(self, key: str, headers: Mapping[str, str] | None = None) -> str:
        with self._client(key) as client:
            answer = client.messages.create(
                model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}], extra_headers=headers
            )
        return "".join(block.text for block in answer.content if block.type == "text")

    def stream(self, key: str) -> list[str]:
        with (
            self._client(key) as client,
            client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}]) as events,
        ):
            return list(events.text_stream)

    def refusal(self, key: str, headers: Mapping[str, str] | None = None, *, stream: bool = False) -> Told:
        with pytest.raises(anthropic.APIStatusError) as caught:
            self.stream(key) if stream else self.ask(key, headers)
        error = caught.value
        assert isinstance(error.body, dict)
        assert error.body["type"] == "error"
        return Told(
            _kinds(error),
            error.status_code,
            error.error_code,
            error.type,
            error.body["error"]["message"],
            error.request_id,
        )


@pytest.fixture(params=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest, served: Served, monkeypatch: pytest.MonkeyPatch) -> Sdk:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    return OpenAI(served.url) if request.param == "openai" else Anthropic(served.url)


# What is wrong, exception of the SDKs, status, code, error type.
REFUSALS = [
    ("missing", "AuthenticationError", 401, "missing_api_key", "authentication_error"),
    ("unknown", "AuthenticationError", 401, "invalid_api_key", "authentication_error"),
    ("mistyped", "AuthenticationError", 401, "invalid_api_key", "authentication_error"),
    ("disabled", "AuthenticationError", 401, "api_key_disabled", "authentication_error"),
    ("expired", "AuthenticationError", 401, "api_key_expired", "authentication_error"),
    ("elsewhere", "PermissionDeniedError", 403, "ip_not_allowed", "permission_error"),
    ("reader", "PermissionDeniedError", 403, "group_not_allowed", "permission_error"),
    ("spent", "RateLimitError", 429, "insufficient_quota", "insufficient_quota"),
    ("too long", "APIStatusError", 431, "credential_too_large", "invalid_request_error"),
    ("two keys", "BadRequestError", 400, "ambiguous_credentials", "invalid_request_error"),
    ("too dear", "RateLimitError", 429, "cost_exceeds_limit", "rate_limit_error"),
    ("five hours", "RateLimitError", 429, "rate_limit_exceeded", "rate_limit_error"),
]


def _key_and_headers(served: Served, case: str) -> tuple[str, dict[str, str]]:
    made = {"missing": "", "unknown": UNKNOWN, "too long": TOO_LONG}
    if case in made:
        return made[case], {}
    if case == "mistyped":
        good = served.key("good")
        return good[:-1] + ("a" if good[-1] != "a" else "b"), {}
    if case == "two keys":
        return served.key("good"), {"x-api-key": served.key("small")}
    if case == "too dear":
        return served.key("small"), {COST_HEADER: "11"}
    if case == "five hours":
        return served.new_key(limits=["1/5h"]), {}
    return served.key(case), {}


@pytest.mark.parametrize(("case", "kind", "status", "code", "error_type"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_a_refusal_raises_what_the_sdk_has_for_it_after_one_call(
    served: Served, sdk: Sdk, case: str, kind: str, status: int, code: str, error_type: str
) -> None:
    key, headers = _key_and_headers(served, case)
    if case == "five hours":
        assert sdk.ask(key) == "one two three"
    before = served.calls
    told = sdk.refusal(key, headers)
    assert served.calls - before == 1
    assert (told.status, told.code, told.error_type) == (status, code, error_type)
    assert kind in told.kinds
    assert told.message
    assert str(told.request_id).startswith("req_")


def test_a_used_up_quota_refuses_a_streamed_answer_before_it_begins(served: Served, sdk: Sdk) -> None:
    before = served.calls
    told = sdk.refusal(served.key("spent"), stream=True)
    assert told.code == "insufficient_quota"
    assert "RateLimitError" in told.kinds
    assert served.calls - before == 1


def test_a_good_key_gets_answers_whole_and_streamed(served: Served, sdk: Sdk) -> None:
    before = served.calls
    assert sdk.ask(served.key("good")) == "one two three"
    assert [part for part in sdk.stream(served.key("good")) if part] == ["one ", "two ", "three"]
    assert served.calls - before == 2


def test_a_short_wait_is_sat_out_by_the_sdk_and_then_passes(served: Served, sdk: Sdk) -> None:
    key = served.new_key(limits=["1/2s"])
    assert sdk.ask(key) == "one two three"
    before = served.calls
    assert sdk.ask(key) == "one two three"
    assert served.calls - before == 2
