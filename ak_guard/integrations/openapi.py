"""Tell an app's OpenAPI document about API keys, so that Swagger UI's Authorize works.

app.add_middleware(ApiKeyMiddleware, backend=..., public_paths=["/docs", "/openapi.json", "/health"])
add_security(app, public_paths=["/health"])
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_METHODS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})

#: The places where the guard looks by default, in the words of OpenAPI 3.1 ("Security Scheme Object").
SCHEMES: Final[dict[str, dict[str, str]]] = {
    "ApiKeyBearer": {"type": "http", "scheme": "bearer", "description": "An API key as a bearer token."},
    "ApiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key in a header."},
}


def add_security(app: Any, *, public_paths: Collection[str] = ()) -> None:
    """Add both schemes to what `app.openapi()` returns, and require one of them everywhere but on `public_paths`.

    `app` is a FastAPI object. Its own document is copied, not changed; calling this again replaces what was added.
    Raises `ConfigurationError` for an app without `openapi()`.
    """
    described = getattr(app, "openapi", None)
    if not callable(described):
        raise ConfigurationError(f"{type(app).__name__} has no openapi(); give the FastAPI object itself")
    if isinstance(described, _Described):
        described = described.document
    app.openapi = _Described(described, frozenset(public_paths))


class _Described:
    """The app's own document with security in it, made anew whenever that changes."""

    def __init__(self, document: Callable[[], dict[str, Any]], public_paths: frozenset[str]) -> None:
        self.document = document
        self._public_paths = public_paths
        self._seen: dict[str, Any] | None = None
        self._described: dict[str, Any] = {}

    def __call__(self) -> dict[str, Any]:
        document = self.document()
        if document is not self._seen:
            self._seen = document
            self._described = self._with_security(copy.deepcopy(document))
        return self._described

    def _with_security(self, document: dict[str, Any]) -> dict[str, Any]:
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        for name, scheme in SCHEMES.items():
            schemes.setdefault(name, scheme)
        document.setdefault("security", [{name: []} for name in SCHEMES])
        for path in self._public_paths:
            for method, operation in document.get("paths", {}).get(path, {}).items():
                if method in _METHODS:
                    operation.setdefault("security", [])
        return document
