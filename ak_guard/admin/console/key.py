"""One key: what stands out, what it did, what is left to it, and what can be done with it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.explained import ask_of, explained
from ak_guard.admin.console.fields import Option
from ak_guard.admin.console.gauges import budget_lines
from ak_guard.admin.console.history import history_of
from ak_guard.admin.console.in_words import route_words
from ak_guard.admin.console.rows import row_of
from ak_guard.admin.console.usage import usage_of
from ak_guard.admin.console.words import stands_out
from ak_guard.canary import is_canary
from ak_guard.errors import BudgetError, ConfigurationError, InputError
from ak_guard.listing import KeyFilter, ListedKey
from ak_guard.usage.anomalies import known_networks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.visit import Visit
    from ak_guard.status import Status
    from ak_guard.usage.anomalies import Anomaly

#: How long an old secret may work on after a rotation.
GRACES: Final = ("", "15m", "1h", "24h", "7d")


async def show(visit: Visit, *, problem: Markup | None = None, at: str = "") -> Response:
    """The whole page. `problem` is what was wrong with a form on it, which stands at `at`."""
    key_id = visit.request.path_params["key_id"]
    listed = await listed_key(visit, key_id)
    key = listed.key
    status = await _status(visit, key_id)
    group = await visit.keys.group_of(key.group)
    ask = ask_of(visit)
    usage = await usage_of(visit, key_id)
    canary = is_canary(key, [group])
    row = row_of(listed, status, visit.tongue, canary=canary)
    return await visit.page(
        "key.html",
        status=422 if problem else 200,
        key=key,
        row=row,
        group=group,
        routes=None if group is None else route_words(group, visit.tongue),
        budgets=budget_lines(status, visit.tongue),
        counters_away=status is None,
        running=status.concurrency.used if status is not None and status.concurrency is not None else None,
        usage=usage,
        words=stands_out(
            row, await _anomalies(visit, key_id), visit.tongue, called=bool(usage and usage.summary.calls)
        ),
        ask=ask,
        explained=await explained(visit, key_id, ask),
        history=await history_of(visit, key_id),
        graces=grace_options(visit),
        once=secrets.token_urlsafe(16),
        problem=problem,
        problem_at=at,
        stored_in=key.metadata.get("stored_in"),
        ours=known_networks(key.metadata),
    )


async def listed_key(visit: Visit, key_id: str) -> ListedKey:
    """A key as it stands in the list; raises `NotFound`."""
    key = await visit.keys.get(key_id)
    page = await visit.keys.page(KeyFilter(ids=(key.id,)), sort="-last_used", limit=1)
    return page.items[0] if page.items else ListedKey(key)


async def _status(visit: Visit, key_id: str) -> Status | None:
    try:
        return await visit.keys.status(key_id)
    except (BudgetError, ConfigurationError):
        return None


async def _anomalies(visit: Visit, key_id: str) -> Sequence[Anomaly]:
    """What is unusual in the last day beside the week before; nothing where no records are kept."""
    try:
        return await visit.keys.anomalies(key_id)
    except ConfigurationError:
        return ()


def grace_options(visit: Visit) -> list[Option]:
    """The graces in words."""
    say = visit.tongue.say
    words = {
        "": say("none"),
        "15m": say("%(n)s min", n=15),
        "1h": say("%(n)s h", n=1),
        "24h": say("%(n)s h", n=24),
        "7d": visit.tongue.count("%(n)s day", "%(n)s days", 7),
    }
    return [Option(grace, words[grace], grace == "1h") for grace in GRACES]


def as_grace(text: str) -> str | None:
    """The grace that was chosen; raises `InputError` for one that is not offered."""
    if text not in GRACES:
        raise InputError("grace", f"{text!r} is none of those offered")
    return text or None
