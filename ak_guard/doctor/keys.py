"""Keys that ignore good advice: one per project, environments apart, an end for guests, a total, known addresses."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from ak_guard.doctor.finding import Finding, Severity
from ak_guard.records import SUGGESTED_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from ak_guard.records import ApiKey, Group

_SHARED: Final = frozenset({"shared", "common", "general", "team", "all", "everyone", "everybody", "company", "main"})
_GUESTS: Final = frozenset({
    "contractor", "freelancer", "consultant", "intern", "agency", "external", "guest", "temp", "tmp", "temporary",
    "trial", "demo", "event", "hackathon", "workshop", "course", "poc",
})  # fmt: skip
_SERVERS: Final = frozenset({
    "server", "worker", "cron", "batch", "backend", "daemon", "job", "jobs", "scheduler", "vps", "vm", "runner",
})  # fmt: skip
_NAMED_AT_MOST: Final = 5


def advice(
    keys: Sequence[ApiKey], groups: Mapping[str, Group], unpeppered: Collection[str], now: datetime
) -> Iterator[Finding]:
    """What could be better about keys that work at `now`. `unpeppered` are ids of those stored without a pepper."""
    working = [key for key in keys if key.enabled and (key.expires_at is None or key.expires_at > now)]
    yield from _same_names(working)
    yield from _many(
        working,
        lambda key: bool(_words(key) & _SHARED),
        "shared_key",
        "keys that sound as if several projects shared them",
        "one key per project tells whose calls they are, and only one project stops when it leaks",
        lambda key: f"ak-guard keys update {key.id} --name prod-api",
    )
    yield from _many(
        working,
        lambda key: key.environment is None and key.name not in SUGGESTED_NAMES,
        "no_environment",
        "keys whose name does not say for which environment they are",
        "a name such as prod-api or dev-local keeps a key of one environment out of another",
        lambda key: f"ak-guard keys update {key.id} --name {shlex.quote('prod-' + key.name)}",
    )
    yield from _many(
        working,
        lambda key: key.expires_at is None and bool(_words(key) & _GUESTS),
        "no_end",
        "keys that are named like those of contractors or short events, and never expire",
        "such a key is forgotten, and found by somebody else",
        lambda key: f"ak-guard keys update {key.id} --expires-in 14d",
    )
    yield from _many(
        working,
        lambda key: not key.allow_ips and bool(_words(key) & _SERVERS),
        "no_addresses",
        "keys that are named like those of fixed servers, and may be used from everywhere",
        "with a list of addresses a stolen key is of no use elsewhere",
        lambda key: f"ak-guard keys update {key.id} --allow-ip 203.0.113.7",
    )
    yield from _many(
        working,
        lambda key: key.quota is None and _limits(key, groups),
        "no_quota",
        "keys without a quota",
        "where the budget is tight, a quota bounds what one key can cost in all",
        lambda key: f"ak-guard keys update {key.id} --quota 100000",
    )
    yield from _many(
        working,
        lambda key: key.quota is None and not _limits(key, groups),
        "no_limits",
        "keys without a quota and without any limit, of their own or of their group",
        "one fault or one thief can use as much as the service gives",
        lambda key: f"ak-guard keys update {key.id} --limit 1000/5h",
    )
    yield from _many(
        # A generated key shows its prefix.
        [key for key in working if key.id in unpeppered],
        lambda key: key.hint.startswith("…"),
        "custom_without_pepper",
        "keys whose text somebody chose, stored without a pepper",
        "whoever gets hold of the database can try likely texts against it",
        lambda key: f"export AK_GUARD_PEPPER=…  # 32 random characters; then ak-guard keys rotate {key.id}",
        severity=Severity.WARNING,
    )


def _same_names(keys: Sequence[ApiKey]) -> Iterator[Finding]:
    by_name: dict[str, list[ApiKey]] = defaultdict(list)
    for key in keys:
        by_name[key.name.casefold()].append(key)
    for having in by_name.values():
        if len(having) > 1:
            yield Finding(
                Severity.ADVICE,
                "same_name",
                f"{len(having)} keys are named {having[0].name}: {', '.join(key.id for key in having)}",
                "nobody can tell them apart in a hurry, when one of them has leaked",
                f"ak-guard keys update {having[0].id} --name {shlex.quote(having[0].name + '-2')}",
                tuple(key.id for key in having),
            )


def _many(
    keys: Sequence[ApiKey],
    ignores: Callable[[ApiKey], bool],
    code: str,
    what: str,
    why: str,
    mend: Callable[[ApiKey], str],
    *,
    severity: Severity = Severity.ADVICE,
) -> Iterator[Finding]:
    """One finding for all keys of a kind, with the line that mends the first."""
    found = [key for key in keys if ignores(key)]
    if found:
        named = ", ".join(key.name for key in found[:_NAMED_AT_MOST])
        more = f" and {len(found) - _NAMED_AT_MOST} more" if len(found) > _NAMED_AT_MOST else ""
        yield Finding(severity, code, f"{what}: {named}{more}", why, mend(found[0]), tuple(key.id for key in found))


def _words(key: ApiKey) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", key.name.lower()))


def _limits(key: ApiKey, groups: Mapping[str, Group]) -> bool:
    group = groups.get(key.group)
    shared = group is not None and bool(group.shared_limits)
    if key.limits is not None:
        return bool(key.limits) or shared
    # The app itself may define a group that is not stored here.
    return shared or (group is None and key.group != "default") or (group is not None and bool(group.limits))
