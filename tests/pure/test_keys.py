"""Minted keys: their shape, their checksum, and what may be shown of them."""

from __future__ import annotations

import base64
import hashlib
import re
import string
import zlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ak_guard import InputError, keys
from tests.pure.support import examples

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
PREFIXES = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=32)


def base62_number(text: str) -> int:
    number = 0
    for character in text:
        number = number * 62 + BASE62.index(character)
    return number


@given(PREFIXES)
@examples(100)
def test_a_minted_key_is_its_prefix_32_random_characters_and_their_checksum(prefix: str) -> None:
    text = keys.mint(prefix)
    assert re.fullmatch(rf"{prefix}_[0-9A-Za-z]{{38}}", text)
    assert base62_number(text[-6:]) == zlib.crc32(text[:-6].encode())
    assert keys.is_minted_shape(text.encode())
    assert keys.is_well_formed(text.encode())


def test_the_default_prefix_is_ak() -> None:
    assert keys.mint().startswith("ak_")


def test_no_two_minted_keys_are_equal() -> None:
    assert len({keys.mint() for _ in range(1_000)}) == 1_000


def test_the_random_part_uses_the_whole_alphabet() -> None:
    assert set("".join(keys.mint()[3:35] for _ in range(200))) == set(BASE62)


@pytest.mark.parametrize("prefix", ["", "AK", "a-b", "a_b", "clé", "a b", "a" * 33, "ak\n", "٣"])
def test_a_prefix_outside_lower_case_letters_and_digits_is_an_input_error(prefix: str) -> None:
    with pytest.raises(InputError) as caught:
        keys.mint(prefix)
    assert caught.value.field == "prefix"


@pytest.mark.parametrize("prefix", [None, 7, b"ak", ["ak"]])
def test_a_prefix_that_is_no_text_is_an_input_error(prefix: object) -> None:
    with pytest.raises(InputError, match=r"^prefix:"):
        keys.checked_prefix(prefix)  # type: ignore[arg-type]  # what an untyped caller might give


@given(PREFIXES, st.data())
@examples(300)
def test_any_one_character_changed_behind_the_prefix_is_found_without_a_look_up(
    prefix: str, data: st.DataObject
) -> None:
    text = keys.mint(prefix)
    at = data.draw(st.integers(len(prefix) + 1, len(text) - 1))
    other = data.draw(st.sampled_from(BASE62.replace(text[at], "")))
    assert not keys.is_well_formed((text[:at] + other + text[at + 1 :]).encode())


@given(PREFIXES, st.data())
@examples(200)
def test_any_one_character_changed_in_the_prefix_is_found_without_a_look_up(prefix: str, data: st.DataObject) -> None:
    text = keys.mint(prefix)
    at = data.draw(st.integers(0, len(prefix) - 1))
    other = data.draw(st.sampled_from((string.digits + string.ascii_lowercase).replace(text[at], "")))
    assert not keys.is_well_formed((text[:at] + other + text[at + 1 :]).encode())


@given(st.integers(3, 39))
@examples(100)
def test_two_neighbours_swapped_are_found_without_a_look_up(at: int) -> None:
    text = keys.mint()
    assume(text[at] != text[at + 1])
    assert not keys.is_well_formed((text[:at] + text[at + 1] + text[at] + text[at + 2 :]).encode())


def test_the_checksum_rule_does_not_ask_for_the_prefix() -> None:
    body = "live" + "_" + "0" * 32
    assert not keys.is_well_formed(f"{body}000000".encode())
    assert keys.is_minted_shape(f"{body}000000".encode())


@pytest.mark.parametrize(
    "text",
    [
        b"AK_" + b"0" * 38,
        b"ak_" + b"0" * 37,
        b"ak_" + b"0" * 39,
        b"ak-" + b"0" * 38,
        b"_" + b"0" * 38,
        b"a_b_" + b"0" * 38,
    ],
)
def test_a_text_of_another_shape_has_no_checksum_to_fail(text: bytes) -> None:
    assert not keys.is_minted_shape(text)
    assert keys.is_well_formed(text)


@given(st.binary(max_size=80) | st.text(BASE62 + "_.-", min_size=1).map(str.encode))
@examples(500)
def test_visible_ascii_of_another_shape_is_well_formed_and_nothing_else(text: bytes) -> None:
    visible = bool(text) and all(0x21 <= byte <= 0x7E for byte in text)
    assert keys.is_well_formed(text) == (visible and not keys.is_minted_shape(text))


@pytest.mark.parametrize("byte", [*range(0x21), *range(0x7F, 0x100)])
def test_one_byte_outside_visible_ascii_spoils_a_key(byte: int) -> None:
    good = b"custom-key_0123456789.xyz"
    assert keys.is_well_formed(good)
    assert not keys.is_well_formed(good[:5] + bytes([byte]) + good[5:])
    assert not keys.is_well_formed(good + bytes([byte]))


def test_a_line_end_behind_a_minted_key_is_not_overlooked() -> None:
    assert not keys.is_well_formed(keys.mint().encode() + b"\n")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "AK_GUARD_KEY={}\n",
        'key: "{}",',
        "https://api.internal/v1?key={}&x=1",
        "({})",
        "see {}.",
        "`{}`",
        "a/{}/b",
    ],
)
def test_the_published_pattern_finds_a_key_in_text(text: str) -> None:
    key = keys.mint()
    assert re.findall(keys.SCANNER_PATTERN, text.format(key)) == [key]


@pytest.mark.parametrize("text", ["ak_{}x", "break_{}", "ak_{}"])
def test_the_published_pattern_leaves_other_words_alone(text: str) -> None:
    body = keys.mint()[3:]
    assert re.findall(keys.SCANNER_PATTERN, text.format(body if text != "ak_{}" else body[:-1])) == []


def test_a_digest_is_the_sha_256_of_the_text() -> None:
    assert keys.digest(b"abc") == hashlib.sha256(b"abc").digest()


def test_a_hint_shows_the_prefix_and_the_last_four_characters() -> None:
    key = keys.mint("live")
    assert keys.hint(key) == f"live_…{key[-4:]}"


def test_a_hint_of_a_custom_key_shows_only_its_last_four_characters() -> None:
    assert keys.hint("my_Tr0ub4dor.custom-Zq9") == "…-Zq9"


@given(PREFIXES)
@examples(50)
def test_a_hint_keeps_all_but_four_characters_behind_the_prefix_to_itself(prefix: str) -> None:
    key = keys.mint(prefix)
    hint = keys.hint(key)
    body = key.removeprefix(f"{prefix}_")
    assert all(body[at : at + 6] not in hint for at in range(33))


def test_the_longest_minted_key_is_below_the_cap() -> None:
    assert len(keys.mint("a" * 32)) < keys.MAX_KEY_BYTES


def test_base64_of_a_key_is_not_taken_for_one() -> None:
    assert not keys.is_minted_shape(base64.b64encode(keys.mint().encode()))
