"""What stands before the admin API: whose token it is, how often an address may guess, and how long a body may be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from ak_guard.address import parse_address
from ak_guard.admin.bodies import hand_on
from ak_guard.admin.problems import problem
from ak_guard.admin.service_tokens import bearer_token
from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Receive, Scope, Send

    from ak_guard.admin.tokens import AdminIdentity, AdminTokens

#: Where the identity stands in the scope of a request that was let through.
IDENTITY: Final = "ak_guard.admin"
#: So many wrong tokens from one address (IPv6: a /64) within a minute slow it down.
FAILURES: Final = 30

_FAILURE_SECONDS: Final = 60.0
_ADDRESSES: Final = 10_000
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="ak_guard admin"'}


class Door:
    """Lets through who has an admin token; the bodies of the others are not even read. `open_paths` need none."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: AdminTokens,
        open_paths: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._open_paths = frozenset(open_paths)
        self._failures = Failures(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Refused before it is accepted, which servers answer with 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in self._open_paths:
            client = scope["client"][0] if scope.get("client") else None
            if not self._failures.may_try(client):
                detail = "Too many wrong tokens came from this address."
                await problem("too_many_failures", detail, headers={"Retry-After": "1"})(scope, receive, send)
                return
            try:
                who = await self._who(scope)
            except BackendError:
                await problem("store_unavailable", "The store of tokens cannot be reached.")(scope, receive, send)
                return
            if who is None:
                self._failures.failed(client)
                detail = "Send an admin token: Authorization: Bearer akadm_…"
                await problem("unauthorized", detail, headers=_CHALLENGE)(scope, receive, send)
                return
            scope = {**scope, IDENTITY: who}
        await hand_on(self._app, scope, receive, send)

    async def _who(self, scope: Scope) -> AdminIdentity | None:
        token = bearer_token(value for name, value in scope["headers"] if name.lower() == b"authorization")
        return None if token is None else await self._tokens.who(token)


class Failures:
    """Wrong tokens by address. One that sent too many may try once a second, so that nobody is locked out for good."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._failed: TTLCache[str, int] = TTLCache(_ADDRESSES, _FAILURE_SECONDS, clock)
        self._spared: TTLCache[str, bool] = TTLCache(_ADDRESSES, 1.0, clock)

    def may_try(self, client: str | None) -> bool:
        """Whether a token of this address is looked at."""
        bucket = _bucket(client)
        if self._failed.get(bucket, 0) < FAILURES:
            return True
        if bucket in self._spared:
            return False
        self._spared[bucket] = True
        return True

    def failed(self, client: str | None) -> None:
        """A token was nobody's. The minute goes on from the newest."""
        bucket = _bucket(client)
        self._failed[bucket] = self._failed.get(bucket, 0) + 1


def _bucket(client: str | None) -> str:
    address = None if client is None else parse_address(client)
    return "unknown" if address is None else address.bucket
