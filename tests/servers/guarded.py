"""What the real servers serve: a guarded app that tells what it was given. `app` is their target.

The keys are made when the app starts, so each server process holds its own.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import StreamingResponse

from ak_guard import ApiKeyMiddleware, Group, KeyManager
from ak_guard.backends import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

GOOD: Final = "Kx7-mQ2v.Zp9_Wt4Lr8Yc"
OTHER: Final = "Hn3.bV6d-Xs1_Jq5Gf0Uw"
#: May only use `/v1/chat/*`, with GET and POST.
BOUND: Final = "Rz8_cT2n-Mk6.Ph4Ys9Bv"
SPENT: Final = "Wd5-jL9x.Fg3_Qv7Nt1Zm"
PUBLIC: Final = "/health"

backend = MemoryBackend()
_streams = 0


async def _make_keys() -> None:
    keys = KeyManager(backend)
    await keys.create_group(Group("chat", routes=["GET /v1/chat/*", "POST /v1/chat/*"]))
    await keys.create("good", key=GOOD)
    await keys.create("other", key=OTHER)
    await keys.create("bound", key=BOUND, group="chat")
    await keys.create("spent", key=SPENT, quota=0)


async def _telling(scope: Scope, receive: Receive, send: Send) -> None:
    """Speak bare ASGI, so that nothing but the server has touched the scope."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
    elif scope["type"] == "websocket":
        await _talk(scope, receive, send)
    elif scope["path"] == "/stream":
        await StreamingResponse(_endless(), media_type="text/plain")(scope, receive, send)
    else:
        length = await _length_of_body(receive)
        admission = scope.get("state", {}).get("ak_guard")
        seen: dict[str, Any] = {
            "path": scope["path"],
            "method": scope["method"],
            "key": admission.key.name if admission else None,
            "length": length,
            "streams": _streams,
        }
        body = json.dumps(seen).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    await _make_keys()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def _talk(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    offered = list(scope["subprotocols"])
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    await send({"type": "websocket.close"})


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"more "
        await asyncio.sleep(0.01)


async def _length_of_body(receive: Receive) -> int:
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    return length


_guarded = ApiKeyMiddleware(_telling, backend=backend, public_paths=[PUBLIC])


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The guarded app, counting the streams that are under way, the guard's own tidying included."""
    global _streams  # noqa: PLW0603  # plain state of one server process
    streaming = scope["type"] == "http" and scope["path"] == "/stream"
    _streams += streaming
    try:
        await _guarded(scope, receive, send)
    finally:
        _streams -= streaming
