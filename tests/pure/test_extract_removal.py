"""Cookies, query parameters and subprotocols in detail, and how a key is taken out of the scope."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import Denial
from ak_guard.extract import DEFAULT_EXTRACTORS, KeyFinder
from tests.pure.support import Pairs, examples, http, websocket
from tests.pure.test_extract import KEY, OTHER, REALTIME, find

EVERYWHERE = (*DEFAULT_EXTRACTORS, "cookie:ak", "query:key")
TEXT_KEY = KEY.decode()


@pytest.mark.parametrize(
    "lines",
    [
        [b"ak=%s"],
        [b"a=b; ak=%s; c=d"],
        [b"a=b;ak=%s;c=d"],
        [b'ak="%s"'],
        [b" ak = %s "],
        [b"a=abc", b"ak=%s", b"c=ghi"],
        [b"ak=; x=1", b"ak=%s"],
    ],
)
def test_a_cookie_is_found_among_others_and_over_several_headers(lines: list[bytes]) -> None:
    headers = [(b"Cookie", line.replace(b"%s", KEY)) for line in lines]
    assert find(http(headers), "cookie:ak") == KEY


@pytest.mark.parametrize(
    "line", [b"", b";;;", b"ak", b"ak=", b"ak= ; b=c", b"AK=x", b"xak=x", b"akx=x", b"b=ak=x", b'ak=""']
)
def test_a_cookie_of_another_name_or_without_a_value_is_no_key(line: bytes) -> None:
    assert find(http([(b"cookie", line)]), "cookie:ak") == "missing_api_key"


@pytest.mark.parametrize(
    "query",
    [
        b"key=" + KEY,
        b"a=1&key=" + KEY + b"&b=2",
        b"k%65y=" + KEY,
        b"%6B%65%79=" + KEY,
        b"key=" + b"".join(b"%%%02x" % byte for byte in KEY),
        b"key=+" + KEY + b"+",
        b"key=&key=" + KEY,
        b"key=" + KEY + b"&key=" + KEY,
        b"&&key=" + KEY,
    ],
)
def test_a_query_key_is_found_however_it_is_written(query: bytes) -> None:
    assert find(http(query=query), "query:key") == KEY
    assert find(websocket(query_string=query), "query:key") == KEY


@pytest.mark.parametrize("query", [b"", b"&", b"key", b"key=", b"key=%20", b"Key=x", b"xkey=x", b"a=key=x", b"key%3dx"])
def test_another_parameter_or_a_blank_one_is_no_key(query: bytes) -> None:
    assert find(http(query=query), "query:key") == "missing_api_key"


def test_a_query_key_is_taken_out_in_place_and_the_rest_keeps_its_bytes() -> None:
    scope = http(query=b"c=valu%651&b=a+b%2B&k%65y=" + KEY + b"&empty=&flag&a=%ff&c=again")
    assert find(scope, "query:key") == KEY
    assert scope["query_string"] == b"c=valu%651&b=a+b%2B&empty=&flag&a=%ff&c=again"


def test_a_query_key_is_taken_out_even_when_the_request_is_refused() -> None:
    for query in (b"key=" + KEY + b"&key=" + OTHER, b"key=" + KEY * 50):
        scope = http(query=query + b"&a=1")
        assert find(scope, "query:key") in {"ambiguous_credentials", "credential_too_large"}
        assert scope["query_string"] == b"a=1"


def test_the_query_is_left_alone_where_no_key_is_looked_for_in_it() -> None:
    scope = http([(b"x-api-key", KEY)], query=b"key=" + KEY)
    assert find(scope) == KEY
    assert scope["query_string"] == b"key=" + KEY


PARTS = st.text("abkey=%+;0123456789", max_size=8).map(str.encode)


@given(st.lists(PARTS, max_size=6), st.integers(0, 6))
@examples(300)
def test_whatever_stands_beside_a_query_key_keeps_its_bytes(others: list[bytes], at: int) -> None:
    scope = http(query=b"&".join([*others[:at], b"%6bey=" + KEY, *others[at:]]))
    found = find(scope, "query:key")
    assert found in {KEY, "ambiguous_credentials"}
    kept = [part for part in others if part and unquote_plus(part.decode().partition("=")[0]) != "key"]
    assert [part for part in scope["query_string"].split(b"&") if part] == kept
    assert KEY not in scope["query_string"]


def test_a_subprotocol_is_taken_out_of_the_list_and_of_the_header() -> None:
    scope = websocket(["realtime", REALTIME + TEXT_KEY, "openai-beta.realtime-v1"], [(b"host", b"x")])
    assert find(scope) == KEY
    assert scope["subprotocols"] == ["realtime", "openai-beta.realtime-v1"]
    assert scope["headers"] == [(b"host", b"x"), (b"sec-websocket-protocol", b"realtime, openai-beta.realtime-v1")]


def test_a_header_that_held_only_the_subprotocol_goes_with_it() -> None:
    scope = websocket([REALTIME + TEXT_KEY])
    assert find(scope) == KEY
    assert scope["subprotocols"] == []
    assert scope["headers"] == []


def test_a_subprotocol_over_several_header_lines_is_taken_out_of_each() -> None:
    scope = websocket(["a", REALTIME + TEXT_KEY, "b"])
    scope["headers"] = [
        (b"Sec-WebSocket-Protocol", b"a"),
        (b"Sec-WebSocket-Protocol", b"%s%s ,b" % (REALTIME.encode(), KEY)),
    ]
    assert find(scope) == KEY
    assert scope["headers"] == [(b"Sec-WebSocket-Protocol", b"a"), (b"Sec-WebSocket-Protocol", b"b")]


@pytest.mark.parametrize("offered", [[], ["realtime"], [REALTIME], [REALTIME + " "], ["x" + REALTIME + TEXT_KEY]])
def test_a_subprotocol_without_a_key_behind_the_prefix_is_no_key(offered: list[str]) -> None:
    assert find(websocket(offered)) == "missing_api_key"


def test_by_default_headers_and_cookies_reach_the_app() -> None:
    headers = [(b"authorization", b"Bearer " + KEY), (b"x-api-key", KEY), (b"cookie", b"ak=" + KEY)]
    scope = http(headers)
    assert find(scope, *EVERYWHERE) == KEY
    assert scope["headers"] == headers


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ([(b"Authorization", b"bearer " + KEY)], []),
        ([(b"X-Api-Key", KEY), (b"api-key", KEY)], []),
        ([(b"x-goog-api-key", KEY), (b"x-goog-api-client", b"py")], [(b"x-goog-api-client", b"py")]),
        ([(b"cookie", b"a=1; ak=" + KEY + b"; b=2")], [(b"cookie", b"a=1; b=2")]),
        ([(b"cookie", b"ak=" + KEY), (b"cookie", b"b=2")], [(b"cookie", b"b=2")]),
        (
            [(b"authorization", b"Basic Zm9vOmJhcg=="), (b"x-api-key", KEY)],
            [(b"authorization", b"Basic Zm9vOmJhcg==")],
        ),
    ],
)
def test_forward_key_false_takes_the_key_out_and_leaves_the_rest(sent: Pairs, left: Pairs) -> None:
    scope = http([(b"host", b"x"), *sent, (b"accept", b"*/*")])
    assert find(scope, *EVERYWHERE, forward_key=False) == KEY
    assert scope["headers"] == [(b"host", b"x"), *left, (b"accept", b"*/*")]


def test_an_unrelated_header_without_a_value_outlives_the_removal_of_a_cookie() -> None:
    scope = http([(b"x-empty", b""), (b"cookie", b"ak=" + KEY)])
    assert find(scope, "cookie:ak", forward_key=False) == KEY
    assert scope["headers"] == [(b"x-empty", b"")]


def test_an_unrelated_header_without_a_value_outlives_the_removal_of_a_subprotocol() -> None:
    scope = websocket(["realtime", REALTIME + TEXT_KEY], [(b"x-empty", b"")])
    assert find(scope) == KEY
    assert (b"x-empty", b"") in scope["headers"]


@given(st.sets(st.sampled_from(["bearer", "x-api-key", "api-key", "cookie", "query", "subprotocol"]), min_size=1))
@examples(60)
def test_with_forward_key_false_no_copy_of_the_key_is_left_anywhere(places: set[str]) -> None:
    headers: Pairs = [(name.encode(), KEY) for name in ("x-api-key", "api-key") if name in places]
    headers += [(b"authorization", b"Bearer " + KEY)] if "bearer" in places else []
    headers += [(b"cookie", b"z=1; ak=" + KEY)] if "cookie" in places else []
    scope = websocket(
        [REALTIME + TEXT_KEY, "realtime"] if "subprotocol" in places else ["realtime"],
        headers,
        query_string=b"a=1&key=" + quote(TEXT_KEY).encode() if "query" in places else b"a=1",
    )
    assert find(scope, *EVERYWHERE, forward_key=False) == KEY
    assert TEXT_KEY not in repr(scope)
    assert scope["query_string"] == b"a=1"
    assert scope["subprotocols"] == ["realtime"]


NAMES = st.sampled_from([b"Authorization", b"x-api-key", b"API-KEY", b"cookie", b"sec-websocket-protocol", b"x"])
LINES = st.binary(max_size=60) | st.sampled_from([b"Bearer ", b"Bearer k", b"ak=k; b", b"k" * 513, b" "])


@given(
    st.lists(st.tuples(NAMES, LINES), max_size=5),
    st.binary(max_size=60) | PARTS.map(lambda part: b"key=" + part),
    st.lists(st.text(max_size=20).map(lambda text: REALTIME + text), max_size=2),
    st.booleans(),
    st.sampled_from(["http", "websocket"]),
)
@examples(400)
def test_no_request_gives_anything_but_a_key_or_a_denial(
    headers: Pairs, query: bytes, offered: list[str], forward_key: bool, kind: str
) -> None:
    scope: dict[str, Any] = {"type": kind, "headers": headers, "query_string": query, "subprotocols": offered}
    found = KeyFinder(EVERYWHERE, forward_key=forward_key).find(scope)
    if isinstance(found, Denial):
        assert found.code in {"missing_api_key", "ambiguous_credentials", "credential_too_large"}
    else:
        assert 1 <= len(found) <= 512
