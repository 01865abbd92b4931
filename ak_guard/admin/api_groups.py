"""The admin API: groups."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from ak_guard import documents
from ak_guard.admin import api_asked as asked
from ak_guard.admin import api_told as told
from ak_guard.admin.api_keys import IfMatch
from ak_guard.admin.problems import answer
from ak_guard.admin.tokens import AdminTokens
from ak_guard.admin.visit import Visit, asked_version, tagged, visitor
from ak_guard.errors import NotFound
from ak_guard.manager import KeyManager
from ak_guard.records import Group


def group_routes(keys: KeyManager, tokens: AdminTokens) -> APIRouter:
    """Create, list, replace and delete groups. A name may hold slashes, so nothing stands behind it."""
    routes = APIRouter(tags=["groups"])
    viewer = Annotated[Visit, Depends(visitor(keys, tokens, "view"))]
    editor = Annotated[Visit, Depends(visitor(keys, tokens, "edit"))]

    @routes.get("/groups", response_model=told.Groups)
    async def list_groups(visit: viewer) -> Response:
        """All groups by name. Those that an app defines itself are not stored here."""
        return answer({"groups": [documents.group(group) for group in await visit.keys.list_groups()]})

    @routes.post("/groups", status_code=201, response_model=told.OneGroup)
    async def create_group(visit: editor, new: asked.NewGroup) -> Response:
        """Add a group."""
        return _one(await visit.keys.create_group(_group(new.name, new)), 201)

    @routes.get("/groups/{name:path}", response_model=told.OneGroup)
    async def get_group(visit: viewer, name: str) -> Response:
        """One group. Its `ETag` is what `If-Match` wants where it is replaced."""
        return _one(await _stored(visit, name))

    @routes.put("/groups/{name:path}", response_model=told.OneGroup)
    async def replace_group(visit: editor, name: str, rules: asked.GroupRules, if_match: IfMatch = None) -> Response:
        """Replace the rules of a group as a whole; its keys follow at once."""
        version = asked_version(await _stored(visit, name), if_match, required=True)
        return _one(await visit.keys.update_group(_group(name, rules), version=version))

    @routes.delete("/groups/{name:path}", response_model=told.Deleted)
    async def delete_group(visit: editor, name: str, if_match: IfMatch = None) -> Response:
        """Remove a group. Its keys are refused with `group_not_allowed` until they get another one."""
        version = asked_version(await _stored(visit, name), if_match)
        await visit.keys.delete_group(name, version=version)
        return answer({"deleted": name})

    return routes


async def _stored(visit: Visit, name: str) -> Group:
    if not name.isprintable() or len(name) > 200:
        # No group is named so, and some databases cannot even be asked.
        raise NotFound("no group has this name")
    return await visit.keys.get_group(name)


def _group(name: str, rules: asked.GroupRules) -> Group:
    return Group(
        name,
        routes=rules.routes,
        limits=rules.limits,
        shared_limits=rules.shared_limits,
        multiplier=rules.multiplier,
        enabled=rules.enabled,
    )


def _one(group: Group, status: int = 200) -> Response:
    return answer({"group": documents.group(group)}, status, headers=tagged(group))
