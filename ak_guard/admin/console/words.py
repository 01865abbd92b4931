"""What stands out about a key, with the usual beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markupsafe import Markup

    from ak_guard.admin.console.rows import Row
    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.usage import Usage

#: So many times the usual is unusual, from so many units or refusals on.
TIMES: Final = 3
LEAST: Final = 20
#: So many addresses are named.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: its head, the sentence, and how grave it is (`warn`, `bad`, `good`). `leak` offers what to do."""

    kind: str
    icon: str
    head: Markup
    text: Markup
    leak: bool = False


def stands_out(row: Row, usage: Usage | None, tongue: Tongue) -> list[Finding]:
    """Unusual things first; where there are none, that is said."""
    found = [*_ending(row, tongue), *(_usage(usage, tongue) if usage else ())]
    if found:
        return found
    say = tongue.say
    if usage is None or not usage.summary.calls:
        return [Finding("good", "check", say("Nothing to tell."), say("No calls in this time."))]
    return [Finding("good", "check", say("As usual."), say("Addresses, cost and refusals are as usual."))]


def _ending(row: Row, tongue: Tongue) -> Iterator[Finding]:
    if row.soon and row.key.expires_at is not None:
        text = tongue.say(
            "It ends in %(span)s, on %(moment)s.",
            span=tongue.until(row.key.expires_at),
            moment=tongue.moment(row.key.expires_at),
        )
        yield Finding("warn", "clock", tongue.say("Ends soon."), text)
    if row.gauges.quota is not None and row.gauges.quota.level == "full" and row.edge != "off":
        text = tongue.say("Every call is refused until the quota is raised or reset.")
        yield Finding("bad", "full", tongue.say("Quota used up."), text)


def _usage(usage: Usage, tongue: Tongue) -> Iterator[Finding]:
    new = usage.new_addresses
    if new:
        names = tongue.listed([place.name for place in new[:_NAMED]])
        text = tongue.say(
            "Since %(moment)s it is called from %(names)s, never seen before: %(n)s of %(all)s calls in this time.",
            moment=tongue.moment(min(place.first for place in new)),
            names=names,
            n=sum(place.calls for place in new),
            all=usage.summary.calls,
        )
        yield Finding("warn", "alert", tongue.say("A new address."), text, leak=True)
    hours = usage.summary.buckets
    if len(hours) < 3:
        return
    before = hours[:-1]
    usual_cost = sum(hour.cost for hour in before) // len(before)
    # A key that was never used before has no usual.
    if not any(hour.calls for hour in before):
        return
    if hours[-1].cost >= LEAST and hours[-1].cost > TIMES * usual_cost:
        text = tongue.say("%(n)s units in this hour; %(usual)s is usual.", n=hours[-1].cost, usual=usual_cost)
        yield Finding("warn", "gauge", tongue.say("Faster than usual."), text)
    usual_refused = sum(hour.refused for hour in before) // len(before)
    if hours[-1].refused >= LEAST and hours[-1].refused > TIMES * usual_refused:
        text = tongue.say(
            "%(n)s calls were refused in this hour; %(usual)s is usual.", n=hours[-1].refused, usual=usual_refused
        )
        yield Finding("warn", "ban", tongue.say("More refusals than usual."), text)
