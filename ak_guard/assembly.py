"""Put a guard together from the settings of a middleware, or say which of them is wrong."""

from __future__ import annotations

import os
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ak_guard.address import ClientResolver, IPSet
from ak_guard.backends import CountsBudgets, KeyLookup, backend_from_url
from ak_guard.backends.cached import CachedLookup
from ak_guard.budgets import MemoryStorage, counters_from
from ak_guard.checks import ServiceRules
from ak_guard.errors import ConfigurationError
from ak_guard.extract import KeyFinder
from ak_guard.floods import FailureLimit
from ak_guard.guard import Guard
from ak_guard.paths import PublicPaths
from ak_guard.records import Group, Limit
from ak_guard.replies import Replies
from ak_guard.subject import SubjectMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limits.aio.storage import Storage
    from starlette.types import Scope

    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.extract import Extractor
    from ak_guard.records import Decision
    from ak_guard.subject import Subject

BACKEND_VARIABLE: Final = "AK_GUARD_BACKEND"


class Options(NamedTuple):
    """The settings of `ApiKeyMiddleware`, by its names."""

    backend: KeyLookup | str | None
    limits: Storage | MultiWindowSupport | str | None
    groups: Iterable[Group]
    extractors: Iterable[str | Extractor] | None
    forward_key: bool
    public_paths: Iterable[str]
    allow_groups: Iterable[str] | None
    deny_groups: Iterable[str]
    allow_ips: Iterable[str]
    deny_ips: Iterable[str]
    trusted_proxies: Iterable[str]
    cost: int | Callable[[Scope], int]
    mode: Literal["enforce", "report"]
    quota_status: int
    failure_limit: str | Limit | None
    stale_if_error: float
    cache_ttl: float
    cache_size: int
    max_client_wait: float
    on_unavailable: Literal["refuse", "allow"]
    allow_preflight: bool
    ratelimit_headers: bool
    on_decision: Callable[[Decision], object] | None
    clock: Callable[[], float]


class Assembly(NamedTuple):
    """Everything a door needs. `owned` are the stores that this middleware opened itself."""

    guard: Guard
    replies: Replies
    public: PublicPaths | None
    backend: KeyLookup
    known: CachedLookup[Subject]
    owned: tuple[MultiWindowSupport, ...]


def assemble(options: Options) -> Assembly:
    """Check every setting and build. Raises `ConfigurationError` or `InputError` naming the setting."""
    _check(options)
    backend = open_backend(options.backend)
    quotas, windows, owned = open_counters(backend, options.limits)
    groups = {group.name: group for group in _groups(options.groups)}
    service = ServiceRules(
        IPSet(options.allow_ips, "allow_ips"),
        IPSet(options.deny_ips, "deny_ips"),
        _names(options.allow_groups, "allow_groups"),
        _names(options.deny_groups, "deny_groups") or frozenset(),
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
    )
    failure_limit = None if options.failure_limit is None else Limit.parse(options.failure_limit, "failure_limit")
    guard = Guard(
        realm=backend,
        find_key=KeyFinder(options.extractors, forward_key=options.forward_key),
        client_of=ClientResolver(options.trusted_proxies),
        service=service,
        floods=FailureLimit(failure_limit),
        known=known,
        cost=options.cost,
        local=MemoryStorage() if options.on_unavailable == "allow" else None,
        clock=options.clock,
    )
    return Assembly(
        guard,
        Replies(quota_status=options.quota_status, max_client_wait=options.max_client_wait),
        PublicPaths(public) if (public := _paths(options.public_paths)) else None,
        backend,
        known,
        owned,
    )


def open_backend(backend: object) -> KeyLookup:
    """A backend from an object, a URL or, for None, from `AK_GUARD_BACKEND`."""
    if backend is None:
        backend = os.environ.get(BACKEND_VARIABLE)
        if not backend:
            raise ConfigurationError(
                f"backend: none is given; write backend='sqlite:///keys.db' or set {BACKEND_VARIABLE}"
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


def refuse_unknown(unknown: Iterable[str], known: Iterable[str]) -> None:
    """Raise `ConfigurationError` for a setting that does not exist, with the nearest name that does."""
    for name in unknown:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigurationError(f"{name}: no setting has this name{hint}")


def _check(options: Options) -> None:
    checks: dict[str, tuple[Any, bool, str]] = {
        "mode": (options.mode, options.mode in {"enforce", "report"}, "enforce or report"),
        "quota_status": (options.quota_status, options.quota_status in {429, 402, 403}, "429, 402 or 403"),
        "on_unavailable": (options.on_unavailable, options.on_unavailable in {"refuse", "allow"}, "refuse or allow"),
        "cost": (options.cost, _is_cost(options.cost), "a whole number from 0 up, or a function of the scope"),
        "cache_size": (options.cache_size, _is_number(options.cache_size, int, 1), "a whole number from 1 up"),
        "cache_ttl": (options.cache_ttl, _is_number(options.cache_ttl, float, 0), "seconds from 0 up"),
        "stale_if_error": (options.stale_if_error, _is_number(options.stale_if_error, float, 0), "seconds from 0 up"),
        "max_client_wait": (
            options.max_client_wait,
            _is_number(options.max_client_wait, float, 0),
            "seconds from 0 up",
        ),
        **{
            setting: (getattr(options, setting), isinstance(getattr(options, setting), bool), "True or False")
            for setting in ("forward_key", "allow_preflight", "ratelimit_headers")
        },
        "on_decision": (
            options.on_decision,
            options.on_decision is None or callable(options.on_decision),
            "a function or None",
        ),
        "clock": (options.clock, callable(options.clock), "a function that returns seconds since the epoch"),
    }
    for setting, (value, right, wanted) in checks.items():
        if not right:
            raise ConfigurationError(f"{setting}: {value!r} must be {wanted}")


def _is_cost(value: object) -> bool:
    return callable(value) or _is_number(value, int, 0)


def _is_number(value: object, kind: type, least: int) -> bool:
    kinds = (int, float) if kind is float else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= least


def _names(names: Iterable[str] | None, setting: str) -> frozenset[str] | None:
    if names is None:
        return None
    if isinstance(names, str):
        raise ConfigurationError(f"{setting}: {names!r} must be a list, such as [{names!r}]")
    chosen = frozenset(names)
    for name in chosen:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{setting}: {name!r} must be the name of a group")
    if setting == "allow_groups" and not chosen:
        raise ConfigurationError("allow_groups: the list is empty, so no key could enter; leave it out to let all in")
    return chosen


def _groups(groups: Iterable[Group]) -> list[Group]:
    listed = list(groups)
    for group in listed:
        if not isinstance(group, Group):
            raise ConfigurationError(f"groups: {group!r} must be a Group, such as Group('paid', routes=['/v1/*'])")
    return listed


def _paths(paths: Iterable[str]) -> list[str]:
    if isinstance(paths, str):
        raise ConfigurationError(f"public_paths: {paths!r} must be a list, such as [{paths!r}]")
    listed = list(paths)
    for path in listed:
        if not isinstance(path, str) or not path.startswith("/") or "*" in path:
            raise ConfigurationError(f"public_paths: {path!r} must be one exact path, such as '/health'")
    return listed
