"""A key service over some store, in a thread of its own, and what asks it."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from functools import cache, wraps
from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse

from ak_guard import KeyManager
from ak_guard.admin import service_app
from ak_guard.backends import HTTPBackend
from tests.support import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from ak_guard.admin.gate import KeyService
    from ak_guard.backends import KeyStore

TOKEN = "service-token-of-these-tests"

_CHANGES = ("insert", "change", "delete", "add_secret", "put_group", "delete_group", "touch")


class _House:
    """One server for all tests of a process; each key service has a path of its own there."""

    def __init__(self) -> None:
        self._services: dict[str, ASGIApp] = {}
        self._numbers = itertools.count(1)

    @contextmanager
    def room(self, service: KeyService, tap: Tap) -> Iterator[str]:
        """The path of a service, as long as this lasts."""
        path = f"/{next(self._numbers)}"
        tap.service = service
        self._services[path] = tap
        yield path
        del self._services[path]
        # Before the store is closed, as a server does that ends.
        asyncio.run_coroutine_threadsafe(self._end(service, tap), self.loop).result(10)

    async def _end(self, service: KeyService, tap: Tap) -> None:
        await service.hang_up()
        while tap.running:  # noqa: ASYNC110  # nobody tells when a request has ended
            await asyncio.sleep(0.001)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.loop = asyncio.get_running_loop()
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        path = "/" + scope["path"].split("/")[1]
        await self._services[path]({**scope, "root_path": path}, receive, send)


class Tap:
    """Between a key service and its callers: counts calls by their path, and loses answers on demand."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        #: How many requests are being answered.
        self.running: int = 0
        #: Of these paths the next answer does not get through, though all is done.
        self.lose: set[str] = set()
        #: What these paths answer instead.
        self.instead: dict[str, ASGIApp] = {}
        self.service: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.running += 1
        try:
            await self._answer(scope, receive, send)
        finally:
            self.running -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope["root_path"])
        self.calls[path] += 1
        if path in self.instead:
            await self.instead[path](scope, receive, send)
        elif path in self.lose:
            self.lose.discard(path)
            await self.service(scope, receive, _nowhere)
            await PlainTextResponse("lost on the way", 502)(scope, receive, send)
        else:
            await self.service(scope, receive, send)


async def _nowhere(_: Message) -> None:
    pass


@cache
def _house() -> tuple[_House, str]:
    house = _House()
    # It ends with the process.
    opened = running(house)
    _OPEN.append(opened)
    return house, opened.__enter__()


_OPEN: list[Any] = []


@contextmanager
def served(keys: KeyManager, *, own_time: bool = True, tap: Tap | None = None) -> Iterator[str]:
    """Where the key service of this manager can be asked, with `TOKEN`."""
    house, url = _house()
    with house.room(service_app(keys, tokens=[TOKEN], own_time=own_time), tap or Tap()) as path:
        yield url + path


@asynccontextmanager
async def across_the_wire(store: KeyStore) -> AsyncIterator[Any]:
    """What guards are given where a key service stands between them and the store."""
    with served(KeyManager(store), own_time=False) as url:
        # A machine that is busy with other tests is slow, which is no outage.
        asking = HTTPBackend(url, token=TOKEN, connect=5.0, read=20.0)
        await asking.start()
        yield _AcrossTheWire(store, asking)
        await asking.aclose()


class _AcrossTheWire:
    """People change keys in the store, and wait for those who follow; all that guards ask goes to the key service."""

    def __init__(self, store: KeyStore, asking: HTTPBackend) -> None:
        theirs = {name: getattr(store, name) for name in dir(store) if not name.startswith("_")}
        ours = {name: getattr(asking, name) for name in dir(asking) if not name.startswith("_")}
        changes = {name: _confirmed(theirs[name], asking) for name in _CHANGES}
        # As attributes of its own, so that it is seen to have what the protocols ask for.
        vars(self).update({**theirs, **ours, **changes})


def _confirmed(change: Any, asking: HTTPBackend) -> Any:
    @wraps(change)
    async def confirmed(*args: Any, **more: Any) -> Any:
        outcome = await change(*args, **more)
        assert (await asking.confirm(timeout=20.0)).complete
        return outcome

    return confirmed
