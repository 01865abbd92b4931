"""A backend that asks a key service: no database, no pepper, no key's text leaves this process."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import time
from typing import TYPE_CHECKING, Final

from ak_guard.backends.documents import found_from
from ak_guard.backends.feeds import Feeds
from ak_guard.backends.http.address import Address, Patience, address_of, is_open_wire
from ak_guard.backends.http.bulletin import ServiceBulletin
from ak_guard.backends.http.condition import Condition, condition
from ak_guard.backends.http.offer import Offer
from ak_guard.backends.http.storage import HTTPStorage
from ak_guard.backends.http.wire import NotNow, NotOffered, Refused, Unanswered, Wire
from ak_guard.backends.users import Users
from ak_guard.backends.watch import Listeners
from ak_guard.backends.workers import follow_all, listed
from ak_guard.budgets.leases import Leases
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.errors import AkGuardError, BackendError
from ak_guard.loops import PerLoop
from ak_guard.usage.documents import record_document

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ak_guard.backends.base import Found
    from ak_guard.backends.bulletin import SharedBulletin
    from ak_guard.backends.http.foreign import Translation
    from ak_guard.backends.workers import Confirmation, Worker
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.usage import UsageRecord

log: Final = logging.getLogger("ak_guard")

# Of a batch of records, so many go together: a service need not take bodies without end.
_RECORDS: Final = 500

TOKEN_VARIABLE: Final = "AK_GUARD_SERVICE_TOKEN"  # noqa: S105  # the name of a variable


class HTTPBackend:
    """Keys and budgets of the key service at `url`, such as `https://keys.internal` or `http://127.0.0.1:9000`.

    `token` is the service token (default: `AK_GUARD_SERVICE_TOKEN`), `headers` go along with each request. `ca` is a
    file of certificates to trust instead of the machine's, `certificate` a file with this client's certificate and key,
    or one file for each; `tls` is a whole context in place of both. `connect` and `read` are in seconds. Redirects are
    not followed and proxies of the environment are not used.

    `translation` makes it understand a service that speaks no protocol of ours. Such a service counts no budgets and
    tells no changes: budgets are counted in this process, and keys are asked about again after `cache_ttl`. `counters`
    counts in place of the service. What the service does not offer it is asked for again a minute later, by `clock`.
    Raises `ConfigurationError` for what cannot work.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        ca: str | None = None,
        certificate: str | tuple[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        connect: float = 1.0,
        read: float = 2.0,
        translation: Translation | None = None,
        counters: MultiWindowSupport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address: Address = address_of(
            url,
            token=os.environ.get(TOKEN_VARIABLE) if token is None else token,
            headers=headers or {},
            ca=ca,
            certificate=certificate,
            tls=tls,
            patience=Patience(connect, read),
        )
        self._shows_token = "authorization" in self._address.headers and is_open_wire(self._address.base)
        if self._shows_token:
            log.warning("the service token goes to %s unencrypted; write https://", self._address.base)
        self._translation = translation
        self._wires = PerLoop(self._wire)
        self._storage = HTTPStorage(self._wires)
        #: Whether budgets are counted here, whatever the service can do.
        self.counts_itself: bool = counters is not None or translation is not None
        self._owns_counters = counters is None
        if counters is None:
            counters = MemoryStorage() if translation is not None else Leases(self._storage)
        self.counters: MultiWindowSupport = counters
        self.bulletin: SharedBulletin = ServiceBulletin(self._wires, clock)
        self._listeners = Listeners(*([counters.drop] if isinstance(counters, Leases) else []))
        self._feeds = Feeds(self.bulletin, self._listeners)
        self._users = Users()
        self._usage = Offer(
            clock,
            missing="this key service takes no usage; what requests do is not kept",
            back="this key service takes usage now",
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"HTTPBackend({self._address.base!r})"

    async def start(self) -> None:
        """Enter as one more user. The service is asked when the first request comes."""
        self._users.enter()
        if self._translation is None:
            self._feeds.start()

    async def aclose(self) -> None:
        """Leave; the last user closes every connection."""
        if await self._users.leave():
            await self._feeds.aclose()
            if self._owns_counters:
                await self.counters.aclose()
            for wire in self._wires.drain():
                await wire.aclose()

    def before_close(self, finish: Callable[[], Awaitable[None]]) -> None:
        self._users.before_close(finish)

    def watch(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        return self._listeners.add(listener)

    async def find(self, digest: bytes) -> Found | None:
        try:
            # Its turn may be long in coming where very many keys are asked about at once.
            async with asyncio.timeout(2 * self._address.patience.whole):
                if self._translation is not None:
                    return await self._find_elsewhere(self._translation, digest)
                await self._feeds.ready()
                return found_from(await self._wires.get().told("POST", "/v1/resolve", {"digest": digest.hex()}))
        except TimeoutError:
            raise BackendError("the key service did not answer in time") from None
        except (Unanswered, NotOffered, Refused) as error:
            raise BackendError(str(error)) from error

    async def service_condition(self) -> Condition | None:
        """What the service can do, of which nothing is changed; None where it has a protocol of its own.

        Raises `BackendError` when it does not answer.
        """
        if self._translation is not None:
            return None
        # Over connections of its own, because nobody has started these.
        wire = self._wire()
        try:
            return await condition(wire, open_wire=self._shows_token)
        finally:
            await wire.aclose()

    def guarded(self, *, stale: float, counters: str) -> None:
        self._feeds.guarded(stale, counters)

    @property
    def keeps_usage_durably(self) -> bool:
        """That of the service, where it speaks our protocol."""
        return self._translation is None

    async def add_usage(self, batch_id: str, records: Sequence[UsageRecord]) -> None:
        if self._translation is not None or not self._usage.worth_asking:
            return
        parts = range(0, max(1, len(records)), _RECORDS)
        for number, at in enumerate(parts):
            documents = [record_document(record) for record in records[at : at + _RECORDS]]
            try:
                await self._wires.get().told(
                    "POST", "/v1/usage", {"batch": f"{batch_id}-{number}", "records": documents}
                )
            except NotOffered:
                self._usage.was_missing()
                return
            except (Unanswered, NotNow) as error:
                raise BackendError(str(error)) from error
            except Refused as error:
                # Sent again it would be refused again, and nothing else would ever get through.
                log.error("%d usage records are lost: %s", len(documents), error)
            else:
                self._usage.was_there()
            # Requests go on in between.
            await asyncio.sleep(0)

    async def touch(self, key_id: str) -> None:
        try:
            await self._wires.get().told("POST", "/v1/touch", {"key": key_id})
        except AkGuardError as error:
            raise BackendError(str(error)) from error
        self._listeners.tell(key_id)

    async def workers(self) -> list[Worker]:
        return await listed(self.bulletin)

    async def confirm(self, *, timeout: float) -> Confirmation:  # noqa: ASYNC109  # late is an answer, not an error
        return await follow_all(self.bulletin, timeout=timeout)

    async def _find_elsewhere(self, translation: Translation, digest: bytes) -> Found | None:
        asked = translation.ask(digest)
        try:
            status, answer = await self._wires.get().ask(
                asked.method, asked.path, asked.document, headers=asked.headers
            )
            return translation.found(status, answer)
        except Unanswered as error:
            raise BackendError(str(error)) from error
        except (LookupError, TypeError, ValueError) as error:
            # The answer itself may hold what nobody should read in a log.
            raise BackendError(
                f"the key service gave an answer that makes no sense ({type(error).__name__})"
            ) from error

    def _wire(self) -> Wire:
        probed = "/v1/healthz" if self._translation is None else self._translation.probed
        return Wire(self._address, probed, self._back)

    def _back(self) -> None:
        """The service answers again, in the running event loop."""
        task = asyncio.get_running_loop().create_task(self._storage.flush_after_outage(), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
