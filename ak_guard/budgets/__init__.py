"""How much: quota and windows, through `limits`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limits.errors import ConfigurationError as LimitsConfigurationError
from limits.storage import storage_from_string

from ak_guard.budgets.base import (
    Ask,
    Change,
    Grant,
    Lease,
    Level,
    MultiWindowSupport,
    Promise,
    Shortfall,
    SpendsAtOnce,
)
from ak_guard.budgets.foreign import ForeignStorage
from ak_guard.budgets.leases import Leases
from ak_guard.budgets.memory import MemoryStorage
from ak_guard.budgets.redis_address import is_redis
from ak_guard.budgets.strategy import MultiWindowRateLimiter
from ak_guard.budgets.windows import Quota, Window
from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from limits.aio.storage import Storage

__all__ = [
    "Ask",
    "Change",
    "ForeignStorage",
    "Grant",
    "Lease",
    "Leases",
    "Level",
    "MemoryStorage",
    "MultiWindowRateLimiter",
    "MultiWindowSupport",
    "Promise",
    "Quota",
    "Shortfall",
    "SpendsAtOnce",
    "Window",
    "counters_from",
]


def counters_from(limits: Storage | MultiWindowSupport | str) -> MultiWindowSupport:
    """A storage of `limits`, or its URI, as one that takes several windows at once.

    `memory://` is ours, and so is every `redis://`, `valkey://` or cluster or sentinel of them; every other URI is that
    of an async storage of `limits` (`async+memcached://…`, where `async+` may be left out) behind a `ForeignStorage`.
    What several processes share is spent under leases. Raises `ConfigurationError` naming `limits`.
    """
    if isinstance(limits, MultiWindowSupport):
        shared = limits.promise.shared and limits.promise.gives_back
        return Leases(limits, closes=False) if shared and not isinstance(limits, SpendsAtOnce) else limits
    if isinstance(limits, list | tuple) or (isinstance(limits, str) and "://" not in limits):
        raise ConfigurationError(
            "limits: must be a storage of `limits` or its URI, such as redis://host:6379/0: where windows are counted. "
            "The limits themselves belong to keys and groups"
        )
    if not isinstance(limits, str):
        return ForeignStorage(limits)
    if limits in {"memory://", "ak-guard+memory://"}:
        return MemoryStorage()
    if is_redis(limits):
        return _redis_storage(limits)
    uri = limits if "+" in limits.partition(":")[0] else f"async+{limits}"
    try:
        return ForeignStorage(storage_from_string(uri))  # type: ignore[arg-type]  # checked by ForeignStorage
    except (LimitsConfigurationError, ImportError, ValueError, AssertionError) as error:
        # The error's own text may hold the URI, and that a password.
        raise ConfigurationError(
            f"limits: a storage of the scheme {uri.partition(':')[0]} cannot be used ({type(error).__name__})"
        ) from None


def _redis_storage(uri: str) -> MultiWindowSupport:
    try:
        from ak_guard.budgets.redis import RedisStorage  # noqa: PLC0415  # the extra may be missing
    except ImportError as error:
        raise ConfigurationError(
            f"limits: {error.name} is not installed; run: pip install 'ak_guard[redis]'"
        ) from error
    return Leases(RedisStorage(uri))
