"""The app that `AK_GUARD_APP` names, guarded: `ak_guard.served:app`, for any server that imports its app by name.

`ak-guard run` serves it with uvicorn; `AK_GUARD_APP=my_service:app hypercorn ak_guard.served:app` does with another
one. A function that makes the app is written with brackets: `AK_GUARD_APP=my_service:create_app()`. Each process of a
server imports this anew, so everything it has to know stands in the environment and in the file of settings.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ak_guard.errors import ConfigurationError
from ak_guard.middleware import ApiKeyMiddleware
from ak_guard.settings.catalogue import APP_VARIABLE
from ak_guard.settings.values import referred

if TYPE_CHECKING:
    from starlette.types import ASGIApp


def guarded() -> ApiKeyMiddleware:
    """The app behind a guard. Raises `ConfigurationError` where `AK_GUARD_APP` names none."""
    return ApiKeyMiddleware(_named(os.environ.get(APP_VARIABLE, "").strip()))


def _named(reference: str) -> ASGIApp:
    if not reference:
        raise ConfigurationError(f"{APP_VARIABLE}: set it to the app, such as my_service:app")
    app: Any = referred(reference.removesuffix("()"), APP_VARIABLE)
    if reference.endswith("()"):
        app = app()
    if not callable(app):
        raise ConfigurationError(f"{APP_VARIABLE}: {reference} is no ASGI app but {type(app).__name__}")
    named: ASGIApp = app
    return named


if os.environ.get(APP_VARIABLE):
    # Some servers look only at what stands in the module.
    app: ApiKeyMiddleware = guarded()


def __getattr__(name: str) -> Any:
    if name == "app":
        # Raises, and says what is missing.
        return guarded()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
