"""The form of a key as a page shows it: choices with what is chosen, rows of windows, problems at their fields."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from markupsafe import escape

from ak_guard import custom_keys
from ak_guard.address import IPSet, parse_address
from ak_guard.admin.console.draft import EXPIRIES, WindowText, spare
from ak_guard.admin.console.in_words import Spoken, in_words, limit_words, route_words
from ak_guard.admin.console.rows import tag_of
from ak_guard.canary import CANARY_GROUP, lets_nobody_in
from ak_guard.notation import parse_duration
from ak_guard.records import DEFAULT_GROUP, SUGGESTED_NAMES, ApiKey, Group

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup

    from ak_guard.admin.console.draft import Draft, Problem, Rules
    from ak_guard.admin.console.in_words import Sentence
    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit


@dataclass(frozen=True, slots=True)
class Option:
    value: str
    word: Markup
    chosen: bool
    about: str = ""


@dataclass(frozen=True, slots=True)
class Fields:
    """Everything that the form needs beside what was typed."""

    draft: Draft
    problems: Sequence[Problem]
    groups: list[Option]
    group_says: Markup
    endings: list[Option]
    ends_says: Markup | None
    windows: list[WindowText]
    units: list[Option]
    anchors: list[Option]
    other_anchor: Callable[[str], Markup]
    tag: str
    names: tuple[str, ...]
    least_key_length: int
    allow_says: Markup | None
    words: list[Sentence]

    def problem(self, field: str) -> Problem | None:
        return next((problem for problem in self.problems if problem.field == field), None)

    def anchors_for(self, row: WindowText) -> list[Option]:
        """The ways a window may begin, with whatever this row says already."""
        known = [option.value for option in self.anchors]
        extra = [] if row.anchor in known else [Option(row.anchor, self.other_anchor(row.anchor), False)]
        return [Option(it.value, it.word, it.value == row.anchor) for it in (*self.anchors, *extra)]


async def fields_of(visit: Visit, draft: Draft, rules: Rules, problems: Sequence[Problem] = ()) -> Fields:
    """The form for this draft. `problems` are shown at their fields; empty where nobody asked for them yet."""
    tongue = visit.tongue
    groups = await _groups(visit, draft.group)
    group = groups.get(draft.group)
    return Fields(
        draft=draft,
        problems=problems,
        groups=[Option(name, escape(name), name == draft.group) for name in groups],
        group_says=_group_says(draft.group, group, tongue),
        endings=_endings(draft, tongue),
        ends_says=tongue.moment(rules.expires_at) if rules.expires_at is not None else None,
        windows=spare(draft.windows),
        units=[Option("units", tongue.say("units in"), False), Option("requests", tongue.say("requests in"), False)],
        anchors=_anchors(tongue),
        other_anchor=partial(_other_anchor, tongue),
        tag=tag_of(ApiKey("", draft.name)),
        names=SUGGESTED_NAMES,
        least_key_length=(
            custom_keys.MIN_LENGTH_WITH_PEPPER if visit.keys.backend.peppered else custom_keys.MIN_LENGTH
        ),
        allow_says=_allow_says(rules, visit),
        words=in_words(spoken(rules, group), tongue),
    )


def spoken(rules: Rules, group: Group | None) -> Spoken:
    return Spoken(
        rules.group,
        group,
        rules.allow_ips,
        rules.deny_ips,
        rules.quota,
        rules.limits,
        rules.expires_at,
        rules.ends_chosen,
        rules.max_concurrency,
    )


async def _groups(visit: Visit, chosen: str) -> dict[str, Group | None]:
    """Every group that can be named, and the one that is named already."""
    groups: dict[str, Group | None] = {DEFAULT_GROUP: Group(DEFAULT_GROUP)}
    groups.update({group.name: group for group in await visit.keys.list_groups()})
    groups.setdefault(chosen, None)
    return groups


def _group_says(name: str, group: Group | None, tongue: Tongue) -> Markup:
    if name == CANARY_GROUP and lets_nobody_in([group]):
        return tongue.say("Lets nobody in: its keys are canaries.")
    if group is None:
        return tongue.say("No group of this name is stored here.")
    parts = [tongue.say("Routes: %(routes)s.", routes=route_words(group, tongue))]
    if group.limits:
        words = tongue.listed(limit_words(limit, tongue) for limit in group.limits)
        parts.append(tongue.say("A key without windows of its own has %(windows)s.", windows=words))
    return tongue.sentences(parts)


def _endings(draft: Draft, tongue: Tongue) -> list[Option]:
    lengths = [
        Option(length, tongue.say("in %(span)s", span=tongue.length(parse_duration(length))), draft.expires == length)
        for length in EXPIRIES
    ]
    kept = [Option("keep", tongue.say("as it is now"), True)] if draft.expires == "keep" else []
    return [
        *kept,
        *lengths,
        Option("date", tongue.say("on a date…"), draft.expires == "date"),
        Option("never", tongue.say("never"), draft.expires == "never"),
    ]


def _anchors(tongue: Tongue) -> list[Option]:
    say = tongue.say
    anchors = [
        Option("first-use", say("from the first call"), False),
        Option("calendar", say("by the calendar (%(zone)s)", zone="UTC"), False),
    ]
    if tongue.zone_name != "UTC":
        words = say("by the calendar (%(zone)s)", zone=tongue.zone_name)
        anchors.append(Option(f"calendar {tongue.zone_name}", words, False))
    return [*anchors, Option("sliding", say("sliding"), False)]


def _other_anchor(tongue: Tongue, anchor: str) -> Markup:
    kind, _, zone = anchor.partition(" ")
    return tongue.say("by the calendar (%(zone)s)", zone=zone) if kind == "calendar" and zone else escape(anchor)


def _allow_says(rules: Rules, visit: Visit) -> Markup | None:
    """How much the allow list holds, and whether whoever types it is in it."""
    client = None if visit.client is None else parse_address(visit.client)
    if not rules.allow_ips or client is None:
        return None
    if client in IPSet(rules.allow_ips):
        return visit.tongue.say("Your own address, %(ip)s, is among them.", ip=client.text)
    return visit.tongue.say("Yours now, %(ip)s, is not among them.", ip=client.text)
