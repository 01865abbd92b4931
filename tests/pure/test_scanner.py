"""Keys are found wherever they stand in whatever bytes, once, with line and column."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import keys, scanner

KEY = keys.mint().encode()
OTHER = keys.mint("shop").encode()


def found(text: bytes) -> list[tuple[int, int, bytes]]:
    return [tuple(hit) for hit in scanner.scan(io.BytesIO(text))]  # type: ignore[misc]  # three of them


def test_keys_are_found_with_line_and_column() -> None:
    text = b"first line\n  API_KEY=" + KEY + b"\n" + OTHER + b'"' + KEY
    assert found(text) == [(2, 11, KEY), (3, 1, OTHER), (3, len(OTHER) + 2, KEY)]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        KEY[:-1],
        KEY + b"x",
        KEY[:-1] + bytes([KEY[-1] ^ 1]),
        b"x" + KEY.replace(b"ak_", b"AK_"),
        b"ak_" + b"0" * 38,
        b"my" + KEY + b"_and_more"[:1] + b"x",
    ],
    # Keys are others in each process, and the names of tests must not be.
    ids=["nothing", "too short", "too long", "wrong checksum", "capitals", "noughts", "within a word"],
)
def test_what_is_no_key_is_not_found(text: bytes) -> None:
    assert found(text) == []


def test_a_hit_shows_no_more_than_its_hint() -> None:
    (hit,) = scanner.scan(io.BytesIO(KEY))
    assert hit.hint == keys.hint(KEY.decode())


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.just(KEY), st.just(b"\n"), st.just(b"_")), max_size=12),
    st.integers(1, 200),
)
def test_where_the_stream_is_cut_makes_no_difference(parts: list[bytes], size: int) -> None:
    text = b" ".join(parts)

    class Slow(io.BytesIO):
        def read(self, _: int | None = -1, /) -> bytes:
            return super().read(size)

    assert [tuple(hit) for hit in scanner.scan(Slow(text))] == found(text)
    for line, column, key in found(text):
        lines = text.split(b"\n")
        assert lines[line - 1][column - 1 :].startswith(key)
