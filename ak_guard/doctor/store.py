"""What the database and the workers around it say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard.address import IPSet
from ak_guard.doctor.finding import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from ak_guard.backends.workers import Confirmation, Worker
    from ak_guard.database.condition import Condition
    from ak_guard.records import ApiKey
    from ak_guard.usage.records import LastUsed

#: Clocks may differ by so much, in seconds, before anybody notices.
SKEW: Final = 2.0
#: So many keys are seldom used by one program on one machine.
_TOO_MANY: Final = 3


def unreachable(problem: str) -> Finding:
    """The store of keys does not answer."""
    return Finding(
        Severity.ERROR,
        "database_away",
        problem,
        "known keys go on for stale_if_error seconds, then every request is answered 503",
        "start it, or correct AK_GUARD_BACKEND",
    )


def schema(found: Condition) -> Iterator[Finding]:
    """Whether the tables are those of this version."""
    if found.schema is None:
        yield Finding(
            Severity.ERROR,
            "no_tables",
            "the database has no tables yet",
            "there are no keys, so nobody gets in",
            "ak-guard keys create prod-api",
        )
    elif not found.current:
        newer = found.schema > found.wanted
        yield Finding(
            Severity.ERROR if newer else Severity.WARNING,
            "other_schema",
            f"the tables are of revision {found.schema}, this version works with {found.wanted}",
            "a newer version has been here; this one cannot know what the tables mean now"
            if newer
            else "the next start brings them up to date, and older versions that still run may fail then",
            "pip install --upgrade ak_guard" if newer else "ak-guard keys list",
        )


def clock(found: Condition) -> Iterator[Finding]:
    """Whether the database's clock and ours agree."""
    if found.skew is not None and abs(found.skew) > SKEW:
        yield Finding(
            Severity.WARNING,
            "clock_skew",
            f"the clock of the database is {abs(found.skew):.1f} s {'ahead of' if found.skew > 0 else 'behind'} ours",
            "keys expire by the clock of the app, and windows end by that of the database",
            "timedatectl set-ntp true  # on both machines",
        )


def rows(found: Condition) -> Iterator[Finding]:
    """Rows that somebody else wrote."""
    if found.unreadable:
        more = f", and {len(found.unreadable) - 3} more" if len(found.unreadable) > 3 else ""
        yield Finding(
            Severity.ERROR,
            "unreadable_rows",
            "; ".join(found.unreadable[:3]) + more,
            "their keys are answered 503, because nobody can say which rules they have",
            "ak-guard keys delete ID --yes  # or put the row right in the database",
        )


def counters(workers: Sequence[Worker]) -> Iterator[Finding]:
    """Whether all who run count in one place."""
    running = [worker for worker in workers if not worker.silent]
    if len(running) < 2:
        return
    private = [worker for worker in running if any(place.startswith("the memory of ") for place in worker.counters)]
    if private:
        yield Finding(
            Severity.WARNING,
            "limits_not_shared",
            f"{len(running)} workers run and {len(private)} of them count windows in memory of their own",
            f"together they let {len(running)} times as much through as a limit says, and forget it when they restart",
            "unset AK_GUARD_LIMITS  # or AK_GUARD_LIMITS=redis://127.0.0.1:6379/0",
        )
    elif len({worker.counters for worker in running}) > 1:
        places = sorted({place for worker in running for place in worker.counters or ("they do not say",)})
        yield Finding(
            Severity.WARNING,
            "limits_in_several_places",
            f"{len(running)} workers count windows in different places: {', '.join(places)}",
            "each place lets a whole limit through",
            "AK_GUARD_LIMITS=redis://127.0.0.1:6379/0  # the same for all of them",
        )


def callers(addresses: Sequence[str | None]) -> Iterator[Finding]:
    """Whether all keys were last used from one address that stands for many: that of a proxy, most likely."""
    seen = set(addresses)
    if len(addresses) < _TOO_MANY or len(seen) > 1:
        return
    (address,) = seen
    if address is not None and address in IPSet.private():
        yield Finding(
            Severity.WARNING,
            "one_private_address",
            f"all {len(addresses)} keys that were used came last from {address}",
            "if that is a proxy, lists of addresses and the limit on unknown keys judge the proxy and not its callers",
            f'trusted_proxies = ["{address}"]  # or AK_GUARD_TRUSTED_PROXIES={address}',
        )


def canaries(called: Iterable[tuple[ApiKey, LastUsed]], now: datetime) -> Iterator[Finding]:
    """Keys planted for nobody, which somebody has used."""
    for key, last in called:
        hours = (now - last.at).total_seconds() / 3_600
        yield Finding(
            Severity.ERROR,
            "canary_called",
            f"the canary {key.name} was called {hours:.1f} hours ago from {last.ip}",
            "somebody has read the place where it was planted, and what else stands there",
            f"ak-guard usage {key.id} --since 30d  # and look where it was planted",
        )


def lag(confirmation: Confirmation, now: datetime) -> Iterator[Finding]:
    """Who does not follow."""
    for worker in confirmation.silent:
        seen = (now - worker.seen_at).total_seconds()
        state = f"last reported {seen:.0f} s ago" if worker.silent else f"is {worker.behind} changes behind"
        yield Finding(
            Severity.WARNING,
            "worker_behind",
            f"worker {worker.name} {state}",
            f"it may let in keys that were disabled meanwhile, until {worker.good_until:%H:%M:%S} UTC",
            "ak-guard workers  # and restart it, or see why it cannot reach the database",
        )


def limits_away(problem: str) -> Finding:
    """The storage of windows does not answer."""
    return Finding(
        Severity.ERROR,
        "limits_away",
        problem,
        "keys with limits are answered 503 once what was taken ahead is spent",
        "start it, or correct AK_GUARD_LIMITS",
    )
