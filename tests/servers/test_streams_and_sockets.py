"""Connections that last: streams that break off, and websockets that are refused before they open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.servers.guarded import BOUND, GOOD, SPENT
from tests.servers.wire import Reply, bearer_line, read_reply, request

if TYPE_CHECKING:
    from tests.servers.wire import Server

UPGRADE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]


def _handshake(server: Server, *lines: str, path: str = "/ws") -> Reply:
    head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *UPGRADE, *lines, "", ""])
    reply = server.send(head.encode())
    assert reply is not None
    return reply


def _streams(server: Server) -> int:
    streams: int = server.ask("/v1/chat", bearer_line(GOOD)).json["streams"]
    return streams


def test_a_stream_that_its_client_leaves_ends_inside_the_guard_too(server: Server) -> None:
    connections = [server.connect() for _ in range(5)]
    try:
        for connection in connections:
            connection.sendall(request("/stream", bearer_line(GOOD)))
            received = b""
            while b"more" not in received:
                received += connection.recv(4_096)
            assert received.startswith(b"HTTP/1.1 200")
        assert _streams(server) == 5
    finally:
        for connection in connections:
            connection.close()
    deadline = time.monotonic() + 10
    while (left := _streams(server)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == 0


def test_a_stream_is_refused_before_it_begins(server: Server) -> None:
    assert server.ask("/stream").code == "missing_api_key"
    assert server.ask("/stream", bearer_line(SPENT)).code == "insufficient_quota"
    assert _streams(server) == 0


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "missing_api_key"),
        (["Authorization: Bearer nobody"], "invalid_api_key"),
        ([bearer_line(GOOD), "X-Api-Key: nobody"], "ambiguous_credentials"),
        ([bearer_line(BOUND)], "group_not_allowed"),
        ([bearer_line(SPENT)], "insufficient_quota"),
        (["Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.nobody"], "invalid_api_key"),
    ],
)
def test_a_websocket_is_refused_at_its_handshake(server: Server, lines: list[str], code: str) -> None:
    reply = _handshake(server, *lines)
    assert reply.code == code
    assert reply.headers["cache-control"] == "no-store"


def test_the_public_path_opens_no_other_websocket(server: Server) -> None:
    assert _handshake(server, path="/health/../ws").code == "missing_api_key"


@pytest.mark.parametrize(
    "lines", [[bearer_line(GOOD)], [f"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{GOOD}"]]
)
def test_a_websocket_with_a_key_opens_and_never_shows_the_key(server: Server, lines: list[str]) -> None:
    reply = _handshake(server, *lines)
    assert reply.status == 101
    assert reply.headers.get("sec-websocket-protocol") in {None, "realtime"}
    assert GOOD not in str(reply.headers)


def test_connections_that_are_left_at_every_stage_disturb_nobody(server: Server) -> None:
    whole = request("/v1/chat", bearer_line(GOOD), "Content-Length: 10", method="POST", body=b"half")
    for length in range(0, len(whole) + 1, 7):
        with server.connect() as connection:
            connection.sendall(whole[:length])
    assert server.ask("/v1/chat", bearer_line(GOOD)).status == 200


def test_requests_on_one_connection_are_judged_one_by_one(server: Server) -> None:
    head = "GET /v1/chat HTTP/1.1\r\nHost: localhost\r\n"
    statuses = []
    with server.connect() as connection:
        for line in (f"{bearer_line(GOOD)}\r\n", "", f"{bearer_line(GOOD)}\r\n", "X-Api-Key: nobody\r\n"):
            connection.sendall(f"{head}{line}\r\n".encode())
            reply = read_reply(connection)
            assert reply is not None
            statuses.append(reply.status)
    assert statuses == [200, 401, 200, 401]
