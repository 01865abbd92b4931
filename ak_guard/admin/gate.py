"""What stands before the key service: who may ask, how much at once, and how long a body may be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ak_guard.admin.problems import problem
from ak_guard.admin.service_tokens import bearer_token, token_digest
from ak_guard.errors import AkGuardError
from ak_guard.loops import PerLoop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ak_guard.admin.service_tokens import TokenCheck

#: The longest body, in bytes.
MAX_BODY: Final = 1_048_576
#: So many requests are answered at a time, those that wait for changes included.
MAX_REQUESTS: Final = 4_096

# A body that takes longer to come holds a place that others could have.
_BODY_SECONDS: Final = 10.0


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
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in self._open_paths and not await self._is_known(scope):
            headers = {"WWW-Authenticate": 'Bearer realm="ak_guard"'}
            detail = "Send a service token: Authorization: Bearer …"
            await problem("unauthorized", detail, headers=headers)(scope, receive, send)
            return
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(scope, receive)
        except TimeoutError:
            refused = problem("too_slow", f"A body must be complete within {_BODY_SECONDS:g} s.")
        except _TooLarge:
            refused = problem("too_large", f"A body may have {MAX_BODY} bytes.")
        else:
            if body and not _is_json(scope):
                refused = problem("unsupported_media_type", "Send it as application/json.")
            elif body is not None:
                await self._app(scope, _replay(body, receive), send)
                return
            else:
                return
        await refused(scope, receive, send)

    async def _is_known(self, scope: Scope) -> bool:
        token = bearer_token(value for name, value in scope["headers"] if name.lower() == b"authorization")
        if token is None:
            return False
        digest = token_digest(token)
        for check in self._checks:
            if await check(digest):
                return True
        return False


class _Running:
    count = 0


class _TooLarge(AkGuardError):
    pass


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None where the client went away."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit() and int(value[:20]) > MAX_BODY:
            raise _TooLarge
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY:
            raise _TooLarge
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


def _is_json(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    return len(kinds) == 1 and kinds[0].partition(b";")[0].strip().lower() == b"application/json"


def _replay(body: bytes, receive: Receive) -> Receive:
    """Receive a body that was read already, and after it what else comes."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
