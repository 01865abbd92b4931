"""The console in the process: a browser without scripts that fills in forms as they stand on the page."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.routing import Mount

from ak_guard.admin import AdminTokens, console_app
from tests.support import client_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from httpx2 import AsyncClient, Response

    from ak_guard import KeyManager
    from ak_guard.testing import ManualClock

_PROOF: Final = re.compile(r'name="proof" value="([^"]+)"')
_ONCE: Final = re.compile(r'name="once" value="([^"]+)"')
_LOCK: Final = re.compile(r'name="lock" value="([^"]*)"')
_SECRET: Final = re.compile(r'id="sec"[^>]*>([^<]+)<')


@dataclass
class Visitor:
    """Somebody at the console. `page` is the last page that was shown."""

    client: AsyncClient
    keys: KeyManager
    tokens: AdminTokens
    page: Response
    clock: ManualClock

    @property
    def text(self) -> str:
        return unescape(self.page.text)

    @property
    def words(self) -> str:
        """What is to be read on the page, without its markup."""
        body = re.sub(r"<svg.*?</svg>|<[^>]+>", " ", self.page.text.partition("<main")[2], flags=re.DOTALL)
        return re.sub(r" (?=[.,:;])", "", " ".join(unescape(body).split()))

    @property
    def secret(self) -> str:
        found = _SECRET.search(self.page.text)
        assert found, "no secret is shown"
        return found[1]

    @property
    def lock(self) -> str:
        """What the form that is shown knows of the last change."""
        found = _LOCK.search(self.page.text)
        assert found, "no form of a key is shown"
        return found[1]

    async def usage_written(self, key_id: str, *, calls: int) -> None:
        """Wait until what was recorded behind can be read."""
        while (await self.keys.usage(key_id)).calls < calls:  # noqa: ASYNC110  # a store has no event for it
            await asyncio.sleep(0.02)

    async def go(self, path: str) -> Response:
        self.page = await self.client.get(path, follow_redirects=True)
        return self.page

    async def send(
        self, path: str, fields: Mapping[str, str | Sequence[str]] | None = None, *, follow: bool = True
    ) -> Response:
        """Send a form from the page that is shown, with what is hidden in it."""
        hidden = {"proof": _PROOF.findall(self.page.text)[0]}
        if lock := _LOCK.search(self.page.text):
            hidden["lock"] = unescape(lock[1])
        if once := _ONCE.findall(self.page.text):
            hidden["once"] = once[0]
        self.page = await self.client.post(path, data={**hidden, **(fields or {})}, follow_redirects=follow)
        return self.page

    async def sign_in(self, role: str = "owner") -> str:
        """Sign in with a new token of this role; returns its text."""
        token = await self.tokens.create(f"{role} of the tests", role=role)
        await self.go("/sign-in")
        await self.send("/sign-in", {"token": token.secret})
        return token.secret


@asynccontextmanager
async def visitor(keys: KeyManager, clock: ManualClock, *, prefix: str = "") -> AsyncIterator[Visitor]:
    """A visitor of a console over these keys, mounted under a prefix."""
    tokens = AdminTokens(keys, environment="", clock=clock)
    # Templates are read from the disk when a console is put together, which a server does before it serves.
    console = await asyncio.to_thread(console_app, keys, tokens=tokens, clock=clock)
    app = Starlette(routes=[Mount(prefix, console)]) if prefix else console
    async with client_for(app) as client:
        yield Visitor(client, keys, tokens, await client.get("/nowhere"), clock)
