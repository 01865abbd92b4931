"""A FastAPI app behind API keys.

In the checkout, with `pip install '.[sql,cli]' fastapi`:

    export AK_GUARD_BACKEND=sqlite:///keys.db
    ak-guard keys create dev-local
    uvicorn examples.fastapi_app:app
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from ak_guard import Admission, ApiKeyMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = FastAPI(title="Guarded by API keys")
app.add_middleware(
    ApiKeyMiddleware,
    backend=os.environ.get("AK_GUARD_BACKEND", "sqlite:///keys.db"),
    public_paths=["/health"],
)


class Prompt(BaseModel):
    text: str


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "up"}


@app.get("/v1/whoami")
async def whoami(request: Request) -> dict[str, str | int | None]:
    """What the app knows about its caller."""
    admission: Admission = request.state.ak_guard
    return {"key": admission.key.name, "client": admission.client, "remaining": admission.remaining}


@app.post("/v1/chat")
async def chat(prompt: Prompt, request: Request) -> StreamingResponse:
    """Stream a reply word by word. The request has paid one unit already; each word beyond the first costs one more."""
    admission: Admission = request.state.ak_guard
    words = prompt.text.split()

    async def reply() -> AsyncIterator[str]:
        for word in words:
            yield word.upper() + "\n"
        admission.charge(max(0, len(words) - 1))

    return StreamingResponse(reply(), media_type="text/plain")
