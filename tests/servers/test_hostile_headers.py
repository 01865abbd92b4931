"""Credentials in odd and broken header lines, over raw sockets: a defined answer each time, and no way in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.servers.guarded import GOOD, OTHER
from tests.servers.wire import assert_turned_down, bearer_line

if TYPE_CHECKING:
    from tests.servers.wire import Server

KEY = GOOD.encode()

# Lines that hold one good key and no other; every server lets them through to the guard.
WELCOME = {
    "plain": [f"Authorization: Bearer {GOOD}"],
    "names and schemes in any case": [f"aUtHoRiZaTiOn: bEaReR {GOOD}"],
    "no blank after the colon": [f"Authorization:Bearer {GOOD}"],
    "tabs and blanks around the value": [f"Authorization: \t Bearer {GOOD} \t "],
    "many blanks behind the scheme": [f"Authorization: Bearer      {GOOD}"],
    "equal Authorization lines": [bearer_line(GOOD), bearer_line(GOOD)],
    "equal keys in two places": [bearer_line(GOOD), f"X-Api-Key: {GOOD}"],
    "an empty line beside the good one": ["Authorization:", f"X-Api-Key: {GOOD}"],
    "Azure's header": [f"API-KEY: {GOOD}"],
    "Google's header": [f"x-goog-api-key: {GOOD}"],
}

# Lines that every server lets through, and the code of the refusal.
REFUSED = {
    "no header": ([], "missing_api_key"),
    "an empty value": (["Authorization:"], "missing_api_key"),
    "blanks only": (["Authorization: \t "], "missing_api_key"),
    "the scheme alone": (["Authorization: Bearer"], "missing_api_key"),
    "the scheme and blanks": (["Authorization: Bearer    "], "missing_api_key"),
    "another scheme": ([f"Authorization: Basic {GOOD}"], "missing_api_key"),
    "no scheme": ([f"Authorization: {GOOD}"], "missing_api_key"),
    "an underscore in the name": ([f"X_Api_Key: {GOOD}"], "missing_api_key"),
    "a name that only begins like ours": ([f"X-Api-Keys: {GOOD}"], "missing_api_key"),
    "two Authorization lines": ([bearer_line(GOOD), bearer_line(OTHER)], "ambiguous_credentials"),
    "two Authorization lines, the other first": ([bearer_line(OTHER), bearer_line(GOOD)], "ambiguous_credentials"),
    "different keys in two places": ([bearer_line(GOOD), f"X-Api-Key: {OTHER}"], "ambiguous_credentials"),
    "a good key beside an unknown one": ([bearer_line(GOOD), "api-key: nobody"], "ambiguous_credentials"),
    "a comma list": ([f"Authorization: Bearer {GOOD}, Bearer {GOOD}"], "invalid_api_key"),
    "two words": ([f"Authorization: Bearer {GOOD} {GOOD}"], "invalid_api_key"),
    "quotes": ([f'Authorization: Bearer "{GOOD}"'], "invalid_api_key"),
    "another case": ([bearer_line(GOOD.swapcase())], "invalid_api_key"),
    "one character more": ([bearer_line(GOOD + "A")], "invalid_api_key"),
    "513 bytes": ([bearer_line("k" * 513)], "credential_too_large"),
    "4 kB": ([bearer_line("k" * 4_096)], "credential_too_large"),
}

# Lines that some servers turn down or change by themselves; what matters is that nothing gets in by them.
BROKEN = {
    "a byte behind the key that is no ASCII": [b"Authorization: Bearer " + KEY + b"\xa0"],
    "UTF-8 in the key": ["Authorization: Bearer schlüssel-mit-ümlaut-1234"],
    "NUL behind the key": [b"Authorization: Bearer " + KEY + b"\x00"],
    "NUL inside the key": [b"Authorization: Bearer " + KEY[:9] + b"\x00" + KEY[9:]],
    "a control character": [b"Authorization: Bearer " + KEY + b"\x01"],
    "DEL": [b"Authorization: Bearer " + KEY + b"\x7f"],
    "a bare CR": [b"Authorization: Bearer " + KEY + b"\rX: y"],
    "a tab behind the scheme": [f"Authorization: Bearer\t{GOOD}"],
    "a blank before the colon": [f"X-Api-Key : {GOOD}x"],
    "a line without a colon": ["Authorization"],
    "an empty name": [f": Bearer {GOOD}"],
    "a name with a NUL": [b"X-Api-Key\x00: " + KEY],
    "a name that is no ASCII": [b"X-Api-K\xe9y: " + KEY],
    "70 kB": [bearer_line("k" * 70_000)],
    "2 MB": [bearer_line("k" * 2_000_000)],
    "2 MB in a header that is not ours": ["X-Other: " + "k" * 2_000_000],
    "a thousand Authorization lines": [bearer_line(f"key-number-{number}") for number in range(1_000)],
}


@pytest.mark.parametrize("lines", WELCOME.values(), ids=WELCOME)
def test_a_good_key_gets_in_however_its_line_is_written(server: Server, lines: list[str]) -> None:
    reply = server.ask("/v1/chat", *lines)
    assert (reply.status, reply.json["key"]) == (200, "good")


@pytest.mark.parametrize(("lines", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_good_key_is_refused_by_its_code(server: Server, lines: list[str], code: str) -> None:
    reply = server.ask("/v1/chat", *lines)
    assert reply.code == code
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("lines", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_turned_down(server: Server, lines: list[str | bytes]) -> None:
    assert_turned_down(server.get("/v1/chat", *lines))
    assert server.ask("/v1/chat", bearer_line(GOOD)).status == 200


def test_a_folded_line_is_read_whole_or_turned_down(server: Server) -> None:
    reply = server.get("/v1/chat", "Authorization: Bearer", f" {GOOD}")
    if reply is None or reply.status != 200:
        assert_turned_down(reply)
    else:
        assert reply.json["key"] == "good"


def test_a_key_in_the_query_or_a_cookie_is_not_looked_at(server: Server) -> None:
    reply = server.ask(f"/v1/chat?key={GOOD}&api_key={GOOD}", f"Cookie: ak={GOOD}")
    assert reply.code == "missing_api_key"
    assert GOOD.encode() not in reply.body


def test_a_header_that_is_never_finished_disturbs_nobody(server: Server) -> None:
    with server.connect() as connection:
        for byte in b"GET /v1/chat HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bear":
            connection.sendall(bytes([byte]))
        assert server.ask("/v1/chat", bearer_line(GOOD)).status == 200
    assert server.ask("/v1/chat", bearer_line(GOOD)).status == 200
