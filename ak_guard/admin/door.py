"""What stands before the admin API: whose token it is, how often an address may guess, and how long a body may be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from ak_guard import keys
from ak_guard.address import bucket_of
from ak_guard.admin.bodies import hand_on
from ak_guard.admin.problems import problem
from ak_guard.admin.service_tokens import bearer_token
from ak_guard.admin.turns import Turns
from ak_guard.errors import BackendError
from ak_guard.paths import app_path

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ak_guard.admin.tokens import AdminIdentity, AdminTokens

#: Where the identity stands in the scope of a request that was let through.
IDENTITY: Final = "ak_guard.admin"
#: So many wrong tokens from one address (IPv6: a /64) within a minute slow it down, unless it is set otherwise.
FAILURES: Final = 30

_FAILURE_SECONDS: Final = 60.0
_RIGHT_SECONDS: Final = 3_600.0
_MOST: Final = 10_000
_HOW: Final = "Send an admin token: Authorization: Bearer akadm_…"
_CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="ak_guard admin"'}


class Door:
    """Lets through who has an admin token; the bodies of the others are not even read. `open_paths` need none."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: AdminTokens,
        open_paths: Collection[str],
        failure_limit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._open_paths = frozenset(open_paths)
        self._failures = Failures(failure_limit, clock)
        self._turns = Turns()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Refused before it is accepted, which servers answer with 403.
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        path = app_path(scope["path"], scope.get("root_path", ""))
        if path not in self._open_paths:
            try:
                who, refusal = await self._recognised(scope)
            except BackendError:
                who, refusal = None, problem("store_unavailable", "The store of tokens cannot be reached.")
            if refusal is not None:
                await refusal(scope, receive, send)
                return
            scope = {**scope, IDENTITY: who}
        await hand_on(self._app, scope, receive, send)

    async def _recognised(self, scope: Scope) -> tuple[AdminIdentity | None, Response | None]:
        """Who asks, or what is answered instead. To send no token is no guess."""
        token = bearer_token(value for name, value in scope["headers"] if name.lower() == b"authorization")
        if token is None:
            return None, problem("unauthorized", _HOW, headers=_CHALLENGE)
        bucket = bucket_of(scope["client"][0] if scope.get("client") else None)
        if self._failures.was_right(bucket, token):
            return await self._looked_up(bucket, token)
        async with self._turns.of(bucket):
            if self._failures.may_try(bucket, token):
                return await self._looked_up(bucket, token)
        detail = "Too many wrong tokens came from this address."
        return None, problem("too_many_failures", detail, headers={"Retry-After": "1"})

    async def _looked_up(self, bucket: str, token: bytes) -> tuple[AdminIdentity | None, Response | None]:
        who = await self._tokens.who(token)
        if who is None:
            self._failures.failed(bucket, token)
            return None, problem("unauthorized", _HOW, headers=_CHALLENGE)
        self._failures.right(bucket, token)
        return who, None


class Failures:
    """Wrong tokens by address. One that sent too many may try once a second, so that nobody is locked out for good.

    A token that was right of late is looked at all the same: whoever shares an address with a guesser goes on working.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._failed: TTLCache[str, int] = TTLCache(_MOST, _FAILURE_SECONDS, clock)
        self._spared: TTLCache[str, bool] = TTLCache(_MOST, 1.0, clock)
        self._right: TTLCache[tuple[str, bytes], bool] = TTLCache(_MOST, _RIGHT_SECONDS, clock)

    def may_try(self, bucket: str, token: bytes) -> bool:
        """Whether a token of this address is looked at."""
        if self._failed.get(bucket, 0) < self._limit or self.was_right(bucket, token):
            return True
        if bucket in self._spared:
            return False
        self._spared[bucket] = True
        return True

    def was_right(self, bucket: str, token: bytes) -> bool:
        """Whether this very token was somebody's of late, and is no guess."""
        return (bucket, keys.digest(token)) in self._right

    def failed(self, bucket: str, token: bytes) -> None:
        """A token was nobody's. The minute goes on from the newest."""
        self._right.pop((bucket, keys.digest(token)), None)
        self._failed[bucket] = self._failed.get(bucket, 0) + 1

    def right(self, bucket: str, token: bytes) -> None:
        """A token was somebody's."""
        self._right[bucket, keys.digest(token)] = True
