"""Sums over requests: by time, by code, by address and by route. Pure: from sums of hours or from single records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from ak_guard.errors import InputError
from ak_guard.notation import DAY, HOUR
from ak_guard.records import ADMITTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ak_guard.usage.records import UsageRecord

T = TypeVar("T")

BucketName = Literal["hour", "day"]


_LENGTHS: Final[Mapping[str, int]] = {"hour": HOUR, "day": DAY}
# What is told where nobody says since when.
_DEFAULT: Final[Mapping[str, int]] = {"hour": DAY, "day": 30 * DAY}
_MOST_BUCKETS: Final = 1_000


class Period(NamedTuple):
    """[since, until) in seconds since the epoch, and the length of its buckets. `since` begins a bucket."""

    since: int
    until: float
    length: int

    @classmethod
    def of(cls, since: float | None, until: float | None, bucket: str, now: float) -> Period:
        """From what was asked for; without an end, with the bucket that is running. Days are those of UTC.

        Raises `InputError` naming what is wrong.
        """
        if bucket not in _LENGTHS:
            raise InputError("bucket", f"{bucket!r} must be hour or day")
        length = _LENGTHS[bucket]
        end = (now // length + 1) * length if until is None else until
        begin = end - _DEFAULT[bucket] if since is None else since
        if begin > end:
            raise InputError("since", "must not lie after the end")
        if (end - begin) / length > _MOST_BUCKETS:
            raise InputError("since", f"is more than {_MOST_BUCKETS} {bucket}s before the end; ask for fewer")
        return cls(int(begin // length) * length, end, length)

    def start_of(self, at: float) -> int:
        """Where the bucket begins that holds this moment."""
        return int(at // self.length) * self.length


class Sum(NamedTuple):
    """Requests that have all this in common: `start` is the hour or day. `first` and `last` are seconds."""

    start: int
    ip: str | None
    route: str
    code: str
    calls: int
    cost: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """One hour or one day. `refused` are the calls with another code than `admitted`."""

    start: datetime
    calls: int
    refused: int
    cost: int
    by_code: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Place:
    """An address or a route (`POST /v1/chat/completions`), or an address on a route where `route` is set too.

    `first` is when it was first seen at all, as far back as usage is kept, `last` when it was last seen.
    """

    name: str
    calls: int
    refused: int
    cost: int
    first: datetime
    last: datetime
    route: str = ""


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """What was asked and what was answered. `buckets` follow each other without a gap, the last one may be running.

    `addresses`, `routes` and `places` (addresses on routes) are sorted by calls, most first.
    """

    since: datetime
    until: datetime
    calls: int
    refused: int
    cost: int
    by_code: Mapping[str, int]
    buckets: tuple[Bucket, ...]
    addresses: tuple[Place, ...]
    routes: tuple[Place, ...]
    places: tuple[Place, ...]


def sums_of(records: Iterable[UsageRecord], length: int = HOUR) -> list[Sum]:
    """Each record as the sum that it alone makes."""
    return [
        Sum(
            int(record.at // length) * length,
            record.ip,
            record.place,
            record.code,
            1,
            record.cost,
            record.at,
            record.at,
        )
        for record in records
    ]


def summary(
    period: Period,
    sums: Sequence[Sum],
    *,
    by_time: Sequence[Sum] | None = None,
    first: Mapping[str, float] | None = None,
) -> UsageSummary:
    """Put sums together. Those outside the period tell only when a place was first seen.

    `by_time` replaces them for the buckets, where those are kept apart, and `first` is when addresses and routes were
    first seen, where the sums do not reach back that far.
    """
    inside = [one for one in sums if period.since <= one.last and one.first < period.until]
    timed = inside if by_time is None else by_time
    codes: Counter[str] = Counter()
    for one in timed:
        codes[one.code] += one.calls
    earliest = _earliest(sums, first or {})
    return UsageSummary(
        since=_moment(period.since),
        until=_moment(period.until),
        calls=codes.total(),
        refused=codes.total() - codes[ADMITTED],
        cost=sum(one.cost for one in timed),
        by_code=dict(codes.most_common()),
        buckets=_buckets(period, timed),
        addresses=_places(inside, lambda one: one.ip or None, earliest),
        routes=_places(inside, lambda one: one.route or None, earliest),
        places=tuple(
            place
            for ip, on in _by(inside, lambda one: one.ip or None).items()
            for place in _places(on, lambda one: one.route or None, {}, ip)
        ),
    )


def _buckets(period: Period, sums: Iterable[Sum]) -> tuple[Bucket, ...]:
    by_start = _by(sums, lambda one: period.start_of(one.start))
    starts = range(period.since, max(int(-(-period.until // 1)), period.since + 1), period.length)
    return tuple(_bucket(start, by_start.get(start, ())) for start in starts)


def _bucket(start: int, sums: Iterable[Sum]) -> Bucket:
    codes: Counter[str] = Counter()
    cost = 0
    for one in sums:
        codes[one.code] += one.calls
        cost += one.cost
    return Bucket(_moment(start), codes.total(), codes.total() - codes[ADMITTED], cost, dict(codes.most_common()))


def _earliest(sums: Iterable[Sum], first: Mapping[str, float]) -> dict[str, float]:
    earliest = dict(first)
    for one in sums:
        for name in (one.ip, one.route):
            if name:
                earliest[name] = min(one.first, earliest.get(name, one.first))
    return earliest


def _places(
    sums: Iterable[Sum], name_of: Callable[[Sum], str | None], earliest: Mapping[str, float], ip: str = ""
) -> tuple[Place, ...]:
    found = []
    for name, having in _by(sums, name_of).items():
        calls = sum(one.calls for one in having)
        seen = min(one.first for one in having)
        found.append(
            Place(
                name=ip or name,
                calls=calls,
                refused=calls - sum(one.calls for one in having if one.code == ADMITTED),
                cost=sum(one.cost for one in having),
                first=_moment(min(seen, earliest.get(name, seen))),
                last=_moment(max(one.last for one in having)),
                route=name if ip else "",
            )
        )
    return tuple(sorted(found, key=lambda place: (-place.calls, place.name)))


def _by(sums: Iterable[Sum], key_of: Callable[[Sum], T | None]) -> dict[T, list[Sum]]:
    grouped: dict[T, list[Sum]] = {}
    for one in sums:
        key = key_of(one)
        if key is not None:
            grouped.setdefault(key, []).append(one)
    return grouped


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
