"""What a key service says, asked with the token of the guard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard.backends.documents import VERSION
from ak_guard.doctor.finding import Finding, Severity
from ak_guard.doctor.store import SKEW

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ak_guard.backends.http.condition import Condition

_UPGRADE: Final = "pip install --upgrade 'ak_guard[http]'"


def unreachable(problem: str) -> Finding:
    """It does not answer."""
    return Finding(
        Severity.ERROR,
        "service_away",
        problem,
        "known keys go on for stale_if_error seconds, then every request is answered 503",
        "ak-guard serve  # where the keys are; or correct AK_GUARD_BACKEND here",
    )


def service(found: Condition | None, *, counts_elsewhere: bool) -> Iterator[Finding]:
    """Who lets whom in, what the service can do, and whose clock is right; None where nobody can say."""
    if found is None:
        return
    if found.open_wire:
        yield Finding(
            Severity.WARNING,
            "open_wire",
            "the service token goes to another machine over plain http://",
            "whoever can listen on the way can ask the service about keys as this app does",
            "export AK_GUARD_BACKEND=https://keys.internal",
        )
    if found.protocol is not None and found.protocol > VERSION:
        yield Finding(
            Severity.ERROR,
            "other_protocol",
            f"the key service speaks version {found.protocol} of the protocol, this guard {VERSION}",
            "keys may have rules there of which this guard knows nothing",
            _UPGRADE,
        )
    if not found.lets_in:
        yield Finding(
            Severity.ERROR,
            "token_refused",
            "the key service does not accept the service token",
            "to the guard it is as if the service were away",
            "export AK_GUARD_SERVICE_TOKEN=…  # one of AK_GUARD_SERVICE_TOKENS where `ak-guard serve` runs",
        )
        return
    if not found.follows:
        yield Finding(
            Severity.WARNING,
            "no_changes",
            "the key service tells of no changes",
            "a key that is disabled there works on here until it is asked about again, after cache_ttl",
            "cache_ttl = 5.0  # or a service that offers /v1/changes and /v1/workers",
        )
    if not found.counts and not counts_elsewhere:
        yield Finding(
            Severity.ERROR,
            "no_counters",
            "the key service counts no budgets",
            "keys with a quota or limits are answered 503",
            "backend = HTTPBackend(url, counters=MemoryStorage())  # counts in each process",
        )
    if found.skew is not None and abs(found.skew) > SKEW:
        yield Finding(
            Severity.WARNING,
            "clock_skew",
            f"the key service's clock is {abs(found.skew):.1f} s {'ahead of' if found.skew > 0 else 'behind'} ours",
            "keys expire by the clock of the app, and windows end by that of the service",
            "timedatectl set-ntp true  # on both machines",
        )
