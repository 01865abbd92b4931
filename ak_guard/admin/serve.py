"""Everything that `ak-guard serve` serves, in one app: this is where each part is put in its place."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount

from ak_guard.admin.console.app import console_app
from ak_guard.admin.running import running
from ak_guard.admin.service import service_app
from ak_guard.admin.tokens import AdminTokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from ak_guard.admin.service_tokens import TokenCheck
    from ak_guard.manager import KeyManager


def serve_app(
    keys: KeyManager, *, service_tokens: Iterable[str] | None = None, service_checks: Sequence[TokenCheck] = ()
) -> ASGIApp:
    """The key service under `/v1/`, the console at the root.

    The app opens the store of `keys` when it starts and closes it when it stops.

    `service_tokens` and `service_checks` are `tokens` and `checks` of `service_app`.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        # Mounted apps hear nothing of start and stop, so the store is opened here for all of them.
        async with running(keys):
            yield

    service = service_app(keys, tokens=service_tokens, checks=service_checks)
    console = console_app(keys, tokens=AdminTokens(keys))
    return Starlette(routes=[Mount("/v1", app=_Whole(service)), Mount("/", app=console)], lifespan=lifespan)


class _Whole:
    """An app whose own paths begin with that of its place: it sees them whole."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": scope.get("app_root_path", "")}, receive, send)
