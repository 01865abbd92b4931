"""The key service: who holds a key, for guards elsewhere. See `protocol.md`."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import APIRouter, FastAPI, Response, Security
from fastapi.security import HTTPBearer

from ak_guard.admin import models
from ak_guard.admin.faults import add_faults, documented
from ak_guard.admin.gate import KeyService
from ak_guard.admin.problems import answer
from ak_guard.admin.relay import Relay
from ak_guard.admin.running import running
from ak_guard.admin.service_budgets import budget_routes
from ak_guard.admin.service_changes import change_routes
from ak_guard.admin.service_slots import slot_routes
from ak_guard.admin.service_tokens import ServiceTokens, TokenCheck
from ak_guard.admin.service_usage import usage_routes
from ak_guard.backends.bulletin import Posts
from ak_guard.backends.documents import VERSION, found_document
from ak_guard.manager import KeyManager

_PACKAGE: Final = version("ak_guard")
_HEALTH: Final = "/v1/healthz"
_OPENAPI: Final = "/v1/openapi.json"
# Anybody may ask whether the service is well, and as often as they like.
_SEEN_SECONDS: Final = 1.0
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="service token")
_ERRORS: Final = documented(
    {
        400: "The request cannot be read.",
        401: "No service token, or one that is not good.",
        404: "There is nothing here.",
        405: "This method is not for this path.",
        408: "The body did not come in time.",
        413: "The body is too large.",
        415: "The body is no JSON.",
        422: "A value is wrong; `errors` names it.",
        503: "The store cannot be reached, or too many requests are under way.",
    }
)


def service_app(
    keys: KeyManager,
    *,
    tokens: Iterable[str] | None = None,
    checks: Sequence[TokenCheck] = (),
    own_time: bool = True,
) -> KeyService:
    """An ASGI app that answers guards elsewhere (`HTTPBackend`) over the store of `keys`, under `/v1/`.

    `tokens` are the service tokens, newest first (default: `AK_GUARD_SERVICE_TOKENS`, separated by commas); `checks`
    are asked beside them. With neither, everybody is refused. Served by itself the app opens and closes the store; what
    mounts it has to do that, as `serve_app` does. Budgets are counted beside the keys, by the time of the service; with
    `own_time=False` the guard's own clock rules, as a test with a clock to move needs it. Raises `ConfigurationError`
    for a token that is easily guessed.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(keys):
            yield

    bulletin = keys.backend.bulletin if isinstance(keys.backend, Posts) else None
    api = FastAPI(
        title="ak_guard key service",
        version=str(VERSION),
        summary=f"Who holds a key, and what it may still spend. Served by ak_guard {_PACKAGE}.",
        openapi_url=_OPENAPI,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=_ERRORS,
        redirect_slashes=False,
    )
    clock = keys.clock if own_time else None
    relay = None if bulletin is None else Relay(bulletin)
    routers = [
        _key_routes(keys),
        budget_routes(keys.counters, clock),
        slot_routes(keys.counters, clock),
        usage_routes(keys.backend),
        *([change_routes(bulletin, relay, keys.backend)] if bulletin is not None and relay is not None else []),
    ]
    health = _health_route(keys)
    api.include_router(health)
    for routes in routers:
        api.include_router(routes, dependencies=[Security(_BEARER)])
    add_faults(api, [health, *routers], name="the key service")
    return KeyService(
        api,
        checks=[ServiceTokens(tokens), *checks],
        open_paths=[_HEALTH, _OPENAPI],
        hang_up=_nobody_waits if relay is None else relay.hang_up,
    )


async def _nobody_waits() -> None:
    """Of a store that tells no changes nobody is told any."""


def _health_route(keys: KeyManager) -> APIRouter:
    routes = APIRouter()
    seen_at = -math.inf

    @routes.get(_HEALTH, response_model=models.Health)
    async def health() -> Response:
        """Whether the service and its store can be asked; the store is looked at once a second. Needs no token."""
        nonlocal seen_at
        if time.monotonic() >= seen_at + _SEEN_SECONDS:
            # Nobody holds this digest.
            await keys.backend.find(bytes(32))
            seen_at = time.monotonic()
        return answer({"status": "ok", "protocol": VERSION})

    return routes


def _key_routes(keys: KeyManager) -> APIRouter:
    routes = APIRouter()

    @routes.post("/v1/resolve", response_model=models.Resolved)
    async def resolve(asked: models.Resolve) -> Response:
        """Who holds the secret with this digest? `key` is null when nobody does."""
        return answer(found_document(await keys.backend.find(bytes.fromhex(asked.digest))))

    return routes
