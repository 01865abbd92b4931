"""Durations and limits as people write them."""

from __future__ import annotations

import random
from datetime import timedelta

import limits as engine
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import InputError, Limit
from ak_guard.notation import (
    DAY,
    MAX_AMOUNT,
    MAX_SECONDS,
    duration_text,
    known_zone,
    parse_duration,
    parse_limit,
)
from tests.pure.support import examples


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("15m", 900),
        ("5h", 18_000),
        ("1d", 86_400),
        ("7d", 604_800),
        ("1w", 604_800),
        ("2 hours", 7_200),
        ("90 min", 5_400),
        ("hour", 3_600),
        (" 5 H ", 18_000),
        ("005h", 18_000),
        ("1s", 1),
        ("3660d", 316_224_000),
    ],
)
def test_a_duration_is_read_as_seconds(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1M", "1mo", "1 month", "1y", "2 years"])
def test_a_duration_is_never_a_month_of_unclear_length(text: str) -> None:
    with pytest.raises(InputError):
        parse_duration(text)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "5",
        "h5",
        "5x",
        "1.5h",
        "-5h",
        "+5h",
        "0s",
        "0h",
        "5h5m",
        "5 h m",
        "3661d",
        "9999999999999s",
        "5h/",
        "1e3s",
    ],
)
def test_a_malformed_duration_is_an_input_error_that_names_the_field(value: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_duration(value, "expires_in")
    assert caught.value.field == "expires_in"


@pytest.mark.parametrize("value", ["\u0665h", "5h\x00", "5\u200ah", "\udcff", "infinity", "s" * 10_000])
def test_a_strange_text_is_an_input_error_that_names_the_field(value: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_duration(value, "expires_in")
    assert caught.value.field == "expires_in"


@pytest.mark.parametrize(
    "value", [None, 5, 5.0, True, b"5h", ["5h"], timedelta(0), timedelta(seconds=-1), timedelta.max]
)
def test_what_is_no_text_is_an_input_error_that_names_the_field(value: object) -> None:
    with pytest.raises(InputError) as caught:
        parse_duration(value, "grace")  # type: ignore[arg-type]  # what JSON might hold
    assert caught.value.field == "grace"


@pytest.mark.parametrize("value", [timedelta(milliseconds=1), timedelta(seconds=1, microseconds=1)])
def test_parts_of_a_second_are_refused(value: timedelta) -> None:
    with pytest.raises(InputError, match=r"^within: .*part of a second"):
        parse_duration(value, "within")


@given(st.integers(1, MAX_SECONDS))
@examples(300)
def test_a_duration_is_written_as_it_is_read(seconds: int) -> None:
    assert parse_duration(duration_text(seconds)) == seconds
    assert parse_duration(timedelta(seconds=seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(18_000, "5h"), (86_400, "1d"), (604_800, "7d"), (90, "90s"), (5_400, "90m"), (90_000, "25h"), (1, "1s")],
)
def test_a_duration_is_written_in_the_largest_unit_that_divides_it(seconds: int, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1000/5h", Limit(1_000, 18_000)),
        ("3000/1d", Limit(3_000, 86_400)),
        ("10000/7d", Limit(10_000, 604_800)),
        ("60/1m", Limit(60, 60)),
        ("30/minute", Limit(30, 60)),
        ("1000/5 hour", Limit(1_000, 18_000)),
        ("10 per minute", Limit(10, 60)),
        ("10 per 2 HOURS", Limit(10, 7_200)),
        (" 10 / 5 h ", Limit(10, 18_000)),
        ("10 units/1d", Limit(10, 86_400)),
        ("1 unit per day", Limit(1, 86_400)),
        ("500 requests/1d", Limit(500, 86_400, "requests")),
        ("1 request per day", Limit(1, 86_400, "requests")),
        ("500requests/1d", Limit(500, 86_400, "requests")),
        ("500 requests/1d calendar", Limit(500, 86_400, "requests", "calendar")),
        ("500/1d first-use", Limit(500, 86_400)),
        ("500/1d SLIDING", Limit(500, 86_400, anchor="sliding")),
        ("5/1d calendar Europe/Berlin", Limit(5, 86_400, anchor="calendar", zone="Europe/Berlin")),
        ("5/7d calendar sunday", Limit(5, 604_800, anchor="calendar", week_start=6)),
        ("5/7d calendar Sunday Asia/Kolkata", Limit(5, 604_800, anchor="calendar", zone="Asia/Kolkata", week_start=6)),
        ("5/1mo calendar", Limit(5, 2_592_000, anchor="calendar")),
    ],
)
def test_a_limit_is_read(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1000",
        "1000/",
        "/5h",
        "1000/5",
        "1000/0 day",
        "1000/0d",
        "0/1d",
        "-1/1d",
        "1.5/1d",
        "1e3/1d",
        "1,000/1d",
        "1/second; 5/minute",
        "1/second, 5/minute",
        "1/second|5/minute",
        "1000 tokens/1d",
        "1000/5 fortnights",
        "1000/5h daily",
        "1000/5h calendar Nowhere/City",
        "1000/5h calendar ../../etc/passwd",
        "1000/5h Europe/Berlin",
        "1000/5h sunday",
        "1000/1d sliding sunday",
        "1000/25h calendar",
        "1000/5h 3000/1d",
        "1000//5h",
        "1000/5h/",
        "1000 permanent",
        f"{10**15}/1d",
        "9" * 5_000 + "/1d",
        "1/" + "9" * 5_000 + "d",
        "1/11y",
        "\u0661/1d",
        "1/1d calendar \x00",
        "1/1d calendar " + "x" * 5_000,
        "1000/5h\x00",
        "\udcff",
    ],
)
def test_nonsense_is_an_input_error_that_names_the_field(text: str) -> None:
    with pytest.raises(InputError) as caught:
        Limit.parse(text, "shared_limits")
    assert caught.value.field == "shared_limits"


