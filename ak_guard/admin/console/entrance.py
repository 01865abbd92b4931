"""In and out: signing in with an admin token, signing out here or everywhere, and what a viewer likes to see."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ak_guard.admin.console.cookies import (
    DOOR_COOKIE,
    LANGUAGE_COOKIE,
    SESSION_COOKIE,
    SHORTCUTS_COOKIE,
    THEME_COOKIE,
    YEAR_SECONDS,
    ZONE_COOKIE,
)
from ak_guard.admin.console.sessions import SESSION_SECONDS
from ak_guard.admin.console.tongue import LANGUAGES, zone_named
from ak_guard.admin.console.visit import iri_to_uri

if TYPE_CHECKING:
    from starlette.responses import Response

    from ak_guard.admin.console.visit import Visit


async def show(visit: Visit) -> Response:
    """The form. Whoever is signed in already is let through."""
    if visit.who is not None:
        return visit.go("/")
    return await _form(visit, next=visit.asked("next"))


async def sign_in(visit: Visit) -> Response:
    """Let somebody in who holds an admin token. A wrong, an unknown and an ended one get the same answer."""
    sessions, tongue = visit.console.sessions, visit.tongue
    async with sessions.turn_of(visit.client):
        closed = sessions.is_closed_to(visit.client)
        who = None if closed else await visit.console.tokens.who(visit.given("token"))
        known = who is not None and who.may("view")
        if not closed and not known:
            sessions.failed(visit.client)
    if closed:
        problem = tongue.say("Too many wrong tokens came from your address. Wait a minute, then try again.")
        return await _form(visit, status=429, problem=problem, next=visit.given("next"))
    if who is None or not known:
        problem = tongue.say("This is no admin token that may sign in.")
        return await _form(visit, status=403, problem=problem, next=visit.given("next"))
    response = visit.go("/")
    if wanted := _inside(visit.given("next")):
        response.headers["location"] = iri_to_uri(visit.root + wanted)
    visit.set_cookie(response, SESSION_COOKIE, sessions.begin(who), SESSION_SECONDS)
    visit.drop_cookie(response, DOOR_COOKIE)
    return response


async def sign_out(visit: Visit) -> Response:
    """End this session, or all that the same token began."""
    if visit.session is not None:
        if visit.given("everywhere"):
            visit.console.sessions.end_everywhere(visit.session.token_id)
        visit.console.sessions.end(visit.session)
        visit.console.memory.forget(visit.session.id)
    response = visit.go("/sign-in")
    visit.drop_cookie(response, SESSION_COOKIE)
    return response


async def choose_language(visit: Visit) -> Response:
    response = visit.go_back()
    if visit.given("language") in LANGUAGES:
        visit.set_cookie(response, LANGUAGE_COOKIE, visit.given("language"), YEAR_SECONDS)
    return response


async def choose_appearance(visit: Visit) -> Response:
    """Theme, shortcuts and time zone: each is a cookie of this browser and changes nothing else."""
    response = visit.go_back("/settings")
    if "theme" in visit.form:
        if visit.given("theme") in {"light", "dark"}:
            visit.set_cookie(response, THEME_COOKIE, visit.given("theme"), YEAR_SECONDS)
        else:
            visit.drop_cookie(response, THEME_COOKIE)
    if visit.given("shortcuts") in {"on", "off"}:
        visit.set_cookie(response, SHORTCUTS_COOKIE, visit.given("shortcuts"), YEAR_SECONDS)
    if zone_named(visit.given("zone")) is not None:
        # Where the script sets it: of two cookies of one name, that of the shorter path would win always.
        response.set_cookie(ZONE_COOKIE, visit.given("zone"), YEAR_SECONDS, path="/", samesite="lax")
    return response


async def _form(visit: Visit, *, status: int = 200, **values: object) -> Response:
    return await visit.page("sign-in.html", status=status, nav="", **{"problem": None, **values})


def _inside(path: str) -> str | None:
    """A path of the console, None for anything that leads elsewhere."""
    parts = urlsplit(path)
    leads_out = parts.scheme or parts.netloc or path.startswith("//") or "\\" in path or not path.isprintable()
    return None if leads_out or not path.startswith("/") else path
