"""What both apps answer where a request is wrong or the world failed, and how their OpenAPI documents say so."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from ak_guard.admin.models import Problem
from ak_guard.admin.problems import code_of, problem
from ak_guard.errors import BackendError, BudgetError

log: Final = logging.getLogger("ak_guard")

_LONGEST_FIELD: Final = 100
_METHOD_NOT_ALLOWED: Final = 405
_MESSAGES: Final = {"extra_forbidden": "is not known here", "missing": "is missing"}
_PROBLEM: Final = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def documented(texts: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """Statuses that every route may answer with a problem, for FastAPI."""
    return {status: {"model": Problem, "description": text, "content": _PROBLEM} for status, text in texts.items()}


def add_faults(api: FastAPI, routers: Sequence[APIRouter], *, name: str) -> None:
    """Answer faults with problems. `name` is what the app is called in its log."""
    routes = [route for router in routers for route in router.routes if isinstance(route, Route)]

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        if any(fault["type"] == "json_invalid" for fault in error.errors()):
            return problem("bad_request", "The body is no JSON.")
        # What was sent is not repeated: it may hold a secret that was sent by mistake.
        return wrong([{"field": _field(fault["loc"]), "problem": _text(fault)} for fault in error.errors()])

    @api.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == _METHOD_NOT_ALLOWED:
            # Each method has a route of its own, and the framework names those of the first.
            beside = [route for route in routes if route.matches(request.scope)[0] != Match.NONE]
            headers["Allow"] = ", ".join(sorted({method for route in beside for method in route.methods or ()}))
        return problem(code_of(error.status_code), str(error.detail), headers=headers)

    @api.exception_handler(BackendError)
    @api.exception_handler(BudgetError)
    async def away(_: Request, error: Exception) -> Response:
        log.error("%s cannot reach its store: %s", name, error)
        return problem("store_unavailable", "The store of keys cannot be reached.")

    @api.exception_handler(Exception)
    async def failed(_: Request, __: Exception) -> Response:
        return problem("internal", "The service failed; its operator finds the reason in the log.")


def wrong(errors: Sequence[Mapping[str, str]]) -> Response:
    """The answer to values that are wrong; the first is told in the detail, too."""
    return problem("invalid", f"{errors[0]['field']}: {errors[0]['problem']}", errors=errors)


def _field(where: Sequence[Any]) -> str:
    """The name of a member as a person would write it: `asks.0.need`. Names may be nonsense, too."""
    name = ".".join(str(part) for part in where[1:]) or str(where[0])
    return name.encode("utf-8", "backslashreplace").decode()[:_LONGEST_FIELD]


def _text(fault: Mapping[str, Any]) -> str:
    return _MESSAGES.get(fault["type"], str(fault["msg"]).removeprefix("Value error, "))