@pytest.mark.parametrize("value", [None, 5, b"5/1d", ["5/1d"], (5, 60), {"amount": 5}])
def test_what_is_no_text_of_a_limit_is_an_input_error(value: object) -> None:
    with pytest.raises(InputError, match=r"^limits: "):
        Limit.parse(value)  # type: ignore[arg-type]  # what JSON might hold


WORDY = st.lists(
    st.sampled_from(
        ["10", "0", "5", "/", " ", "per", "requests", "h", "d", "day", "calendar", "sliding", "first-use", "UTC"]
    )
    | st.sampled_from(["Europe/Berlin", "Europe", "sunday", "..", "\n", "-", "posix/UTC", "a.b/c", "zone.tab", "\x00"]),
    max_size=9,
).map("".join)


@given(st.text(max_size=30) | WORDY)
@examples(400)
def test_any_text_is_a_limit_or_an_input_error_that_names_the_field(text: str) -> None:
    try:
        limit = Limit.parse(text, "limits")
    except InputError as error:
        assert error.field == "limits"  # noqa: PT017  # both ends are right, and raising is but one
    else:
        assert Limit.parse(str(limit)) == limit


@given(st.text(max_size=20) | WORDY)
@examples(300)
def test_any_text_is_a_duration_or_an_input_error_that_names_the_field(text: str) -> None:
    try:
        seconds = parse_duration(text, "grace")
    except InputError as error:
        assert error.field == "grace"  # noqa: PT017  # both ends are right, and raising is but one
    else:
        assert 1 <= seconds <= MAX_SECONDS


@given(st.text(max_size=30))
@examples(200)
def test_any_text_is_a_zone_or_not(text: str) -> None:
    assert known_zone(text) in {True, False}


SPANS = {"second": 1, "minute": 60, "hour": 3_600, "day": DAY, "month": 30 * DAY, "year": 360 * DAY}


@st.composite
def notation_of_limits(draw: st.DrawFn, blanks: str, least: int) -> str:
    """A text in the notation of `limits`, with at least so many blanks around a written-out `per`."""
    word = draw(st.sampled_from(sorted(SPANS)))
    gap = st.text(blanks, min_size=least, max_size=2)
    slack = st.text(blanks, max_size=2)
    between = draw(slack) + "/" + draw(slack) if draw(st.booleans()) else draw(gap) + "per" + draw(gap)
    count = draw(st.none() | st.integers(1, MAX_SECONDS // SPANS[word]))
    span = (
        ("" if count is None else f"{count:0{draw(st.integers(1, 11))}}")
        + draw(slack)
        + word
        + draw(st.sampled_from(["", "s"]))
    )
    amount = f"{draw(st.integers(1, MAX_AMOUNT)):0{draw(st.integers(1, 18))}}"
    text = draw(slack) + amount + between + span + draw(slack)
    chance = random.Random(draw(st.integers(0, 2**16)))
    return "".join(chance.choice((character.lower(), character.upper())) for character in text)


def assert_read_as_limits_reads_it(text: str) -> None:
    theirs = engine.parse(text)
    ours = parse_limit(text)
    assert (ours.amount, ours.seconds) == (theirs.amount, theirs.get_expiry())
    assert (ours.unit, ours.anchor) == ("units", "first-use")


@given(notation_of_limits(" \t\n\r\f\v", 1))
@examples(300)
def test_the_notation_of_limits_is_read_to_the_same_amount_and_seconds(text: str) -> None:
    assert_read_as_limits_reads_it(text)


@given(notation_of_limits(" ", 0))
@examples(300)
def test_the_notation_of_limits_is_read_with_per_written_next_to_a_number_or_word(text: str) -> None:
    assert_read_as_limits_reads_it(text)


@given(notation_of_limits(" \u00a0\u2009\x1f", 1))
@examples(300)
def test_the_notation_of_limits_is_read_with_blanks_that_were_pasted(text: str) -> None:
    assert_read_as_limits_reads_it(text)


def test_limits_takes_no_multiples_for_one_and_we_refuse_them() -> None:
    assert engine.parse("1000/0 day").get_expiry() == DAY
    with pytest.raises(InputError):
        parse_limit("1000/0 day")
