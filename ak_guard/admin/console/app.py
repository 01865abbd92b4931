"""The console put together: its pages, who may see them, and what goes wrong told as a page."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route

from ak_guard.admin.console import (
    actions,
    assets,
    audit,
    bulk,
    create,
    edit,
    entrance,
    groups,
    leak,
    messages,
    preferences,
)
from ak_guard.admin.console import key as key_page
from ak_guard.admin.console import keys as key_list
from ak_guard.admin.console.away import away
from ak_guard.admin.console.cookies import DOOR_COOKIE, SESSION_COOKIE
from ak_guard.admin.console.sessions import Sessions
from ak_guard.admin.console.templating import templates
from ak_guard.admin.console.visit import Console, Visit
from ak_guard.errors import AkGuardError, BackendError, BudgetError, Conflict, InputError, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ak_guard.admin.tokens import AdminTokens
    from ak_guard.manager import KeyManager
    from ak_guard.tokens import Deed

    Handler = Callable[[Visit], Awaitable[Response]]

log: Final = logging.getLogger(__name__)

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: No form of the console is nearly as large.
MAX_BODY_BYTES: Final = 512 * 1024

_HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def console_app(keys: KeyManager, *, tokens: AdminTokens, clock: Callable[[], float] = time.time) -> Starlette:
    """The console as an ASGI app, to be mounted at the root or under any prefix.

    `keys` is opened and closed by the caller; `tokens` says who an admin token belongs to. Sessions live in this app,
    so a restart signs everybody out, and several processes need a balancer that keeps a browser on one of them.
    """
    console = Console(keys, tokens, Sessions(clock), templates(), clock)

    def page(path: str, show: Handler | None = None, act: Handler | None = None, **needs: Any) -> Route:
        methods = [method for method, handler in (("GET", show), ("POST", act)) if handler]
        return Route(path, _Page(console, show, act, **needs), methods=methods)

    return Starlette(
        routes=[
            Route("/static/{name}", assets.serve),
            page("/sign-in", entrance.show, entrance.sign_in, public=True),
            page("/language", act=entrance.choose_language, public=True),
            page("/appearance", act=entrance.choose_appearance),
            page("/sign-out", act=entrance.sign_out),
            page("/", key_list.show),
            page("/keys/bulk", bulk.ask, bulk.act, writes=True),
            page("/keys/new", create.show, create.act, reads="edit", writes=True),
            page("/keys/check", act=create.check, writes=True),
            page("/keys/{key_id}", key_page.show),
            page("/keys/{key_id}/edit", edit.show, edit.act, reads="edit", writes=True),
            *(
                page(f"/keys/{{key_id}}/{word}", act=act, writes=True)
                for word, act in (
                    ("disable", actions.disable),
                    ("enable", actions.enable),
                    ("rotate", actions.rotate),
                    ("reset", actions.reset),
                    ("delete", actions.delete),
                    ("stored", actions.stored),
                    ("ours", actions.ours),
                )
            ),
            page("/keys/{key_id}/leak", leak.show, leak.act, reads="edit", writes=True),
            page("/keys/{key_id}/leak/{report}", leak.show_report),
            page("/keys/{key_id}/leak/{report}/looked", act=leak.look, writes=True),
            page("/keys/{key_id}/leak/{report}/report.md", leak.markdown),
            page("/keys/{key_id}/leak/{report}/report.json", leak.as_json),
            page("/groups", groups.show),
            page("/groups/new", groups.show_new, groups.create, reads="edit", writes=True),
            page("/groups/one", groups.show_one, groups.save, reads="edit", writes=True),
            page("/groups/delete", act=groups.delete, writes=True),
            page("/audit", audit.show),
            page("/audit.csv", audit.export_csv),
            page("/audit.jsonl", audit.export_jsonl),
            page("/settings", preferences.show),
            page("/settings/tokens", act=preferences.create_token, owns=True),
            page("/settings/tokens/{token_id}/revoke", act=preferences.revoke_token, owns=True),
        ],
        middleware=[Middleware(_Headers)],
        exception_handlers={404: _not_found(console)},
    )


class _Page:
    """One address: asks who is there, checks what a form must prove, and calls the page with what it needs."""

    def __init__(
        self,
        console: Console,
        show: Handler | None,
        act: Handler | None,
        *,
        public: bool = False,
        reads: Deed = "view",
        writes: bool = False,
        owns: bool = False,
    ) -> None:
        self._console = console
        self._show = show
        self._act = act
        self._public = public
        self._read_role: Deed = "own" if owns else reads
        self._write_role: Deed = "own" if owns else "edit" if writes else "view"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.answer(Request(scope, receive))
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        visit = Visit(request, self._console)
        writes = request.method == "POST"
        try:
            await _recognise(visit)
            if writes:
                if not await _read_form(visit):
                    return await messages.too_large(visit)
                if not _is_own(visit):
                    return await messages.foreign(visit)
            if self._public:
                return await self._handler(writes)(visit)
            if visit.unsure and not (writes and self._write_role == "view"):
                # Who may do this cannot be asked. What only this browser keeps can still be chosen, and signing out.
                return await away(visit)
            if visit.who is None:
                # A form sent after the session has ended leads back to the page that it stood on.
                return visit.go("/sign-in", next=visit.given("back") or visit.here if not writes else None)
            if not visit.may(self._write_role if writes else self._read_role):
                return await messages.forbidden(visit)
            return await self._handler(writes)(visit)
        except AkGuardError as error:
            return await _failed(visit, error)

    def _handler(self, writes: bool) -> Handler:
        handler = self._act if writes else self._show
        if handler is None:
            raise NotFound("no such page")
        return handler


async def _failed(visit: Visit, error: AkGuardError) -> Response:
    """What went wrong, as a page."""
    match error:
        case NotFound():
            return await messages.missing(visit)
        case InputError():
            return await messages.refused(visit, error)
        case Conflict():
            return await messages.overtaken(visit)
        case BackendError() | BudgetError():
            log.error("the console could not answer: %s", error)
            return await away(visit)
    # Such as counters that lie elsewhere than those of the running apps.
    return await messages.misplaced(visit, error)


async def _recognise(visit: Visit) -> None:
    session = visit.console.sessions.read(visit.request.cookies.get(SESSION_COOKIE))
    if session is None:
        return
    people = visit.console.memory.people
    try:
        # Asked each time, so that a token that is revoked ends its sessions too.
        who = await visit.console.tokens.named(session.token_id)
    except BackendError as error:
        log.error("the console could not ask who is signed in: %s", error)
        visit.unsure, who = True, people.get(session.id)
    if who is not None:
        visit.session, visit.who = session, who
        people[session.id] = who


async def _read_form(visit: Visit) -> bool:
    length = visit.request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > MAX_BODY_BYTES:
        return False
    visit.form = await visit.request.form(max_files=0)
    return True


def _is_own(visit: Visit) -> bool:
    """Whether a form was made by this console for this browser."""
    if visit.request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    if visit.session is not None:
        return visit.session.proves(visit.given("proof"))
    return visit.console.sessions.opens(visit.request.cookies.get(DOOR_COOKIE), visit.given("proof"))


def _not_found(console: Console) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(request: Request, _: Exception) -> Response:
        visit = Visit(request, console)
        await _recognise(visit)
        return await messages.missing(visit)

    return answer


class _Headers:
    """Every answer says what a browser may do with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
            await send(message)

        await self._app(scope, receive, send_with_headers)
