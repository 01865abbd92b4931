"""What stands out about a key, with the usual beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from markupsafe import Markup

    from ak_guard.admin.console.rows import Row
    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.usage.anomalies import Anomaly


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing: its head, the sentence, and how grave it is (`warn`, `bad`, `good`).

    `leak` offers what to do, `network` to say that it is the caller's own.
    """

    kind: str
    icon: str
    head: Markup
    text: Markup
    leak: bool = False
    network: str = ""


def stands_out(row: Row, anomalies: Sequence[Anomaly], tongue: Tongue, *, called: bool) -> list[Finding]:
    """Unusual things first; where there are none, that is said. `called` is whether there were any calls."""
    say = tongue.say
    if row.canary:
        return [_canary(row, tongue)]
    found = [*_ending(row, tongue), *(finding_of(anomaly, tongue) for anomaly in anomalies)]
    if found:
        return found
    if not called:
        return [Finding("good", "check", say("Nothing to tell."), say("No calls in this time."))]
    return [Finding("good", "check", say("As usual."), say("Addresses, cost and refusals are as usual."))]


def _canary(row: Row, tongue: Tongue) -> Finding:
    say = tongue.say
    if row.address is None:
        text = say("Nobody has called with it. Any call is refused and told here and on top of the list.")
        return Finding("good", "bell", say("A silent canary."), text)
    text = say(
        "It was called %(ago)s from <code>%(ip)s</code> and refused. Nobody should have it: whoever called has read "
        "what it was planted in.",
        ago=row.used,
        ip=row.address,
    )
    return Finding("bad", "bell", say("A canary was called."), text)


def finding_of(anomaly: Anomaly, tongue: Tongue) -> Finding:
    """One anomaly in words, with the usual beside it."""
    say = tongue.say
    match anomaly.kind:
        case "new_network":
            text = say(
                "Since %(moment)s it is called from %(network)s, where it never came from: "
                "%(calls)s calls, %(cost)s units. It usually comes from %(usual)s.",
                moment=tongue.moment(anomaly.at),
                network=anomaly.subject,
                calls=anomaly.calls,
                cost=anomaly.cost,
                usual=tongue.count("%(n)s network", "%(n)s networks", round(anomaly.usual)),
            )
            return Finding("warn", "alert", say("A new network."), text, leak=True, network=anomaly.subject)
        case "velocity":
            text = say(
                "%(n)s units in the hour from %(time)s; %(usual)s is usual.",
                n=round(anomaly.seen),
                time=tongue.moment(anomaly.at),
                usual=round(anomaly.usual),
            )
            return Finding("warn", "gauge", say("Faster than usual."), text, leak=True)
        case "spread":
            text = say(
                "Calls from %(n)s addresses; %(usual)s is usual.", n=round(anomaly.seen), usual=round(anomaly.usual)
            )
            return Finding("warn", "alert", say("From more addresses than usual."), text, leak=True)
    text = say(
        "%(n)s%% of %(calls)s calls were refused; %(usual)s%% is usual.",
        n=round(100 * anomaly.seen),
        calls=anomaly.calls,
        usual=round(100 * anomaly.usual),
    )
    return Finding("warn", "ban", say("More refusals than usual."), text)


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
