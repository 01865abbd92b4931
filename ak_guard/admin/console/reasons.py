"""Why a request is refused, by the code of the refusal, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue


def reason(code: str, tongue: Tongue) -> Markup:
    """`rate_limit_exceeded` is "window full"; a code that has no words here stands for itself."""
    say = tongue.say
    words = {
        "admitted": say("admitted"),
        "misconfigured": say("the app is misconfigured"),
        "missing_api_key": say("no key was sent"),
        "credential_too_large": say("key text too long"),
        "ambiguous_credentials": say("different keys at once"),
        "invalid_api_key": say("unknown key"),
        "ip_not_allowed": say("address not allowed"),
        "too_many_failures": say("too many unknown keys"),
        "key_service_unavailable": say("store of keys away"),
        "api_key_disabled": say("key disabled"),
        "api_key_expired": say("key expired"),
        "group_not_allowed": say("route not in the group"),
        "cost_exceeds_limit": say("costs more than a whole window"),
        "insufficient_quota": say("quota used up"),
        "rate_limit_exceeded": say("window full"),
        "limits_unavailable": say("store of limits away"),
        "concurrency_limit_exceeded": say("too many at once"),
    }
    return words.get(code) or say("%(name)s", name=code)
