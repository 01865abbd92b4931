"""Keys of a service that was there before: it says "verify this key" in its own way, and a translation understands it.

Run the service with `uvicorn examples.foreign_key_service:service --port 9100`, the guarded app with
`uvicorn examples.foreign_key_service:app --port 8000`, and call it with the header `x-api-key: an-old-key-of-ours-42`.
"""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from ak_guard import ApiKey, ApiKeyMiddleware, Group, Limit
from ak_guard.backends import Found, HTTPBackend
from ak_guard.backends.http import Asked

if TYPE_CHECKING:
    from starlette.requests import Request

# What somebody else's service knows: by the SHA-256 of a key's text, as most of them keep it.
SUBSCRIPTIONS = {
    hashlib.sha256(b"an-old-key-of-ours-42").hexdigest(): {
        "subscription": "sub-42",
        "customer": "ACME",
        "plan": "pro",
        "status": "ACTIVE",
        "paidUntil": "2040-01-01T00:00:00Z",
        "perMinute": 3,
        "networks": [],
    },
}


async def verify(request: Request) -> JSONResponse:
    """`POST /api/verify {"sha256": …}`: 200 with a subscription, or 404."""
    found = SUBSCRIPTIONS.get((await request.json())["sha256"])
    return JSONResponse(found or {"error": "NO_SUCH_KEY"}, 200 if found else 404)


service = Starlette(routes=[Route("/api/verify", verify, methods=["POST"])])


class Subscriptions:
    """How to ask that service, and what its answers mean."""

    #: Asked while the service is away; also a 404 says that it is back.
    probed = "/"

    def ask(self, digest: bytes) -> Asked:
        return Asked("/api/verify", {"sha256": digest.hex()})

    def found(self, status: int, answer: Any) -> Found | None:
        if status == 404 and answer["error"] == "NO_SUCH_KEY":
            return None
        if status != 200:
            raise ValueError(status)
        # A member that is missing raises: then nobody is let in by mistake.
        key = ApiKey(
            id=answer["subscription"],
            name=answer["customer"],
            group=answer["plan"],
            enabled=answer["status"] == "ACTIVE",
            expires_at=datetime.fromisoformat(answer["paidUntil"]),
            allow_ips=tuple(answer["networks"]),
            limits=(Limit(answer["perMinute"], 60),),
        )
        return Found(key)


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"hello": request.state.ak_guard.key.name})


app = ApiKeyMiddleware(
    Starlette(routes=[Route("/", hello)]),
    backend=HTTPBackend(os.environ.get("SUBSCRIPTIONS_URL", "http://127.0.0.1:9100"), translation=Subscriptions()),
    # That service knows nothing of our groups, so they stand here.
    groups=[Group("pro")],
    # It tells no changes either: a subscription that ends is noticed after so many seconds.
    cache_ttl=10,
)
