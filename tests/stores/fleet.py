"""What the workers of a fleet serve: a guarded app that answers with the id of its process. `app` is their target."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse

from ak_guard import ApiKeyMiddleware

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def _who(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await PlainTextResponse(str(os.getpid()))(scope, receive, send)


# The time to live is long, so that only the change feed can tell a worker anything.
app = ApiKeyMiddleware(_who, backend=os.environ["AK_GUARD_BACKEND"], cache_ttl=3_600)
