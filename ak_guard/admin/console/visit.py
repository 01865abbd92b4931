"""One request to the console: who asks, in which language and zone, and how a page or a redirect answers."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote, urlencode, urlsplit

from cachetools import TTLCache
from markupsafe import Markup
from starlette.datastructures import FormData
from starlette.responses import HTMLResponse, RedirectResponse

from ak_guard.admin.console.away import Memory, Shown
from ak_guard.admin.console.cookies import DOOR_COOKIE, LANGUAGE_COOKIE, ZONE_COOKIE
from ak_guard.admin.console.footer import footer_of
from ak_guard.admin.console.tongue import LANGUAGES, Tongue, chosen_language, zone_named
from ak_guard.paths import app_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from ak_guard.admin.console.away import Stale
    from ak_guard.admin.console.leak import Kept
    from ak_guard.admin.console.sessions import Session, Sessions
    from ak_guard.admin.console.templating import Templates
    from ak_guard.admin.tokens import AdminIdentity, AdminTokens
    from ak_guard.manager import KeyManager
    from ak_guard.tokens import Deed

_NOTE_SECONDS: Final = 3_600
_MADE_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Action:
    """A button beside a note: what it says and the path that it posts to."""

    word: Markup
    path: str


@dataclass(frozen=True, slots=True)
class Note:
    """What became of something, told once at the top of the next page. `kind` is `good`, `warn` or `bad`."""

    kind: str
    head: Markup
    text: Markup = field(default_factory=Markup)
    action: Action | None = None

    @property
    def icon(self) -> str:
        return {"good": "check", "warn": "alert"}.get(self.kind, "stop")


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a form that makes a secret. `key_id` is empty while it is still being made."""

    key_id: str
    name: str
    at: datetime


@dataclass(slots=True)
class Console:
    """What all pages share."""

    keys: KeyManager
    tokens: AdminTokens
    sessions: Sessions
    templates: Templates
    clock: Callable[[], float]
    notes: TTLCache[str, Note] = field(default_factory=lambda: TTLCache(10_000, _NOTE_SECONDS))
    #: What came of each form that makes a secret, so that a reload makes no second one.
    made: TTLCache[str, Made] = field(default_factory=lambda: TTLCache(10_000, _MADE_SECONDS))

    #: Reports of leaks, without their secrets, by the form that they came of.
    leaks: TTLCache[str, Kept] = field(default_factory=lambda: TTLCache(1_000, _MADE_SECONDS))
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.clock)

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)


