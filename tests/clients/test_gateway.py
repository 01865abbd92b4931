"""The gateway of the examples between the real SDK of OpenAI and a small upstream."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import openai
import pytest
from httpx2 import Client
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import KeyManager
from ak_guard.backends import MemoryBackend
from examples.gateway.app import build
from examples.gateway.tokens import Events
from tests.clients.upstream import KEY, WORDS, FakeUpstream
from tests.support import bearer, running

if TYPE_CHECKING:
    from collections.abc import Iterator

ASK: Any = [{"role": "user", "content": "count"}]


class Gateway:
    """A gateway that runs before an upstream that runs."""

    def __init__(self, url: str, upstream: FakeUpstream, backend: MemoryBackend) -> None:
        self.url = url
        self.upstream = upstream
        self.keys = KeyManager(backend)

    def issue(self, **rules: Any) -> tuple[str, str]:
        """The secret of a new key, and its id."""
        issued = asyncio.run(self.keys.create("dev-local", **{"quota": 1_000, **rules}))
        return issued.secret, issued.key.id

    def used(self, key_id: str) -> int:
        quota = asyncio.run(self.keys.status(key_id)).quota
        assert quota is not None
        return quota.used

    def used_in_the_end(self, key_id: str, least: int) -> int:
        """What is charged once a call that was left has been put away, which nobody is told of."""
        deadline = time.monotonic() + 10
        while (used := self.used(key_id)) < least and time.monotonic() < deadline:
            time.sleep(0.01)
        return used

    @contextmanager
    def client(self, secret: str) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(api_key=secret, base_url=f"{self.url}/v1", timeout=10, max_retries=0) as client:
            yield client


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    upstream, backend = FakeUpstream(), MemoryBackend()
    with running(upstream.app) as above, running(build(f"{above}/v1", KEY, backend=backend)) as url:
        yield Gateway(url, upstream, backend)


def test_a_call_is_answered_and_charged_by_the_tokens_that_the_upstream_tells(gateway: Gateway) -> None:
    secret, key_id = gateway.issue()
    with gateway.client(secret) as client:
        answer = client.chat.completions.create(model="m", messages=ASK)
        assert answer.choices[0].message.content == "one two three"
        assert gateway.used(key_id) == 10
        assert client.embeddings.create(model="m", input="x", encoding_format="float").data[0].embedding == [0.5]
        assert gateway.used(key_id) == 14
        assert [model.id for model in client.models.list()] == ["m"]
        assert gateway.used(key_id) == 15


def test_the_keys_of_either_side_never_cross(gateway: Gateway) -> None:
    secret, _ = gateway.issue()
    headers = {"cookie": "session=client", "x-forwarded-for": "192.0.2.1", "openai-organization": "org"}
    with gateway.client(secret) as client:
        client.chat.completions.create(model="m", messages=ASK, extra_headers=headers)
        _, sent, _ = gateway.upstream.asked[-1]
        assert sent["authorization"] == f"Bearer {KEY}"
        assert secret not in str(gateway.upstream.asked)
        assert not {*headers, "x-api-key"} & sent.keys()
        with pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(model="418", messages=ASK)
    assert refused.value.status_code == 418
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert "set-cookie" not in refused.value.response.headers


@pytest.mark.parametrize("asked", [None, {"include_usage": False}, {"include_usage": True}])
def test_a_stream_comes_as_it_was_asked_for_and_is_charged(gateway: Gateway, asked: Any) -> None:
    secret, key_id = gateway.issue()
    options = {} if asked is None else {"stream_options": asked}
    with gateway.client(secret) as client:
        chunks = list(client.chat.completions.create(model="m", messages=ASK, stream=True, **options))
    words = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert words == list(WORDS)
    wanted = bool(asked and asked["include_usage"])
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([10] if wanted else [])
    assert gateway.used(key_id) == 10


@pytest.mark.parametrize(("model", "used"), [("silent", 3), ("chatty", 10)])
def test_a_stream_without_usage_is_charged_by_its_events_and_one_that_repeats_it_once(
    gateway: Gateway, model: str, used: int
) -> None:
    secret, key_id = gateway.issue()
    with gateway.client(secret) as client:
        assert len(list(client.chat.completions.create(model=model, messages=ASK, stream=True))) == 3
    assert gateway.used(key_id) == used


def test_a_client_that_leaves_stops_the_upstream_and_pays_for_what_came(gateway: Gateway) -> None:
    secret, key_id = gateway.issue()
    gateway.upstream.left.clear()
    with (
        gateway.client(secret) as client,
        client.chat.completions.create(model="endless", messages=ASK, stream=True) as stream,
    ):
        for _, chunk in zip(range(8), stream, strict=False):
            assert chunk.choices
    assert gateway.upstream.left.wait(10)
    assert gateway.used_in_the_end(key_id, 8) >= 8


def test_a_client_that_does_not_wait_for_an_answer_stops_the_upstream_too(gateway: Gateway) -> None:
    secret, key_id = gateway.issue()
    gateway.upstream.left.clear()
    with gateway.client(secret) as client, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).chat.completions.create(model="endless", messages=ASK)
    assert gateway.upstream.left.wait(10)
    assert gateway.used(key_id) == 1


def test_a_key_that_is_disabled_stops_its_stream_and_the_upstream(gateway: Gateway) -> None:
    secret, key_id = gateway.issue()
    gateway.upstream.left.clear()
    with gateway.client(secret) as client:
        stream = client.chat.completions.create(model="endless", messages=ASK, stream=True)
        next(iter(stream))
        asyncio.run(gateway.keys.disable(key_id))
        # It would never end by itself.
        assert all(chunk.choices for chunk in stream)
    assert gateway.upstream.left.wait(10)


def test_a_key_that_has_spent_its_tokens_reaches_the_upstream_no_more(gateway: Gateway) -> None:
    secret, _ = gateway.issue(quota=5)
    with gateway.client(secret) as client:
        client.chat.completions.create(model="m", messages=ASK)
        before = len(gateway.upstream.asked)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="m", messages=ASK)
    assert refused.value.code == "insufficient_quota"
    assert len(gateway.upstream.asked) == before


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_refusal_of_the_gateways_own_key_is_not_told_as_one_of_the_clients(gateway: Gateway, status: str) -> None:
    secret, _ = gateway.issue()
    with gateway.client(secret) as client, pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model=status, messages=ASK)
    assert (refused.value.status_code, refused.value.code) == (502, "upstream_refused")
    assert KEY not in refused.value.response.text


def test_only_what_is_listed_is_forwarded(gateway: Gateway) -> None:
    secret, _ = gateway.issue()
    before = len(gateway.upstream.asked)
    with Client(base_url=gateway.url, headers=bearer(secret)) as client:
        for method, path in (("GET", "/v1/files"), ("POST", "/v1/models"), ("GET", "/v1/chat/../models"), ("GET", "/")):
            assert client.request(method, path.replace("..", "%2e%2e")).status_code == 404, path
        assert client.get("/health", headers={"authorization": ""}).text == "up"
        too_large = client.post("/v1/embeddings", content=b"x" * 10_000_001)
        assert too_large.status_code == 413
    assert len(gateway.upstream.asked) == before


def test_an_upstream_that_is_away_is_told_as_such() -> None:
    backend = MemoryBackend()
    with running(build("http://127.0.0.1:1/v1", KEY, backend=backend)) as url:
        gateway = Gateway(url, FakeUpstream(), backend)
        secret, key_id = gateway.issue()
        with gateway.client(secret) as client, pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model="m", messages=ASK)
        assert (refused.value.status_code, refused.value.code) == (502, "upstream_unavailable")
        assert gateway.used(key_id) == 1


@given(
    st.lists(st.sampled_from([b'data: {"a": 1}', b": comment", b"data: [DONE]", b"event: x"]), max_size=6), st.data()
)
def test_events_are_the_same_wherever_their_bytes_are_cut(lines: list[bytes], data: st.DataObject) -> None:
    text = b"".join(line + data.draw(st.sampled_from([b"\n\n", b"\r\n\r\n"])) for line in lines) + b"data: half"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    events = Events()
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    found = [event for part in parts for event in events.add(part)]
    assert len(found) == len(lines)
    assert b"".join(event.text for event in found) + events.rest == text
    assert [event.data for event in found] == [{"a": 1} if b"{" in line else {} for line in lines]
