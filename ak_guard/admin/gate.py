"""What stands before the key service: who may ask, how much at once, and how long a body may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard import keys
from ak_guard.admin.bodies import hand_on
from ak_guard.admin.problems import problem
from ak_guard.admin.service_tokens import bearer_token
from ak_guard.loops import PerLoop
from ak_guard.paths import app_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from ak_guard.admin.service_tokens import TokenCheck

#: So many requests are answered at a time, those that wait for changes included.
MAX_REQUESTS: Final = 4_096


class KeyService:
    """Lets through who has a token; the bodies of the others are not even read. `open_paths` need none.

    `hang_up`, called in the event loop that serves, ends the polls that wait for a change, so that a server can stop.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        checks: Sequence[TokenCheck],
        open_paths: Collection[str],
        hang_up: Callable[[], Awaitable[None]],
    ) -> None:
        self.hang_up: Callable[[], Awaitable[None]] = hang_up
        self._app = app
        self._checks = checks
        self._open_paths = frozenset(open_paths)
        self._running: PerLoop[_Running] = PerLoop(_Running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Refused before it is accepted, which servers answer with 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        running = self._running.get()
        if running.count >= MAX_REQUESTS:
            await problem("too_busy", f"At most {MAX_REQUESTS} requests are answered at a time.")(scope, receive, send)
            return
        running.count += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            running.count -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = app_path(scope["path"], scope.get("root_path", ""))
        if path not in self._open_paths and not await self._is_known(scope):
            headers = {"WWW-Authenticate": 'Bearer realm="ak_guard"'}
            detail = "Send a service token: Authorization: Bearer …"
            await problem("unauthorized", detail, headers=headers)(scope, receive, send)
            return
        await hand_on(self._app, scope, receive, send)

    async def _is_known(self, scope: Scope) -> bool:
        token = bearer_token(value for name, value in scope["headers"] if name.lower() == b"authorization")
        if token is None:
            return False
        digest = keys.digest(token)
        for check in self._checks:
            if await check(digest):
                return True
        return False


class _Running:
    count = 0
