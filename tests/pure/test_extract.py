"""Where a key is looked for, and what becomes of several, of blank and of odd ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import ConfigurationError, Denial
from ak_guard.extract import Bearer, Cookie, Header, KeyFinder, Query, Subprotocol
from tests.pure.support import Pairs, examples, http, websocket

KEY = b"sk-live.0123456789abcdef"
OTHER = b"sk-live.fedcba9876543210"
REALTIME = "openai-insecure-api-key."


def find(scope: dict[str, Any], *places: Any, forward_key: bool = True) -> bytes | str:
    """The key, or the code of the refusal."""
    found = KeyFinder(places or None, forward_key=forward_key).find(scope)
    return found.code if isinstance(found, Denial) else found


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer " + KEY),
        (b"x-api-key", KEY),
        (b"api-key", KEY),
        (b"x-goog-api-key", KEY),
    ],
)
def test_the_headers_that_sdks_send_are_read_by_default(header: tuple[bytes, bytes]) -> None:
    assert find(http([header])) == KEY
    assert find(websocket(headers=[header])) == KEY


def test_the_subprotocol_of_browsers_is_read_by_default() -> None:
    assert find(websocket(["realtime", REALTIME + KEY.decode()])) == KEY


def test_a_subprotocol_is_only_read_from_websockets() -> None:
    assert find(http(subprotocols=[REALTIME + KEY.decode()])) == "missing_api_key"


def test_query_and_cookies_are_not_read_by_default() -> None:
    assert find(http([(b"cookie", b"key=" + KEY)], query=b"key=" + KEY)) == "missing_api_key"


def test_nothing_at_all_is_a_missing_key() -> None:
    assert find(http()) == "missing_api_key"
    assert find(websocket()) == "missing_api_key"
    assert find({"type": "http", "headers": []}, "query:key") == "missing_api_key"


@pytest.mark.parametrize(
    ("word", "scope"),
    [
        ("bearer", http([(b"authorization", b"Bearer " + KEY)])),
        ("header:x-own", http([(b"x-own", KEY)])),
        ("header:X-Own", http([(b"x-own", KEY)])),
        ("cookie:ak", http([(b"cookie", b"ak=" + KEY)])),
        ("query:key", http(query=b"key=" + KEY)),
        ("subprotocol:ak.", websocket(["ak." + KEY.decode()])),
    ],
)
def test_each_word_names_the_place_it_says(word: str, scope: dict[str, Any]) -> None:
    assert find(scope, word) == KEY


@pytest.mark.parametrize("place", [Bearer(), Header("authorization"), Cookie("a"), Query("a"), Subprotocol("a")])
def test_only_the_named_places_are_looked_at(place: object) -> None:
    assert find(http([(b"x-api-key", KEY)]), place) == "missing_api_key"


def test_a_place_of_ones_own_is_asked_too() -> None:
    class FromPath:
        def find(self, scope: Any) -> list[bytes]:
            return [scope["path"].rpartition("/")[2].encode()]

        def remove(self, scope: Any) -> None:
            scope["path"] = scope["path"].rpartition("/")[0]

    scope = http(path="/hooks/" + KEY.decode())
    assert find(scope, "bearer", FromPath()) == KEY
    assert scope["path"] == "/hooks/" + KEY.decode()
    assert find(scope, FromPath(), forward_key=False) == KEY
    assert scope["path"] == "/hooks"


@pytest.mark.parametrize(
    "words",
    [
        [],
        (),
        ["header"],
        ["header:"],
        ["cookie:"],
        ["query:"],
        ["subprotocol:"],
        ["bearer:x"],
        ["basic"],
        [""],
        ["Header:x"],
        ["header:sch\u00fcssel"],
        ["query:a\nb"],
        [None],
        [7],
        [b"bearer"],
        "bearer",
        ["header:x-api-key", "header:X-API-Key"],
        ["bearer", "header:authorization"],
    ],
)
def test_words_that_name_no_place_are_a_configuration_error(words: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^extractors: "):
        KeyFinder(words)


def test_a_class_in_place_of_an_object_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"^extractors: "):
        KeyFinder([Bearer])  # type: ignore[list-item]  # the mistake


@given(st.text() | st.text("bearcokiqusptl:-. ", max_size=20))
@examples(300)
def test_any_word_is_understood_or_a_configuration_error(word: str) -> None:
    try:
        finder = KeyFinder([word])
    except ConfigurationError as error:
        assert str(error).startswith("extractors: ")  # noqa: PT017  # both ends are right, and raising is but one
    else:
        assert isinstance(finder.find(http()), Denial)


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"bEaReR"])
@pytest.mark.parametrize("name", [b"authorization", b"Authorization", b"AUTHORIZATION"])
def test_neither_the_case_of_the_scheme_nor_of_the_header_matters(name: bytes, scheme: bytes) -> None:
    assert find(http([(name, scheme + b" " + KEY)])) == KEY


@pytest.mark.parametrize("line", [b"  Bearer   %s  ", b"Bearer\t %s", b"\tBearer %s\t", b"Bearer \t %s \t "])
def test_repeated_blanks_around_a_bearer_token_do_not_matter(line: bytes) -> None:
    expected = "missing_api_key" if line.startswith(b"Bearer\t") else KEY
    assert find(http([(b"authorization", line % KEY)])) == expected


@pytest.mark.parametrize("line", [b" %s", b"%s ", b"\t%s \t"])
def test_blanks_around_a_header_value_do_not_matter(line: bytes) -> None:
    assert find(http([(b"X-Api-Key", line % KEY)])) == KEY


@pytest.mark.parametrize(
    "line", [b"Basic bm90LWEta2V5", b"Bearer", b"Bearer ", b"Bearer   \t", b"", b" ", KEY, b"Token " + KEY]
)
def test_another_scheme_or_an_empty_token_is_no_key(line: bytes) -> None:
    assert find(http([(b"authorization", line)])) == "missing_api_key"
    assert find(http([(b"authorization", line), (b"x-api-key", KEY)])) == KEY


def test_a_header_with_underscores_is_another_header() -> None:
    assert find(http([(b"x_api_key", KEY)])) == "missing_api_key"
    assert find(http([(b"x_api_key", KEY)]), "header:x_api_key") == KEY


@pytest.mark.parametrize("blank", [b"", b" ", b"\t \t"])
@pytest.mark.parametrize("name", [b"x-api-key", b"api-key", b"x-goog-api-key"])
def test_a_blank_value_counts_as_absent_and_the_next_place_is_looked_at(name: bytes, blank: bytes) -> None:
    assert find(http([(name, blank)])) == "missing_api_key"
    assert find(http([(name, blank), (b"authorization", b"Bearer " + KEY)])) == KEY
    assert find(http([(name, blank), (name, KEY)])) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", KEY), (b"api-key", KEY)],
        [(b"authorization", b"Bearer " + KEY), (b"x-goog-api-key", b" " + KEY)],
        [(b"x-api-key", KEY), (b"X-API-KEY", KEY)],
        [(b"authorization", b"Bearer " + KEY), (b"authorization", b"bearer  " + KEY)],
    ],
)
def test_the_same_key_in_two_places_is_one_key(headers: Pairs) -> None:
    assert find(http(headers)) == KEY
    assert find(websocket([REALTIME + KEY.decode()], headers)) == KEY


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-api-key", KEY), (b"api-key", OTHER)],
        [(b"x-api-key", OTHER), (b"x-api-key", KEY)],
        [(b"authorization", b"Bearer " + KEY), (b"authorization", b"Bearer " + OTHER)],
        [(b"authorization", b"Bearer " + KEY), (b"x-goog-api-key", KEY.upper())],
    ],
)
def test_different_keys_in_one_request_are_ambiguous_in_either_order(headers: Pairs) -> None:
    assert find(http(headers)) == "ambiguous_credentials"
    assert find(http(headers[::-1])) == "ambiguous_credentials"


def test_different_keys_in_different_kinds_of_places_are_ambiguous() -> None:
    places = ("bearer", "query:key", "cookie:ak")
    bearer, cookie = (b"authorization", b"Bearer " + KEY), (b"cookie", b"ak=" + KEY)
    assert find(http([bearer, cookie], query=b"key=" + KEY), *places) == KEY
    assert find(http([bearer], query=b"key=" + OTHER), *places) == "ambiguous_credentials"
    assert find(http([(b"cookie", b"ak=" + OTHER)], query=b"key=" + KEY), *places) == "ambiguous_credentials"
    assert find(http(query=b"key=" + KEY + b"&key=" + OTHER), *places) == "ambiguous_credentials"
    assert find(http([cookie, (b"cookie", b"ak=" + OTHER)]), *places) == "ambiguous_credentials"
    assert find(websocket([REALTIME + OTHER.decode()], [bearer])) == "ambiguous_credentials"


@pytest.mark.parametrize(
    ("place", "make"),
    [
        ("bearer", lambda key: http([(b"authorization", b"Bearer " + key)])),
        ("header:x-api-key", lambda key: http([(b"x-api-key", key)])),
        ("cookie:ak", lambda key: http([(b"cookie", b"ak=" + key)])),
        ("query:key", lambda key: http(query=b"key=" + key)),
        ("subprotocol:ak.", lambda key: websocket(["ak." + key.decode()])),
    ],
)
def test_512_bytes_are_a_key_and_513_are_too_many(place: str, make: Any) -> None:
    assert find(make(b"k" * 512), place) == b"k" * 512
    assert find(make(b"k" * 513), place) == "credential_too_large"
    assert find(make(b"k" * 2_000_000), place) == "credential_too_large"


def test_blanks_do_not_count_into_the_512_bytes() -> None:
    assert find(http([(b"x-api-key", b" " * 600 + KEY)])) == KEY


def test_a_key_too_large_is_told_before_that_there_are_two() -> None:
    assert find(http([(b"x-api-key", KEY), (b"api-key", b"k" * 513)])) == "credential_too_large"
    assert find(http([(b"x-api-key", KEY), (b"api-key", b"k" * 512)])) == "ambiguous_credentials"
    assert find(http([(b"x-api-key", b"k" * 513), (b"api-key", b"k" * 513)])) == "credential_too_large"


def test_bytes_beyond_ascii_come_back_as_they_are_to_be_refused_as_malformed() -> None:
    assert find(http([(b"x-api-key", b"\xff\x00\xe9")])) == b"\xff\x00\xe9"
    assert find(http(query=b"key=%ff%00"), "query:key") == b"\xff\x00"
    assert find(websocket([REALTIME + "cl\u00e9"])) == "cl\u00e9".encode()


def test_a_subprotocol_of_undecodable_bytes_is_a_malformed_key_and_no_crash() -> None:
    # Servers that decode headers with surrogateescape hand such text on.
    found = find(websocket([REALTIME + "\udcff"]))
    assert isinstance(found, bytes)
    assert not found.isascii()


def test_a_refusal_never_repeats_what_was_sent() -> None:
    finder = KeyFinder()
    for headers in ([(b"x-api-key", KEY), (b"api-key", OTHER)], [(b"x-api-key", KEY * 50)]):
        denial = finder.find(http(headers))
        assert isinstance(denial, Denial)
        assert KEY.decode() not in repr(denial)
        assert OTHER.decode() not in repr(denial)
