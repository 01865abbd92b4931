"""A window as an item of `limits`: how much, how long, where it begins and what it counts."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from limits import RateLimitItemPerSecond

from ak_guard.notation import DAY, MONTH, WEEK, YEAR, Anchor, Unit

if TYPE_CHECKING:
    from ak_guard.records import Limit

NAMESPACE = "ak_guard"


class Window(RateLimitItemPerSecond):
    """A `RateLimitItem` of whole seconds with an anchor and a unit.

    `slot` names its counter beside the subject's: without the amount, so that a changed limit keeps what was used.
    `name` is what clients see. GRANULARITY is inherited on purpose: a class that sets it registers itself in the
    parser of `limits`.
    """

    __slots__ = ("anchor", "name", "seconds", "sliding", "slot", "unit", "week_start", "zone")

    def __init__(
        self,
        amount: int,
        seconds: int,
        *,
        anchor: Anchor = "first-use",
        unit: Unit = "units",
        zone: str = "UTC",
        week_start: int = 0,
        name: str = "",
    ) -> None:
        super().__init__(amount, seconds, NAMESPACE)
        self.anchor = anchor
        self.unit = unit
        self.zone: str = zone
        self.week_start: int = week_start
        self.seconds: int = seconds
        self.sliding: bool = anchor == "sliding"
        self.slot: str = f"{seconds}/{anchor}/{unit}"
        self.name: str = name or self.slot.replace("/", "-")

    @staticmethod
    @lru_cache(maxsize=4_096)
    def of(limit: Limit, prefix: str = "") -> Window:
        """The window that a `Limit` describes; `prefix` goes before its name (`shared-`). Equal limits share one."""
        return Window(
            limit.amount,
            limit.seconds,
            anchor=limit.anchor,
            unit=limit.unit,
            zone=limit.zone,
            week_start=limit.week_start,
            name=prefix + limit.name,
        )

    def key_for(self, *identifiers: bytes | str | float) -> str:
        ids = (part.decode() if isinstance(part, bytes) else str(part) for part in identifiers)
        return "/".join((self.namespace, *ids, self.slot))

    def bounds(self, now: float) -> tuple[float, float]:
        """Where a window that holds `now` starts and ends, in seconds since the epoch: [start, end)."""
        if self.anchor == "first-use":
            return now, now + self.seconds
        if self.anchor == "sliding":
            start = now // self.seconds * self.seconds
            return start, start + self.seconds
        return _calendar_bounds(self, now)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Window) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[int, str, str, str, int]:
        return self.amount, self.slot, self.name, self.zone, self.week_start


class Quota(Window):
    """What a key may consume in all: a window without end."""

    __slots__ = ()

    def __init__(self, amount: int) -> None:
        super().__init__(amount, 1, name="quota")
        self.slot = "quota"

    def bounds(self, now: float) -> tuple[float, float]:
        return now, math.inf


def _calendar_bounds(window: Window, now: float) -> tuple[float, float]:
    """Real days, weeks, months and years of a time zone; parts of a day are counted from local midnight."""
    zone = ZoneInfo(window.zone)
    today = datetime.fromtimestamp(now, zone).date()
    if window.seconds < DAY:
        midnight, next_midnight = _at(today, zone), _at(today + timedelta(days=1), zone)
        start = midnight + (now - midnight) // window.seconds * window.seconds
        return start, min(start + window.seconds, next_midnight)
    first, last = _calendar_days(window, today)
    return _at(first, zone), _at(last, zone)


def _calendar_days(window: Window, today: date) -> tuple[date, date]:
    if window.seconds == WEEK:
        first = today - timedelta(days=(today.weekday() - window.week_start) % 7)
        return first, first + timedelta(days=7)
    if window.seconds == MONTH:
        first = today.replace(day=1)
        return first, (first + timedelta(days=31)).replace(day=1)
    if window.seconds == YEAR:
        return date(today.year, 1, 1), date(today.year + 1, 1, 1)
    # Other lengths are counted off from the first day of the epoch.
    length = window.seconds // DAY
    first = today - timedelta(days=(today - date(1970, 1, 1)).days % length)
    return first, first + timedelta(days=length)


def _at(day: date, zone: ZoneInfo) -> float:
    return datetime.combine(day, time(), zone).astimezone(UTC).timestamp()
