"""Odd request targets, methods and bodies: never public by accident, never past the routes of a group."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.servers.guarded import BOUND, GOOD, PUBLIC
from tests.servers.wire import assert_turned_down, bearer_line

if TYPE_CHECKING:
    from tests.servers.wire import Reply, Server

# Each is close to the public path, and no reader may take it for public but the one who sees exactly that path.
NEAR_PUBLIC: list[str | bytes] = [
    "/health/",
    "//health",
    "/health//",
    "/./health",
    "/health/.",
    "/x/../health",
    "/health/..",
    "/health/../admin",
    "/health/../../admin",
    "/../health",
    "/%2e%2e/health",
    "/health/%2e%2e/admin",
    "/health%2f",
    "/health%2F..%2Fadmin",
    "/%2fhealth",
    "/health%5c..%5cadmin",
    "/health\\..\\admin",
    "\\health",
    "/health%00",
    "/health%00/admin",
    "/health%0a",
    "/health%0d%0a",
    "/health%09",
    "/health%20",
    "/health;",
    "/health;x=/admin",
    "/health%3b",
    "/health%3fx",
    "/health%ff",
    "/health%c0%af..%c0%afadmin",
    b"/health\xff",
    b"/he\xc3\xa4lth",
    "/%2568ealth",
    "/health%252f..%252fadmin",
    "/HEALTH",
    "/Health",
    "/healt",
    "/healthy",
    "/health.json",
    "/health*",
    "/healt\u200bh",
    "health",
    "?/health",
    "*",
    "/admin?/health",
    "/admin#/health",
    "/admin%23/health",
    "http://evil.example/admin",
    "http://evil.example//health",
    "http://evil.example/health/../admin",
    "http:/health",
    "https://health",
    "//evil.example/health",
    "http://health/admin",
    "/health /admin",
    "/health HTTP/1.1 /admin",
]
# Another way to write the very same path; the server decides what it hands on.
SAME_AS_PUBLIC = [
    "/health?x=1",
    "/health?/../admin",
    "/%68ealth",
    "/health#x",
    "http://evil.example/health",
    "http://localhost/health?x",
]

# All of these lead away from `/v1/chat/`, at least for one reader.
AWAY_FROM_CHAT: list[str | bytes] = [
    "/v1/chat/../admin",
    "/v1/chat/x/../../admin",
    "/v1/chat/%2e%2e/admin",
    "/v1/chat/%2e%2e%2fadmin",
    "/v1/chat/..%2fadmin",
    "/v1/chat/..%5cadmin",
    "/v1/chat/..\\admin",
    "/v1/chat\\..\\admin",
    "/v1/chat/..;/admin",
    "/v1/chat/..;x=y/admin",
    "/v1/chat/%252e%252e/admin",
    "/v1/chat/%25252e%25252e/admin",
    "/v1/chat/%2525252525252e%2525252525252e/admin",
    "/v1/chat/..//admin",
    "/v1/chat/./../admin",
    "/v1/chat/../../../admin",
    "/v1/chat/..",
    "/v1/chat/../chats",
    "/v1/chat%2f..%2fadmin",
    "/v1/chatter",
    "/v1/chat",
    "/V1/CHAT/x",
    "/admin",
    "//v1/chat/../admin",
    "http://evil.example/v1/chat/../admin",
    "http://evil.example/admin?/v1/chat/",
    "/admin;/v1/chat/",
    "/admin%00/v1/chat/x",
    "/admin?/v1/chat/x",
    "/admin#/v1/chat/x",
]


def _show(target: str | bytes) -> str:
    return target.decode("latin-1") if isinstance(target, bytes) else target


def _place(reply: Reply) -> str:
    """Where the most lenient reader would say that the app was entered."""
    path: str = reply.json["path"]
    for _ in range(9):
        path = unquote(path)
    plain = "/".join(part.partition(";")[0] for part in path.replace("\\", "/").split("/"))
    return posixpath.normpath(plain)


@pytest.mark.parametrize("target", NEAR_PUBLIC, ids=_show)
def test_a_path_near_the_public_one_needs_a_key(server: Server, target: str | bytes) -> None:
    assert_turned_down(server.get(target))


@pytest.mark.parametrize("target", SAME_AS_PUBLIC)
def test_the_public_path_written_otherwise_is_public_only_as_the_app_would_see_it(server: Server, target: str) -> None:
    reply = server.get(target)
    if reply is not None and reply.status == 200:
        assert (reply.json["path"], reply.json["key"]) == (PUBLIC, None)
    else:
        assert_turned_down(reply)


def test_the_public_path_is_public(server: Server) -> None:
    assert server.ask(PUBLIC).json["path"] == PUBLIC
    assert server.ask(PUBLIC, "Authorization: Bearer nobody").status == 200


@pytest.mark.parametrize("target", AWAY_FROM_CHAT, ids=_show)
def test_no_way_leads_past_the_routes_of_a_group(server: Server, target: str | bytes) -> None:
    reply = server.get(target, bearer_line(BOUND))
    assert_turned_down(reply)
    if reply is not None and reply.code is not None:
        assert reply.code == "group_not_allowed"


@pytest.mark.parametrize(
    "target",
    [
        "/v1/chat/completions",
        "/v1/chat/x/y?stream=1",
        "/v1/chat/%C3%A4",
        "/v1/chat//x",
        "/v1/chat/./x",
        "/v1/chat/x/../y",
        "/v1/chat/x%2fy",
        "/v1/chat/x;y=1",
        "/v1/chat/%ff",
        "/v1/chat/%00",
        "http://localhost/v1/chat/x",
    ],
)
def test_what_stays_inside_the_routes_is_let_in_or_turned_down_by_the_server(server: Server, target: str) -> None:
    reply = server.get(target, bearer_line(BOUND))
    if reply is not None and reply.status == 200:
        assert _place(reply).startswith("/v1/chat/")
    else:
        assert_turned_down(reply)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "OPTIONS", "TRACE", "BREW", "get", "POSTS"])
def test_other_methods_are_past_the_routes_too(server: Server, method: str) -> None:
    reply = server.get("/v1/chat/x", bearer_line(BOUND), method=method)
    if reply is not None and reply.status == 200:
        # Hypercorn makes "get" a GET before anybody sees it.
        assert (method, reply.json["method"]) == ("get", "GET")
    else:
        assert_turned_down(reply)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "BREW"])
def test_every_method_needs_a_key(server: Server, method: str) -> None:
    assert_turned_down(server.get("/v1/chat", method=method))


def test_head_is_refused_with_the_headers_and_without_a_body(server: Server) -> None:
    get = server.ask("/v1/chat")
    head = server.ask("/v1/chat", method="HEAD")
    assert (head.status, head.body) == (401, b"")
    assert head.headers["www-authenticate"] == get.headers["www-authenticate"]
    assert server.ask("/v1/chat", bearer_line(GOOD), method="HEAD").status == 200


def test_connect_and_a_bare_options_get_nowhere(server: Server) -> None:
    assert_turned_down(server.get("evil.example:443", method="CONNECT"))
    assert_turned_down(server.get("*", method="OPTIONS"))


@pytest.mark.parametrize(
    "lines",
    [
        ["Origin: https://a.example"],
        ["Access-Control-Request-Method: GET"],
        ["Origin_: https://a.example", "Access-Control-Request-Method: GET"],
    ],
    ids=["no method", "no origin", "another name"],
)
def test_what_only_resembles_a_preflight_needs_a_key(server: Server, lines: list[str]) -> None:
    assert server.ask("/v1/chat", *lines, method="OPTIONS").code == "missing_api_key"


def test_a_method_that_says_it_is_options_elsewhere_needs_a_key(server: Server) -> None:
    lines = ["Origin: https://a.example", "Access-Control-Request-Method: GET", "X-HTTP-Method-Override: OPTIONS"]
    assert server.ask("/v1/chat", *lines, method="GET").code == "missing_api_key"


CHUNKED = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"


def test_a_chunked_body_reaches_the_app_whole_with_a_key_and_not_without(server: Server) -> None:
    lines = ["Transfer-Encoding: chunked"]
    assert server.ask("/v1/chat", *lines, bearer_line(GOOD), method="POST", body=CHUNKED).json["length"] == 11
    assert server.ask("/v1/chat", *lines, method="POST", body=CHUNKED).code == "missing_api_key"


@pytest.mark.parametrize("key", ["nobody", BOUND], ids=["an unknown key", "a key for other routes"])
def test_a_key_in_a_trailer_does_not_outrank_the_one_in_the_header(server: Server, key: str) -> None:
    body = f"0\r\n{bearer_line(GOOD)}\r\n\r\n".encode()
    lines = ["Transfer-Encoding: chunked", bearer_line(key)]
    assert_turned_down(server.get("/admin", *lines, method="POST", body=body))


def test_a_key_in_a_trailer_alone_is_no_key(server: Server) -> None:
    body = f"0\r\n{bearer_line(GOOD)}\r\n\r\n".encode()
    reply = server.get("/v1/chat", "Transfer-Encoding: chunked", method="POST", body=body)
    if server.name == "uvicorn-httptools" and reply is not None and reply.status == 200:
        # This server shows early trailers among the headers, to every app; it is a right key all the same.
        assert reply.json["key"] == "good"
    else:
        assert_turned_down(reply)


@pytest.mark.parametrize(
    "body", [b"zz\r\nhello\r\n", b"-1\r\n\r\n", b"5\r\nhel"], ids=["no number", "negative", "short"]
)
def test_a_broken_body_without_a_key_is_turned_down(server: Server, body: bytes) -> None:
    with server.connect() as connection:
        head = b"POST /v1/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head + body)
    assert server.ask("/v1/chat").code == "missing_api_key"


def test_two_lengths_do_not_carry_a_second_request_past_the_guard(server: Server) -> None:
    hidden = f"GET /admin HTTP/1.1\r\nHost: localhost\r\n{bearer_line(BOUND)}\r\n\r\n".encode()
    lines = ["Transfer-Encoding: chunked", f"Content-Length: {len(hidden) + 5}"]
    reply = server.get("/v1/chat", *lines, method="POST", body=b"0\r\n\r\n" + hidden)
    assert_turned_down(reply)
