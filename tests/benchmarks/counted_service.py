"""A key service that says how often it was asked: `uvicorn tests.benchmarks.counted_service:app`.

Everything else is that of `ak-guard serve`. `GET /counted` answers with the number of requests by path, and of look-ups
by digest, since it was asked last.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from ak_guard import KeyManager
from ak_guard.admin import serve_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Counted:
    """Counts, and hands on."""

    def __init__(self, service: ASGIApp) -> None:
        self._service = service
        self._paths = Counter[str]()
        self._digests = Counter[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._service(scope, receive, send)
            return
        path = scope["path"]
        if path == "/counted":
            told = {"paths": dict(self._paths), "digests": dict(self._digests)}
            self._paths.clear()
            self._digests.clear()
            await JSONResponse(told)(scope, receive, send)
            return
        self._paths[path] += 1
        await self._service(scope, self._overheard(receive) if path == "/v1/resolve" else receive, send)

    def _overheard(self, receive: Receive) -> Receive:
        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.request" and message.get("body"):
                # Guards send it in one piece.
                self._digests[json.loads(message["body"])["digest"]] += 1
            return message

        return heard


app = Counted(serve_app(KeyManager(os.environ["AK_GUARD_BACKEND"])))
