"""What a key did in the last day, week or month: charts, refusals by reason, addresses, and the same as a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.charts import Chart, Column, drawn
from ak_guard.admin.console.reasons import reason
from ak_guard.errors import ConfigurationError
from ak_guard.records import ADMITTED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.usage.summaries import Bucket, Place, UsageSummary

#: How many addresses, routes and reasons are named.
NAMED: Final = 8
#: An address first seen within so many seconds is new, where the key was used before that.
NEW_SECONDS: Final = 86_400

#: Hours of each period, and how many of them one bar holds.
_PERIODS: Final = {"24h": (24, 1), "7d": (168, 6), "30d": (720, 24)}


@dataclass(frozen=True, slots=True)
class Slice:
    """The time of one bar."""

    start: datetime
    calls: int
    refused: int
    cost: int

    @property
    def admitted(self) -> int:
        return self.calls - self.refused


@dataclass(frozen=True, slots=True)
class Line:
    """One reason or one address with its share of all, in percent."""

    word: Markup
    code: str
    number: int
    share: int
    new: Markup | None = None


@dataclass(frozen=True, slots=True)
class Period:
    id: str
    word: Markup
    chosen: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Everything that the part of the page shows."""

    period: str
    periods: Sequence[Period]
    summary: UsageSummary
    slices: Sequence[Slice]
    calls: Chart
    cost: Chart
    calls_say: Markup
    cost_say: Markup
    reasons: Sequence[Line]
    addresses: Sequence[Line]
    routes: Sequence[Line]
    rows: Sequence[tuple[Markup, Slice]]


async def usage_of(visit: Visit, key_id: str) -> Usage | None:
    """The period that the query names; None where the backend keeps no records."""
    period = visit.asked("p") if visit.asked("p") in _PERIODS else "24h"
    hours, together = _PERIODS[period]
    since = visit.tongue.now - timedelta(hours=hours - 1)
    try:
        summary = await visit.keys.usage(key_id, since=since, bucket="hour")
    except ConfigurationError:
        return None
    return usage_shown(summary, period, together, visit.tongue)


def usage_shown(summary: UsageSummary, period: str, together: int, tongue: Tongue) -> Usage:
    """From the sums to what is drawn."""
    say = tongue.say
    slices = sliced(summary.buckets, together)
    words = {"24h": say("%(n)s hours", n=24), "7d": say("%(n)s days", n=7), "30d": say("%(n)s days", n=30)}
    admitted = summary.calls - summary.refused
    titles = [_title(one, period, tongue) for one in slices]
    new = {place.name for place in new_places(summary.addresses, summary.until)}
    return Usage(
        period=period,
        periods=[Period(id_, word, id_ == period) for id_, word in words.items()],
        summary=summary,
        slices=slices,
        calls=drawn(
            [
                Column(
                    _label(one, period, tongue),
                    (one.admitted, one.refused),
                    say("%(when)s: %(yes)s admitted, %(no)s refused", when=title, yes=one.admitted, no=one.refused),
                )
                for one, title in zip(slices, titles, strict=True)
            ],
            height=132,
            kinds=("ok", "no"),
        ),
        cost=drawn(
            [
                Column(_label(one, period, tongue), (one.cost,), say("%(when)s: %(n)s units", when=title, n=one.cost))
                for one, title in zip(slices, titles, strict=True)
            ],
            height=84,
            kinds=("ok",),
        ),
        calls_say=say("%(yes)s admitted, %(no)s refused", yes=admitted, no=summary.refused),
        cost_say=tongue.count("%(n)s unit", "%(n)s units", summary.cost),
        reasons=[
            Line(reason(code, tongue), code, number, _share(number, summary.refused))
            for code, number in summary.by_code.items()
            if code != ADMITTED
        ][:NAMED],
        addresses=[_place(place, summary.calls, place.name in new, tongue) for place in summary.addresses[:NAMED]],
        routes=[_place(place, summary.calls, False, tongue) for place in summary.routes[:NAMED]],
        rows=[(title, one) for title, one in zip(titles, slices, strict=True) if one.calls],
    )


def sliced(buckets: Sequence[Bucket], together: int) -> list[Slice]:
    """Buckets put together from the newest back, so that the last bar is the running time."""
    first = len(buckets) % together
    starts = [0] if first else []
    starts += range(first, len(buckets), together)
    ends = [*starts[1:], len(buckets)]
    return [
        Slice(
            buckets[start].start,
            sum(bucket.calls for bucket in buckets[start:end]),
            sum(bucket.refused for bucket in buckets[start:end]),
            sum(bucket.cost for bucket in buckets[start:end]),
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def new_places(places: Sequence[Place], now: datetime) -> list[Place]:
    """Those first seen within a day, where others were seen before: a key that is new itself has no new ones."""
    border = now - timedelta(seconds=NEW_SECONDS)
    if not any(place.first < border for place in places):
        return []
    return [place for place in places if place.first >= border]


def _place(place: Place, calls: int, new: bool, tongue: Tongue) -> Line:
    words = tongue.say("new since %(moment)s", moment=tongue.moment(place.first)) if new else None
    return Line(tongue.say("%(name)s", name=place.name), "", place.calls, _share(place.calls, calls), words)


def _share(part: int, whole: int) -> int:
    return round(100 * part / whole) if whole else 0


def _label(one: Slice, period: str, tongue: Tongue) -> str:
    return tongue.clock(one.start) if period == "24h" else str(tongue.day(one.start))


def _title(one: Slice, period: str, tongue: Tongue) -> Markup:
    if period == "24h":
        return tongue.say("%(time)s", time=tongue.clock(one.start))
    if period == "30d":
        return tongue.day(one.start)
    return tongue.say("%(day)s, %(time)s", day=tongue.day(one.start), time=tongue.clock(one.start))
