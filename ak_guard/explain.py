"""What would become of a request: every rule in the guard's order, its margin, and when the request would pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ak_guard.address import IPSet, parse_address
from ak_guard.budgets.gate import CONCURRENCY
from ak_guard.checks import GroupRules, KeyRules, ServiceRules, check_address, check_group, check_state
from ak_guard.paths import Route
from ak_guard.records import ADMITTED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ak_guard.budgets.base import Level
    from ak_guard.budgets.ledger import Budget
    from ak_guard.budgets.windows import Window
    from ak_guard.records import ApiKey, Denial, Group


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `code` is that of the refusal, None where it passes.

    `margin` is what is left once the request has passed: seconds for the expiry, units or requests for budgets; None
    where the rule has no number. `passes_at` is when a rule that refuses now would let the request pass, None: never.
    `need` is what the request takes of a budget, None for rules that are no budget.
    """

    name: str
    passed: bool
    code: str | None
    detail: str
    margin: float | None = None
    passes_at: datetime | None = None
    need: int | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """`code` is `admitted` or that of the first rule that refuses; `passes_at` is when the whole request would pass."""

    key: ApiKey
    at: datetime
    code: str
    rules: tuple[Rule, ...]
    passes_at: datetime | None

    @property
    def admitted(self) -> bool:
        return self.code == ADMITTED


def explain(
    key: ApiKey,
    group: Group | None,
    budget: Budget,
    levels: Sequence[Level],
    running: int,
    *,
    secret_until: float | None,
    ip: str | None,
    path: str,
    method: str,
    cost: int,
    now: float,
) -> Explanation:
    """Judge a request that is not there. `levels` are those of the budget at `now`, in seconds since the epoch.

    `running` is how many requests of the key run, which nobody knows of another time than the present.
    """
    rules = KeyRules(key, secret_until)
    group_rules = GroupRules(key.group, group, ServiceRules(IPSet(), IPSet()))
    client = None if ip is None else parse_address(ip)
    budgets = _budget_rules(budget, levels, budget.charged(cost), now)
    if group is None:
        group_rule = Rule("group and route", False, "group_not_allowed", _NOT_STORED.format(key.group))
    else:
        group_rule = _rule(
            "group and route",
            check_group(group_rules, Route(method, path)),
            f"group {key.group!r} allows {method} {path}",
        )
    found = (
        _state_rule(rules, now),
        _rule("address", check_address(rules, client), _address_detail(key, ip)),
        group_rule,
        *budgets,
        *_concurrency_rule(budget, running, now),
    )
    refusing = [rule for rule in found if not rule.passed]
    if not refusing:
        return Explanation(key, _datetime(now), ADMITTED, found, _datetime(now))
    first = min(refusing, key=lambda rule: _BUDGET_ORDER.get(rule.code or "", -1))
    waits = [rule.passes_at for rule in refusing]
    passes_at = None if None in waits else max(moment for moment in waits if moment is not None)
    if passes_at is not None and passes_at.timestamp() >= min(rules.expires_at, rules.secret_until):
        passes_at = None
    return Explanation(key, _datetime(now), first.code or "", found, passes_at)


_NOT_STORED: Final = (
    "no group named {!r} is stored here; a service that defines it in its code may let the key in, "
    "with limits of its own"
)

# Among budgets the guard names what can never pass first, then the quota, then windows, then the cap.
_BUDGET_ORDER = {
    "cost_exceeds_limit": 1,
    "insufficient_quota": 2,
    "rate_limit_exceeded": 3,
    "concurrency_limit_exceeded": 4,
}


def _rule(name: str, denial: Denial | None, fine: str) -> Rule:
    return Rule(name, denial is None, denial.code if denial else None, denial.detail if denial else fine)


def _state_rule(rules: KeyRules, now: float) -> Rule:
    until = min(rules.expires_at, rules.secret_until)
    margin = None if math.isinf(until) else until - now
    detail = "enabled, never expires" if margin is None else f"enabled, good until {_datetime(until).isoformat()}"
    rule = _rule("state", check_state(rules, now), detail)
    return Rule(rule.name, rule.passed, rule.code, rule.detail, margin)


def _address_detail(key: ApiKey, ip: str | None) -> str:
    if not key.allow_ips and not key.deny_ips:
        return "no address rules"
    return f"{ip} is allowed"


def _budget_rules(budget: Budget, levels: Sequence[Level], charged: int, now: float) -> Iterator[Rule]:
    for window, level in zip(budget.shown, levels, strict=True):
        need = charged if window.unit == "units" else min(1, charged)
        left = window.amount - level.used - need
        code, passes_at = _verdict(window, level, need, now)
        detail = f"{max(0, window.amount - level.used)} of {window.amount} {window.unit} left, {need} wanted"
        yield Rule(window.name, code is None, code, detail, left, passes_at, need)


def _verdict(window: Window, level: Level, need: int, now: float) -> tuple[str | None, datetime | None]:
    if not need or level.used + need <= window.amount:
        return None, _datetime(now)
    if window.slot == "quota":
        return "insufficient_quota", None
    if need > window.amount:
        return "cost_exceeds_limit", None
    return "rate_limit_exceeded", None if level.end is None else _datetime(level.end)


def _concurrency_rule(budget: Budget, running: int, now: float) -> Iterator[Rule]:
    if budget.gate is None:
        return
    limit = budget.gate.limit
    left = limit - running - 1
    code, wait = (None, 0) if left >= 0 else ("concurrency_limit_exceeded", 1)
    detail = f"{running} of {limit} requests at a time run now"
    # When one of them ends is not known; this is when a refused caller is told to try again.
    yield Rule(CONCURRENCY, code is None, code, detail, left, _datetime(now + wait), 1)


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
