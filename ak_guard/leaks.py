"""A key has leaked: what was done about it, what is left to do, and the report. `KeyManager.leak` is the procedure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ak_guard.notation import iso, stamp
from ak_guard.records import environment_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from ak_guard.backends.workers import Confirmation
    from ak_guard.issued import Issued
    from ak_guard.records import ApiKey
    from ak_guard.usage.summaries import Place, UsageSummary

_LONGEST_NAME: Final = 190
_NUMBERED: Final = re.compile(r"(.+?)-([0-9]{1,6})")
_MOST_ROWS: Final = 50

#: Where keys get out, in the order in which it is worth looking.
ADVICE: Final = (
    "Logs: of the service, of the proxy in front of it, of error trackers; requests and environments end up there.",
    "Front-end bundles: a key in JavaScript or in a mobile app is public, minified or not.",
    "Public repositories: their history too, not only the newest files; forks, gists and build logs as well.",
    "Screenshots, tickets, chats and recordings of screens.",
)


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was done about a leaked key, and what is known of its use since `since`.

    `confirmation` says which running workers refuse the key by now; None where nobody could be asked. `replacement` is
    made only once all of them do; `why_none` says why there is none. `usage` begins with the full hour that `since`
    lies in, and is None where no usage is kept or could be read; `problems` says what went wrong, in sentences.
    The secret of the replacement stands in `replacement` and `environment_lines` and nowhere else.
    """

    key: ApiKey
    at: datetime
    since: datetime
    confirmation: Confirmation | None
    replacement: Issued | None
    why_none: str
    usage: UsageSummary | None
    problems: tuple[str, ...] = ()
    advice: tuple[str, ...] = ADVICE

    @property
    def disabled(self) -> bool:
        """Whether the key is disabled in the store, so that no guard that reaches it lets the key in."""
        return not self.key.enabled

    @property
    def complete(self) -> bool:
        """Whether every running worker has confirmed that it refuses the key."""
        return self.confirmation is not None and self.confirmation.complete

    @property
    def new_addresses(self) -> tuple[Place, ...]:
        """Addresses that nobody had called from with this key before."""
        return () if self.usage is None else tuple(place for place in self.usage.addresses if self.is_new(place))

    @property
    def new_routes(self) -> tuple[Place, ...]:
        """Routes that this key had not called before."""
        return () if self.usage is None else tuple(place for place in self.usage.routes if self.is_new(place))

    def is_new(self, place: Place) -> bool:
        """Whether an address or a route was first seen after the leak may have begun."""
        return place.first >= self.since

    @property
    def variable(self) -> str:
        """How the service's environment may call the key: `WEB_API_KEY` for `prod-web`."""
        return variable_of(self.key.name)

    @property
    def environment_lines(self) -> tuple[str, ...]:
        """The lines for the service's environment. They hold the secret of the replacement."""
        return () if self.replacement is None else (f"{self.variable}={self.replacement.secret}",)

    def as_json(self) -> dict[str, Any]:
        """All of it but the secret."""
        usage, made, confirmation = self.usage, self.replacement, self.confirmation
        return {
            "key": {"id": self.key.id, "name": self.key.name, "hint": self.key.hint, "group": self.key.group},
            "at": iso(self.at),
            "since": iso(self.since),
            "disabled": self.disabled,
            "complete": self.complete,
            "confirmation": None
            if confirmation is None
            else {
                "complete": confirmation.complete,
                "seconds": round(confirmation.seconds, 3),
                "workers": list(confirmation.workers),
                "silent": [
                    {"name": worker.name, "seen_at": iso(worker.seen_at), "good_until": iso(worker.good_until)}
                    for worker in confirmation.silent
                ],
            },
            "replacement": None
            if made is None
            else {"id": made.key.id, "name": made.key.name, "hint": made.key.hint, "replaces": made.key.replaces},
            "why_no_replacement": self.why_none or None,
            "variable": self.variable,
            "usage": None
            if usage is None
            else {
                "counted_since": iso(usage.since),
                "calls": usage.calls,
                "refused": usage.refused,
                "cost": usage.cost,
                "by_code": dict(usage.by_code),
                "addresses": [self._place(place) for place in usage.addresses],
                "routes": [self._place(place) for place in usage.routes],
                "places": [{**self._place(place), "route": place.route} for place in usage.places],
            },
            "problems": list(self.problems),
            "advice": list(self.advice),
            "undo": f"ak-guard keys enable {self.key.id}",
        }

    def _place(self, place: Place) -> dict[str, Any]:
        return {
            "name": place.name,
            "new": self.is_new(place),
            "calls": place.calls,
            "refused": place.refused,
            "cost": place.cost,
            "first": iso(place.first),
            "last": iso(place.last),
        }

    def markdown(self) -> str:
        """All of it but the secret, for a ticket or a post-mortem."""
        return "\n".join(_markdown(self)) + "\n"


