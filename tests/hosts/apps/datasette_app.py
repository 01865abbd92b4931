"""Datasette: a plugin with the hook `asgi_wrapper`, in a folder of plugins as its users have one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from datasette.app import Datasette

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_PLUGIN = """
from datasette import Response, hookimpl
from ak_guard import ApiKeyMiddleware

@hookimpl
def asgi_wrapper(datasette):
    return lambda app: ApiKeyMiddleware(app, backend={url!r}, public_paths=["/health"])

@hookimpl
def startup(datasette):
    datasette.started = True

@hookimpl
def register_routes():
    async def stream(request, send):
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        for part in ("one ", "two ", "three"):
            await send({{"type": "http.response.body", "body": part.encode(), "more_body": True}})
        await send({{"type": "http.response.body"}})

    def who(request, datasette):
        admission = request.scope["state"]["ak_guard"]
        return Response.json({{"key": admission.key.name, "client": admission.client, "started": datasette.started}})

    return [("^/who$", who), ("^/stream$", stream), ("^/health$", lambda: Response.text("up"))]
"""


def build(url: str) -> ASGIApp:
    folder = tempfile.mkdtemp()
    Path(folder, "guard_with_ak_guard.py").write_text(_PLUGIN.format(url=url))
    app: ASGIApp = Datasette(memory=True, plugins_dir=folder).app()
    return app
