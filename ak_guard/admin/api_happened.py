"""The admin API: what happened, who guards, and who may manage."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from ak_guard import documents
from ak_guard.admin import api_asked as asked
from ak_guard.admin import api_told as told
from ak_guard.admin.problems import answer
from ak_guard.admin.tokens import AdminTokens
from ak_guard.admin.visit import Visit, given, visitor
from ak_guard.manager import KeyManager
from ak_guard.notation import iso


def happened_routes(keys: KeyManager, tokens: AdminTokens) -> APIRouter:
    """The audit trail, usage, what stands out in it, and single requests."""
    routes = APIRouter(tags=["what happened"])
    searcher = Annotated[Visit, Depends(visitor(keys, tokens, "view", query=True))]

    @routes.get("/audit", response_model=told.Audit)
    async def audit(visit: searcher, which: Annotated[asked.AuditQuery, Query()]) -> Response:
        """Who changed what, newest first. `next` is `before` of the page behind this one."""
        return await _audit(visit, None, which)

    @routes.get("/keys/{key_id}/audit", response_model=told.Audit)
    async def key_audit(visit: searcher, key_id: str, which: Annotated[asked.AuditQuery, Query()]) -> Response:
        """Who changed this key, newest first; also one that was deleted."""
        return await _audit(visit, key_id, which)

    @routes.get("/usage", response_model=told.Usage)
    async def usage(visit: searcher, which: Annotated[asked.UsageQuery, Query()]) -> Response:
        """What all keys did, and what strangers tried, by hour or day."""
        return answer(documents.usage(await visit.keys.usage(None, **given(which))))

    @routes.get("/keys/{key_id}/usage", response_model=told.Usage)
    async def key_usage(visit: searcher, key_id: str, which: Annotated[asked.UsageQuery, Query()]) -> Response:
        """What this key did, by hour or day, by code, address and route; also one that was deleted."""
        return answer(documents.usage(await visit.keys.usage(key_id, **given(which))))

    @routes.get("/keys/{key_id}/anomalies", response_model=told.Anomalies)
    async def anomalies(visit: searcher, key_id: str, which: Annotated[asked.Since, Query()]) -> Response:
        """What stands out in the use of this key since then (24 hours without it), beside the week before."""
        found = await visit.keys.anomalies(key_id, **given(which))
        return answer({"anomalies": [documents.anomaly(one) for one in found]})

    @routes.get("/keys/{key_id}/learned-addresses", response_model=told.Addresses)
    async def learned_addresses(visit: searcher, key_id: str, which: Annotated[asked.Since, Query()]) -> Response:
        """An allow list for this key, out of where its calls came from since then (30 days without it)."""
        return answer({"addresses": list(await visit.keys.learned_addresses(key_id, **given(which)))})

    @routes.get("/records", response_model=told.Records)
    async def records(visit: searcher, which: Annotated[asked.RecordsQuery, Query()]) -> Response:
        """Single requests, newest first. `next` is `before` of the page behind this one."""
        return await _records(visit, None, which)

    @routes.get("/keys/{key_id}/records", response_model=told.Records)
    async def key_records(visit: searcher, key_id: str, which: Annotated[asked.RecordsQuery, Query()]) -> Response:
        """Single requests of this key, newest first."""
        return await _records(visit, key_id, which)

    return routes


def worker_routes(keys: KeyManager, tokens: AdminTokens) -> APIRouter:
    """Who guards with these keys, and whether they follow."""
    routes = APIRouter(tags=["workers"])
    viewer = Annotated[Visit, Depends(visitor(keys, tokens, "view"))]
    searcher = Annotated[Visit, Depends(visitor(keys, tokens, "view", query=True))]

    @routes.get("/workers", response_model=told.Workers)
    async def workers(visit: viewer) -> Response:
        """The guards that run with this store, the longest running first."""
        return answer({"workers": [documents.worker(worker) for worker in await visit.keys.workers()]})

    @routes.post(
        "/workers/confirm",
        response_model=told.Confirmation,
        responses={202: {"model": told.Confirmation, "description": "A running worker does not follow yet."}},
    )
    async def confirm(visit: searcher, waiting: Annotated[asked.Waiting, Query()]) -> Response:
        """Wait until every running worker follows all changes made so far, for `wait` seconds at most."""
        confirmation = await visit.keys.confirm(timeout=waiting.wait or 0.0)
        return answer(documents.confirmation(confirmation), 200 if confirmation.complete else 202)

    return routes


def token_routes(keys: KeyManager, tokens: AdminTokens) -> APIRouter:
    """Who may manage keys, for owners; and who asks."""
    routes = APIRouter(tags=["admin tokens"])
    viewer = Annotated[Visit, Depends(visitor(keys, tokens, "view"))]
    owner = Annotated[Visit, Depends(visitor(keys, tokens, "own"))]

    @routes.get("/me", response_model=told.Identity)
    async def me(visit: viewer) -> Response:
        """Whose token this is."""
        who = visit.who
        return answer({"id": who.id, "name": who.name, "role": who.role, "expires_at": iso(who.expires_at)})

    @routes.get("/tokens", response_model=told.Tokens)
    async def list_tokens(visit: owner) -> Response:
        """All tokens, the oldest first."""
        return answer({"tokens": [documents.admin_token(token, visit.now) for token in await visit.tokens.list()]})

    @routes.post("/tokens", status_code=201, response_model=told.IssuedToken)
    async def create_token(visit: owner, new: asked.NewToken) -> Response:
        """Make a token. Its text is in the answer and nowhere else afterwards."""
        issued = await visit.tokens.create(**given(new))
        return answer({"secret": issued.secret, "token": documents.admin_token(issued.token, visit.now)}, 201)

    @routes.delete("/tokens/{token_id}", response_model=told.Deleted)
    async def revoke_token(visit: owner, token_id: str) -> Response:
        """End a token at once, with every session that it began."""
        await visit.tokens.revoke(token_id)
        return answer({"deleted": token_id})

    return routes


async def _audit(visit: Visit, key_id: str | None, which: asked.AuditQuery) -> Response:
    entries = await visit.keys.audit(key_id, **given(which))
    more = entries[-1].id if len(entries) == which.limit else None
    return answer({"entries": [documents.audit_entry(entry) for entry in entries], "next": more})


async def _records(visit: Visit, key_id: str | None, which: asked.RecordsQuery) -> Response:
    found = await visit.keys.records(key_id, **given(which))
    more = found[-1].id if len(found) == which.limit else None
    return answer({"records": [documents.record(one) for one in found], "next": more})
