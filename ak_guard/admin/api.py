"""The admin API put together: everything that `KeyManager` does, as JSON, for whoever has an admin token."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from ak_guard.admin import models
from ak_guard.admin.api_deeds import deed_routes
from ak_guard.admin.api_groups import group_routes
from ak_guard.admin.api_happened import happened_routes, token_routes
from ak_guard.admin.api_keys import key_routes
from ak_guard.admin.door import Door
from ak_guard.admin.problems import code_of, problem
from ak_guard.admin.running import running
from ak_guard.admin.tokens import AdminTokens
from ak_guard.admin.visit import Refused
from ak_guard.errors import BackendError, BudgetError, ConfigurationError, Conflict, InputError, NotFound
from ak_guard.manager import KeyManager

log: Final = logging.getLogger("ak_guard")

_PACKAGE: Final = version("ak_guard")
_OPENAPI: Final = "/openapi.json"
_LONGEST_FIELD: Final = 100
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="admin token")
_MESSAGES: Final = {"extra_forbidden": "is not known here", "missing": "is missing"}
_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": models.Problem, "description": text, "content": _PROBLEM}
    for status, text in {
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
    }.items()
}


def admin_app(keys: KeyManager, *, tokens: AdminTokens | None = None) -> ASGIApp:
    """The admin API as an ASGI app, to be served by itself or mounted under any path.

    `tokens` says whose token it is (default: those in the store of `keys`, and `AK_GUARD_ADMIN_TOKEN`). Served by
    itself the app opens and closes the store; mounted it is not told of start and stop, and the store opens with the
    first request: close `keys` when the app around it stops. No other site may call it from a browser (no CORS).
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
    _add_problems(api)
    api.include_router(key_routes(keys, known))
    api.include_router(deed_routes(keys, known))
    api.include_router(group_routes(keys, known))
    api.include_router(happened_routes(keys, known))
    api.include_router(token_routes(keys, known))
    return Door(api, tokens=known, open_paths=[_OPENAPI])


def _add_problems(api: FastAPI) -> None:
    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        # What was sent is not repeated: it may hold a secret that was sent by mistake.
        return _wrong([{"field": _field(fault["loc"]), "problem": _text(fault)} for fault in error.errors()])

    @api.exception_handler(InputError)
    async def wrong(_: Request, error: InputError) -> Response:
        return _wrong([{"field": error.field, "problem": error.problem}])

    @api.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> Response:
        return problem(error.code, error.detail, errors=error.errors)

    @api.exception_handler(NotFound)
    async def missing(_: Request, error: NotFound) -> Response:
        return problem("not_found", str(error))

    @api.exception_handler(Conflict)
    async def changed(_: Request, __: Conflict) -> Response:
        return problem("precondition_failed", "It was changed since you read it: read it again. Nothing was done.")

    @api.exception_handler(HTTPException)
    async def framework(_: Request, error: HTTPException) -> Response:
        return problem(code_of(error.status_code), str(error.detail), headers=error.headers)

    @api.exception_handler(BackendError)
    @api.exception_handler(BudgetError)
    async def away(_: Request, error: Exception) -> Response:
        log.error("the admin API cannot reach its store: %s", error)
        return problem("store_unavailable", "The store cannot be reached.")

    @api.exception_handler(ConfigurationError)
    async def misconfigured(_: Request, error: ConfigurationError) -> Response:
        return problem("misconfigured", str(error))

    @api.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return problem("internal", "The admin API failed; its operator finds the reason in the log.")


def _wrong(errors: Sequence[Mapping[str, str]]) -> Response:
    return problem("invalid", f"{errors[0]['field']}: {errors[0]['problem']}", errors=errors)


def _field(where: Sequence[Any]) -> str:
    """The name of a member as a person would write it: `limits.0`. Names may be nonsense, too."""
    name = ".".join(str(part) for part in where[1:]) or str(where[0])
    return name.encode("utf-8", "backslashreplace").decode()[:_LONGEST_FIELD]


def _text(fault: Mapping[str, Any]) -> str:
    return _MESSAGES.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))
