"""May it? Pure rules of a key, in the order in which they are checked: each answers a `Denial` or None."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ak_guard.address import IPSet
from ak_guard.canary import CANARY_GROUP, lets_nobody_in
from ak_guard.errors import InputError
from ak_guard.paths import Routes
from ak_guard.records import Denial

if TYPE_CHECKING:
    from collections.abc import Collection

    from ak_guard.address import Address
    from ak_guard.paths import Route
    from ak_guard.records import ApiKey, Group

# Long enough not to hammer a store that is down, short enough not to be missed when it is back.
_OUTAGE_RETRY_SECONDS: Final = 2


class ServiceRules:
    """Which addresses and groups may use the service at all. Addresses are judged before any look-up."""

    __slots__ = ("_allow", "_allow_groups", "_deny", "_deny_groups", "_judged", "active")

    def __init__(
        self,
        allow_ips: IPSet,
        deny_ips: IPSet,
        allow_groups: Collection[str] | None = None,
        deny_groups: Collection[str] = (),
    ) -> None:
        self._allow = allow_ips if len(allow_ips) else None
        self._deny = deny_ips if len(deny_ips) else None
        self._allow_groups = allow_groups
        self._deny_groups = deny_groups
        self.active: bool = self._allow is not None or self._deny is not None
        # Addresses are remembered where they are parsed, so the same caller is the same object.
        self._judged = lru_cache(maxsize=8_192)(self._judge)

    def check(self, client: Address | None) -> Denial | None:
        return self._judged(client) if self.active else None

    def _judge(self, client: Address | None) -> Denial | None:
        if (
            client is None
            or (self._deny is not None and client in self._deny)
            or (self._allow is not None and client not in self._allow)
        ):
            return wrong_address(client)
        return None

    def lets_in_group(self, name: str) -> bool:
        return (self._allow_groups is None or name in self._allow_groups) and name not in self._deny_groups


@lru_cache(maxsize=1_024)
def _ip_set(entries: tuple[str, ...], field: str) -> IPSet:
    """Many keys have the same list, and each is read again when its time in the cache ends."""
    return IPSet(entries, field)


class KeyRules:
    """The rules of one key, made ready once so that a request only compares.

    A list of addresses that cannot be read (out of a stored row) lets nobody in.
    """

    __slots__ = ("allow", "deny", "enabled", "expires_at", "good_until", "has_addresses", "secret_until", "unreadable")

    def __init__(self, key: ApiKey, secret_until: float | None = None) -> None:
        self.enabled: bool = key.enabled
        self.expires_at: float = math.inf if key.expires_at is None else _utc(key.expires_at).timestamp()
        self.secret_until: float = math.inf if secret_until is None else secret_until
        #: Until when nothing but the caller and the route decides.
        self.good_until: float = min(self.expires_at, self.secret_until) if key.enabled else -math.inf
        self.unreadable: bool = False
        self.allow: IPSet | None = self._read(key.allow_ips, "allow_ips")
        self.deny: IPSet | None = self._read(key.deny_ips, "deny_ips")
        self.has_addresses: bool = self.unreadable or self.allow is not None or self.deny is not None

    def lets_in(self, client: Address | None) -> bool:
        """Whether the rules about addresses do. Deny wins over allow, and an unknown address fits no rule."""
        if client is None or self.unreadable:
            return not self.has_addresses
        return (self.deny is None or client not in self.deny) and (self.allow is None or client in self.allow)

    def _read(self, entries: tuple[str, ...], field: str) -> IPSet | None:
        try:
            return _ip_set(tuple(entries), field) if entries else None
        except InputError:
            self.unreadable = True
            return None


def _utc(moment: datetime) -> datetime:
    """A moment without a zone, from somebody's own backend, is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class GroupRules:
    """The rules of a key's group, and whether this service lets the group in. `is_canary`: see `canary.py`."""

    __slots__ = ("is_canary", "let_in", "name", "routes")

    def __init__(self, name: str, group: Group | None, service: ServiceRules) -> None:
        self.name: str = name
        self.let_in: bool = group is not None and group.enabled and service.lets_in_group(name)
        self.is_canary: bool = name == CANARY_GROUP and lets_nobody_in([group])
        self.routes: Routes = Routes(() if group is None else group.routes)


def check_state(rules: KeyRules, now: float) -> Denial | None:
    """Is the secret still good, the key enabled and not expired? `now` and expiry are seconds since the epoch."""
    if (denial := check_secret(rules, now)) is not None:
        return denial
    if now >= rules.expires_at:
        return Denial("api_key_expired", "This API key has expired.")
    return None


def check_secret(rules: KeyRules, now: float) -> Denial | None:
    """Is the secret still good and the key enabled, whether or not it has expired?"""
    if now >= rules.secret_until:
        return unknown_key()
    if not rules.enabled:
        return Denial("api_key_disabled", "This API key is disabled.")
    return None


def check_address(rules: KeyRules, client: Address | None) -> Denial | None:
    """May this address use the key?"""
    return None if not rules.has_addresses or rules.lets_in(client) else wrong_address(client)


def check_group(rules: GroupRules, route: Route) -> Denial | None:
    if not rules.let_in:
        return wrong_group(rules.name)
    if not rules.routes.allow(route):
        return Denial("group_not_allowed", f"The group {rules.name!r} of this API key may not use this route.")
    return None


def check_canary(rules: GroupRules) -> Denial | None:
    """Is it no key that nobody should have? For paths at which else the group does not matter."""
    return wrong_group(rules.name) if rules.is_canary else None


def wrong_group(name: str) -> Denial:
    return Denial("group_not_allowed", f"The group {name!r} of this API key may not use this service.")


def unknown_key() -> Denial:
    """One answer for every key that is no key, whatever was wrong with it."""
    return Denial("invalid_api_key", "This API key is not valid.")


def keys_unavailable() -> Denial:
    """The store of keys is away."""
    return Denial(
        "key_service_unavailable", "API keys cannot be checked at the moment.", retry_after=_OUTAGE_RETRY_SECONDS
    )


def limits_unavailable() -> Denial:
    """The store of budgets is away."""
    return Denial("limits_unavailable", "Limits cannot be checked at the moment.", retry_after=_OUTAGE_RETRY_SECONDS)


def wrong_address(client: Address | None) -> Denial:
    seen = "could not be determined" if client is None else f"{client.text} is not allowed here"
    return Denial("ip_not_allowed", f"The client address {seen}.")
