"""Keys, groups and explanations as tables for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from ak_guard import documents
from ak_guard.cli import words
from ak_guard.notation import stamp
from ak_guard.records import DEFAULT_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rich.console import RenderableType

    from ak_guard.backends.workers import Worker
    from ak_guard.explain import Explanation, Rule
    from ak_guard.listing import ListedKey
    from ak_guard.records import ApiKey, Group, Limit
    from ak_guard.status import BudgetStatus, Status
    from ak_guard.tokens import AdminToken

_STATE_STYLES: Final = {"active": "green", "disabled": "red", "expired": "yellow"}
_BADGE_STYLES: Final = {
    "production": "bold white on red",
    "staging": "black on yellow",
    "development": "black on green",
    "test": "black on cyan",
}


def key_list(
    rows: Iterable[tuple[ApiKey, Status | None]], now: datetime, uses: Mapping[str, Text] | None = None
) -> Table:
    """`uses` is what to say of each key's last use, by id; without it there is no such column."""
    table = new_table("Name", "State", "Group", "Expires", "Quota", "Windows", *(["Last used"] if uses else []))
    table.columns[0].no_wrap = True
    for key, status in rows:
        table.add_row(
            Text("\n").join([name_of(key), Text(key.id, style="dim"), Text(key.hint, style="dim")]),
            _state(key, now),
            Text(key.group),
            Text(_expiry(key, now)),
            Text(_quota(key, status)),
            Text(_windows(key, status, now)),
            *([uses[key.id]] if uses else []),
        )
    return table


def last_use(listed: ListedKey, now: datetime, *, strayed: bool) -> Text:
    """When and from where; `strayed` says that the network was new to the key."""
    if listed.last_used_at is None:
        return Text("never", style="dim")
    lines = [Text(words.distance(listed.last_used_at, now)), Text(listed.last_used_ip or "")]
    return Text("\n").join([*lines, *([Text("new network", style="bold yellow")] if strayed else [])])


def key_rules(key: ApiKey, now: datetime) -> Table:
    table = _pairs()
    for field, value in (
        ("name", name_of(key)),
        ("id", Text(key.id)),
        ("hint", Text(key.hint)),
        ("state", _state(key, now)),
        ("group", Text(key.group)),
        ("owner", Text(key.owner or "none")),
        ("expires", Text(_long_expiry(key, now))),
        ("allowed addresses", Text(", ".join(key.allow_ips) or "all")),
        ("denied addresses", Text(", ".join(key.deny_ips) or "none")),
        ("quota", Text("none" if key.quota is None else f"{key.quota} units")),
        ("limits", Text(f"those of group {key.group}" if key.limits is None else _limits(key.limits))),
        ("requests at once", Text("any number" if key.max_concurrency is None else f"at most {key.max_concurrency}")),
        ("metadata", Text(", ".join(_entry(*entry) for entry in key.metadata.items()) or "none")),
        *([("replaces", Text(key.replaces))] if key.replaces else []),
        *([("replaced by", Text(key.replaced_by))] if key.replaced_by else []),
        ("created", Text(stamp(key.created_at) if key.created_at else "unknown")),
        ("updated", Text(stamp(key.updated_at) if key.updated_at else "unknown")),
    ):
        table.add_row(Text(field, style="dim"), value)
    return table


def budgets(status: Status, now: datetime, *, unknown_group: str | None) -> Iterator[RenderableType]:
    """What is used of everything that can run out, as far as this store knows it."""
    rows = [*([status.quota] if status.quota else []), *status.windows]
    if rows:
        yield _budget_table(rows, now)
    if (running := status.concurrency) is not None:
        style = "red" if running.remaining == 0 else ""
        yield Text(f"{running.used} of {running.limit} requests that may run at once run now.", style=style)
    if unknown_group is not None:
        yield Text(f"The limits of group {unknown_group!r} are not stored here; the app may define it.")
    elif not rows and running is None:
        yield Text("No quota and no windows: this key is not limited.")


def _budget_table(rows: Iterable[BudgetStatus], now: datetime) -> Table:
    table = new_table("Budget", "Used/limit", "Left", "Held", "Resets")
    for budget in rows:
        unit = "" if budget.unit == "units" else f" {budget.unit}"
        table.add_row(
            Text(budget.name),
            Text(f"{budget.used}/{budget.limit}{unit}", style="red" if budget.remaining == 0 else ""),
            Text(str(budget.remaining)),
            Text(str(budget.held)),
            Text(_reset(budget, now)),
        )
    return table


def explanation(found: Explanation) -> Sequence[RenderableType]:
    table = new_table("Rule", "Result", "Detail", "Margin", "Would pass")
    for rule in found.rules:
        result = Text("pass", style="green") if rule.passed else Text(f"refuse: {rule.code}", style="red")
        table.add_row(Text(rule.name), result, Text(rule.detail), Text(_margin(rule)), Text(_passes(rule, found.at)))
    if found.admitted:
        verdict = Text("The request would be admitted.", style="bold green")
    else:
        when = (
            "waiting does not help" if found.passes_at is None else f"it would pass {_when(found.passes_at, found.at)}"
        )
        verdict = Text(f"The request would be refused with {found.code}; {when}.", style="bold red")
    return (Text.assemble("key ", name_of(found.key), f" {found.key.id} at {stamp(found.at)}"), table, verdict)


