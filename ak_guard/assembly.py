"""Put a guard together from the settings of a middleware, or say which of them is wrong."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ak_guard.address import ClientResolver, IPSet
from ak_guard.backends import CountsBudgets, KeyLookup, backend_from_url
from ak_guard.backends.base import Closable, KeepsUsage, TellsClosing
from ak_guard.backends.cached import CachedLookup
from ak_guard.backends.workers import KnowsWorkers
from ak_guard.budgets import Leases, MemoryStorage, counters_from
from ak_guard.budgets.place import place_of
from ak_guard.checks import ServiceRules
from ak_guard.errors import BackendError, ConfigurationError
from ak_guard.extract import KeyFinder
from ak_guard.floods import FailureLimit
from ak_guard.guard import Guard
from ak_guard.holder import Holder
from ak_guard.metering import Meter
from ak_guard.paths import PublicPaths
from ak_guard.records import Limit
from ak_guard.replies import Replies
from ak_guard.settings import Options, check, exact_paths, group_list, names
from ak_guard.streams import OpenStreams
from ak_guard.subject import SubjectMaker
from ak_guard.usage.recorder import Recorder, handed_to

if TYPE_CHECKING:
    from limits.aio.storage import Storage

    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.subject import Subject

log: Final = logging.getLogger("ak_guard")


@dataclass(frozen=True, slots=True)
class Assembly:
    """Everything a door needs. `owned` are the stores that this middleware opened itself.

    `streams` is None where running streams are left alone, `recorder` where nothing is recorded, `holder` where nobody
    may look at their own key, and `meter` where answers are not read for what they cost.
    """

    guard: Guard
    find_key: KeyFinder
    replies: Replies
    public: PublicPaths | None
    backend: KeyLookup
    known: CachedLookup[Subject]
    streams: OpenStreams | None
    recorder: Recorder | None
    holder: Holder | None
    meter: Meter | None
    owned: tuple[MultiWindowSupport, ...]

    async def start(self) -> str | None:
        """Open what is to be opened; None, or the text of what is wrong with the setup."""
        self.known.start()
        if self.streams is not None:
            self.streams.start()
        if isinstance(self.backend, Closable):
            try:
                await self.backend.start()
            except ConfigurationError as error:
                return f"ak_guard is not configured: {error}"
            except BackendError as error:
                log.error("the key backend is away; requests are answered 503 until it is back: %s", error)
        return None

    async def stop(self) -> None:
        """Finish what is under way and close what was opened here."""
        if self.streams is not None:
            self.streams.stop()
        await self.known.aclose()
        if self.recorder is not None:
            await self.recorder.aclose()
        for counters in self.owned:
            await counters.aclose()
        if isinstance(self.backend, Closable):
            await self.backend.aclose()


def assemble(options: Options) -> Assembly:
    """Check every setting and build. Raises `ConfigurationError` or `InputError` naming the setting."""
    check(options)
    backend = open_backend(options.backend)
    quotas, windows, owned = open_counters(backend, options.limits)
    groups = {group.name: group for group in group_list(options.groups)}
    service = ServiceRules(
        IPSet(options.allow_ips, "allow_ips"),
        IPSet(options.deny_ips, "deny_ips"),
        names(options.allow_groups, "allow_groups"),
        names(options.deny_groups, "deny_groups") or frozenset(),
    )
    known = CachedLookup(
        backend,
        SubjectMaker(
            groups=groups,
            service=service,
            windows=windows,
            quotas=quotas,
            clock=options.clock,
        ),
        ttl=options.cache_ttl,
        size=options.cache_size,
        stale_if_error=options.stale_if_error,
        # What was full may have been reset or raised.
        on_change=windows.drop if isinstance(windows, Leases) else None,
    )
    if isinstance(backend, KnowsWorkers):
        stale = max(options.cache_ttl, options.stale_if_error)
        backend.guarded(stale=stale, counters=place_of(options.limits))
    streams = None
    # Report mode refuses nothing, so it ends nothing either.
    if options.cut_streams and options.mode == "enforce":
        streams = OpenStreams(
            backend,
            known,
            ttl=options.cache_ttl,
            stale_if_error=options.stale_if_error,
            clock=options.clock,
        )
    failure_limit = None if options.failure_limit is None else Limit.parse(options.failure_limit, "failure_limit")
    find_key = KeyFinder(options.extractors, forward_key=options.forward_key)
    guard = Guard(
        realm=backend,
        find_key=find_key,
        client_of=ClientResolver(options.trusted_proxies),
        service=service,
        # What report mode lets through it does not hold up either.
        floods=FailureLimit(failure_limit, delays=options.mode == "enforce"),
        known=known,
        cost=options.cost,
        local=MemoryStorage() if options.on_unavailable == "allow" else None,
        clock=options.clock,
    )
    replies = Replies(quota_status=options.quota_status, max_client_wait=options.max_client_wait)
    holder = None
    if options.usage_path is not None:
        paths = PublicPaths(exact_paths([options.usage_path], "usage_path"))
        holder = Holder(paths, replies, clock=options.clock)
    return Assembly(
        guard,
        find_key,
        replies,
        PublicPaths(public) if (public := exact_paths(options.public_paths)) else None,
        backend,
        known,
        streams,
        _recorder(options, backend),
        holder,
        options.cost if isinstance(options.cost, Meter) and options.cost.tokens else None,
        owned,
    )


def _recorder(options: Options, backend: KeyLookup) -> Recorder | None:
    """Where records of requests go: to the backend where it keeps them for good or is told to, or to a function."""
    if callable(options.usage):
        return Recorder(handed_to(options.usage))
    keeps = backend if isinstance(backend, KeepsUsage) else None
    if options.usage is True and keeps is None:
        raise ConfigurationError(f"usage: {type(backend).__name__} keeps no usage; give a function that takes it")
    if keeps is None or not (options.usage or (options.usage is None and keeps.keeps_usage_durably)):
        return None
    recorder = Recorder(keeps.add_usage)
    if isinstance(backend, TellsClosing):
        # An app without lifespan tells nobody when it ends.
        backend.before_close(recorder.aclose)
    return recorder


def open_backend(backend: object) -> KeyLookup:
    """A backend from an object or a URL."""
    if backend is None:
        raise ConfigurationError(
            "backend: none is given; write backend='sqlite:///keys.db' or set AK_GUARD_BACKEND, in the environment or "
            "as backend in ak_guard.toml"
        )
    if isinstance(backend, str):
        return backend_from_url(backend)
    if not isinstance(backend, KeyLookup):
        raise ConfigurationError(
            f"backend: {type(backend).__name__} has no method find; give a backend object or a URL such as sqlite:///keys.db"
        )
    return backend


def open_counters(
    backend: KeyLookup, limits: Storage | MultiWindowSupport | str | None
) -> tuple[MultiWindowSupport, MultiWindowSupport, tuple[MultiWindowSupport, ...]]:
    """Where quotas are counted, where windows are, and which of these stores were opened here.

    Quotas live beside the keys. A backend without counters gets counters in memory.
    """
    owned: tuple[MultiWindowSupport, ...] = ()
    if isinstance(backend, CountsBudgets):
        quotas = backend.counters
    else:
        quotas = MemoryStorage()
        owned = (quotas,)
    if limits is None:
        return quotas, quotas, owned
    windows = counters_from(limits)
    return quotas, windows, owned if windows is limits else (*owned, windows)
