"""Records made ready to be stored: packed together by key, and summed by hour, by day and to the last use. Pure."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ak_guard.notation import DAY, HOUR, MAX_AMOUNT
from ak_guard.usage.records import UNKNOWN, UsageRecord, bounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Stands for the address and the route where one key has had too many of them within an hour.
OTHER: Final = "other"

# Of one key within one hour. Whoever calls from ever new addresses shall not fill the store with them.
_PLACES: Final = 500
# Of attempts with keys that nobody holds so many are kept one by one of those that are written together.
_UNKNOWN: Final = 200
_WORTH_PACKING: Final = 1_000
_MICRO: Final = 1_000_000


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


class _Kind:
    """Records of one key and one hour that differ only in when they came, what they cost and how long they took."""

    __slots__ = ("calls", "cost", "end", "first", "last", "number", "record", "rows", "start")

    def __init__(self, record: UsageRecord, rows: list[tuple[int, float, int, float]], number: int) -> None:
        self.record = record
        self.rows = rows
        self.number = number
        second = int(record.at)
        self.start = second - second % HOUR
        self.end = self.start + HOUR
        self.calls = 0
        self.cost = 0
        self.first = self.last = record.at


class Packing:
    """What is written of some records. They may be added in parts, so that nobody waits long for one of them."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._kinds: dict[tuple[Any, ...], _Kind] = {}
        self._of: dict[str, list[_Kind]] = {}
        self._rows: dict[str, list[tuple[int, float, int, float]]] = {}

    def add(self, records: Iterable[UsageRecord]) -> None:
        kinds = self._kinds
        for record in records:
            at = record[0]
            alike = record[1:8], record[10]
            kind = kinds.get(alike)
            if kind is None or not kind.start <= at < kind.end:
                kind = kinds[alike] = self._begun(record)
            cost = min(record[8], MAX_AMOUNT)
            kind.calls += 1
            kind.cost += cost
            if at > kind.last:
                kind.last = at
            elif at < kind.first:
                kind.first = at
            kind.rows.append((kind.number, at, cost, record[9]))

    def _begun(self, record: UsageRecord) -> _Kind:
        owner = record.key_id or UNKNOWN
        kinds, rows = self._of.setdefault(owner, []), self._rows.setdefault(owner, [])
        kinds.append(_Kind(bounded(record), rows, len(kinds)))
        return kinds[-1]

    def blocks(self) -> Iterator[dict[str, Any]]:
        """The records themselves: one row for each key."""
        for owner, kinds in sorted(self._of.items()):
            rows = self._rows[owner]
            kept = rows[-_UNKNOWN:] if owner == UNKNOWN else rows
            first = min(at for _, at, _, _ in kept)
            yield {
                "key_id": owner,
                "first_at": first,
                "last_at": max(at for _, at, _, _ in kept),
                "codes": f"|{'|'.join(sorted({kinds[number].record.code for number, *_ in kept}))}|",
                "records": _packed(kinds, kept, round(first * _MICRO)),
            }

    def sums(self) -> tuple[dict[Hour, list[Any]], dict[Day, list[int]], dict[str, tuple[float, str | None]]]:
        """By hour calls, cost, first and last; by day calls and cost; by key when and from where it was last used."""
        hours: dict[Hour, list[Any]] = {}
        days: dict[Day, list[int]] = {}
        last: dict[str, tuple[float, str | None]] = {}
        for owner, kinds in self._of.items():
            for kind in kinds:
                record = kind.record
                place = self._places.known(kind.start, owner, record.ip or "", record.place)
                hour = hours.setdefault(Hour(owner, kind.start, *place, record.code), [0, 0, kind.first, kind.last])
                day = days.setdefault(Day(owner, kind.start - kind.start % DAY, record.code), [0, 0])
                for sums in (hour, day):
                    sums[0] += kind.calls
                    sums[1] += kind.cost
                hour[2:] = min(hour[2], kind.first), max(hour[3], kind.last)
                if owner != UNKNOWN and kind.last >= last.get(owner, (0.0, None))[0]:
                    last[owner] = (kind.last, record.ip)
        return hours, days, last


def _packed(kinds: list[_Kind], rows: list[tuple[int, float, int, float]], base: int) -> bytes:
    """What records have in common once; of each its kind, and in microseconds when it came and how long it took."""
    shapes = [[*kind.record[2:8], kind.record.hint] for kind in kinds]
    numbers = [
        one
        for number, at, cost, duration in rows
        for one in (number, round(at * _MICRO) - base, cost, round(duration * _MICRO))
    ]
    text = json.dumps([base, shapes, numbers], separators=(",", ":")).encode()
    return zlib.compress(text, 1) if len(text) > _WORTH_PACKING else text


def unpacked(key_id: str, row_id: int, packed: bytes) -> list[UsageRecord]:
    """The records of one row, oldest first, with their ids."""
    base, shapes, numbers = json.loads(packed if packed.startswith(b"[") else zlib.decompress(packed))
    found = []
    for number, (kind, at, cost, duration) in enumerate(zip(*[iter(numbers)] * 4, strict=True)):
        *shape, hint = shapes[kind]
        when, lasted = (base + at) / _MICRO, duration / _MICRO
        found.append(
            UsageRecord._make((when, key_id or None, *shape, cost, lasted, hint, f"{row_id}-{number}")),
        )
    return found
