"""The admin API put together: everything that `KeyManager` does, as JSON, for whoever has an admin token."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI, Request, Response, Security
from fastapi.security import HTTPBearer
from starlette.types import ASGIApp

from ak_guard.admin.api_deeds import deed_routes
from ak_guard.admin.api_groups import group_routes
from ak_guard.admin.api_happened import happened_routes, token_routes, worker_routes
from ak_guard.admin.api_keys import key_routes
from ak_guard.admin.door import FAILURES, Door
from ak_guard.admin.faults import add_faults, documented, wrong
from ak_guard.admin.problems import problem
from ak_guard.admin.running import running
from ak_guard.admin.tokens import AdminTokens
from ak_guard.admin.visit import Refused
from ak_guard.errors import ConfigurationError, Conflict, InputError, NotFound
from ak_guard.manager import KeyManager

_PACKAGE: Final = version("ak_guard")
_OPENAPI: Final = "/openapi.json"
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="admin token")
_ERRORS: Final = documented(
    {
        400: "The request cannot be read.",
        401: "No admin token, or one that is not good.",
        403: "The token's role may not do this.",
        404: "There is no such key, group or token.",
        405: "This method is not for this path.",
        408: "The body did not come in time.",
        409: "The key that the same request made was deleted since.",
        412: "Somebody else changed it meanwhile; nothing was done.",
        413: "The body is too large.",
        415: "The body is no JSON.",
        422: "A value is wrong; `errors` names it.",
        428: "If-Match is missing.",
        429: "Too many wrong tokens from this address.",
        503: "The store cannot be reached.",
    }
)


def admin_app(keys: KeyManager, *, tokens: AdminTokens | None = None, failure_limit: int = FAILURES) -> ASGIApp:
    """The admin API as an ASGI app, to be served by itself or mounted under any path.

    `tokens` says whose token it is (default: those in the store of `keys`, and `AK_GUARD_ADMIN_TOKEN`). Served by
    itself the app opens and closes the store; mounted it is not told of start and stop, and the store opens with the
    first request: close `keys` when the app around it stops. An address that sends more than `failure_limit` wrong
    tokens within a minute may try one a second, unless it showed a right one before. No other site may call the app
    from a browser (no CORS).
    """
    known = AdminTokens(keys) if tokens is None else tokens

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(keys):
            yield

    api = FastAPI(
        title="ak_guard admin API",
        version=_PACKAGE,
        summary="Create, limit, disable, replace and watch API keys.",
        openapi_url=_OPENAPI,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Security(_BEARER)],
        responses=_ERRORS,
        redirect_slashes=False,
    )
    makers = (key_routes, deed_routes, group_routes, happened_routes, worker_routes, token_routes)
    routers = [make(keys, known) for make in makers]
    for router in routers:
        api.include_router(router)
    add_faults(api, routers, name="the admin API")
    _add_refusals(api)
    return Door(api, tokens=known, open_paths=[_OPENAPI], failure_limit=failure_limit)


def _add_refusals(api: FastAPI) -> None:
    @api.exception_handler(InputError)
    async def invalid(_: Request, error: InputError) -> Response:
        return wrong([{"field": error.field, "problem": error.problem}])

    @api.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return problem(error.code, error.detail, errors=error.errors)

    @api.exception_handler(NotFound)
    async def missing(_: Request, error: NotFound) -> Response:
        return problem("not_found", str(error))

    @api.exception_handler(Conflict)
    async def changed(_: Request, __: Conflict) -> Response:
        return problem("precondition_failed", "It was changed since you read it: read it again. Nothing was done.")

    @api.exception_handler(ConfigurationError)
    async def misconfigured(_: Request, error: ConfigurationError) -> Response:
        return problem("misconfigured", str(error))
