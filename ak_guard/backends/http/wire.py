"""The way to a key service from one event loop: pooled connections, deadlines, a second try where that is safe."""

from __future__ import annotations

import asyncio
import random
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import httpcore2  # noqa: F401  # httpx2 imports it with the first client, which is too late: then an event loop runs
import httpx2

from ak_guard.backends.http.breaker import Breaker
from ak_guard.errors import AkGuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ak_guard.backends.http.address import Address

# So many requests at a time, besides those that wait for changes; more callers wait for their turn.
_AT_ONCE: Final = 64
_CONNECTIONS: Final = _AT_ONCE + 8
# Shorter than servers keep one that is not used: whoever closes first shall be the client.
_KEEP_SECONDS: Final = 4.0
# The second try, a moment later, where the first one failed quickly; a service that is slow is not asked twice.
_TRIES: Final = 2
_PAUSE_SECONDS: Final = (0.01, 0.05)
_QUICK_SECONDS: Final = 0.5
_NOT_OFFERED: Final = {404, 405, 501}
_NOT_LET_IN: Final = {401, 403, 407}
_NOT_NOW: Final = {408, 425, 429}
_UNREADABLE: Final = {400, 413, 422}


class Unanswered(AkGuardError):
    """No answer came. `reached` says whether the service may have got the request."""

    def __init__(self, problem: str, *, reached: bool, counts: bool = True) -> None:
        super().__init__(problem)
        self.reached = reached
        #: Whether it says that the service is away.
        self.counts = counts


class NotOffered(AkGuardError):
    """The service does not know this path: it is a smaller one."""


class Refused(AkGuardError):
    """The service has answered that it will not, and would answer so again."""


class Unreadable(Refused):
    """It is the document that the service will not have, of which a part may be good. Nothing of it was done."""


class NotNow(Refused):
    """What was asked stays good: the service is busy, or somebody stands before it."""


class NotLetIn(NotNow):
    """The service does not know this client, which can be mended there."""


class Wire:
    """Of one event loop; opened with the first request. `on_back` is called when the service answers again."""

    def __init__(self, address: Address, probed: str, on_back: Callable[[], None]) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._address = address
        self._probed = probed
        self._pool: httpx2.AsyncHTTPTransport | None = None
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self.breaker: Breaker = Breaker(self._is_back, on_back)

    async def ask(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
        waits: float = 0.0,
    ) -> tuple[int, Any]:
        """Status and document of an answer below 500. `again` says that a request which got there may be sent anew.

        `waits` is how many seconds more the service may take, for one that is not in a hurry. Raises `Unanswered`.
        """
        async with nullcontext() if waits else self._turns:
            return await self._ask(method, path, document, query, headers, again, waits)

    async def _ask(
        self,
        method: str,
        path: str,
        document: object,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        again: bool,
        waits: float,
    ) -> tuple[int, Any]:
        for attempt in range(1, _TRIES + 1):
            if self.breaker.is_open:
                raise Unanswered("the key service is away", reached=False)
            began = self.loop.time()
            try:
                answer = await self._send(method, path, document, query, headers, waits)
            except Unanswered as error:
                if error.counts:
                    self.breaker.failed()
                quick = self.loop.time() - began < _QUICK_SECONDS
                if attempt == _TRIES or not quick or (error.reached and not again) or not error.counts:
                    raise
                await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311  # spreads those who met
            else:
                self.breaker.succeeded()
                break
        return answer

    async def told(self, method: str, path: str, document: object = None, **how: Any) -> Any:
        """The document of a good answer. Raises `Unanswered`, `NotOffered` or a kind of `Refused`."""
        status, answer = await self.ask(method, path, document, **how)
        if 200 <= status < 300:
            return answer
        if status in _NOT_OFFERED:
            raise NotOffered(f"the key service has no {method} {path}")
        if status in _NOT_LET_IN:
            raise NotLetIn(f"the key service does not accept the service token ({status})")
        code = answer.get("code") if isinstance(answer, dict) else None
        raise _refusal(status)(f"the key service refused {method} {path} ({status}{f' {code}' if code else ''})")

    async def rest(self) -> None:
        """Close every connection; with the next request new ones are opened."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.aclose()

    async def aclose(self) -> None:
        """Stop, in whichever event loop this is."""
        if self.loop is asyncio.get_running_loop():
            await self.breaker.aclose()
            await self.rest()
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(lambda: self.loop.create_task(self.aclose()))

    async def _send(
        self,
        method: str,
        path: str,
        document: object,
        query: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        waits: float,
    ) -> tuple[int, Any]:
        connect, read = self._address.patience
        pool = self._pool = self._pool or _pool(self._address)
        timeout = httpx2.Timeout(read + waits, connect=connect, pool=connect)
        more: dict[str, Any] = {} if document is None else {"json": document}
        request = httpx2.Request(
            method,
            _url(self._address.base + path),
            params=query,
            headers=self._address.headers if headers is None else {**self._address.headers, **headers},
            extensions={"timeout": timeout.as_dict()},
            **more,
        )
        try:
            async with asyncio.timeout(self._address.patience.whole + waits):
                # Of a whole client nothing would be needed: no redirects, no cookies, no proxies.
                response = await pool.handle_async_request(request)
                await response.aread()
        except httpx2.PoolTimeout:
            raise Unanswered(
                "too many requests to the key service are under way", reached=False, counts=False
            ) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise Unanswered(f"the key service cannot be reached ({type(error).__name__})", reached=False) from error
        except (httpx2.HTTPError, TimeoutError, RuntimeError) as error:
            # A client that was closed meanwhile raises RuntimeError.
            raise Unanswered(f"the key service did not answer ({type(error).__name__})", reached=True) from error
        if response.status_code >= 500 and response.status_code not in _NOT_OFFERED:
            raise Unanswered(f"the key service failed ({response.status_code})", reached=True)
        return response.status_code, _document(response)

    async def _is_back(self) -> bool:
        try:
            await self._send("GET", self._probed, None, None, None, 0.0)
        except Unanswered:
            return False
        return True


def _pool(address: Address) -> httpx2.AsyncHTTPTransport:
    return httpx2.AsyncHTTPTransport(
        verify=address.tls,
        limits=httpx2.Limits(
            max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=_KEEP_SECONDS
        ),
        trust_env=False,
    )


# To read an address costs as much as to send a small request.
_url = lru_cache(maxsize=256)(httpx2.URL)


def _refusal(status: int) -> type[Refused]:
    # Redirects come from whoever stands before a service.
    if status < 400 or status in _NOT_NOW:
        return NotNow
    return Unreadable if status in _UNREADABLE else Refused


def _document(response: httpx2.Response) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError as error:
        if response.is_success:
            raise Unanswered("the key service answered with something else than JSON", reached=True) from error
        return None
