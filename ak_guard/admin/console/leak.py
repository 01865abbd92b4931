"""A key may have leaked: what one press does, what came of it, and the report to keep."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from ak_guard.admin.console.fields import Option
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.usage import new_places
from ak_guard.admin.console.visit import Made
from ak_guard.admin.console.waiting import WAIT_SECONDS, follow_words
from ak_guard.errors import ConfigurationError, NotFound
from ak_guard.issued import Issued
from ak_guard.notation import parse_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.leaks import LeakReport
    from ak_guard.usage.summaries import Place, UsageSummary

#: From how long ago a leak may be looked at, beside the first unusual call and a moment of one's own.
SINCES: Final = ("1h", "24h", "7d")
#: So many addresses and routes are listed.
LISTED: Final = 30


@dataclass(slots=True)
class Kept:
    """A report without its secret, and what somebody has looked at since: indices of the advice."""

    report: LeakReport
    looked: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Call:
    """Calls from one address on its routes."""

    address: str
    new: Markup | None
    routes: Sequence[str]
    calls: int
    cost: int


@dataclass(frozen=True, slots=True)
class Spot:
    """Where keys get out, and whether somebody has looked there."""

    word: Markup
    about: Markup
    looked: bool


async def show(visit: Visit, *, problem: Markup | None = None) -> Response:
    """What one press will do. Nothing is done by looking."""
    key = await visit.keys.get(visit.request.path_params["key_id"])
    usage = await _usage(visit, key.id)
    workers = await visit.keys.workers()
    return await visit.page(
        "leak.html",
        status=422 if problem else 200,
        key=key,
        workers_live=sum(not worker.silent for worker in workers),
        sinces=_sinces(usage, visit.tongue),
        callers=_known(usage, visit.tongue.now)[:4],
        known=_known(usage, visit.tongue.now),
        once=secrets.token_urlsafe(16),
        problem=problem,
    )


async def act(visit: Visit) -> Response:
    """Run the procedure and show the new secret once. The same form again shows what came of it, without the secret."""
    key = await visit.keys.get(visit.request.path_params["key_id"])
    once = visit.given("once")
    if once in visit.console.made:
        return visit.go(f"/keys/{key.id}/leak/{once}") if once in visit.console.leaks else visit.go(f"/keys/{key.id}")
    since = _since(visit)
    if since is None:
        typed = visit.given("since_date")[:40]
        text = visit.tongue.say("“%(typed)s” is not a date and time that has passed.", typed=typed)
        return await show(visit, problem=text)
    usage = await _usage(visit, key.id)
    visit.console.made[once] = Made(key.id, key.name, visit.tongue.now)
    try:
        report = await visit.keys.leak(
            key.id,
            since=since,
            wait=WAIT_SECONDS,
            replace=bool(visit.given("replace")),
            allow_ips=(_known(usage, visit.tongue.now) or None) if visit.given("only_known") else None,
        )
    except BaseException:
        del visit.console.made[once]
        raise
    kept = visit.console.leaks[once] = Kept(_without_secret(report))
    # The one page that holds the secret waits for no look at the store, which may be away by now.
    return await _done(visit, once, kept, report, used=False, still_disabled=report.disabled)


async def show_report(visit: Visit) -> Response:
    """What came of it, as long as this process remembers; the audit trail remembers for good."""
    kept = _kept(visit)
    report, made = kept.report, kept.report.replacement
    used = bool(made and await visit.keys.last_used([made.key.id]))
    still_disabled = not (await visit.keys.get(report.key.id)).enabled
    once = visit.request.path_params["report"]
    return await _done(visit, once, kept, report, used=used, still_disabled=still_disabled)


async def look(visit: Visit) -> Response:
    """Keep what somebody has looked at."""
    kept = _kept(visit)
    kept.looked = {int(one) for one in visit.all_given("looked") if one.isdigit() and len(one) < 3}
    return visit.go(f"/keys/{kept.report.key.id}/leak/{visit.request.path_params['report']}")


async def markdown(visit: Visit) -> Response:
    """The report for a ticket, with the places ticked that somebody has looked at."""
    kept = _kept(visit)
    text = kept.report.markdown()
    for at in kept.looked:
        if at < len(kept.report.advice):
            text = text.replace(f"- [ ] {kept.report.advice[at]}", f"- [x] {kept.report.advice[at]}")
    return _file(text, "md", "text/markdown; charset=utf-8")


async def as_json(visit: Visit) -> Response:
    kept = _kept(visit)
    document = {**kept.report.as_json(), "looked_at": sorted(kept.looked)}
    return _file(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "json", "application/json")


def _file(text: str, ending: str, kind: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="leak-report.{ending}"', "cache-control": "no-store"}
    return Response(text, media_type=kind, headers=headers)


def _kept(visit: Visit) -> Kept:
    kept = visit.console.leaks.get(visit.request.path_params["report"])
    if kept is None or kept.report.key.id != visit.request.path_params["key_id"]:
        raise NotFound("no such report")
    return kept


def _without_secret(report: LeakReport) -> LeakReport:
    if report.replacement is None:
        return report
    return replace(report, replacement=Issued(report.replacement.key, ""))


async def _done(
    visit: Visit, once: str, kept: Kept, report: LeakReport, *, used: bool, still_disabled: bool
) -> Response:
    tongue, made = visit.tongue, report.replacement
    secret = made.secret if made is not None else ""
    return await visit.page(
        "leak-done.html",
        key=report.key,
        report=report,
        id=once,
        secret=secret,
        env_line=f"{report.variable}={secret}",
        confirmed=follow_words(report.confirmation, tongue),
        why_none=problem_words(report.why_none, tongue),
        problems=[problem_words(problem, tongue) for problem in report.problems],
        calls=_calls(report, tongue),
        new_calls=sum(place.calls for place in report.new_addresses),
        new_cost=sum(place.cost for place in report.new_addresses),
        places=_places(kept, tongue),
        stored_in=report.key.metadata.get("stored_in"),
        used=used,
        still_disabled=still_disabled,
    )


def _calls(report: LeakReport, tongue: Tongue) -> list[Call]:
    if report.usage is None:
        return []
    routes: dict[str, list[str]] = {}
    for place in report.usage.places:
        routes.setdefault(place.name, []).append(place.route)
    new_first = sorted(report.usage.addresses, key=lambda place: (not report.is_new(place), -place.calls))
    return [
        Call(
            place.name,
            tongue.say("first seen %(moment)s", moment=tongue.moment(place.first)) if report.is_new(place) else None,
            routes.get(place.name, [])[:5],
            place.calls,
            place.cost,
        )
        for place in new_first[:LISTED]
    ]


def _places(kept: Kept, tongue: Tongue) -> list[Spot]:
    say = tongue.say
    words = (
        (say("Logs"), say("the service, the proxy in front, error trackers")),
        (say("Front-end bundles"), say("a key in JavaScript is public")),
        (say("Public repositories"), say("their history too, not only the newest files")),
        (say("Screenshots, tickets, chats"), say("and recordings of screens")),
    )
    return [Spot(word, about, at in kept.looked) for at, (word, about) in enumerate(words)]


async def _usage(visit: Visit, key_id: str) -> UsageSummary | None:
    """The last 30 days by hour."""
    since = visit.tongue.now - timedelta(days=30)
    try:
        return await visit.keys.usage(key_id, since=since, bucket="hour")
    except ConfigurationError:
        return None


def _known(usage: UsageSummary | None, now: datetime) -> list[str]:
    """Addresses whose calls were admitted and that are not new."""
    if usage is None:
        return []
    new = {place.name for place in new_places(usage.addresses, now)}
    return [place.name for place in usage.addresses if place.name not in new and place.calls > place.refused]


def _sinces(usage: UsageSummary | None, tongue: Tongue) -> list[Option]:
    say, options = tongue.say, []
    new: list[Place] = new_places(usage.addresses, tongue.now) if usage else []
    if new:
        first = min(place.first for place in new)
        word = say("%(moment)s (first call from a new address)", moment=tongue.moment(first))
        options.append(Option(first.isoformat(), word, True))
    for since in SINCES:
        word = say("%(span)s ago", span=tongue.length(parse_duration(since)))
        options.append(Option(since, word, since == "24h" and not new))
    return [*options, Option("date", say("at the moment below"), False)]


def _since(visit: Visit) -> datetime | None:
    """The moment that was chosen, None for one that cannot be read or lies ahead."""
    chosen, tongue = visit.given("since") or "24h", visit.tongue
    if chosen in SINCES:
        return tongue.now - timedelta(seconds=parse_duration(chosen))
    try:
        moment = tongue.read(visit.given("since_date") if chosen == "date" else chosen)
    except ValueError:
        return None
    return moment if tongue.now - timedelta(days=365) < moment <= tongue.now else None
