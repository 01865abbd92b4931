"""Gradio, which is not installed here (with pandas and others it is 340 MB): its documented rule of loading.

`gr.mount_gradio_app(app, blocks, path)` mounts the blocks' app into a FastAPI app, whose lifespan it makes run that of
the blocks; the guard is added to the FastAPI app.
"""

# No `from __future__ import annotations`: FastAPI reads them while it runs.

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette

from ak_guard import ApiKeyMiddleware
from tests.hosts.apps import starlette_app


def mount_gradio_app(app: FastAPI, blocks: Starlette, path: str) -> FastAPI:
    outer, inner = app.router.lifespan_context, blocks.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: FastAPI) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(inner(blocks))
            yield await stack.enter_async_context(outer(started))

    app.router.lifespan_context = lifespan
    app.mount(path, blocks)
    return app


def build(url: str) -> FastAPI:
    app = mount_gradio_app(FastAPI(), starlette_app.unguarded(), "/gradio")
    app.add_middleware(ApiKeyMiddleware, backend=url, public_paths=["/gradio/health"])
    return app
