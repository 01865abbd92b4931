"""The rules of a key read back in words, with the contradictions that are in them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from ak_guard import documents
from ak_guard.address import IPSet
from ak_guard.canary import CANARY_GROUP, lets_nobody_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.records import Group, Limit


@dataclass(frozen=True, slots=True)
class Sentence:
    """One thing that a key does or, with `warns`, cannot do."""

    icon: str
    words: Markup
    warns: bool = False


@dataclass(frozen=True, slots=True)
class Spoken:
    """What is read back. `limits` None: the group's. `group` None: nobody defined it."""

    group_name: str
    group: Group | None
    allow_ips: tuple[str, ...]
    deny_ips: tuple[str, ...]
    quota: int | None
    limits: tuple[Limit, ...] | None
    expires_at: datetime | None
    ends_chosen: bool = True
    max_concurrency: int | None = None

    @property
    def windows(self) -> tuple[Limit, ...]:
        return self.limits if self.limits is not None else self.group.limits if self.group else ()


def in_words(rules: Spoken, tongue: Tongue) -> list[Sentence]:
    """What this key will do, as the guard reads it, in the guard's order; then what cannot come true."""
    if rules.group_name == CANARY_GROUP and lets_nobody_in([rules.group]):
        words = tongue.say(
            "A canary: every call with it is refused and is an alarm. Plant it where nobody should look."
        )
        return [Sentence("bell", words), *_end(rules, tongue)]
    return [
        *_group(rules, tongue),
        *_addresses(rules, tongue),
        *_budgets(rules, tongue),
        *_end(rules, tongue),
        *contradictions(rules, tongue),
    ]


def limit_words(limit: Limit, tongue: Tongue) -> Markup:
    """`200 units in any 5 h counted from the first call`, `500 requests a calendar day (Europe/Berlin)`."""
    if limit.unit == "requests":
        amount = tongue.count("%(n)s request", "%(n)s requests", limit.amount)
    else:
        amount = tongue.count("%(n)s unit", "%(n)s units", limit.amount)
    length = tongue.length(limit.seconds)
    if limit.anchor == "calendar":
        text = "%(amount)s in %(length)s by the calendar (%(zone)s)"
        # say("%(amount)s in %(length)s by the calendar (%(zone)s)")
        return tongue.say(text, amount=amount, length=length, zone=limit.zone)
    if limit.anchor == "sliding":
        return tongue.say("%(amount)s in any %(length)s", amount=amount, length=length)
    return tongue.say("%(amount)s in %(length)s from the first call", amount=amount, length=length)


def route_words(group: Group, tongue: Tongue) -> Markup:
    """The routes of a group, or that it has all."""
    if not group.routes or "*" in group.routes:
        return tongue.say("every route")
    return tongue.listed(group.routes)


def _group(rules: Spoken, tongue: Tongue) -> Iterator[Sentence]:
    group = rules.group
    if group is None:
        words = tongue.say(
            "No group named %(name)s is stored. Calls are refused unless the app defines it.", name=rules.group_name
        )
        yield Sentence("alert", words, warns=True)
        return
    if not group.enabled:
        words = tongue.say("Group %(name)s is disabled, so every call is refused.", name=group.name)
        yield Sentence("alert", words, warns=True)
    if not group.routes or "*" in group.routes:
        yield Sentence("gate", tongue.say("May call every route."))
    else:
        yield Sentence("gate", tongue.say("May call %(routes)s, nothing else.", routes=tongue.listed(group.routes)))
    if group.multiplier != 1:
        words = tongue.say("Each unit of cost counts %(times)s times.", times=documents.multiplier(group.multiplier))
        yield Sentence("gauge", words)


def _addresses(rules: Spoken, tongue: Tongue) -> Iterator[Sentence]:
    if rules.allow_ips:
        yield Sentence("shield", tongue.say("Only from %(list)s.", list=tongue.listed(_some(rules.allow_ips, tongue))))
    elif not rules.deny_ips:
        yield Sentence("shield", tongue.say("From any address."))
    if rules.deny_ips:
        yield Sentence("shield", tongue.say("Never from %(list)s.", list=tongue.listed(_some(rules.deny_ips, tongue))))


def _some(entries: Sequence[str], tongue: Tongue) -> list[object]:
    shown: list[object] = list(entries[:4])
    return shown if len(entries) <= 4 else [*shown, tongue.say("and %(n)s more", n=len(entries) - 4)]


