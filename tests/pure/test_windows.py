"""Where windows begin and end: with the first use, with the epoch, with the calendar of a place."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import limits as engine
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits.limits import GRANULARITIES

from ak_guard import Limit
from ak_guard.budgets import Quota, Window
from ak_guard.notation import DAY, WEEK
from tests.pure.support import examples

HOUR = 3_600
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "America/Sao_Paulo",
    "America/Havana",
    "Asia/Beirut",
]


def window(text: str) -> Window:
    return Window.of(Limit.parse(text))


def moment(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def bounds(text: str, at: str, zone: str = "UTC") -> tuple[str, str]:
    """The window around a moment, as texts of UTC."""
    start, end = window(text).bounds(moment(at, zone))
    return utc(start), utc(end)


def utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def test_a_first_use_window_begins_now_and_lasts_its_length() -> None:
    assert window("5/5h").bounds(1_800_000_000.25) == (1_800_000_000.25, 1_800_018_000.25)


def test_a_quota_never_ends() -> None:
    assert Quota(5).bounds(1_800_000_000.0) == (1_800_000_000.0, math.inf)


def test_a_sliding_bucket_is_aligned_to_the_epoch() -> None:
    assert window("5/1m sliding").bounds(119.999) == (60.0, 120.0)
    assert window("5/1m sliding").bounds(120.0) == (120.0, 180.0)
    assert window("5/7d sliding").bounds(WEEK * 10 + 1.5) == (WEEK * 10, WEEK * 11)


@given(st.integers(1, 10 * 366 * DAY), st.floats(0, 4e9))
@examples(300)
def test_sliding_buckets_are_whole_lengths_from_the_epoch_and_hold_now(seconds: int, now: float) -> None:
    start, end = Window(5, seconds, anchor="sliding").bounds(now)
    assert start <= now < end
    assert end - start == seconds
    assert start % seconds == 0


@pytest.mark.parametrize(
    ("text", "at", "zone", "start", "end"),
    [
        ("5/1d calendar", "2027-06-15 12:00", "UTC", "2027-06-15 00:00", "2027-06-16 00:00"),
        ("5/1d calendar", "2027-06-15 00:00", "UTC", "2027-06-15 00:00", "2027-06-16 00:00"),
        # Half-hour and three-quarter-hour zones.
        ("5/1d calendar Asia/Kolkata", "2027-06-15 00:00", "Asia/Kolkata", "2027-06-14 18:30", "2027-06-15 18:30"),
        ("5/1d calendar Asia/Kathmandu", "2027-06-15 23:59", "Asia/Kathmandu", "2027-06-14 18:15", "2027-06-15 18:15"),
        ("5/1d calendar America/St_Johns", "2027-01-15 03:00", "UTC", "2027-01-14 03:30", "2027-01-15 03:30"),
        # Summer time begins: the day has 23 hours. It ends: 25. On Lord Howe it is half an hour.
        ("5/1d calendar Europe/Berlin", "2027-03-28 12:00", "Europe/Berlin", "2027-03-27 23:00", "2027-03-28 22:00"),
        ("5/1d calendar Europe/Berlin", "2027-10-31 12:00", "Europe/Berlin", "2027-10-30 22:00", "2027-10-31 23:00"),
        ("5/1d calendar Australia/Lord_Howe", "2027-10-02 20:00", "UTC", "2027-10-02 13:30", "2027-10-03 13:00"),
        ("5/1d calendar Australia/Lord_Howe", "2027-04-03 20:00", "UTC", "2027-04-03 13:00", "2027-04-04 13:30"),
        # A midnight that does not exist, one that comes twice, and a day that was left out.
        ("5/1d calendar America/Sao_Paulo", "2018-11-04 12:00", "UTC", "2018-11-04 03:00", "2018-11-05 02:00"),
        ("5/1d calendar America/Havana", "2027-11-07 12:00", "UTC", "2027-11-07 04:00", "2027-11-08 05:00"),
        ("5/1d calendar Pacific/Apia", "2011-12-30 09:00", "UTC", "2011-12-29 10:00", "2011-12-30 10:00"),
        ("5/1d calendar Pacific/Apia", "2011-12-30 11:00", "UTC", "2011-12-30 10:00", "2011-12-31 10:00"),
    ],
)
def test_a_calendar_day_is_that_of_its_place(text: str, at: str, zone: str, start: str, end: str) -> None:
    assert bounds(text, at, zone) == (start, end)


@pytest.mark.parametrize(
    ("text", "at", "start", "end"),
    [
        # 2027-06-16 is a Wednesday.
        ("5/7d calendar", "2027-06-16 12:00", "2027-06-14 00:00", "2027-06-21 00:00"),
        ("5/7d calendar monday", "2027-06-14 00:00", "2027-06-14 00:00", "2027-06-21 00:00"),
        ("5/7d calendar sunday", "2027-06-16 12:00", "2027-06-13 00:00", "2027-06-20 00:00"),
        ("5/7d calendar wednesday", "2027-06-16 12:00", "2027-06-16 00:00", "2027-06-23 00:00"),
        ("5/7d calendar thursday", "2027-06-16 12:00", "2027-06-10 00:00", "2027-06-17 00:00"),
        ("5/1w calendar saturday", "2027-01-01 12:00", "2026-12-26 00:00", "2027-01-02 00:00"),
        # The week in which summer time begins in Berlin has 167 hours.
        ("5/7d calendar Europe/Berlin", "2027-03-24 12:00", "2027-03-21 23:00", "2027-03-28 22:00"),
        ("5/7d calendar Europe/Berlin sunday", "2027-03-28 12:00", "2027-03-27 23:00", "2027-04-03 22:00"),
    ],
)
def test_a_calendar_week_begins_on_its_weekday(text: str, at: str, start: str, end: str) -> None:
    assert bounds(text, at) == (start, end)


@pytest.mark.parametrize(
    ("text", "at", "start", "end"),
    [
        ("5/1mo calendar", "2027-01-31 23:59", "2027-01-01 00:00", "2027-02-01 00:00"),
        ("5/30d calendar", "2027-02-01 00:00", "2027-02-01 00:00", "2027-03-01 00:00"),
        ("5/1mo calendar", "2028-02-29 12:00", "2028-02-01 00:00", "2028-03-01 00:00"),
        ("5/1mo calendar", "2027-12-31 23:59", "2027-12-01 00:00", "2028-01-01 00:00"),
        ("5/1mo calendar Europe/Berlin", "2027-03-31 22:30", "2027-03-31 22:00", "2027-04-30 22:00"),
        ("5/1mo calendar Asia/Kolkata", "2027-04-30 18:29", "2027-03-31 18:30", "2027-04-30 18:30"),
        ("5/1y calendar", "2028-12-31 23:59", "2028-01-01 00:00", "2029-01-01 00:00"),
        ("5/1y calendar Pacific/Kiritimati", "2027-12-31 10:00", "2027-12-31 10:00", "2028-12-31 10:00"),
    ],
)
def test_calendar_months_and_years_are_real_ones(text: str, at: str, start: str, end: str) -> None:
    assert bounds(text, at) == (start, end)


def test_months_of_other_anchors_have_thirty_days() -> None:
    assert window("5/1mo").bounds(0.0) == (0.0, 30 * DAY)
    assert window("5/1mo sliding").bounds(31.0 * DAY) == (30 * DAY, 60 * DAY)


def test_other_numbers_of_days_are_counted_off_from_the_epoch() -> None:
    assert bounds("5/3d calendar", "1970-01-05 12:00") == ("1970-01-04 00:00", "1970-01-07 00:00")
    assert bounds("5/3d calendar Asia/Kolkata", "1970-01-03 18:30") == ("1970-01-03 18:30", "1970-01-06 18:30")


@pytest.mark.parametrize(
    ("text", "at", "start", "end"),
    [
        ("5/1h calendar", "2027-06-15 12:59", "2027-06-15 12:00", "2027-06-15 13:00"),
        ("5/1h calendar Asia/Kolkata", "2027-06-15 12:45", "2027-06-15 12:30", "2027-06-15 13:30"),
        ("5/1h calendar Asia/Kathmandu", "2027-06-15 12:10", "2027-06-15 11:15", "2027-06-15 12:15"),
        ("5/15m calendar", "2027-06-15 12:44", "2027-06-15 12:30", "2027-06-15 12:45"),
        # Five does not divide 24: the last part of the day ends with the day.
        ("5/5h calendar", "2027-06-15 19:59", "2027-06-15 15:00", "2027-06-15 20:00"),
        ("5/5h calendar", "2027-06-15 23:00", "2027-06-15 20:00", "2027-06-16 00:00"),
        ("5/6h calendar Europe/Berlin", "2027-03-28 21:00", "2027-03-28 17:00", "2027-03-28 22:00"),
        ("5/6h calendar Europe/Berlin", "2027-10-31 22:30", "2027-10-31 22:00", "2027-10-31 23:00"),
    ],
)
def test_parts_of_a_day_are_counted_from_local_midnight(text: str, at: str, start: str, end: str) -> None:
    assert bounds(text, at) == (start, end)


CALENDARS = st.builds(
    lambda seconds, zone, day: Window(5, seconds, anchor="calendar", zone=zone, week_start=day),
    st.sampled_from([60, 900, HOUR, 5 * HOUR, 7 * HOUR, DAY, 2 * DAY, 7 * DAY, 30 * DAY, 90 * DAY, 360 * DAY]),
    st.sampled_from(ZONES),
    st.integers(0, 6),
)
MOMENTS = st.floats(0, 4e9) | st.datetimes(datetime(2027, 1, 1), datetime(2028, 3, 1)).map(datetime.timestamp)  # noqa: DTZ001  # any moment will do


@given(CALENDARS, MOMENTS)
@examples(300)
def test_calendar_windows_hold_now_and_follow_one_another_without_a_gap(calendar: Window, now: float) -> None:
    start, end = calendar.bounds(now)
    assert start <= now < end
    assert calendar.bounds(start) == (start, end)
    assert calendar.bounds(end - 0.001) == (start, end)
    assert calendar.bounds(end)[0] == end


@given(CALENDARS, MOMENTS)
@examples(400)
def test_calendar_windows_of_days_begin_with_a_local_day_and_shorter_ones_within_it(
    calendar: Window, now: float
) -> None:
    start, end = calendar.bounds(now)
    zone = ZoneInfo(calendar.zone)
    if calendar.seconds >= DAY:
        assert datetime.fromtimestamp(start, zone).date() > datetime.fromtimestamp(start - 1, zone).date()
        assert datetime.fromtimestamp(end, zone).date() > datetime.fromtimestamp(end - 1, zone).date()
    else:
        assert datetime.fromtimestamp(start, zone).date() == datetime.fromtimestamp(end - 1, zone).date()
        assert end - start <= calendar.seconds
    if calendar.seconds == WEEK and not calendar.zone.startswith("Pacific/"):  # where whole days were left out
        assert datetime.fromtimestamp(start, zone).weekday() == calendar.week_start


def test_a_window_is_an_item_of_limits_of_whole_seconds() -> None:
    five_hours = window("10/5h")
    assert isinstance(five_hours, engine.RateLimitItem)
    assert (five_hours.amount, five_hours.get_expiry()) == (10, 5 * HOUR)


def test_the_parser_of_limits_does_not_learn_of_our_windows() -> None:
    assert not [kind for kind in GRANULARITIES.values() if issubclass(kind, Window)]
    assert not isinstance(engine.parse("1/second"), Window)


def test_a_counters_name_leaves_the_amount_out_so_that_a_changed_limit_keeps_what_was_used() -> None:
    assert window("10/5h").key_for("key", "a") == window("20/5h").key_for("key", "a")
    assert window("10/5h").key_for(b"key", "a") == window("10/5h").key_for("key", "a")


def test_there_is_one_counter_for_each_subject_length_anchor_and_unit() -> None:
    texts = ["1/5h", "1/1d", "1/5h calendar", "1/5h sliding", "1 requests/5h", "1 requests/5h sliding"]
    names = {window(text).key_for("key", subject) for text in texts for subject in ("a", "b")}
    assert len(names) == 12
    assert len({*(window(text).slot for text in texts), Quota(1).slot}) == 7


def test_windows_are_equal_by_what_they_count_and_how_much() -> None:
    assert window("10/5h") == window("10/5 hours")
    assert hash(window("10/5h")) == hash(window("10/5 hours"))
    assert window("10/5h") != window("11/5h")
    assert window("10/5h") != window("10/5h sliding")
    assert window("10/5h") != engine.parse("10/5 hour")


def test_a_window_is_shown_by_the_name_of_its_limit() -> None:
    assert Window.of(Limit.parse("5 requests/1d calendar")).name == "1d-requests-calendar"
    assert Window.of(Limit.parse("5/1h"), "shared-").name == "shared-1h"
    assert Quota(5).name == "quota"
