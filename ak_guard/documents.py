"""The shapes of `--json` and of the admin API. They only ever grow; a secret stands in `issued` and nowhere else."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

from ak_guard.listing import states_of
from ak_guard.notation import iso

if TYPE_CHECKING:
    from datetime import datetime

    from ak_guard.audit import AuditEntry
    from ak_guard.backends.workers import Confirmation, Worker
    from ak_guard.explain import Explanation
    from ak_guard.listing import KeyCounts, ListedKey, State
    from ak_guard.manager import Issued
    from ak_guard.records import ApiKey, Group
    from ak_guard.status import Status
    from ak_guard.tokens import AdminToken
    from ak_guard.usage import Anomaly, LastUsed, Place, UsageRecord, UsageSummary


def state(key: ApiKey, now: datetime) -> State:
    """The state in one word: `active`, `disabled` or `expired`, in the order in which a guard would refuse."""
    return states_of(key, now.timestamp())[0]


def key(key: ApiKey, now: datetime) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "environment": key.environment,
        "state": state(key, now),
        "group": key.group,
        "enabled": key.enabled,
        "created_at": iso(key.created_at),
        "updated_at": iso(key.updated_at),
        "expires_at": iso(key.expires_at),
        "allow_ips": list(key.allow_ips),
        "deny_ips": list(key.deny_ips),
        "quota": key.quota,
        "limits": None if key.limits is None else [str(limit) for limit in key.limits],
        "max_concurrency": key.max_concurrency,
        "owner": key.owner,
        "metadata": dict(key.metadata),
        "hint": key.hint,
        "replaces": key.replaces,
        "replaced_by": key.replaced_by,
    }


def issued(made: Issued, now: datetime) -> dict[str, Any]:
    return {"secret": made.secret, "key": key(made.key, now)}


def listed(found: ListedKey, now: datetime, *, new_network: bool) -> dict[str, Any]:
    """A key as it stands in a list; `new_network` says whether its last call came from one that is new to it."""
    return {
        **key(found.key, now),
        "last_used_at": iso(found.last_used_at),
        "last_used_ip": found.last_used_ip,
        "old_secret_until": iso(found.old_secret_until),
        "new_network": new_network,
    }


def counts(found: KeyCounts) -> dict[str, Any]:
    return asdict(found)


def status(found: Status) -> dict[str, Any]:
    return found.as_json()


def explanation(found: Explanation, now: datetime) -> dict[str, Any]:
    return {
        "admitted": found.admitted,
        "code": found.code,
        "at": iso(found.at),
        "passes_at": iso(found.passes_at),
        "rules": [
            {
                "name": rule.name,
                "passed": rule.passed,
                "code": rule.code,
                "detail": rule.detail,
                "margin": rule.margin,
                "need": rule.need,
                "passes_at": iso(rule.passes_at),
            }
            for rule in found.rules
        ],
        "key": key(found.key, now),
    }


def group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "enabled": group.enabled,
        "routes": list(group.routes),
        "limits": [str(limit) for limit in group.limits],
        "shared_limits": [str(limit) for limit in group.shared_limits],
        "multiplier": multiplier(group.multiplier),
    }


def admin_token(token: AdminToken, now: datetime) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "role": token.role,
        "state": "expired" if token.expires_at is not None and now >= token.expires_at else "active",
        "hint": token.hint,
        "created_at": iso(token.created_at),
        "expires_at": iso(token.expires_at),
    }


def anomaly(found: Anomaly) -> dict[str, Any]:
    return {**asdict(found), "at": iso(found.at), "text": found.text}


def usage(found: UsageSummary) -> dict[str, Any]:
    return {
        "since": iso(found.since),
        "until": iso(found.until),
        "calls": found.calls,
        "refused": found.refused,
        "cost": found.cost,
        "by_code": dict(found.by_code),
        "buckets": [
            {
                "start": iso(bucket.start),
                "calls": bucket.calls,
                "refused": bucket.refused,
                "cost": bucket.cost,
                "by_code": dict(bucket.by_code),
            }
            for bucket in found.buckets
        ],
        "addresses": [_place(place) for place in found.addresses],
        "routes": [_place(place) for place in found.routes],
    }


def _place(place: Place) -> dict[str, Any]:
    return {
        "name": place.name,
        "calls": place.calls,
        "refused": place.refused,
        "cost": place.cost,
        "first": iso(place.first),
        "last": iso(place.last),
    }


def record(one: UsageRecord) -> dict[str, Any]:
    return {**one._asdict(), "at": iso(one.moment)}


def last_used(found: LastUsed) -> dict[str, Any]:
    return {"at": iso(found.at), "ip": found.ip}


def audit_entry(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": iso(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "key_id": entry.key_id,
        "subject": entry.subject,
        "before": dict(entry.before),
        "after": dict(entry.after),
    }


AUDIT_COLUMNS: Final = ("id", "at", "actor", "action", "key_id", "subject", "before", "after")


def audit_cells(entry: AuditEntry) -> list[Any]:
    """A row for spreadsheets. A text that one would take for a formula gets an apostrophe before it."""
    document = audit_entry(entry)
    return [_cell(document[column]) for column in AUDIT_COLUMNS]


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if formula else value


def worker(found: Worker) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.name,
        "silent": found.silent,
        "revision": found.revision,
        "behind": found.behind,
        "started_at": iso(found.started_at),
        "seen_at": iso(found.seen_at),
        "good_until": iso(found.good_until),
        "counters": list(found.counters),
    }


def confirmation(found: Confirmation) -> dict[str, Any]:
    return {
        "complete": found.complete,
        "seconds": round(found.seconds, 3),
        "workers": list(found.workers),
        "silent": [worker(silent) for silent in found.silent],
    }


def multiplier(value: Fraction) -> str:
    """`2`, `0.5`, and `1/3` where no decimal is exact."""
    text = f"{float(value):.15g}"
    return text if Fraction(text) == value else str(value)
