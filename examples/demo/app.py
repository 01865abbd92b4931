"""The example app with the settings that the demo needs, and two routes more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from ak_guard import ApiKeyMiddleware, Group
from examples import fastapi_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

GROUPS: Final = [
    Group("reader", routes=["GET /v1/*"]),
    Group("priority", multiplier=2),
    Group("team", limits=["10/1d"], shared_limits=["3 requests/1d"]),
]

_COSTS: Final = {"/v1/image": 5}


def cost_of(scope: MutableMapping[str, Any]) -> int:
    """An image costs five units, everything else one."""
    return _COSTS.get(scope["path"], 1)


def make_app(**guard: Any) -> FastAPI:
    """The routes of `examples.fastapi_app` under a guard with these settings."""
    app = FastAPI()
    app.include_router(fastapi_app.app.router)
    app.state.read_first = asyncio.Event()
    app.add_middleware(
        ApiKeyMiddleware,
        groups=GROUPS,
        public_paths=["/health"],
        # The demo stands in for a reverse proxy on this machine, so that requests can come from anywhere.
        trusted_proxies=["127.0.0.1"],
        cost=cost_of,
        **guard,
    )

    @app.get("/v1/image")
    async def image() -> dict[str, str]:
        return {"image": "…"}

    @app.get("/v1/stream")
    async def stream() -> StreamingResponse:
        """Send the second part only once the first has been read, which a buffered answer never would be."""

        async def parts() -> AsyncIterator[str]:
            yield "first "
            await app.state.read_first.wait()
            yield "second"

        return StreamingResponse(parts(), media_type="text/plain")

    @app.websocket("/v1/live")
    async def live(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(f"hello {websocket.state.ak_guard.key.name}")
        await websocket.close()

    return app
