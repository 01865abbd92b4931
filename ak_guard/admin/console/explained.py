"""The gate line: one request's way through the rules, in the guard's own order, with the margin at each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from ak_guard.admin.console.gauges import length_of
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.reasons import reason
from ak_guard.errors import AkGuardError, InputError
from ak_guard.replies import TABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.explain import Explanation, Rule


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it was typed; `made` is whether anybody asked."""

    ip: str
    method: str
    path: str
    cost: str
    when: str
    made: bool


@dataclass(frozen=True, slots=True)
class Gate:
    """One rule on the way. `kind` is `stop` where it refuses."""

    kind: str
    word: Markup
    text: Markup
    margin: Markup


@dataclass(frozen=True, slots=True)
class Explained:
    """What would become of it, or what was wrong with the question."""

    admitted: bool
    head: Markup
    text: Markup
    status: int | None
    code: str
    gates: Sequence[Gate]
    problem: Markup | None = None


def ask_of(visit: Visit) -> Ask:
    """The request that the query describes."""
    return Ask(
        visit.asked("ip") or (visit.client or ""),
        (visit.asked("method") or "GET").upper()[:16],
        visit.asked("path") or "/",
        visit.asked("cost") or "1",
        visit.asked("at"),
        "path" in visit.request.query_params,
    )


async def explained(visit: Visit, key_id: str, ask: Ask) -> Explained | None:
    """Ask the manager; nothing is charged, cached or recorded."""
    if not ask.made:
        return None
    tongue = visit.tongue
    try:
        cost = int(ask.cost.replace(",", "")) if ask.cost.replace(",", "").isascii() else -1
        at = _moment(ask.when, tongue)
        told = await visit.keys.explain(key_id, ip=ask.ip or None, path=ask.path, method=ask.method, cost=cost, at=at)
    except ValueError as error:
        words = tongue.say("“%(typed)s” is not a whole number of units.", typed=ask.cost[:40])
        if isinstance(error, InputError) and error.field != "cost":
            words = tongue.say("This cannot be read: %(problem)s.", problem=problem_words(error.problem, tongue))
        return Explained(False, words, words, None, "", (), words)
    except AkGuardError:
        words = tongue.say("The counters do not answer.")
        return Explained(False, words, words, None, "", (), words)
    return _verdict(told, tongue)


def _moment(typed: str, tongue: Tongue) -> datetime | None:
    if not typed:
        return None
    try:
        return tongue.read(typed)
    except ValueError:
        raise InputError("at", f"{typed[:40]!r} is no time") from None


def _verdict(told: Explanation, tongue: Tongue) -> Explained:
    gates = [gate_of(rule, tongue) for rule in told.rules]
    if told.admitted:
        return Explained(
            True, tongue.say("It would be let in."), tongue.say("Every rule lets it pass."), None, "", gates
        )
    head = tongue.say("Refused: %(reason)s.", reason=reason(told.code, tongue))
    text = tongue.say("Waiting does not help: it never passes as things stand.")
    if told.passes_at is not None:
        text = tongue.say(
            "The same request passes at %(time)s, in %(span)s, if nothing else is spent.",
            time=tongue.moment(told.passes_at),
            span=tongue.span((told.passes_at - told.at).total_seconds()),
        )
    return Explained(False, head, text, TABLE[told.code].status, told.code, gates)


def gate_of(rule: Rule, tongue: Tongue) -> Gate:
    """One rule in words, with what is needed and what is left where it is about amounts."""
    kind = "" if rule.passed else "stop"
    return Gate(kind, _name(rule.name, tongue), _text(rule, tongue), _margin(rule, tongue))


def _name(name: str, tongue: Tongue) -> Markup:
    words = {
        "state": tongue.say("State"),
        "address": tongue.say("Address"),
        "group and route": tongue.say("Group, route"),
        "quota": tongue.say("Quota"),
        "concurrency": tongue.say("At once"),
    }
    if name in words:
        return words[name]
    seconds = length_of(name)
    if seconds is None:
        return tongue.say("%(name)s", name=name)
    length = tongue.length(seconds)
    return tongue.say("%(length)s, shared", length=length) if name.startswith("shared-") else length


def _text(rule: Rule, tongue: Tongue) -> Markup:
    say = tongue.say
    if rule.name in {"state", "address", "group and route"}:
        passes = {
            "state": say("enabled and not expired"),
            "address": say("no rule is against it"),
            "group and route": say("the group has this route"),
        }
        return passes[rule.name] if rule.code is None else reason(rule.code, tongue)
    if rule.margin is None or not rule.need:
        return say("nothing is needed")
    return say("needs %(need)s of %(left)s left", need=rule.need, left=max(0, int(rule.margin) + rule.need))


def _margin(rule: Rule, tongue: Tongue) -> Markup:
    if rule.margin is None:
        return Markup()
    if rule.name == "state":
        return tongue.say("%(span)s more", span=tongue.span(rule.margin)) if rule.margin > 0 else Markup()
    if rule.margin >= 0:
        return tongue.say("%(n)s to spare", n=int(rule.margin))
    short = tongue.say("%(n)s short", n=-int(rule.margin))
    if rule.passes_at is None:
        return short
    return tongue.listed([short, tongue.say("resets %(time)s", time=tongue.moment(rule.passes_at))])
