"""Any ASGI app behind API keys: no framework, a streamed answer, a websocket, and a price known when the work is done.

In the checkout, with `pip install '.[sql,cli]' websockets`:

    export AK_GUARD_BACKEND=sqlite:///keys.db
    ak-guard keys create dev-local
    uvicorn examples.plain_asgi:app
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ak_guard import Admission, ApiKeyMiddleware

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

LINES = (b"one\n", b"two\n", b"three\n")


async def service(scope: Scope, receive: Receive, send: Send) -> None:
    """Count to three. Knows nothing of keys but the admission that the guard leaves in the scope."""
    if scope["type"] == "lifespan":
        raise NotImplementedError("this app has nothing to start; the guard starts and stops without it")
    admission: Admission = scope["state"]["ak_guard"]
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        for line in LINES:
            await send({"type": "websocket.send", "text": line.decode().strip()})
        await send({"type": "websocket.close"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        for line in LINES:
            await send({"type": "http.response.body", "body": line, "more_body": True})
        # Before the end is sent, so that whoever has read the answer finds it charged.
        admission.charge(len(LINES) - 1)
        await send({"type": "http.response.body"})


app = ApiKeyMiddleware(service, backend=os.environ.get("AK_GUARD_BACKEND", "sqlite:///keys.db"))
