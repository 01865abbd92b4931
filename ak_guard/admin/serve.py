"""Everything that `ak-guard serve` serves, in one app: this is where each part is put in its place."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.routing import Mount

from ak_guard.admin.api import admin_app
from ak_guard.admin.console.app import console_app
from ak_guard.admin.running import running
from ak_guard.admin.service import service_app
from ak_guard.admin.service_tokens import Remembered
from ak_guard.admin.tokens import AdminTokens
from ak_guard.paths import app_path

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    from starlette.types import Receive, Scope, Send

    from ak_guard.admin.gate import KeyService
    from ak_guard.admin.service_tokens import TokenCheck
    from ak_guard.manager import KeyManager


def serve_app(
    keys: KeyManager, *, service_tokens: Iterable[str] | None = None, service_checks: Sequence[TokenCheck] = ()
) -> Served:
    """The key service under `/v1/`, for service tokens and admin tokens with the role `service`; the admin API under
    `/api/`, and the console at `/`.

    The app opens the store of `keys` when it starts and closes it when it stops.

    `service_tokens` and `service_checks` are `tokens` and `checks` of `service_app`.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # Mounted apps hear nothing of start and stop, so the store is opened here for all of them.
        async with running(keys):
            yield

    tokens = AdminTokens(keys)
    service = service_app(keys, tokens=service_tokens, checks=[Remembered(tokens.serves), *service_checks])
    console = console_app(keys, tokens=tokens)
    api = admin_app(keys, tokens=tokens)
    return Served(service, routes=[Mount("/api", app=api), Mount("/", app=console)], lifespan=lifespan)


class Served(Starlette):
    """What is served; `hang_up` ends what waits for a change, so that a server can stop."""

    def __init__(self, service: KeyService, **options: Any) -> None:
        super().__init__(**options)
        self._service = service
        self.hang_up: Callable[[], Awaitable[None]] = service.hang_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not mounted: its own paths begin with /v1, and no pattern shall decide about what it refuses itself.
        path = app_path(scope.get("path", ""), scope.get("root_path", ""))
        if scope["type"] != "lifespan" and path.startswith("/v1/"):
            await self._service(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
