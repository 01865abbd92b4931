"""What happened, asked through a manager: who changed what, what requests did, and what stands out in that."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ak_guard import inputs
from ak_guard.audit import AuditFilter
from ak_guard.backends.base import KeepsAudit, ReadsUsage
from ak_guard.errors import ConfigurationError, NotFound
from ak_guard.notation import DAY
from ak_guard.usage.anomalies import anomalies, is_among, is_new_network, known_networks
from ak_guard.usage.learned import learned_addresses
from ak_guard.usage.lockout import locked_out
from ak_guard.usage.summaries import Period

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ak_guard.audit import AuditEntry
    from ak_guard.backends.base import KeyStore
    from ak_guard.listing import ListedKey
    from ak_guard.usage.anomalies import Anomaly
    from ak_guard.usage.records import KeyUse, LastUsed, UsageRecord
    from ak_guard.usage.summaries import BucketName, UsageSummary

    Moment = datetime | str

#: So far back callers are recent, in days.
RECENT_DAYS: Final = 7

_USUAL_SECONDS: Final = 7 * DAY
_LEARNED_SECONDS: Final = 30 * DAY


class History:
    """The part of a manager that only looks back. `ConfigurationError` where the backend keeps nothing of the kind."""

    def __init__(self, backend: KeyStore, clock: Callable[[], float]) -> None:
        self.backend: KeyStore = backend
        self._clock = clock

    async def audit(
        self,
        key_id: str | None = None,
        *,
        group: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        since: Moment | float | None = None,
        until: Moment | float | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Sequence[AuditEntry]:
        """Who changed what, newest first: of a key (also one that is gone), of a group, by an actor, or one action.

        `before` is the id of the last entry of the page before.
        """
        since, until = _seconds("since", since), _seconds("until", until)
        where = AuditFilter(None if key_id is None else inputs.key_id(key_id), group, actor, action, since, until)
        inputs.page_size(limit)
        return await self._trail().audit(where, limit=limit, before=before)

    async def usage(
        self,
        key_id: str | None = None,
        *,
        since: Moment | float | None = None,
        until: Moment | float | None = None,
        bucket: BucketName = "hour",
    ) -> UsageSummary:
        """What a key did, or all of them and strangers too: by hour or day, by code, by address and by route.

        An empty `key_id` means keys that nobody holds.
        `since` begins with the hour or day (UTC) it lies in; without it these are the last 24 hours or 30 days.
        """
        end = _seconds("until", until)
        period = Period.of(_seconds("since", since), end, bucket, self._clock())
        return await self._usage().usage(inputs.key_id(key_id) if key_id else key_id, period)

    async def records(
        self,
        key_id: str | None = None,
        *,
        since: Moment | float | None = None,
        code: str | None = None,
        limit: int = 100,
        before: str | None = None,
    ) -> Sequence[UsageRecord]:
        """Single requests, newest first; an empty `key_id` means keys that nobody holds.

        `before` is the id of the last record of the page before.
        """
        inputs.page_size(limit)
        owner = inputs.key_id(key_id) if key_id else key_id
        begin = _seconds("since", since) or 0.0
        return await self._usage().records(owner, since=begin, code=code, limit=limit, before=before)

    async def last_used(self, ids: Iterable[str]) -> dict[str, LastUsed]:
        """When these keys were last presented and from where, without those that never were. Refusals count too."""
        wanted = [inputs.key_id(key_id) for key_id in ids]
        return await self._usage().last_used(wanted) if wanted and isinstance(self.backend, ReadsUsage) else {}

    async def busiest(
        self, *, since: Moment | float | None = None, bucket: BucketName = "hour", limit: int = 20
    ) -> Sequence[KeyUse]:
        """The keys with the most calls since then, most first; without `since` in the running hour or day."""
        inputs.page_size(limit)
        begin = self._clock() if since is None else inputs.moment("since", since)
        return await self._usage().busiest(Period.of(begin, None, bucket, self._clock()), limit=limit)

    async def anomalies(self, key_id: str, *, since: Moment | float | None = None) -> Sequence[Anomaly]:
        """What stands out in the use of a key since then (24 hours without it), beside the week before.

        A network that the key's metadata names under `known_networks` is no new one.
        """
        now = self._clock()
        begin = now - DAY if since is None else inputs.moment("since", since)
        recent = Period.of(begin, None, "hour", now)
        usual = Period.of(recent.since - _USUAL_SECONDS, recent.since, "hour", now)
        known, usage = inputs.key_id(key_id), self._usage()
        found = anomalies(await usage.usage(known, recent), await usage.usage(known, usual))
        ours = await self._known_networks(known) if found else ()
        return tuple(one for one in found if one.kind != "new_network" or not is_among(one.subject, ours))

    async def new_networks(self, listed: Iterable[ListedKey]) -> frozenset[str]:
        """The ids of those keys that were last used from a network which is new to them, as `anomalies` tells it."""
        now = self._clock()
        since = Period.of(now - DAY, None, "hour", now).since
        usual = Period.of(since - _USUAL_SECONDS, since, "hour", now)
        used = {one.key.id: one for one in listed if one.last_used_at and one.last_used_at.timestamp() >= since}
        if not used or not isinstance(self.backend, ReadsUsage):
            return frozenset()
        before = await self.backend.calls_before(list(used), usual)
        return frozenset(
            key_id
            for key_id, calls in before.items()
            if is_new_network(used[key_id].last_used_ip or "", calls, used[key_id].key.metadata)
        )

    async def learned_addresses(self, key_id: str, *, since: Moment | float | None = None) -> Sequence[str]:
        """An allow list for a key, out of where its calls came from since then (30 days without it).

        Networks that it first came from within the last day are left out once it has others, unless they are said to be
        its own.
        """
        now = self._clock()
        begin = now - _LEARNED_SECONDS if since is None else inputs.moment("since", since)
        key = await self.backend.get(inputs.key_id(key_id))
        told = await self._usage().usage(key.id, Period.of(begin, None, "hour", now))
        news = datetime.fromtimestamp(now - DAY, UTC)
        return learned_addresses(told, news=news, ours=known_networks(key.metadata))

    async def locked_out(self, key_id: str, allow_ips: Iterable[str], deny_ips: Iterable[str] = ()) -> Sequence[str]:
        """Whose calls with a key were admitted within the last 7 days and would be refused with these lists."""
        now = self._clock()
        told = await self._usage().usage(inputs.key_id(key_id), Period.of(now - RECENT_DAYS * DAY, None, "hour", now))
        return locked_out(told, allow_ips, deny_ips)

    async def _known_networks(self, key_id: str) -> tuple[str, ...]:
        try:
            return known_networks((await self.backend.get(key_id)).metadata)
        except NotFound:
            # What was used by a key that is gone can still be asked for.
            return ()

    def _trail(self) -> KeepsAudit:
        if not isinstance(self.backend, KeepsAudit):
            raise ConfigurationError(f"backend: {type(self.backend).__name__} keeps no audit trail")
        return self.backend

    def _usage(self) -> ReadsUsage:
        if not isinstance(self.backend, ReadsUsage):
            raise ConfigurationError(f"backend: {type(self.backend).__name__} cannot be asked about usage")
        return self.backend


def _seconds(field: str, moment: Moment | float | None) -> float | None:
    return None if moment is None else inputs.moment(field, moment)
