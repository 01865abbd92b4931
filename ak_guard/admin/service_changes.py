"""The part of the key service that tells of changes, and knows who follows them."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response

from ak_guard.admin import models
from ak_guard.admin.problems import answer
from ak_guard.admin.relay import Relay
from ak_guard.backends.bulletin import SharedBulletin
from ak_guard.backends.documents import news_document, report_from, roll_document
from ak_guard.backends.workers import KnowsWorkers

_WORKER: Final = "/v1/workers/{worker}"

WorkerId = Annotated[str, Path(pattern="^[0-9A-Za-z_-]+$", min_length=8, max_length=64)]
Since = Annotated[int, Query(ge=0, le=2**53, description="The newest revision that was applied.")]
Wait = Annotated[float, Query(ge=0, le=models.MAX_WAIT, description="How long to wait for a change, in seconds.")]


def change_routes(bulletin: SharedBulletin, relay: Relay, backend: object) -> APIRouter:
    """Over a bulletin. `backend` is asked to let all workers look at a key again, where it can."""
    routes = APIRouter()

    @routes.get("/v1/changes", response_model=models.News)
    async def changes(request: Request, since: Since, wait: Wait = 0.0) -> Response:
        """What was changed after `since`. Where nothing was, the answer comes with the next change, or after `wait`."""
        gone = asyncio.ensure_future(_gone(request))
        try:
            return answer(news_document(await relay.news_after(since, wait, gone)))
        finally:
            gone.cancel()

    @routes.get("/v1/workers", response_model=models.Workers)
    async def workers() -> Response:
        """Who guards with this store, whether over this service or otherwise, and how far each has followed."""
        return answer(roll_document(await bulletin.roll()))

    @routes.put(_WORKER, response_model=models.Entered)
    async def report(worker: WorkerId, asked: models.Report) -> Response:
        """A worker enters (`revision` null), or says every five seconds that it lives and how far it has followed.

        It has to enter before it remembers any key. `revision` is that from which it follows.
        """
        said = report_from(asked.model_dump())
        if said.revision is not None:
            await bulletin.beat(worker, said)
            return answer({"revision": said.revision})
        return answer({"revision": await bulletin.enter(worker, said)})

    @routes.delete(_WORKER, response_model=models.Done)
    async def leave(worker: WorkerId) -> Response:
        """A worker has ended and remembers nothing any more."""
        await bulletin.leave(worker)
        return answer({})

    @routes.post("/v1/touch", response_model=models.Done)
    async def touch(asked: models.Touch) -> Response:
        """Let every worker look at a key again, because its counters were reset for one."""
        if isinstance(backend, KnowsWorkers):
            await backend.touch(asked.key)
        return answer({})

    return routes


async def _gone(request: Request) -> None:
    """Until whoever asked has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
