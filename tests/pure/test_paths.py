"""Which paths a route lets in, which are public, and which are odd."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette._utils import get_route_path

from ak_guard.paths import PublicPaths, Routes, app_path, is_odd, route_of
from tests.pure.support import examples, http, websocket


def lets_in(routes: list[str], path: str, method: str = "GET", **more: Any) -> bool:
    return Routes(routes).allow(route_of(http(path=path, method=method, **more)))


def most_lenient(path: str) -> str | None:
    """The place a reader reaches who decodes for ever and takes every trick; None where that is outside the root."""
    while (decoded := unquote(path)) != path:
        path = decoded
    reached: list[str] = []
    for segment in re.split(r"[/\\]+", path):
        match segment.split(";")[0]:
            case "" | ".":
                continue
            case "..":
                if not reached:
                    return None
                reached.pop()
            case name:
                reached.append(name)
    return "/" + "/".join(reached)


@pytest.mark.parametrize("path", ["/", "/v1/models", "//", "/a/../b", "http://evil/x", "", "*", "/\x00"])
@pytest.mark.parametrize("routes", [[], ["*"], ["/*"], ["POST /x", "*"]])
def test_no_routes_and_a_star_let_everything_in(routes: list[str], path: str) -> None:
    assert lets_in(routes, path)
    assert lets_in(routes, path, "DELETE")
    assert Routes(routes).allow(route_of(websocket(path=path)))


@pytest.mark.parametrize(
    ("routes", "method", "path", "allowed"),
    [
        (["/v1/models"], "GET", "/v1/models", True),
        (["/v1/models"], "DELETE", "/v1/models", True),
        (["/v1/models"], "GET", "/v1/models/", False),
        (["/v1/models"], "GET", "/v1/model", False),
        (["/v1/models"], "GET", "/V1/models", False),
        (["/v1/models"], "GET", "/v1/models/x", False),
        (["POST /v1/chat/*"], "POST", "/v1/chat/completions", True),
        (["POST /v1/chat/*"], "POST", "/v1/chat/a/b/c", True),
        (["POST /v1/chat/*"], "POST", "/v1/chat/", True),
        (["POST /v1/chat/*"], "POST", "/v1/chat", False),
        (["POST /v1/chat/*"], "POST", "/v1/chatter", False),
        (["POST /v1/chat/*"], "GET", "/v1/chat/completions", False),
        (["post /v1/chat/*"], "POST", "/v1/chat/completions", True),
        (["/v1/chat*"], "GET", "/v1/chatter", True),
        (["/v1/*/files"], "GET", "/v1/a/files", True),
        (["/v1/*/files"], "GET", "/v1/a/b/files", False),
        (["/v1/*/files"], "GET", "/v1/a/files/x", False),
        (["/v1/*/files/*"], "GET", "/v1/a/files/x/y", True),
        (["/v1/*/files/*"], "GET", "/v2/a/files/x/y", False),
        (["/v1/a.b"], "GET", "/v1/aXb", False),
        (["/v1/a.b/*/c"], "GET", "/v1/aXb/x/c", False),
        (["GET /a", "POST /b"], "POST", "/a", False),
        (["GET /a", "POST /b"], "GET", "/b", False),
        (["GET /a", "/b"], "GET", "/b", True),
        (["GET /a", "/b"], "PATCH", "/b", True),
        (["GET /a", "/b"], "PATCH", "/a", False),
        (["GET *"], "GET", "/anything", True),
        (["GET *"], "POST", "/anything", False),
        (["GET /a"], "HEAD", "/a", True),
        (["GET /a", "HEAD /b"], "HEAD", "/a", True),
        (["HEAD /a"], "GET", "/a", False),
        (["POST /a"], "HEAD", "/a", False),
        (["GET /a"], "OPTIONS", "/a", False),
        (["GET /a"], "get", "/a", False),
        (["GET /a"], "*", "/a", False),
    ],
)
def test_routes_match_method_and_path(routes: list[str], method: str, path: str, allowed: bool) -> None:
    assert lets_in(routes, path, method) is allowed


def test_websockets_match_as_get() -> None:
    assert Routes(["GET /ws"]).allow(route_of(websocket(path="/ws")))
    assert Routes(["/ws"]).allow(route_of(websocket(path="/ws")))
    assert not Routes(["POST /ws"]).allow(route_of(websocket(path="/ws")))
    assert not Routes(["GET /ws"]).allow(route_of(websocket(path="/other")))


ODD = [
    "//v1/models",
    "/v1//models",
    "/v1/models//",
    "/v1/./models",
    "/v1/../v1/models",
    "/v1/models/..",
    "/v1/models/.",
    "/..",
    "/v1\\models",
    "/v1/models\\",
    "/v1/models\x00",
    "/v1/models\n",
    "/v1/models\x7f",
    "/v1/models\ufffd",
    "/v1/%2e%2e/models",
    "/v1/%2E./models",
    "/v1%2fmodels",
    "/v1%2Fmodels",
    "/v1%5cmodels",
    "/v1/models%00",
    "/v1/%252e%252e/models",
    "/v1/..;/models",
    "/v1/models;x=1",
    "http://evil/v1/models",
    "v1/models",
    "*",
    "",
]


@pytest.mark.parametrize("path", ODD)
def test_an_odd_path_is_recognised_and_never_public(path: str) -> None:
    assert is_odd(path)
    assert http(path=path) not in PublicPaths([path, "/v1/models"])


@pytest.mark.parametrize(
    "raw", [b"/v1%2fmodels", b"/v1%2Fmodels", b"/v1/x/%2e%2e/models", b"/v1%5Cmodels", b"/v1/%00models", b"/v1\\models"]
)
def test_a_path_whose_raw_form_is_odd_is_odd_and_never_public(raw: bytes) -> None:
    assert is_odd("/v1/models", raw)
    public = PublicPaths(["/v1/models"])
    assert http(path="/v1/models", raw_path=raw) not in public
    assert http(path="/v1/models", raw_path=b"/v1/models") in public


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/v1/models/", "/a.b/..c/d..", "/...", "/caf\u00e9", "/a b", "/a%20b", "/-_~!$&'()*+,=:@"],
)
def test_an_ordinary_path_is_not_odd(path: str) -> None:
    assert not is_odd(path)
    assert not is_odd(path, None)
    assert http(path=path) in PublicPaths([path])


def test_public_paths_are_literal() -> None:
    public = PublicPaths(["/health", "/docs/"])
    assert [
        http(path=path) in public for path in ("/health", "/docs/", "/health/", "/docs", "/Health", "/healthz")
    ] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert websocket(path="/health") in public
    assert http(path="/health") not in PublicPaths([])


@pytest.mark.parametrize(
    "path",
    [
        "/public/../admin",
        "/public/..",
        "/public/./../admin",
        "/public//../admin",
        "/public/..\\admin",
        "/public\\..\\admin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public/%2e%2e/admin",
        "/public/.%2e/admin",
        "/public/%2e%2e%2fadmin",
        "/public/..%5cadmin",
        "/public/%252e%252e/admin",
        "/public/%25252e%25252e/admin",
        "/public/%2525252525252e%2525252525252e/admin",
        "/public/x/../../admin",
        "/public/../../../admin",
        "/public/../public/../admin",
    ],
)
@pytest.mark.parametrize("route", ["/public/*", "GET /public/*", "/public*"])
def test_a_route_is_not_left_by_a_trick(route: str, path: str) -> None:
    assert not lets_in([route], path)


@pytest.mark.parametrize("path", ["/v1/a/../../admin/files", "/v1/..\\..\\admin/files", "/v1/..%2f..%2fadmin/files"])
def test_a_star_between_slashes_is_not_left_by_a_trick(path: str) -> None:
    assert not lets_in(["/v1/*/files", "/v1/*/*/*/files"], path)


@pytest.mark.parametrize("path", ["/public//x", "/public/./x", "/public/a/../x", "/public/a%2fb", "/public/x;v=1"])
def test_an_odd_path_that_stays_within_its_route_is_let_in(path: str) -> None:
    assert lets_in(["/public/*"], path)


@pytest.mark.parametrize("path", ["//public/x", "/x/../public/x", "http://host/public/x", "public/x", "\\public/x"])
def test_an_odd_path_must_match_as_it_stands_too(path: str) -> None:
    assert not lets_in(["/public/*"], path)


@pytest.mark.parametrize(
    ("root", "path", "seen"),
    [
        ("", "/a", "/a"),
        ("/api", "/api/a", "/a"),
        ("/api", "/api", "/"),
        ("/api", "/api/", "/"),
        ("/api", "/apiary/a", "/apiary/a"),
        ("/api", "/a", "/a"),
        ("/api/v1", "/api/v1/a", "/a"),
        ("/api/", "/api/a", "/api/a"),
    ],
)
def test_a_mounted_app_sees_its_own_paths(root: str, path: str, seen: str) -> None:
    scope = http(path=path, root_path=root)
    assert app_path(scope["path"], scope.get("root_path", "")) == seen
    assert Routes([seen]).allow(route_of(scope))
    assert scope in PublicPaths([seen])


def test_a_mount_is_not_left_by_a_trick() -> None:
    for path in ("/api/../admin", "/api/public/../../admin", "/api//admin"):
        scope = http(path=path, root_path="/api")
        assert not Routes(["/admin", "/public/*"]).allow(route_of(scope))
        assert scope not in PublicPaths(["/admin", "/../admin", "//admin"])


TRICKS = ["//", ".", "..", "...", "\\", ";", ";x=1", "%2e", "%2E", "%2f", "%5c", "%25", "%252e", "%252f", "%00", "%61"]
PLAIN = ["/", "a", "b", "v1", "public", "admin", "%", "%zz", "http:", "*", "?", " ", "\n", "\x00", "\ufffd", "\u00e9"]
PIECES = st.sampled_from(TRICKS + PLAIN)
PATHS = (
    st.lists(PIECES, max_size=10).map("".join)
    | st.text(max_size=20)
    | st.lists(PIECES).map(lambda parts: "/public/" + "".join(parts))
)
ROUTES = st.lists(
    st.sampled_from(
        ["/public/*", "/public", "/v1/*/a", "/v1/*/a/*", "/a*", "/a/b", "GET /b/*", "POST /admin/*", "GET *", "/%61/*"]
    ),
    min_size=1,
    max_size=3,
)


@given(ROUTES, PATHS, st.sampled_from(["GET", "HEAD", "POST", "DELETE"]))
@examples(800)
def test_whatever_odd_path_is_let_in_its_normal_form_is_let_in_too(routes: list[str], path: str, method: str) -> None:
    if is_odd(path) and lets_in(routes, path, method):
        normal = most_lenient(path)
        assert normal is not None
        assert lets_in(routes, normal, method)


@given(PATHS, PATHS)
@examples(800)
def test_whatever_path_can_be_read_in_two_ways_is_odd_and_never_public(path: str, other: str) -> None:
    normal = most_lenient(path)
    plain = unquote(path) == path and "%" not in path
    if plain and normal not in {path, path.removesuffix("/")}:
        assert is_odd(path)
    if is_odd(path):
        assert http(path=path) not in PublicPaths([path, other, normal or "/", "/"])


@given(ROUTES, PATHS, st.binary(max_size=20))
@examples(500)
def test_any_path_and_method_is_answered_yes_or_no(routes: list[str], path: str, raw: bytes) -> None:
    assert Routes(routes).allow(route_of(http(path=path, raw_path=raw, method=path))) in {True, False}
    assert (http(path=path, raw_path=raw) in PublicPaths([path])) in {True, False}


@given(st.sampled_from(["", "/", "/a", "/a/b", "/a/", "//"]), PATHS)
@examples(500)
def test_a_mounted_apps_path_is_the_one_starlette_routes_by(root: str, path: str) -> None:
    scope = http(path=path, root_path=root)
    assert app_path(scope["path"], scope.get("root_path", "")) == (get_route_path(scope) or ("/" if path else path))
