"""An OpenAI- and Anthropic-shaped service behind a guard, with a key for each refusal, counting what reaches it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.backends import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

COST_HEADER: Final = "x-test-cost"
UNKNOWN: Final = "sk-nobody-holds-this-one"
TOO_LONG: Final = "k" * 600

_WORDS: Final = ("one ", "two ", "three")
_CHAT: Final = {"id": "chatcmpl-1", "created": 1, "model": "m"}
_CHUNK: Final = {**_CHAT, "object": "chat.completion.chunk"}
_TALK: Final = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
_USAGE: Final = {"input_tokens": 1, "output_tokens": 3}


async def _chat(request: Request) -> Response:
    if (await request.json()).get("stream"):
        chunks = [
            {**_CHUNK, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]} for word in _WORDS
        ]
        return _events([f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"])
    message = {"role": "assistant", "content": "".join(_WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return JSONResponse({**_CHAT, "object": "chat.completion", "choices": [choice]})


async def _messages(request: Request) -> Response:
    if (await request.json()).get("stream"):
        start: dict[str, Any] = {**_TALK, "content": [], "stop_reason": None, "usage": _USAGE}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *(
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
                for word in _WORDS
            ),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": _USAGE},
            {"type": "message_stop"},
        ]
        return _events([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events])
    content = [{"type": "text", "text": "".join(_WORDS)}]
    return JSONResponse({**_TALK, "content": content, "stop_reason": "end_turn", "usage": _USAGE})


async def _models(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "us"}]})


def _events(texts: list[str]) -> StreamingResponse:
    async def parts() -> AsyncIterator[str]:
        for text in texts:
            yield text

    return StreamingResponse(parts(), media_type="text/event-stream")


def _cost(scope: Scope) -> int:
    return next((int(value) for name, value in scope["headers"] if name == COST_HEADER.encode()), 1)


@dataclass
class Service:
    """The guarded app, counting the calls it gets. `secrets` are its keys by what is wrong with them."""

    backend: MemoryBackend = field(default_factory=MemoryBackend)
    secrets: dict[str, str] = field(default_factory=dict)
    calls: int = 0
    cost: Any = _cost

    def __post_init__(self) -> None:
        methods = ["GET", "POST"]
        app = Starlette(
            routes=[
                Route("/v1/chat/completions", _chat, methods=methods),
                Route("/v1/messages", _messages, methods=methods),
                Route("/v1/models", _models),
            ]
        )
        self._guarded = ApiKeyMiddleware(app, backend=self.backend, cost=self.cost)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += scope["type"] == "http"
        await self._guarded(scope, receive, send)

    async def issue(self, name: str, **rules: Any) -> str:
        self.secrets[name] = (await KeyManager(self.backend).create(name, **rules)).secret
        return self.secrets[name]

    async def prepare(self) -> None:
        """One key per refusal; those with a limit have nothing of it used yet."""
        keys = KeyManager(self.backend)
        await keys.create_group(Group("readers", routes=["GET /v1/models"]))
        await self.issue("good", limits=["1000/5h"], quota=100_000)
        await self.issue("disabled", enabled=False)
        await self.issue("elsewhere", allow_ips=["198.51.100.0/24"])
        await self.issue("reader", group="readers")
        await self.issue("spent", quota=0)
        await self.issue("small", limits=["10/5h"])
        expired = await keys.create("expired")
        await keys.update(expired.key.id, expires_at="2020-01-01")
        self.secrets["expired"] = expired.secret