def variable_of(name: str) -> str:
    """A name for the environment, without the words that say which environment it is."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word and environment_of(word) is None]
    ending = ["KEY"] if words and words[-1].lower() == "api" else ["API", "KEY"]
    variable = "_".join([*words, *ending]).upper()
    return f"KEY_{variable}" if variable[0].isdigit() else variable


def next_name(name: str, taken: Collection[str]) -> str:
    """The name of a replacement: `prod-web-2` for `prod-web`, and then `prod-web-3`, whichever nobody has."""
    numbered = _NUMBERED.fullmatch(name)
    base, number = (numbered[1], int(numbered[2])) if numbered else (name, 1)
    base = base[:_LONGEST_NAME]
    while True:
        number += 1
        if (found := f"{base}-{number}") not in taken:
            return found


def _markdown(report: LeakReport) -> list[str]:
    key, made = report.key, report.replacement
    lines = [
        f"# Leak of {_cell(key.name)}",
        "",
        f"Key `{key.id}` ({_cell(key.hint)}), group {_cell(key.group)}, reported {stamp(report.at)}.",
        "",
        "## Disabled",
        "",
        *_confirmed(report),
        f"False alarm: `ak-guard keys enable {key.id}`.",
        "",
        "## Replacement",
        "",
    ]
    if made is None:
        lines.append(f"None: {report.why_none}.")
    else:
        lines += [
            f"`{made.key.id}` ({_cell(made.key.name)}, {_cell(made.key.hint)}), with the same rules.",
            "Its secret was shown once, when it was made. Put it into the environment of the service:",
            "",
            f"    {report.variable}=<the secret of {made.key.hint}>",
        ]
    lines += ["", f"## Calls since {stamp(report.since)}", "", *_calls(report)]
    if report.problems:
        lines += ["", "## What went wrong", "", *(f"- {problem}" for problem in report.problems)]
    lines += ["", "## Where it may have got out", "", *(f"- [ ] {advice}" for advice in report.advice)]
    return lines


def _confirmed(report: LeakReport) -> list[str]:
    confirmation = report.confirmation
    if confirmation is None:
        return ["Disabled in the store. Which workers follow could not be asked."]
    count = len(confirmation.workers)
    told = f"{count} running worker{'' if count == 1 else 's'} confirmed after {confirmation.seconds:.2f} s."
    if confirmation.complete:
        return [f"Disabled everywhere: {told}" if count else "Disabled. No running app had to be waited for."]
    silent = [
        f"- {_cell(one.name)}: last seen {stamp(one.seen_at)}, may let the key in until {stamp(one.good_until)}"
        for one in confirmation.silent
    ]
    return [f"**Not everywhere yet.** {told} Not confirmed by:", "", *silent, ""]


def _calls(report: LeakReport) -> list[str]:
    usage = report.usage
    if usage is None:
        return ["No usage is known."]
    new = report.new_addresses
    lines = [
        f"{usage.calls} calls, {usage.refused} of them refused, {usage.cost} units, from {stamp(usage.since)} on.",
        f"Never seen before: {_count(new, 'address', 'addresses')}, with {sum(place.calls for place in new)} calls and",
        f"{sum(place.cost for place in new)} units.",
    ]
    for title, places in (("Address", usage.addresses), ("Route", usage.routes)):
        if not places:
            continue
        lines += ["", f"| {title} | Calls | Refused | Units | First seen | Last seen |", "|--|--:|--:|--:|--|--|"]
        for place in places[:_MOST_ROWS]:
            first = f"{'**new** ' if report.is_new(place) else ''}{stamp(place.first)}"
            row = (_cell(place.name), place.calls, place.refused, place.cost, first, stamp(place.last))
            lines.append(f"| {' | '.join(map(str, row))} |")
        if len(places) > _MOST_ROWS:
            lines += ["", f"And {len(places) - _MOST_ROWS} more."]
    return lines


def _count(found: Collection[Place], one: str, many: str) -> str:
    return f"{len(found)} {one if len(found) == 1 else many}"


def _cell(text: str) -> str:
    """Callers choose their paths: none of them may write into the report."""
    return re.sub(r"([\\`*_\[\]<>|#~!])", r"\\\1", text)
