"""A small OpenAI-compatible service for gateways to call: it remembers what it was asked, and whether it was left."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

KEY = "sk-of-the-upstream"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
WORDS = ("one", "two", "three")


class FakeUpstream:
    """`model` says how it behaves.

    `endless` never ends by itself, `silent` tells no usage, `chatty` tells it all the time, a number is a status.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        #: Set when a stream was left before its end.
        self.left = threading.Event()
        self.app = Starlette(
            routes=[
                Route("/v1/chat/completions", self._chat, methods=["POST"]),
                Route("/v1/embeddings", self._embed, methods=["POST"]),
                Route("/v1/models", self._models),
            ]
        )

    async def _heard(self, request: Request) -> Any:
        body = await request.body()
        asked = json.loads(body) if body else {}
        self.asked.append((str(request.url.path), dict(request.headers), asked))
        return asked

    async def _chat(self, request: Request) -> Response:
        asked = await self._heard(request)
        model = asked["model"]
        if model.isdecimal():
            headers = {"retry-after": "1", "set-cookie": "session=upstream", "x-should-retry": "false"}
            return JSONResponse({"error": {"message": f"as asked, {KEY}"}}, int(model), headers=headers)
        usage = {} if model == "silent" else {"usage": USAGE}
        if asked.get("stream"):
            told = usage if (asked.get("stream_options") or {}).get("include_usage") else {}
            return StreamingResponse(self._words(model, told), media_type="text/event-stream")
        while model == "endless":
            if await request.is_disconnected():
                self.left.set()
                break
            await anyio.sleep(0.005)
        message = {"role": "assistant", "content": " ".join(WORDS)}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return JSONResponse({"id": "1", "object": "chat.completion", "created": 1, "choices": choices, **usage})

    async def _words(self, model: str, usage: dict[str, Any]) -> AsyncIterator[str]:
        finished = False
        try:
            yield ": a comment that keeps the connection open\n\n"
            for count, word in enumerate(WORDS, start=1):
                told = {"usage": {**USAGE, "total_tokens": 7 + count}} if model == "chatty" else {}
                yield _chunk([{"index": 0, "delta": {"content": word}}], **told)
            while model == "endless":
                yield _chunk([{"index": 0, "delta": {"content": "more"}}])
                await anyio.sleep(0.005)
            if usage:
                yield _chunk([], **usage)
            yield "data: [DONE]\n\n"
            finished = True
        finally:
            if not finished:
                self.left.set()

    async def _embed(self, request: Request) -> Response:
        await self._heard(request)
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        return JSONResponse({"object": "list", "data": data, "model": "m", "usage": {"total_tokens": 4}})

    async def _models(self, request: Request) -> Response:
        await self._heard(request)
        return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model"}]})


def _chunk(choices: list[dict[str, Any]], **more: Any) -> str:
    return f"data: {json.dumps({'id': '1', 'object': 'chat.completion.chunk', 'choices': choices, **more})}\n\n"
