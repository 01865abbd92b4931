"""Every setting by name: how it is written in a file and in the environment."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, NamedTuple


class Kind(Enum):
    """What a setting holds. The value says so to people."""

    STORE = "a URL, or module:attribute"
    TEXTS = "a list; in the environment separated by commas"
    TEXT = "a text"
    FLAG = "true or false"
    WHOLE = "a whole number"
    SECONDS = "seconds"
    COST = "a whole number, or module:attribute"
    FUNCTION = "module:attribute"
    SWITCH = "true, false, or module:attribute"
    GROUPS = "tables by name; in the environment JSON"


class Setting(NamedTuple):
    """One setting. `example` is what stands for it in a file; `empties` says whether `none` may."""

    kind: Kind
    example: Any
    empties: bool = False


CATALOGUE: Final = {
    "backend": Setting(Kind.STORE, "sqlite:///keys.db"),
    "limits": Setting(Kind.STORE, "redis://127.0.0.1:6379/0", empties=True),
    "groups": Setting(Kind.GROUPS, {"paid": {"routes": ["POST /v1/chat/*"], "limits": ["60/1m"], "multiplier": 2}}),
    "extractors": Setting(Kind.TEXTS, ["bearer", "header:x-api-key"], empties=True),
    "forward_key": Setting(Kind.FLAG, example=False),
    "public_paths": Setting(Kind.TEXTS, ["/health", "/docs"]),
    "allow_groups": Setting(Kind.TEXTS, ["paid", "trial"], empties=True),
    "deny_groups": Setting(Kind.TEXTS, ["trial"]),
    "allow_ips": Setting(Kind.TEXTS, ["203.0.113.0/24"]),
    "deny_ips": Setting(Kind.TEXTS, ["203.0.113.7"]),
    "trusted_proxies": Setting(Kind.TEXTS, ["10.0.0.0/8"]),
    "cost": Setting(Kind.COST, "my_service.prices:cost_of"),
    "mode": Setting(Kind.TEXT, "report"),
    "quota_status": Setting(Kind.WHOLE, 402),
    "failure_limit": Setting(Kind.TEXT, "10/minute", empties=True),
    "stale_if_error": Setting(Kind.SECONDS, 300.0),
    "cache_ttl": Setting(Kind.SECONDS, 10.0),
    "cache_size": Setting(Kind.WHOLE, 10_000),
    "max_client_wait": Setting(Kind.SECONDS, 20.0),
    "on_unavailable": Setting(Kind.TEXT, "allow"),
    "allow_preflight": Setting(Kind.FLAG, example=False),
    "ratelimit_headers": Setting(Kind.FLAG, example=False),
    "cut_streams": Setting(Kind.FLAG, example=False),
    "on_decision": Setting(Kind.FUNCTION, "my_service.metrics:count", empties=True),
    "usage": Setting(Kind.SWITCH, example=False, empties=True),
    "usage_path": Setting(Kind.TEXT, "/ak-guard/usage", empties=True),
    "clock": Setting(Kind.FUNCTION, "time:time"),
}

PREFIX: Final = "AK_GUARD_"
CONFIG_VARIABLE: Final = "AK_GUARD_CONFIG"
#: Which app `ak-guard run` guards, as it tells the processes of its workers.
APP_VARIABLE: Final = "AK_GUARD_APP"

#: Variables of the same prefix that are no settings of the middleware, and what each is for.
OTHER_VARIABLES: Final = {
    CONFIG_VARIABLE: "the file of settings",
    "AK_GUARD_PEPPER": "under which secrets are stored: 32 random characters; several with commas, the newest first",
    "AK_GUARD_USAGE_KEPT": "how long records of requests are kept, such as 30d",
    "AK_GUARD_SERVICE_TOKEN": "with which a guard asks a key service",
    "AK_GUARD_SERVICE_TOKENS": "which the key service accepts, separated by commas, newest first",
    "AK_GUARD_ADMIN_TOKEN": "with which the admin API and the console let an administrator in",
    APP_VARIABLE: "the app that ak_guard.served:app guards, such as my_service:app",
}
TEST_PREFIX: Final = "AK_GUARD_TEST_"


def variable(setting: str) -> str:
    """The name of a setting in the environment."""
    return PREFIX + setting.upper()
