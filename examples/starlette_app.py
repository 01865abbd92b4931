"""A Starlette app behind API keys, with two groups: one may only read, the other may write and pays double.

In the checkout, with `pip install '.[sql,cli]'`:

    export AK_GUARD_BACKEND=sqlite:///keys.db
    ak-guard keys create dev-local --group reader
    uvicorn examples.starlette_app:app
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.routing import Route

from ak_guard import ApiKeyMiddleware, Group

if TYPE_CHECKING:
    from starlette.requests import Request

GROUPS = [
    Group("reader", routes=["GET /notes", "GET /notes/*"], limits=["100/5h"]),
    Group("writer", routes=["/notes", "/notes/*"], limits=["100/5h"], multiplier=2),
]


async def health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "up"})


@requires("authenticated")
async def read(request: Request) -> JSONResponse:
    return JSONResponse({"reader": request.user.display_name, "left": request.state.ak_guard.remaining})


@requires("group:writer")
async def write(request: Request) -> JSONResponse:
    return JSONResponse({"writer": request.user.display_name, "left": request.state.ak_guard.remaining}, 201)


app = Starlette(
    routes=[
        Route("/health", health),
        Route("/notes", read),
        Route("/notes", write, methods=["POST"]),
    ],
    middleware=[
        Middleware(
            ApiKeyMiddleware,
            backend=os.environ.get("AK_GUARD_BACKEND", "sqlite:///keys.db"),
            groups=GROUPS,
            public_paths=["/health"],
        )
    ],
)
