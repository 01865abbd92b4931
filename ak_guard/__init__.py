"""API keys with limits for any ASGI app: a middleware that lets a request through only with a key that may make it."""

from __future__ import annotations

from ak_guard.errors import (
    AkGuardError,
    BackendError,
    BudgetError,
    ConfigurationError,
    Conflict,
    InputError,
    LocksOut,
    NotFound,
    Repeated,
    Unconfirmed,
)
from ak_guard.manager import Issued, KeyManager
from ak_guard.metering import Meter, TokenUsage
from ak_guard.middleware import ApiKeyMiddleware
from ak_guard.records import Admission, ApiKey, Decision, Denial, Group, Limit

__all__ = [
    "Admission",
    "AkGuardError",
    "ApiKey",
    "ApiKeyMiddleware",
    "BackendError",
    "BudgetError",
    "ConfigurationError",
    "Conflict",
    "Decision",
    "Denial",
    "Group",
    "InputError",
    "Issued",
    "KeyManager",
    "Limit",
    "LocksOut",
    "Meter",
    "NotFound",
    "Repeated",
    "TokenUsage",
    "Unconfirmed",
]