class Visit:
    """What a page needs to know of the request that it answers."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request: Request = request
        self.console: Console = console
        self.session: Session | None = None
        self.who: AdminIdentity | None = None
        #: The store did not answer when it was asked who this is; then it is whoever it was last.
        self.unsure: bool = False
        self.form: FormData = FormData()
        cookies = request.cookies
        self.tongue: Tongue = Tongue(
            chosen_language(cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", "")),
            zone_named(unquote(cookies.get(ZONE_COOKIE, "UTC"))) or UTC,
            console.now(),
        )
        self._door: str | None = None

    @property
    def keys(self) -> KeyManager:
        """The keys, in the name of whoever asks."""
        return self.console.keys if self.who is None else self.console.keys.acting_as(self.actor)

    @property
    def tokens(self) -> AdminTokens:
        """The admin tokens, in the name of whoever asks."""
        return self.console.tokens.acting_as(self.actor)

    @property
    def client(self) -> str | None:
        return self.request.client.host if self.request.client else None

    @property
    def actor(self) -> str:
        """Who is written into the audit trail."""
        return self.who.acting("token ") if self.who else "nobody"

    def may(self, what: Deed) -> bool:
        return self.who is not None and self.who.may(what)

    def asked(self, name: str) -> str:
        """A word of the query, empty where it is not there."""
        return self.request.query_params.get(name, "").strip()

    def given(self, name: str) -> str:
        """A field of the form as it was typed, without blanks around it."""
        value = self.form.get(name, "")
        return value.strip() if isinstance(value, str) else ""

    def all_given(self, name: str) -> list[str]:
        return [value for value in self.form.getlist(name) if isinstance(value, str)]

    # Where things are

    @property
    def root(self) -> str:
        """The path that the console is mounted at, without a slash at its end."""
        return str(self.request.scope.get("root_path", "")).rstrip("/")

    def href(self, path: str, **query: str | None) -> str:
        words = {name: value for name, value in query.items() if value}
        return f"{self.root}{quote(path)}" + (f"?{urlencode(words)}" if words else "")

    @property
    def path(self) -> str:
        """The path inside the console."""
        return app_path(self.request.scope["path"], self.root)

    @property
    def here(self) -> str:
        """The address of the page as it was asked for, to come back to."""
        query = self.request.url.query
        return self.path + (f"?{query}" if query else "")

    # Answers

    @property
    def proof(self) -> Markup:
        """The hidden field that stands in each form."""
        if self.session is not None:
            text = self.session.proof
        else:
            self._door = self._door or self.request.cookies.get(DOOR_COOKIE) or self.console.sessions.door()
            text = self._door
        return Markup('<input type="hidden" name="proof" value="{}">').format(text)

    async def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """A whole page. What is sent is never stored by a browser or a proxy."""
        note = self._told()
        footer = await footer_of(self) if self.who and not self.unsure else None
        if status == HTTPStatus.OK and self.request.method == "GET":
            self.console.memory.keep(self, Shown(template, dict(values), footer, self.tongue.now))
        body = self.console.templates.render(template, self, note=note, workers=footer, stale=None, **values)
        response = HTMLResponse(body, status, headers={"cache-control": "no-store"})
        if self._door is not None and self.session is None:
            self.set_cookie(response, DOOR_COOKIE, self._door, None)
        return response

    def shown_again(self, shown: Shown, stale: Stale) -> Response:
        """A page as it was made earlier, under a banner that says so, with every button that changes something off."""
        body = self.console.templates.render(
            shown.template, self, note=self._told(), workers=shown.footer, stale=stale, **shown.values
        )
        return HTMLResponse(body, HTTPStatus.SERVICE_UNAVAILABLE, headers={"cache-control": "no-store"})

    def _told(self) -> Note | None:
        """What became of the form that led to this page."""
        return self.console.notes.get(self.asked("told"))

    def go(self, path: str, note: Note | None = None, **query: str | None) -> Response:
        """On to another page, which tells what became of it."""
        if note is not None:
            told = query["told"] = secrets.token_urlsafe(9)
            self.console.notes[told] = note
        return RedirectResponse(self.href(path, **query), 303, headers={"cache-control": "no-store"})

    def go_back(self, fallback: str = "/", note: Note | None = None) -> Response:
        """Back to the page that a form stands on, as it says itself: a path of the console and nothing else."""
        parts = urlsplit(self.given("back"))
        inside = not parts.scheme and not parts.netloc and parts.path.startswith("/") and "\\" not in parts.path
        if not inside or parts.path.startswith("//"):
            return self.go(fallback, note)
        query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
        query.pop("told", None)
        response = self.go(parts.path, note)
        if query:
            text = iri_to_uri("&".join(f"{name}={value}" for name, value in query.items()))
            location = response.headers["location"]
            response.headers["location"] = f"{location}{'&' if '?' in location else '?'}{text}"
        return response

    def set_cookie(self, response: Response, name: str, value: str, seconds: int | None) -> None:
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path=self.root or "/",
            secure=self.request.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )

    def drop_cookie(self, response: Response, name: str) -> None:
        response.delete_cookie(name, path=self.root or "/", httponly=True, samesite="lax")

    @property
    def other_language(self) -> dict[str, str]:
        code = next(code for code in LANGUAGES if code != self.tongue.code)
        name, lang = LANGUAGES[code]
        return {"code": code, "name": name, "lang": lang}


def iri_to_uri(text: str) -> str:
    """An address as a header can hold it: what RFC 3986 does not allow is encoded, and what is encoded stays so."""
    return quote(text, safe="%/:?#[]@!$&'()*+,;=~")
