"""The settings of the middleware, and what is wrong with them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from ak_guard.errors import ConfigurationError
from ak_guard.notation import LEAP_YEAR, MAX_AMOUNT
from ak_guard.records import Group, checked_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limits.aio.storage import Storage
    from starlette.types import Scope

    from ak_guard.backends import KeyLookup
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.extract import Extractor
    from ak_guard.records import Decision, Limit
    from ak_guard.usage.records import UsageRecord


# Nothing is remembered or waited for any longer.
_SECONDS: Final = f"seconds from 0 to {LEAP_YEAR}"


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
    cut_streams: bool
    on_decision: Callable[[Decision], object] | None
    usage: bool | Callable[[list[UsageRecord]], object] | None
    usage_path: str | None
    clock: Callable[[], float]


def check(options: Options) -> None:
    checks: dict[str, tuple[Any, bool, str]] = {
        "mode": (options.mode, options.mode in ("enforce", "report"), "enforce or report"),
        "quota_status": (options.quota_status, options.quota_status in (429, 402, 403), "429, 402 or 403"),
        "on_unavailable": (options.on_unavailable, options.on_unavailable in ("refuse", "allow"), "refuse or allow"),
        "cost": (options.cost, _is_cost(options.cost), "a whole number from 0 up, a function of the scope, or a Meter"),
        "cache_size": (options.cache_size, _is_number(options.cache_size, int, 1), "a whole number from 1 up"),
        "cache_ttl": (options.cache_ttl, _is_number(options.cache_ttl, float, 0, LEAP_YEAR), _SECONDS),
        "stale_if_error": (options.stale_if_error, _is_number(options.stale_if_error, float, 0, LEAP_YEAR), _SECONDS),
        "max_client_wait": (
            options.max_client_wait,
            _is_number(options.max_client_wait, float, 0, LEAP_YEAR),
            _SECONDS,
        ),
        **{
            setting: (getattr(options, setting), isinstance(getattr(options, setting), bool), "True or False")
            for setting in ("forward_key", "allow_preflight", "ratelimit_headers", "cut_streams")
        },
        "on_decision": (
            options.on_decision,
            options.on_decision is None or callable(options.on_decision),
            "a function or None",
        ),
        "usage": (
            options.usage,
            options.usage is None or isinstance(options.usage, bool) or callable(options.usage),
            "None, True, False or a function that takes lists of records",
        ),
        "clock": (options.clock, _is_clock(options.clock), "a function that returns seconds since the epoch"),
    }
    for setting, (value, right, wanted) in checks.items():
        if not right:
            raise ConfigurationError(f"{setting}: {value!r} must be {wanted}")


def _is_cost(value: object) -> bool:
    return callable(value) or _is_number(value, int, 0)


def _is_number(value: object, kind: type, least: int, most: float = math.inf) -> bool:
    kinds = (int, float) if kind is float else (int,)
    return isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most


def _is_clock(clock: object) -> bool:
    return callable(clock) and _is_number(clock(), float, 0, MAX_AMOUNT)


def names(names: Iterable[str] | None, setting: str) -> frozenset[str] | None:
    if names is None:
        return None
    given = checked_list(setting, names, "'default'")
    for name in given:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{setting}: {name!r} must be the name of a group")
    chosen = frozenset(given)
    if setting == "allow_groups" and not chosen:
        raise ConfigurationError("allow_groups: the list is empty, so no key could enter; leave it out to let all in")
    return chosen


def group_list(groups: Iterable[Group]) -> list[Group]:
    given = checked_list("groups", groups, "Group('paid')")
    for group in given:
        if not isinstance(group, Group):
            raise ConfigurationError(f"groups: {group!r} must be a Group, such as Group('paid', routes=['/v1/*'])")
    return given


def exact_paths(paths: Iterable[str], setting: str = "public_paths") -> list[str]:
    given = checked_list(setting, paths, "'/health'")
    for path in given:
        if not isinstance(path, str) or not path.startswith("/") or "*" in path:
            raise ConfigurationError(f"{setting}: {path!r} must be one exact path, such as '/health'")
    return given