def worker_list(workers: Iterable[Worker], now: datetime) -> Table:
    table = new_table("Worker", "State", "Last seen", "Revision", "Changes behind", "Counts windows", "Running since")
    for worker in workers:
        table.add_row(
            Text(worker.name, style="bold"),
            Text("silent", style="red") if worker.silent else Text("follows", style="green"),
            Text(words.distance(worker.seen_at, now)),
            Text(str(worker.revision)),
            Text(str(worker.behind)),
            Text("\n".join(worker.counters) or "unknown"),
            Text(stamp(worker.started_at)),
        )
    return table


def token_list(tokens: Iterable[AdminToken], now: datetime) -> Table:
    table = new_table("Name", "Role", "Expires", "Created", "Id")
    for token in tokens:
        ends = "never" if token.expires_at is None else words.distance(token.expires_at, now)
        over = token.expires_at is not None and token.expires_at <= now
        table.add_row(
            Text.assemble((token.name, "bold"), f"\n{token.hint}"),
            Text(token.role),
            Text(ends, style="yellow" if over else ""),
            Text(stamp(token.created_at)),
            Text(token.id, style="dim"),
        )
    return table


def group_list(groups: Iterable[Group]) -> Table:
    table = new_table("Group", "State", "Routes", "Limits of each key", "Shared limits", "Multiplier")
    for group in groups:
        table.add_row(*_group_cells(group))
    return table


def group_rules(group: Group) -> Table:
    table = _pairs()
    fields = ("name", "state", "routes", "limits of each key", "shared limits", "multiplier")
    for field, value in zip(fields, _group_cells(group), strict=True):
        table.add_row(Text(field, style="dim"), value)
    return table


def _group_cells(group: Group) -> tuple[Text, ...]:
    return (
        Text(group.name, style="bold"),
        Text("enabled", style="green") if group.enabled else Text("disabled", style="red"),
        Text("\n".join(group.routes) or "all"),
        Text(_limits(group.limits)),
        Text(_limits(group.shared_limits)),
        Text(documents.multiplier(group.multiplier)),
    )


def new_table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _pairs() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def name_of(key: ApiKey) -> Text:
    name = Text(key.name, style="bold")
    if key.environment is None:
        return name
    return Text.assemble(name, " ", (f"[{key.environment}]", _BADGE_STYLES[key.environment]))


def _state(key: ApiKey, now: datetime) -> Text:
    state = documents.state(key, now)
    return Text(state, style=_STATE_STYLES[state])


def _entry(name: str, value: object) -> str:
    """One entry of the metadata. Programs write these too: what would move a cursor is shown as its escape."""
    text = f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
    return text if text.isprintable() else json.dumps(text)


def _expiry(key: ApiKey, now: datetime) -> str:
    return "never" if key.expires_at is None else words.distance(key.expires_at, now)


def _long_expiry(key: ApiKey, now: datetime) -> str:
    return "never" if key.expires_at is None else f"{_expiry(key, now)} ({stamp(key.expires_at)})"


def _limits(limits: Iterable[Limit]) -> str:
    return ", ".join(str(limit) for limit in limits) or "none"


def _quota(key: ApiKey, status: Status | None) -> str:
    if status is not None and status.quota is not None:
        return f"{status.quota.used}/{status.quota.limit}"
    return "none" if key.quota is None else str(key.quota)


def _windows(key: ApiKey, status: Status | None, now: datetime) -> str:
    if status is None:
        return f"group {key.group}" if key.limits is None else _limits(key.limits)
    lines = []
    for window in status.windows:
        reset = "" if window.resets_at is None else f", resets {words.distance(window.resets_at, now)}"
        lines.append(f"{window.name} {window.used}/{window.limit}{reset}")
    if not lines and key.limits is None and key.group != DEFAULT_GROUP:
        # The app may define a group that is not stored here.
        return f"group {key.group}"
    return "\n".join(lines) or "none"


def _reset(budget: BudgetStatus, now: datetime) -> str:
    if budget.resets_at is None:
        return "never by itself" if budget.name == "quota" else "not started"
    return _when(budget.resets_at, now)


def _when(moment: datetime, now: datetime) -> str:
    return f"{words.distance(moment, now)} ({stamp(moment)})"


def _margin(rule: Rule) -> str:
    if rule.margin is None:
        return ""
    # Only the state has a margin of time.
    return words.span(rule.margin) if rule.name == "state" else f"{rule.margin:g}"


def _passes(rule: Rule, at: datetime) -> str:
    if rule.passed:
        return "now"
    return "never by waiting" if rule.passes_at is None else _when(rule.passes_at, at)
