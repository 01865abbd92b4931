"""The SDKs of OpenAI and Anthropic against metered services: each call costs the tokens that the SDK is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anthropic
import openai
import pytest

from ak_guard import ApiKeyMiddleware, KeyManager, Meter
from ak_guard.backends import MemoryBackend
from tests.clients.service import Service
from tests.clients.upstream import FakeUpstream
from tests.support import running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ak_guard.manager import Issued

METER = Meter({"POST *": 50}, default=0, tokens=True)
ASK: Any = [{"role": "user", "content": "count"}]


class Metered:
    """A service that runs behind a meter, and a key for it."""

    def __init__(self, url: str, backend: MemoryBackend) -> None:
        self.url = url
        self._keys = KeyManager(backend)
        self._issued: Issued = asyncio.run(self._keys.create("dev-local", quota=1_000))
        self.secret = self._issued.secret

    @property
    def used(self) -> int:
        quota = asyncio.run(self._keys.status(self._issued.key.id)).quota
        assert quota is not None
        return quota.used


@pytest.fixture
def completions() -> Iterator[Metered]:
    backend = MemoryBackend()
    with running(ApiKeyMiddleware(FakeUpstream().app, backend=backend, cost=METER)) as url:
        yield Metered(url, backend)


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metered]:
    for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    service = Service(cost=METER)
    with running(service) as url:
        yield Metered(url, service.backend)


def test_chat_completions_and_embeddings_cost_what_the_sdk_of_openai_is_told(completions: Metered) -> None:
    with openai.OpenAI(api_key=completions.secret, base_url=f"{completions.url}/v1", timeout=10) as client:
        assert client.chat.completions.create(model="m", messages=ASK).choices[0].message.content == "one two three"
        assert completions.used == 10
        client.embeddings.create(model="m", input="x", encoding_format="float")
        assert completions.used == 14
        client.models.list()
        assert completions.used == 14
        for model in ("m", "chatty"):
            chunks = client.chat.completions.create(
                model=model, messages=ASK, stream=True, stream_options={"include_usage": True}
            )
            assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices] == ["one", "two", "three"]
        assert completions.used == 34
        list(client.chat.completions.create(model="silent", messages=ASK, stream=True))
        assert completions.used == 84


def test_messages_cost_what_the_sdk_of_anthropic_is_told(messages: Metered) -> None:
    with anthropic.Anthropic(api_key=messages.secret, base_url=messages.url, timeout=10) as client:
        whole = client.messages.create(model="m", max_tokens=9, messages=ASK)
        assert messages.used == whole.usage.input_tokens + whole.usage.output_tokens == 4
        with client.messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
            assert list(stream.text_stream) == ["one ", "two ", "three"]
        assert messages.used == 8
