"""Which texts somebody may choose as a key."""

from __future__ import annotations

import random
import secrets
import string
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import InputError, custom_keys, keys
from tests.pure.support import examples

ALPHABET = string.ascii_letters + string.digits + "_.-"
GOOD = "xK7-pQ2v.Zt9_mW4bR1c"
assert len(GOOD) == 20


def refusal(text: str, *, peppered: bool) -> InputError | None:
    try:
        custom_keys.check(text, peppered=peppered)
    except InputError as error:
        return error
    return None


def problem_with(text: str, *, peppered: bool = False) -> str:
    with pytest.raises(InputError) as caught:
        custom_keys.check(text, peppered=peppered)
    assert caught.value.field == "key"
    return caught.value.problem


def test_twenty_characters_pass_and_nineteen_do_not() -> None:
    custom_keys.check(GOOD, peppered=False)
    assert "at least 20" in problem_with(GOOD[:19])


def test_with_a_pepper_sixteen_characters_pass_and_fifteen_do_not() -> None:
    custom_keys.check(GOOD[:16], peppered=True)
    assert "at least 16" in problem_with(GOOD[:15], peppered=True)


def test_as_many_bytes_as_a_request_may_carry_pass_and_one_more_does_not() -> None:
    text = "".join(random.Random(7).choices(ALPHABET, k=513))
    custom_keys.check(text[:512], peppered=False)
    assert "at most 512" in problem_with(text)


@pytest.mark.parametrize(
    "extra", [" ", "\n", "\t", "/", "+", "=", "$", "é", "ß", "\x00", "\u212a", "\u0663", "\U0001f511", "\udcff"]
)
def test_other_characters_than_letters_digits_and_three_marks_are_refused(extra: str) -> None:
    assert "letters, digits" in problem_with(GOOD + extra)
    assert "letters, digits" in problem_with(extra + GOOD)


@pytest.mark.parametrize("value", [None, 12345678901234567890, GOOD.encode(), [GOOD], ""])
def test_what_is_no_text_is_an_input_error(value: object) -> None:
    assert "letters, digits" in problem_with(value)  # type: ignore[arg-type]  # what JSON might hold


def test_ten_different_characters_pass_and_nine_do_not() -> None:
    nine = "x7Kq2Zp9m" * 2 + "7xqKZ2"
    assert "9 different" in problem_with(nine)
    custom_keys.check(nine + "W", peppered=False)


def test_the_shape_of_a_minted_key_is_refused_whatever_its_prefix_and_checksum() -> None:
    assert "shape of a generated key" in problem_with(keys.mint())
    assert "shape of a generated key" in problem_with(keys.mint("sk"), peppered=True)
    wrong_checksum = keys.mint()[:-6] + "000000"
    assert "shape of a generated key" in problem_with(wrong_checksum)


@pytest.mark.parametrize(
    "text",
    [
        "qwertyuiopasdfghjklz",
        "qwertyuiop1234567890",
        "QwertyUiop1234567890",
        "poiuytrewq0987654321",
        "qwertzuiopyxcvbnm123",
        "azertyuiop1234567890",
        "1qaz2wsx3edc4rfv5tgb",
        "abcdefghijklmnopqrst",
        "zyxwvutsrqponmlkjihg",
        "asdf-qwer-zxcv-1234-uiop",
        "zxcvbnm.asdfghjkl.qwertyuiop",
        "0123456789abcdefghij",
    ],
)
def test_keyboard_rows_and_alphabets_are_refused(text: str) -> None:
    assert problem_with(text)
    assert problem_with(text, peppered=True)


@pytest.mark.parametrize(
    "text",
    [
        "correct-horse-battery-staple",
        "CorrectHorseBatteryStaple",
        "production-gateway-secret-key",
        "my-super-secret-admin-password",
        "password-password-123456",
        "customer-support-tool-2026",
        "administrator_of_the_company",
        "letmein.welcome.dragon.1234",
        "hello-world-foo-bar-baz-qux",
        "internal-service-token-prod",
    ],
)
def test_dictionary_words_are_refused(text: str) -> None:
    assert problem_with(text)
    assert problem_with(text, peppered=True)


@pytest.mark.parametrize(
    "text",
    [
        "your-api-key-here-xK7pQ2vZ",
        "YOUR_API_KEY_1234567890ab",
        "changeme-xK7pQ2vZt9mW4",
        "change-this-xK7pQ2vZt9mW4",
        "replace_me.xK7pQ2vZt9mW4",
        "sk-1234-xK7pQ2vZt9mW4bR1",
        "insert-key-xK7pQ2vZt9mW4",
        "placeholder-xK7pQ2vZt9mW4",
        "not-a-real-key-xK7pQ2vZt9mW4",
    ],
)
def test_known_placeholders_are_refused_however_they_are_separated(text: str) -> None:
    assert "placeholder" in problem_with(text)
    assert "placeholder" in problem_with(text, peppered=True)


@pytest.mark.parametrize("text", ["sk-1234", "EMPTY", "test", "token-abc123", "none", "dummy"])
def test_the_placeholders_of_the_field_are_refused(text: str) -> None:
    assert problem_with(text)


@pytest.mark.parametrize(
    "text", ["xK7-" * 6 + "abcdefgh", "0a9z" * 5 + "qwertyui", "aaaabbbbccccddddeeeeffffgggghhhhiiiijjjj"]
)
def test_repetitions_are_refused(text: str) -> None:
    assert problem_with(text)


def test_random_texts_pass() -> None:
    chance = random.Random(20_260_101)
    for _ in range(3_000):
        custom_keys.check("".join(chance.choices(ALPHABET, k=24)), peppered=False)


def test_what_generators_print_passes() -> None:
    chance = random.Random(20_260_102)
    for _ in range(300):
        custom_keys.check(str(uuid.UUID(int=chance.getrandbits(128), version=4)), peppered=False)
        custom_keys.check(secrets.token_urlsafe(24), peppered=False)


def test_a_word_beside_enough_random_characters_does_not_spoil_a_key() -> None:
    custom_keys.check("prod-api." + "xK7pQ2vZt9mW4bR1", peppered=False)


MARK = "zQ7xVw"


@given(st.text() | st.text(ALPHABET, max_size=30), st.text(ALPHABET, max_size=30), st.booleans())
@examples(300)
def test_an_error_names_the_field_and_never_repeats_the_text(before: str, after: str, peppered: bool) -> None:
    error = refusal(before + MARK + after, peppered=peppered)
    if error is not None:
        assert error.field == "key"
        assert MARK not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"


@given(st.text(ALPHABET, min_size=16, max_size=40))
@examples(400)
def test_what_passes_without_a_pepper_passes_with_one(text: str) -> None:
    with_pepper, without = refusal(text, peppered=True), refusal(text, peppered=False)
    assert without is not None or with_pepper is None


@given(st.text(ALPHABET, min_size=20, max_size=60))
@examples(400)
def test_what_passes_could_be_sent_and_found_again(text: str) -> None:
    if refusal(text, peppered=False) is None:
        assert keys.is_well_formed(text.encode())
        assert len(set(text)) >= 10
