"""The admin API: what is done to keys, and what would become of a request."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from ak_guard import documents
from ak_guard.admin import api_asked as asked
from ak_guard.admin import api_told as told
from ak_guard.admin.api_keys import IfMatch, confirmed, one_key
from ak_guard.admin.problems import answer
from ak_guard.admin.tokens import AdminTokens
from ak_guard.admin.visit import Visit, asked_version, given, tagged, visitor
from ak_guard.manager import KeyManager


def deed_routes(keys: KeyManager, tokens: AdminTokens) -> APIRouter:
    """Enable, disable, rotate, reset and replace keys; ask how full and how they would be judged."""
    routes = APIRouter(tags=["keys"])
    viewer = Annotated[Visit, Depends(visitor(keys, tokens, "view"))]
    editor = Annotated[Visit, Depends(visitor(keys, tokens, "edit"))]
    waiter = Annotated[Visit, Depends(visitor(keys, tokens, "edit", query=True))]

    @routes.post("/keys/{key_id}/enable", response_model=told.OneKey)
    async def enable_key(visit: editor, key_id: str) -> Response:
        """Let a key in again."""
        return one_key(visit, await visit.keys.enable(key_id))

    @routes.post(
        "/keys/{key_id}/disable",
        response_model=told.Changed,
        responses={202: {"model": told.Changed, "description": "Stored, but a running worker has not confirmed it."}},
    )
    async def disable_key(visit: waiter, key_id: str, waiting: Annotated[asked.Waiting, Query()]) -> Response:
        """Refuse a key from now on. With `wait` the answer tells which running workers have confirmed it."""
        key = await visit.keys.disable(key_id)
        return await confirmed(visit, {"key": documents.key(key, visit.now)}, waiting.wait, tagged(key))

    @routes.post("/keys/{key_id}/rotate", response_model=told.IssuedKey)
    async def rotate_key(visit: editor, key_id: str, how: asked.Rotation, if_match: IfMatch = None) -> Response:
        """Give a key a new secret; the old one works on for `grace`. Id, rules and usage stay."""
        version = asked_version(await visit.keys.get(key_id), if_match)
        issued = await visit.keys.rotate(key_id, grace=how.grace, key=how.key, version=version)
        return answer(documents.issued(issued, visit.now), headers=tagged(issued.key))

    @routes.post("/keys/{key_id}/reset", response_model=told.Status)
    async def reset_key(visit: editor, key_id: str, what: asked.Reset) -> Response:
        """Give back what was used of the quota, of the windows, or of both; answers what is used now."""
        await visit.keys.reset(key_id, quota=what.quota, limits=what.limits)
        return answer(documents.status(await visit.keys.status(key_id)))

    @routes.get("/keys/{key_id}/status", response_model=told.Status)
    async def key_status(visit: viewer, key_id: str) -> Response:
        """What is used, held and left of quota and windows, and when they reset."""
        return answer(documents.status(await visit.keys.status(key_id)))

    @routes.post(
        "/keys/{key_id}/leak",
        response_model=told.LeakReport,
        responses={202: {"model": told.LeakReport, "description": "Disabled, but a running worker has not confirmed."}},
    )
    async def leak_key(visit: editor, key_id: str, leak: asked.Leak) -> Response:
        """The key leaked: disable it, wait for every worker, replace it, and tell what it did since."""
        report = await visit.keys.leak(key_id, **{"wait": leak.wait, **given(leak)})
        document = {
            "report": report.as_json(),
            "markdown": report.markdown(),
            "secret": None if report.replacement is None else report.replacement.secret,
            "environment_lines": list(report.environment_lines),
        }
        return answer(document, 200 if report.complete else 202)

    @routes.post("/explain", response_model=told.Explanation)
    async def explain(visit: viewer, question: asked.Question) -> Response:
        """What would become of a request, rule by rule, and when it would pass. Nothing is charged or recorded."""
        found = await visit.keys.explain(
            question.key,
            ip=question.ip,
            path=question.path,
            method=question.method,
            cost=question.cost,
            at=question.at,
        )
        return answer(documents.explanation(found, visit.now))

    return routes
