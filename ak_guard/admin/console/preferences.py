"""Settings: admin tokens, the running workers, and what this browser likes to see."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.cookies import SHORTCUTS_COOKIE
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.visit import Made, Note
from ak_guard.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.backends.workers import Worker
    from ak_guard.tokens import AdminToken

#: After how long a new token ends; empty for never.
TOKEN_ENDS: Final = ("7d", "30d", "90d", "365d", "")
_ROLES: Final = ("viewer", "editor", "owner", "service")


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One running worker: `kind` is how it looks, `on`, `near` (behind) or `full` (silent)."""

    name: str
    kind: str
    icon: str
    word: Markup
    since: Markup
    seen: Markup
    until: str
    revision: str
    behind: str


@dataclass(frozen=True, slots=True)
class TokenRow:
    token: AdminToken
    role: Markup
    ends: Markup
    over: bool
    mine: bool


async def show(visit: Visit, *, problem: Markup | None = None) -> Response:
    """The whole page. `problem` is what was wrong with the form of a new token."""
    tongue = visit.tongue
    workers = await visit.keys.workers()
    return await visit.page(
        "settings.html",
        status=422 if problem else 200,
        nav="settings",
        tokens=await _tokens(visit),
        worker_rows=[worker_row(worker, tongue) for worker in workers],
        roles=[(role, role_words(role, tongue)) for role in _ROLES],
        endings=_endings(tongue),
        once=secrets.token_urlsafe(16),
        problem=problem,
        zone=tongue.zone_name,
        keys_on=visit.request.cookies.get(SHORTCUTS_COOKIE) != "off",
    )


def role_words(role: str, tongue: Tongue) -> Markup:
    """What a role may do."""
    say = tongue.say
    words = {
        "viewer": say("viewer: sees everything"),
        "editor": say("editor: changes keys and groups"),
        "owner": say("owner: changes admin tokens too"),
        "service": say("service: asks the key service who holds a key, nothing else"),
    }
    return words[role]


def worker_row(worker: Worker, tongue: Tongue) -> WorkerRow:
    """A worker in words: its lag is the number of changes that it has not applied yet."""
    kind, icon, word = "on", "check", tongue.say("up to date")
    if worker.behind:
        kind, icon = "near", "clock"
        word = tongue.count("%(n)s change behind", "%(n)s changes behind", worker.behind)
    if worker.silent:
        kind, icon, word = "full", "alert", tongue.say("silent")
    return WorkerRow(
        worker.name,
        kind,
        icon,
        word,
        tongue.moment(worker.started_at),
        tongue.ago(worker.seen_at),
        tongue.seconds_clock(worker.good_until),
        tongue.number(worker.revision),
        tongue.number(worker.behind),
    )


async def _tokens(visit: Visit) -> list[TokenRow] | None:
    """All tokens; None where the store keeps none."""
    try:
        tokens: Sequence[AdminToken] = await visit.console.tokens.list()
    except ConfigurationError:
        return None
    tongue, rows = visit.tongue, []
    for token in tokens:
        over = token.expires_at is not None and token.expires_at <= tongue.now
        ends = tongue.say("never")
        if token.expires_at is not None:
            ends = tongue.moment(token.expires_at)
        role = role_words(token.role, tongue)
        mine = visit.who is not None and visit.who.id == token.id
        rows.append(TokenRow(token, role, ends, over, mine))
    return rows


def _endings(tongue: Tongue) -> list[tuple[str, Markup, bool]]:
    words = {ends: tongue.count("%(n)s day", "%(n)s days", int(ends[:-1])) for ends in TOKEN_ENDS if ends}
    return [(ends, words.get(ends, tongue.say("never")), ends == "90d") for ends in TOKEN_ENDS]


async def create_token(visit: Visit) -> Response:
    """Make a token and show it once."""
    once = visit.given("once")
    made = visit.console.made.get(once)
    if made is not None:
        return await visit.page("token-shown.html", nav="settings", name=made.name, secret=None)
    visit.console.made[once] = Made("", visit.given("name"), visit.tongue.now)
    try:
        issued = await visit.tokens.create(
            visit.given("name"),
            role=visit.given("role"),
            expires_in=visit.given("ends") if visit.given("ends") in TOKEN_ENDS and visit.given("ends") else None,
        )
    except InputError as error:
        del visit.console.made[once]
        return await show(visit, problem=problem_words(error.problem, visit.tongue))
    except BaseException:
        del visit.console.made[once]
        raise
    return await visit.page("token-shown.html", nav="settings", name=issued.token.name, secret=issued.secret)


async def revoke_token(visit: Visit) -> Response:
    """End a token and every session that it began."""
    token_id = visit.request.path_params["token_id"]
    await visit.tokens.revoke(token_id)
    visit.console.sessions.end_everywhere(token_id)
    return visit.go("/settings", Note("good", visit.tongue.say("The token is revoked; its sessions have ended.")))
