"""The admin API: keys and what is done to them."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

import logging
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Response

from ak_guard import documents
from ak_guard.admin import api_asked as asked
from ak_guard.admin import api_told as told
from ak_guard.admin.problems import answer
from ak_guard.admin.tokens import AdminTokens
from ak_guard.admin.visit import Refused, Visit, asked_version, given, tagged, visitor
from ak_guard.errors import BackendError, NotFound, Repeated
from ak_guard.listing import KeyFilter
from ak_guard.manager import KeyManager
from ak_guard.records import ApiKey

log: Final = logging.getLogger("ak_guard")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern="^[!-~]+$",
        description=(
            "Chosen by you. The same request with the same text within a day makes no second key: the first one is "
            "answered with 200 and without its secret, which exists in the first answer only. Lost it? Rotate the key."
        ),
    ),
]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="The ETag of the version that is changed, or *.")]


def key_routes(keys: KeyManager, tokens: AdminTokens) -> APIRouter:
    """Create, list, look at, change and delete keys."""
    routes = APIRouter(tags=["keys"])
    viewer = Annotated[Visit, Depends(visitor(keys, tokens, "view"))]
    searcher = Annotated[Visit, Depends(visitor(keys, tokens, "view", query=True))]
    editor = Annotated[Visit, Depends(visitor(keys, tokens, "edit"))]
    waiter = Annotated[Visit, Depends(visitor(keys, tokens, "edit", query=True))]

    @routes.get("/keys", response_model=told.KeyPage)
    async def list_keys(visit: searcher, which: Annotated[asked.Which, Query()]) -> Response:
        """Keys that match, a page at a time, and how many there are in each state.

        `next` and `previous` are places in this order; they stay good whatever is changed or deleted meanwhile.
        """
        return await _page(visit, which)

    @routes.post(
        "/keys",
        status_code=201,
        response_model=told.IssuedKey,
        responses={200: {"model": told.IssuedKey, "description": "The same request made this key before."}},
    )
    async def create_key(visit: editor, new: asked.NewKey, idempotency_key: IdempotencyKey = None) -> Response:
        """Create a key. Its secret is in the answer and nowhere else afterwards."""
        return await _created(visit, new, idempotency_key)

    @routes.get("/keys/{key_id}", response_model=told.OneKey)
    async def get_key(visit: viewer, key_id: str) -> Response:
        """One key. Its `ETag` is what `If-Match` wants where it is changed."""
        return one_key(visit, await visit.keys.get(key_id))

    @routes.patch("/keys/{key_id}", response_model=told.OneKey)
    async def change_key(visit: editor, key_id: str, changes: asked.KeyChanges, if_match: IfMatch = None) -> Response:
        """Change the members that are sent; null takes a rule away. What was used of quota and windows stays."""
        version = asked_version(await visit.keys.get(key_id), if_match, required=True)
        fields = given(changes)
        spare = not fields.pop("force", False)
        return one_key(visit, await visit.keys.update(key_id, **fields, spare_callers=spare, version=version))

    @routes.delete("/keys/{key_id}", response_model=told.Deleted)
    async def delete_key(
        visit: waiter, key_id: str, waiting: Annotated[asked.Waiting, Query()], if_match: IfMatch = None
    ) -> Response:
        """Remove a key for good, with its secrets and counters. Its usage and history stay."""
        version = asked_version(await visit.keys.get(key_id), if_match)
        await visit.keys.delete(key_id, version=version)
        return await confirmed(visit, {"deleted": key_id}, waiting.wait)

    return routes


async def _page(visit: Visit, which: asked.Which) -> Response:
    where = KeyFilter(
        search=which.search,
        group=which.group,
        owner=which.owner,
        state=which.state,
        environment=which.environment,
        used=which.used,
        unused_days=which.unused_days,
    )
    page = await visit.keys.page(where, sort=which.sort, after=which.after, before=which.before, limit=which.limit)
    statuses = await visit.keys.statuses(listed.key.id for listed in page.items) if which.status else {}
    strayed = await visit.keys.new_networks(page.items)
    rows = []
    for listed in page.items:
        row = documents.listed(listed, visit.now, new_network=listed.key.id in strayed)
        if which.status:
            status = statuses.get(listed.key.id)
            row["status"] = None if status is None else documents.status(status)
        rows.append(row)
    return answer(
        {
            "keys": rows,
            "next": page.next,
            "previous": page.previous,
            "total": page.total,
            "counts": documents.counts(page.counts),
        }
    )


async def _created(visit: Visit, new: asked.NewKey, idempotency_key: str | None) -> Response:
    try:
        issued = await visit.keys.create(**given(new), request_id=idempotency_key)
    except Repeated as repeated:
        if not repeated.same:
            problem = "was used for another key"
            errors = [{"field": "Idempotency-Key", "problem": problem}]
            raise Refused("invalid", f"Idempotency-Key: {problem}", errors=errors) from None
        try:
            made = await visit.keys.get(repeated.key_id)
        except NotFound:
            raise Refused("conflict", "The key that this request made was deleted since.") from None
        return answer({"secret": None, "key": documents.key(made, visit.now)}, headers=tagged(made))
    return answer(documents.issued(issued, visit.now), 201, headers=tagged(issued.key))


def one_key(visit: Visit, key: ApiKey) -> Response:
    """A key as an answer, with its version."""
    return answer({"key": documents.key(key, visit.now)}, headers=tagged(key))


async def confirmed(
    visit: Visit, document: dict[str, Any], wait: float | None, headers: dict[str, str] | None = None
) -> Response:
    """Answer a change that was made, with who follows it where somebody waits for that: 202 unless all do."""
    if wait is None:
        return answer({**document, "confirmation": None}, headers=headers)
    try:
        confirmation = await visit.keys.confirm(timeout=wait)
    except BackendError as error:
        # The change stands, and whoever is told that it failed would make it once more.
        log.warning("which workers follow a change could not be asked: %s", error)
        return answer({**document, "confirmation": None}, 202, headers=headers)
    status = 200 if confirmation.complete else 202
    return answer({**document, "confirmation": documents.confirmation(confirmation)}, status, headers=headers)
