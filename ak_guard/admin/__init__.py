"""Keys over HTTP, for services and people: the key service, and the app of `ak-guard serve`. Needs the extra `admin`.

`service_app(keys)` answers `HTTPBackend`s; `protocol.md` beside this file tells what it says, so that a service in any
language can say the same. `admin_app(keys)` is the admin API, `console_app(keys, tokens=…)` the console: pages for
people. `AdminTokens` says who may. `serve_app(keys)` puts everything together that `ak-guard serve` serves.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from ak_guard.admin.tokens import AdminTokens
from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from ak_guard.admin.api import admin_app
    from ak_guard.admin.console.app import console_app
    from ak_guard.admin.serve import serve_app
    from ak_guard.admin.service import service_app

__all__ = ["AdminTokens", "admin_app", "console_app", "serve_app", "service_app"]

_HOMES: Final = {
    "admin_app": "ak_guard.admin.api",
    "console_app": "ak_guard.admin.console.app",
    "serve_app": "ak_guard.admin.serve",
    "service_app": "ak_guard.admin.service",
}

_NEEDED: Final = ("fastapi", "jinja2", "python_multipart", "itsdangerous")


def __getattr__(name: str) -> Any:
    # Tokens are made by the command line too, where the extra may be missing.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for needed in _NEEDED:
        if find_spec(needed) is None:
            raise ConfigurationError(f"admin: {needed} is not installed; run: pip install 'ak_guard[admin]'")
    return getattr(import_module(_HOMES[name]), name)
