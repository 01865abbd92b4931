"""The newest records of one process, where no store keeps them."""

from __future__ import annotations

from collections import Counter, deque
from datetime import UTC, datetime
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from ak_guard.notation import DAY
from ak_guard.records import ADMITTED
from ak_guard.usage.records import UNKNOWN, KeyUse, LastUsed, bounded
from ak_guard.usage.summaries import sums_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ak_guard.usage.records import UsageRecord
    from ak_guard.usage.summaries import Period, Sum

_RECORDS: Final = 10_000
_BATCHES: Final = 1_000
_KEYS: Final = 100_000


class RecentUsage:
    """The last ten thousand records, and when each key was last used."""

    def __init__(self) -> None:
        self._records: deque[UsageRecord] = deque(maxlen=_RECORDS)
        self._batches: LRUCache[str, bool] = LRUCache(_BATCHES)
        self._numbers = count(1)
        self.last: LRUCache[str, LastUsed] = LRUCache(_KEYS)

    def add(self, batch_id: str, records: Sequence[UsageRecord]) -> None:
        if batch_id in self._batches:
            return
        self._batches[batch_id] = True
        for record in records:
            self._records.append(bounded(record)._replace(id=str(next(self._numbers))))
            if record.key_id is not None:
                moment = datetime.fromtimestamp(record.at, UTC)
                known = self.last.get(record.key_id)
                if known is None or known.at <= moment:
                    self.last[record.key_id] = LastUsed(moment, record.ip)

    def of(self, key_id: str | None) -> list[Sum]:
        """What one key did, or everybody."""
        return sums_of(self._having(key_id))

    def busiest(self, period: Period, limit: int) -> list[KeyUse]:
        """The keys with the most calls, most first."""
        calls: Counter[str] = Counter()
        refused: Counter[str] = Counter()
        cost: Counter[str] = Counter()
        for record in self._records:
            if period.since <= record.at < period.until:
                owner = record.key_id or UNKNOWN
                calls[owner] += 1
                refused[owner] += record.code != ADMITTED
                cost[owner] += record.cost
        return [KeyUse(owner, count, refused[owner], cost[owner]) for owner, count in calls.most_common(limit)]

    def calls_before(self, ids: Sequence[str], usual: Period) -> dict[str, dict[str, int]]:
        """See `ReadsUsage.calls_before`."""
        last = {key_id: self.last[key_id] for key_id in ids if key_id in self.last}
        found: dict[str, Counter[str | None]] = {
            key_id: Counter() for key_id, used in last.items() if used.at.timestamp() >= usual.until
        }
        for record in self._records:
            mine = found.get(record.key_id or "")
            if mine is None or record.at >= usual.until:
                continue
            if record.ip == last[record.key_id or ""].ip:
                del found[record.key_id or ""]
            elif record.at >= usual.since:
                mine[record.ip] += 1
        return {key_id: {ip: calls for ip, calls in mine.items() if ip} for key_id, mine in found.items()}

    def recorded(self) -> tuple[float, float] | None:
        """When the first and the last day begin of which there are records."""
        if not self._records:
            return None
        times = [record.at // DAY * DAY for record in self._records]
        return min(times), max(times)

    def newest(
        self, key_id: str | None, *, since: float, code: str | None, limit: int, before: str | None
    ) -> list[UsageRecord]:
        older = int(before) if before is not None and before.isdecimal() else None
        matching = (
            record
            for record in self._having(key_id)
            if record.at >= since
            and (code is None or record.code == code)
            and (older is None or int(record.id) < older)
        )
        return list(islice(matching, limit))

    def _having(self, key_id: str | None) -> Iterator[UsageRecord]:
        """Newest first."""
        return (one for one in reversed(self._records) if key_id is None or (one.key_id or UNKNOWN) == key_id)
