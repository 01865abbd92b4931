"""Records made ready to be stored: packed together by key, and summed by hour, by day and to the last use. Pure."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ak_guard.usage.records import MAX_ADDRESS, UNKNOWN, UsageRecord, bounded
from ak_guard.usage.summaries import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Stands for the address and the route where one key has had too many of them within an hour.
OTHER: Final = "other"

# Of one key within one hour. Whoever calls from ever new addresses shall not fill the store with them.
_PLACES: Final = 500
# Of attempts with keys that nobody holds so many are kept one by one of those that are written together.
_UNKNOWN: Final = 200
_WORTH_PACKING: Final = 1_000


class Hour(NamedTuple):
    """What is summed for each hour."""

    key_id: str
    start: int
    address: str
    route: str
    code: str


class Day(NamedTuple):
    """What is summed for each day."""

    key_id: str
    start: int
    code: str


class Places:
    """Which addresses and routes each key has had within the running hour, in this process."""

    def __init__(self) -> None:
        self._hour = 0
        self._seen: dict[str, set[tuple[str, str]]] = {}

    def known(self, hour: int, key_id: str, address: str, route: str) -> tuple[str, str]:
        """The address and the route, or `OTHER` for both where the key has had too many."""
        if key_id == UNKNOWN:
            return "", ""
        if hour > self._hour:
            self._hour = hour
            self._seen.clear()
        seen = self._seen.setdefault(key_id, set())
        place = (address, route)
        if place not in seen:
            if len(seen) >= _PLACES:
                return OTHER, OTHER
            seen.add(place)
        return place


class Packing:
    """What is written of some records. They may be added in parts, so that nobody waits long for one of them."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._blocks: dict[str, list[UsageRecord]] = {}
        self._bounded: dict[tuple[str, str], tuple[str, str, str]] = {}
        self.hours: dict[Hour, list[Any]] = {}
        self.days: dict[Day, list[int]] = {}
        self.last: dict[str, tuple[float, str | None]] = {}

    def add(self, records: Iterable[UsageRecord]) -> None:
        hours, days, known = self.hours, self.days, self._bounded
        for record in records:
            at, key_id, _, ip, method, route, _, code, cost, *_ = record
            called = known.get((method, route))
            if called is None:
                safe = bounded(record)
                called = known[method, route] = (safe.method, safe.route, safe.place)
            owner = UNKNOWN if key_id is None else key_id
            self._blocks.setdefault(owner, []).append(record)
            address = "" if ip is None else ip[:MAX_ADDRESS]
            second = int(at)
            start = second - second % HOUR
            place = self._places.known(start, owner, address, called[2])
            hour = Hour(owner, start, *place, code)
            sums = hours.get(hour)
            if sums is None:
                hours[hour] = [1, cost, at, at]
            else:
                sums[0] += 1
                sums[1] += cost
                sums[2] = min(at, sums[2])
                sums[3] = max(at, sums[3])
            day = Day(owner, second - second % DAY, code)
            total = days.get(day)
            if total is None:
                days[day] = [1, cost]
            else:
                total[0] += 1
                total[1] += cost
            if key_id is not None and at >= self.last.get(key_id, (at, None))[0]:
                self.last[key_id] = (at, address or None)

    def blocks(self) -> Iterable[dict[str, Any]]:
        """One row for each key."""
        for owner, records in sorted(self._blocks.items()):
            kept = records[-_UNKNOWN:] if owner == UNKNOWN else records
            times = [record.at for record in kept]
            yield {
                "key_id": owner,
                "first_at": min(times),
                "last_at": max(times),
                "codes": f"|{'|'.join(sorted({record.code for record in kept}))}|",
                "records": self._packed(kept),
            }

    def _packed(self, records: Sequence[UsageRecord]) -> bytes:
        rows = []
        for at, _, group, ip, method, route, status, code, cost, duration, hint, _ in records:
            safe_method, safe_route, _ = self._bounded[method, route]
            address = None if ip is None else ip[:MAX_ADDRESS]
            rows.append((at, group, address, safe_method, safe_route, status, code, cost, round(duration, 6), hint))
        text = json.dumps(rows, separators=(",", ":")).encode()
        return zlib.compress(text, 1) if len(text) > _WORTH_PACKING else text


def unpacked(key_id: str, row_id: int, packed: bytes) -> list[UsageRecord]:
    """The records of one row, oldest first, with their ids."""
    text = packed if packed.startswith(b"[") else zlib.decompress(packed)
    return [
        UsageRecord._make((at, key_id or None, *rest, f"{row_id}-{number}"))
        for number, (at, *rest) in enumerate(json.loads(text))
    ]
