"""Which paths: the routes of a group, the public paths, and what makes a path odd.

Servers hand paths on as they come and apps differ in how they read them, so a path that two readers could take for two
places is odd. An odd path is never public, and a route must let it in both as it stands and in its normal form.
Only `scope["path"]` is read: a URL rebuilt from the Host header can be forged (CVE-2026-48710).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ODD: Final = re.compile(r"//|\\|[\x00-\x1f\x7f\ufffd]|%(?:2e|2f|5c|25|00)|/\.{1,2}(?:/|$)|;", re.IGNORECASE)
_ODD_RAW: Final = re.compile(rb"%(?:2e|2f|5c|00)|\\", re.IGNORECASE)
# An encoding within an encoding within one is the deepest that is looked into; anything deeper is refused by routes.
_DEEPEST: Final = 4


def app_path(path: str, root: str) -> str:
    """The path as the guarded app's own routes see it: without `root_path`, cut at a segment boundary."""
    if not root or not path.startswith(root):
        return path
    rest = path[len(root) :]
    if rest and not rest.startswith("/"):
        return path
    return rest or "/"


class Route(NamedTuple):
    """What a request asks for, as far as a rule may look: websockets match as GET.

    `path` and `raw_path` are as the server gives them, `root_path` is where the guarded app is mounted.
    """

    method: str
    path: str
    raw_path: bytes | None = None
    root_path: str = ""


def route_of(scope: Mapping[str, Any]) -> Route:
    """The route of a request."""
    get = scope.get
    method = scope["method"] if scope["type"] == "http" else "GET"
    return Route(method, scope["path"], get("raw_path"), get("root_path") or "")


def is_odd(path: str, raw_path: bytes | None = None) -> bool:
    """Whether two readers could take this path for two places: `//`, dot segments, encoded slashes, NUL and such."""
    return not path.startswith("/") or bool(_ODD.search(path)) or bool(raw_path and _ODD_RAW.search(raw_path))


def normal_form(path: str) -> str | None:
    """The path as the most lenient reader would take it; None when it hides too deep or leaves the root."""
    for _ in range(_DEEPEST):
        if (decoded := unquote(path)) == path:
            break
        path = decoded
    else:
        return None
    segments: list[str] = []
    for segment in path.replace("\\", "/").split("/"):
        name = segment.partition(";")[0]
        if name == "..":
            if not segments:
                return None
            segments.pop()
        elif name not in {"", "."}:
            segments.append(name)
    return "/" + "/".join(segments)


class PublicPaths:
    """Exact literal paths that need no key. A path that is odd is never public."""

    __slots__ = ("literals",)

    def __init__(self, paths: Iterable[str]) -> None:
        #: What a path without a `root_path` must be one of, for those who ask for each request.
        self.literals: frozenset[str] = frozenset(paths)

    def __contains__(self, scope: Mapping[str, Any]) -> bool:
        root = scope.get("root_path")
        path = app_path(scope["path"], root) if root else scope["path"]
        return path in self.literals and not is_odd(path, scope.get("raw_path"))


class Routes:
    """The routes of a group: `"POST /v1/chat/*"`, `"/v1/models"`, `"*"`. No routes let everything in.

    A `*` at the end stands for whatever follows, one between slashes for one segment. HEAD goes where GET may go,
    websockets match as GET.
    """

    __slots__ = ("_any", "_by_method")

    def __init__(self, routes: Iterable[str]) -> None:
        by_method: dict[str, list[str]] = {}
        for route in routes:
            method, _, path = route.rpartition(" ")
            by_method.setdefault(method.strip().upper() or "*", []).append(path)
        if "GET" in by_method:
            by_method.setdefault("HEAD", []).extend(by_method["GET"])
        everywhere = by_method.get("*", [])
        self._any = not by_method or "*" in everywhere or "/*" in everywhere
        self._by_method = {
            method: _Matcher([*paths, *(everywhere if method != "*" else [])]) for method, paths in by_method.items()
        }

    def allow(self, route: Route) -> bool:
        return self._any or self._allow(route.method, app_path(route.path, route.root_path), route.raw_path)

    def _allow(self, method: str, path: str, raw_path: bytes | None) -> bool:
        matcher = self._by_method.get(method) or self._by_method.get("*")
        if matcher is None or not matcher.match(path):
            return False
        if not is_odd(path, raw_path):
            return True
        normal = normal_form(path)
        return normal is not None and matcher.match(normal)


class _Matcher:
    """Several path patterns: the exact ones in a set, the open-ended ones as prefixes, the rest as one expression."""

    __slots__ = ("_exact", "_pattern", "_prefixes")

    def __init__(self, paths: list[str]) -> None:
        self._exact = frozenset(path for path in paths if "*" not in path)
        starred = [path for path in paths if "*" in path]
        self._prefixes = tuple(path[:-1] for path in starred if path.index("*") == len(path) - 1)
        inner = [_expression(path) for path in starred if path.index("*") < len(path) - 1]
        self._pattern = re.compile("|".join(inner), re.DOTALL) if inner else None

    def match(self, path: str) -> bool:
        return (
            path in self._exact
            or path.startswith(self._prefixes)
            or (self._pattern is not None and self._pattern.fullmatch(path) is not None)
        )


def _expression(path: str) -> str:
    body, last = (path[:-1], ".*") if path.endswith("*") else (path, "")
    return "(?:" + "[^/]*".join(re.escape(part) for part in body.split("*")) + last + ")"
