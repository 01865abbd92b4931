"""How durations, limits and moments are written: `30s 15m 5h 1d 7d`, `1000/5h`, `500 requests/1d calendar`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, overload
from zoneinfo import ZoneInfo

from ak_guard.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

Unit = Literal["units", "requests"]
Anchor = Literal["first-use", "calendar", "sliding"]

SECOND, MINUTE, HOUR, DAY, WEEK = 1, 60, 3_600, 86_400, 604_800
# As in `limits`: a month is 30 days and a year twelve of them. Calendar windows know real ones.
MONTH, YEAR = 30 * DAY, 360 * DAY
WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

# An integer of RFC 9651 (structured fields) has at most 15 digits; larger ones could not be told to a client.
MAX_AMOUNT: Final = 10**15 - 1
LEAP_YEAR: Final = 366 * DAY
MAX_SECONDS: Final = 10 * LEAP_YEAR

_UNIT_SECONDS: Final = {
    word: seconds
    for seconds, words in {
        SECOND: "s sec secs second seconds",
        MINUTE: "m min mins minute minutes",
        HOUR: "h hour hours",
        DAY: "d day days",
        WEEK: "w week weeks",
        MONTH: "mo month months",
        YEAR: "y year years",
    }.items()
    for word in words.split()
}
_DURATION: Final = re.compile(r"([0-9]{1,12})? ?([a-z]+)", re.IGNORECASE | re.ASCII)
_LIMIT: Final = re.compile(
    r"\s*(?P<amount>[0-9]+)\s*(?P<unit>[a-z]+?)??\s*(?:/|per)\s*(?P<count>[0-9]+)?\s*(?P<span>[a-z]+)\b\s*(?P<rest>.*)",
    re.IGNORECASE,
)
_LONGEST_TEXT: Final = 200
_EXAMPLES: Final = "write AMOUNT/WINDOW such as 1000/5h, 3000/1d or '500 requests/1d calendar'"


class LimitParts(NamedTuple):
    """A limit as it was read: whole units, whole seconds, the words about how it counts."""

    amount: int
    seconds: int
    unit: Unit = "units"
    anchor: Anchor = "first-use"
    zone: str = "UTC"
    week_start: int = 0


def parse_duration(value: str | timedelta, field: str = "duration") -> int:
    """Read `30s 15m 5h 1d 7d`, `2 hours` or a `timedelta` as whole seconds, at least one.

    Raises `InputError` naming `field`.
    """
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        if seconds != int(seconds):
            raise InputError(field, f"{value} has a part of a second; whole seconds are counted")
        return _checked_seconds(int(seconds), field)
    seconds, unit = _span(value, field)
    if unit >= MONTH:
        raise InputError(field, f"{value!r}: months and years differ in length; write days, such as 30d or 365d")
    return seconds


def _span(value: str, field: str) -> tuple[int, int]:
    """Seconds, and those of the unit, of a text such as `5h` or `1 month`."""
    match = (
        _DURATION.fullmatch(re.sub("[ \t]+", " ", value[:_LONGEST_TEXT]).strip(" ")) if isinstance(value, str) else None
    )
    unit = _UNIT_SECONDS.get(match[2].lower()) if match else None
    if match is None or unit is None or match[2] == "M":
        raise InputError(field, f"{value!r} is no duration; write 30s, 15m, 5h, 1d or 7d")
    return _checked_seconds(unit * (1 if match[1] is None else int(match[1])), field), unit


def _checked_seconds(seconds: int, field: str) -> int:
    if not 1 <= seconds <= MAX_SECONDS:
        raise InputError(field, "must last at least one second and at most ten years")
    return seconds


def _collapsed(text: str) -> str:
    """The text without repeated blanks, empty when it is longer than a person would type: patterns stay quick."""
    return re.sub(r"\s+", " ", text).strip() if len(text) <= _LONGEST_TEXT else ""


def duration_text(seconds: int) -> str:
    """Write seconds in the largest unit that divides them: `18000` is `5h`, `604800` is `7d`."""
    for size, letter in ((DAY, "d"), (HOUR, "h"), (MINUTE, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{letter}"
    return f"{seconds}s"


def parse_limit(text: str, field: str = "limits") -> LimitParts:
    """Read one limit: `AMOUNT[ requests]/WINDOW[ calendar|sliding][ ZONE][ WEEKDAY]`.

    The notation of `limits` is read too (`1000/5 hour`, `10 per minute`). Raises `InputError` naming `field`.
    """
    match = _LIMIT.fullmatch(_collapsed(text)) if isinstance(text, str) else None
    if match is None:
        raise InputError(field, f"{text!r} is no limit; {_EXAMPLES}")
    amount = int(match["amount"][:20])
    if not 1 <= amount <= MAX_AMOUNT:
        raise InputError(field, f"{text!r}: the amount must be between 1 and {MAX_AMOUNT}")
    try:
        seconds, _ = _span((match["count"] or "") + match["span"], field)
    except InputError as error:
        raise InputError(field, f"{text!r}: {error.problem}") from None
    parts = LimitParts(amount, seconds, _unit(match["unit"], text, field))
    for word in match["rest"].split():
        parts = _with_word(parts, word, text, field)
    return parts


def _unit(word: str | None, text: str, field: str) -> Unit:
    match (word or "units").lower():
        case "units" | "unit":
            return "units"
        case "requests" | "request":
            return "requests"
    raise InputError(field, f"{text!r}: {word!r} is no unit; write units or requests")


def _with_word(parts: LimitParts, word: str, text: str, field: str) -> LimitParts:
    lower = word.lower()
    readers: dict[str, Callable[[], LimitParts]] = {
        "first-use": lambda: parts._replace(anchor="first-use"),
        "calendar": lambda: parts._replace(anchor="calendar"),
        "sliding": lambda: parts._replace(anchor="sliding"),
    }
    if lower in readers:
        return readers[lower]()
    if parts.anchor == "calendar":
        if lower in WEEKDAYS:
            return parts._replace(week_start=WEEKDAYS.index(lower))
        if known_zone(word):
            return parts._replace(zone=word)
    raise InputError(
        field,
        f"{text!r}: {word!r} is not understood; after the window may stand first-use, sliding or calendar, "
        "and after calendar a time zone such as Europe/Berlin and the weekday on which a week starts",
    )


@overload
def iso(moment: datetime) -> str: ...
@overload
def iso(moment: datetime | None) -> str | None: ...
def iso(moment: datetime | None) -> str | None:
    """ISO 8601 with Z, to the microsecond where there are any."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def stamp(moment: datetime) -> str:
    """For people: `2027-01-31 18:00:00 UTC`."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def known_zone(name: str) -> bool:
    """Whether this machine's time zone data has `name` (an IANA name such as `Asia/Shanghai`)."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError):  # ZoneInfo raises each of them, by the kind of nonsense
        return False
    return True
