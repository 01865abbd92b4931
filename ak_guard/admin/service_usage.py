"""The part of the key service that takes what requests did."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from fastapi import APIRouter, Response

from ak_guard.admin import models
from ak_guard.admin.problems import answer
from ak_guard.backends.base import KeepsUsage
from ak_guard.usage.documents import record_from


def usage_routes(backend: object) -> APIRouter:
    """Hands records to the store, where it keeps any."""
    routes = APIRouter()

    @routes.post("/v1/usage", response_model=models.Kept)
    async def usage(asked: models.Usage) -> Response:
        """Keep records of requests. A batch that was kept before is not kept again; `kept` false: nobody keeps any."""
        if not isinstance(backend, KeepsUsage):
            return answer({"kept": False})
        await backend.add_usage(asked.batch, [record_from(record.model_dump()) for record in asked.records])
        return answer({"kept": True})

    return routes
