"""The key service: who holds a key, for guards elsewhere. See `protocol.md`."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

import logging
import math
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from ak_guard.admin import models
from ak_guard.admin.gate import KeyService
from ak_guard.admin.problems import answer, code_of, problem
from ak_guard.admin.relay import Relay
from ak_guard.admin.running import running
from ak_guard.admin.service_budgets import budget_routes
from ak_guard.admin.service_changes import change_routes
from ak_guard.admin.service_slots import slot_routes
from ak_guard.admin.service_tokens import ServiceTokens, TokenCheck
from ak_guard.admin.service_usage import usage_routes
from ak_guard.backends.bulletin import Posts
from ak_guard.backends.documents import VERSION, found_document
from ak_guard.errors import BackendError, BudgetError
from ak_guard.manager import KeyManager

log: Final = logging.getLogger("ak_guard")

_PACKAGE: Final = version("ak_guard")
_HEALTH: Final = "/v1/healthz"
_OPENAPI: Final = "/v1/openapi.json"
_LONGEST_FIELD: Final = 100
# Anybody may ask whether the service is well, and as often as he likes.
_SEEN_SECONDS: Final = 1.0
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="service token")
_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": models.Problem, "description": text, "content": _PROBLEM}
    for status, text in {
        400: "The request cannot be read.",
        401: "No service token, or one that is not good.",
        404: "There is nothing here.",
        405: "This method is not for this path.",
        408: "The body did not come in time.",
        413: "The body is too large.",
        415: "The body is no JSON.",
        422: "A value is wrong; `errors` names it.",
        503: "The store cannot be reached, or too many requests are under way.",
    }.items()
}


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
    api.include_router(_health_route(keys))
    for routes in routers:
        api.include_router(routes, dependencies=[Security(_BEARER)])
    _add_problems(api, [route for routes in routers for route in routes.routes if isinstance(route, APIRoute)])
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


def _add_problems(api: FastAPI, routes: Sequence[APIRoute]) -> None:
    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        # What was sent is not repeated: it may hold a secret that was sent by mistake.
        errors = [{"field": _field(fault["loc"]), "problem": str(fault["msg"])} for fault in error.errors()]
        return problem("invalid", f"{errors[0]['field']}: {errors[0]['problem']}", errors=errors)

    @api.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            # Of several routes with one path the framework names only the first one's method.
            path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
            same = [route.methods or set() for route in routes if route.path_regex.match(path)]
            headers["Allow"] = ", ".join(sorted(set().union(*same))) or headers.get("Allow", "")
        return problem(code_of(error.status_code), str(error.detail), headers=headers)

    @api.exception_handler(BackendError)
    @api.exception_handler(BudgetError)
    async def away(_: Request, error: Exception) -> Response:
        log.error("the key service cannot reach its store: %s", error)
        return problem("store_unavailable", "The store of keys cannot be reached.")

    @api.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return problem("internal", "The service failed; its operator finds the reason in the log.")


def _field(where: Sequence[Any]) -> str:
    """The name of a member as a person would write it: `asks.0.need`. Names may be nonsense, too."""
    name = ".".join(str(part) for part in where[1:]) or str(where[0])
    return name.encode("utf-8", "backslashreplace").decode()[:_LONGEST_FIELD]
