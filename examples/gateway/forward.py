"""One request sent on to the upstream, and its answer handed back as it comes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2
from anyio import CancelScope
from starlette.responses import JSONResponse, Response, StreamingResponse

from examples.gateway.tokens import Events, Tokens

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from ak_guard import Admission

T = TypeVar("T")

MOST_BYTES = 10_000_000

# Nobody is there to read it; it stands in logs.
_LEFT = 499

# Headers are passed on by name, so that nobody's credentials or cookies slip through in either direction.
_SENT_ON = ("accept", "content-type")
_HANDED_BACK = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms")


class Upstream:
    """An OpenAI-compatible service at `url`, asked under a key of its own."""

    def __init__(self, client: httpx2.AsyncClient, url: str, key: str) -> None:
        self._client = client
        self._url = url
        self._key = key

    async def ask(self, request: Request, path: str) -> Response:
        """Forward, hand back, and charge. An upstream that is away or that refuses our key is a 502."""
        admission: Admission = request.state.ak_guard
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MOST_BYTES:
                return _error(413, "request_too_large", f"A request has at most {MOST_BYTES} bytes.")
        body, hidden = _with_usage(body)
        headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
        headers |= {"authorization": f"Bearer {self._key}", "accept-encoding": "identity"}
        sent = self._client.build_request(
            request.method, self._url + path, content=body, headers=headers, params=request.url.query or None
        )
        try:
            answer = await _while_there(request, self._client.send(sent, stream=True))
        except httpx2.HTTPError as error:
            return _error(502, "upstream_unavailable", f"The upstream cannot be reached ({type(error).__name__}).")
        if answer is None:
            return Response(status_code=_LEFT)
        if answer.status_code in {401, 403}:
            # It is our key that was refused; the client's is good.
            await answer.aclose()
            return _error(502, "upstream_refused", "The upstream does not accept the key of this gateway.")
        kept = {name: answer.headers[name] for name in _HANDED_BACK if name in answer.headers}
        tokens = Tokens(admission)
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return _Stream(_streamed(answer, tokens, hidden=hidden), answer.status_code, kept)
        try:
            content = await _while_there(request, answer.aread())
        except httpx2.HTTPError as error:
            return _error(502, "upstream_unavailable", f"The upstream broke off ({type(error).__name__}).")
        finally:
            await answer.aclose()
        if content is None:
            return Response(status_code=_LEFT)
        tokens.told(_parsed(content))
        tokens.charge()
        return Response(content, answer.status_code, headers=kept)


class _Stream(StreamingResponse):
    """One that ends what it streams with itself; left alone that would run until it is collected as garbage."""

    def __init__(self, parts: AsyncGenerator[bytes, None], status: int, headers: dict[str, str]) -> None:
        super().__init__(parts, status, headers)
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Also where all of this is cancelled, because the client has left or its key is disabled.
            with CancelScope(shield=True):
                await self._parts.aclose()


async def _streamed(answer: httpx2.Response, tokens: Tokens, *, hidden: bool) -> AsyncGenerator[bytes, None]:
    """Event by event. Where the client leaves, or its key is disabled, the upstream is hung up on and stops."""
    events = Events()
    try:
        async for part in answer.aiter_bytes():
            for event in events.add(part):
                if not tokens.heard(event) or not hidden:
                    yield event.text
        yield events.rest
    finally:
        # Also here, because whoever leaves before the end has still used what came.
        tokens.charge()
        await answer.aclose()


async def _while_there(request: Request, asked: Coroutine[Any, Any, T]) -> T | None:
    """What is asked for; None where the client leaves before it has come, and then the asking is ended too."""
    work, left = asyncio.create_task(asked), asyncio.create_task(_left(request))
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        for task in (work, left):
            task.cancel()
        await asyncio.gather(work, left, return_exceptions=True)


async def _left(request: Request) -> None:
    # The body has been read, so nothing else is to come.
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _with_usage(body: bytes) -> tuple[bytes, bool]:
    """Have a stream end with its usage; the second value says that the client has not asked for that."""
    asked = _parsed(body)
    if not asked.get("stream") or not {"messages", "prompt"} & asked.keys():
        return body, False
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict) or options.get("include_usage"):
        return body, False
    return json.dumps({**asked, "stream_options": {**options, "include_usage": True}}).encode(), True


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "api_error", "param": None, "code": code}}, status)