def _budgets(rules: Spoken, tongue: Tongue) -> Iterator[Sentence]:
    windows = rules.windows
    if windows:
        listed = tongue.listed(limit_words(limit, tongue) for limit in windows)
        text = tongue.say("At most %(list)s.", list=listed)
        if rules.limits is None:
            text = tongue.say("At most %(list)s: the windows of the group.", list=listed)
        yield Sentence("gauge", text)
    else:
        yield Sentence("gauge", tongue.say("No windows: it may spend as fast as it can."))
    if rules.group is not None and rules.group.shared_limits:
        listed = tongue.listed(limit_words(limit, tongue) for limit in rules.group.shared_limits)
        yield Sentence("gauge", tongue.say("All keys of the group together: %(list)s.", list=listed))
    if rules.max_concurrency is not None:
        words = tongue.count(
            "At most %(n)s request runs at once.", "At most %(n)s requests run at once.", rules.max_concurrency
        )
        yield Sentence("gauge", words)
    if rules.quota is None:
        yield Sentence("full", tongue.say("No quota: it never runs out."))
    elif rules.quota:
        yield Sentence(
            "full", tongue.count("Stops after %(n)s unit in all.", "Stops after %(n)s units in all.", rules.quota)
        )


def _end(rules: Spoken, tongue: Tongue) -> Iterator[Sentence]:
    if rules.expires_at is not None:
        yield Sentence("clock", tongue.say("Ends by itself: %(moment)s.", moment=tongue.moment(rules.expires_at)))
    elif rules.ends_chosen:
        yield Sentence("clock", tongue.say("Never ends by itself."))
    else:
        yield Sentence("alert", tongue.say("When it ends is not chosen yet."), warns=True)


def contradictions(rules: Spoken, tongue: Tongue) -> Iterator[Sentence]:
    """What can never come true, and rules that no request can pass."""
    if rules.quota == 0:
        yield _warning(tongue.say("A quota of 0 refuses every call that costs anything."))
    if nobody_may_call(rules.allow_ips, rules.deny_ips):
        yield _warning(tongue.say("No address may call: each allowed one is denied too, and deny wins."))
    units = sorted((limit for limit in rules.windows if limit.unit == "units"), key=lambda limit: limit.seconds)
    for shorter, longer in pairwise(units):
        if longer.amount > shorter.amount * -(-longer.seconds // shorter.seconds):
            words = tongue.say(
                "The window of %(longer)s can never fill: "
                "%(shorter)s lets no more than %(most)s units through in that time.",
                longer=tongue.length(longer.seconds),
                shorter=tongue.say("that of %(length)s", length=tongue.length(shorter.seconds)),
                most=shorter.amount * -(-longer.seconds // shorter.seconds),
            )
            yield _warning(words)
        elif shorter.amount > longer.amount:
            words = tongue.say(
                "The window of %(shorter)s can never fill: that of %(longer)s ends at %(amount)s units.",
                shorter=tongue.length(shorter.seconds),
                longer=tongue.length(longer.seconds),
                amount=longer.amount,
            )
            yield _warning(words)
    most = reachable(rules, tongue.now)
    if rules.quota is not None and most is not None and rules.quota > most and rules.expires_at is not None:
        words = tongue.say(
            "That quota can never be reached: no more than %(most)s units fit into %(life)s of these windows.",
            most=most,
            life=tongue.span((rules.expires_at - tongue.now).total_seconds()),
        )
        yield _warning(words)


def reachable(rules: Spoken, now: datetime) -> int | None:
    """How many units fit into the life of a key at most, None where nothing bounds them."""
    if rules.expires_at is None:
        return None
    life = max(0.0, (rules.expires_at - now).total_seconds())
    # A window that begins with the first call is met once more than it fits: it may be open at the end. A calendar
    # window may also be open at the beginning.
    bounds = [
        limit.amount * (int(-(-life // limit.seconds)) + (1 if limit.anchor != "first-use" else 0))
        for limit in rules.windows
        if limit.unit == "units"
    ]
    return min(bounds, default=None)


def nobody_may_call(allow: tuple[str, ...], deny: tuple[str, ...]) -> bool:
    """Whether each network that is allowed lies within those that are denied."""
    if not allow or not deny:
        return False
    denied = IPSet(deny)
    return IPSet((*allow, *deny)) == denied


def _warning(words: Markup) -> Sentence:
    return Sentence("alert", words, warns=True)
