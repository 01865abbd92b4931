"""A gateway: keys of your own in front of any OpenAI-compatible upstream, paid for by the tokens that it reports.

In the checkout, with `pip install '.[sql,cli]' httpx2`:

    export AK_GUARD_BACKEND=sqlite:///keys.db UPSTREAM_URL=https://api.openai.com/v1 UPSTREAM_KEY=sk-...
    ak-guard keys create dev-local --limit 100000/5h --quota 1000000
    uvicorn examples.gateway.app:app

A client then sets `base_url="http://127.0.0.1:8000/v1"` and its own key. The upstream's key stays here, and that of the
client goes no further than the guard. One unit is one token; a call pays one when it begins and the rest when the
upstream has said how many there were.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ak_guard import ApiKeyMiddleware
from examples.gateway.forward import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from ak_guard.backends import KeyLookup

#: What may be asked of the upstream; all else is not there.
ASKED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")


async def _ask(request: Request) -> Response:
    upstream: Upstream = request.app.state.upstream
    return await upstream.ask(request, request.url.path.removeprefix("/v1"))


async def _models(request: Request) -> Response:
    upstream: Upstream = request.app.state.upstream
    return await upstream.ask(request, "/models")


async def _health(_: Request) -> Response:
    return PlainTextResponse("up")


async def _nothing(_: Request, __: Exception) -> Response:
    error = {"message": "This gateway does not forward that.", "type": "invalid_request_error", "code": "not_found"}
    return JSONResponse({"error": error}, 404)


def _client() -> httpx2.AsyncClient:
    # An answer may take minutes to begin; that there is an upstream at all shows at once.
    timeout = httpx2.Timeout(600.0, connect=5.0, pool=5.0)
    limits = httpx2.Limits(max_connections=1_000, max_keepalive_connections=100)
    return httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=False)


def build(url: str, key: str, *, backend: KeyLookup | str | None = None, **settings: Any) -> Starlette:
    """The gateway to the upstream at `url` (with its `/v1`) under the upstream's `key`; `settings` are the guard's."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        # It reads certificates from disk, for which no request should wait.
        async with await asyncio.to_thread(_client) as client:
            app.state.upstream = Upstream(client, url.rstrip("/"), key)
            yield

    guard = Middleware(ApiKeyMiddleware, backend=backend, public_paths=["/health"], forward_key=False, **settings)
    return Starlette(
        routes=[
            *(Route(path, _ask, methods=["POST"]) for path in ASKED),
            Route("/v1/models", _models),
            Route("/health", _health),
        ],
        middleware=[guard],
        exception_handlers={404: _nothing, 405: _nothing},
        lifespan=lifespan,
    )


app = build(
    os.environ.get("UPSTREAM_URL", "https://api.openai.com/v1"),
    os.environ.get("UPSTREAM_KEY", ""),
    backend=os.environ.get("AK_GUARD_BACKEND", "sqlite:///keys.db"),
)
