"""Bodies as they are read before an app sees them: whole, in time, not too long, and JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ak_guard.admin.problems import problem
from ak_guard.errors import AkGuardError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The longest body, in bytes.
MAX_BODY: Final = 1_048_576

# A body that takes longer to come holds a place that others could have.
_BODY_SECONDS: Final = 10.0


async def hand_on(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body, and let the app answer where it can be one; else say what is wrong with it."""
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
            await app(scope, _replay(body, receive), send)
            return
        else:
            return
    await refused(scope, receive, send)


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
