"""A key as one row of the list: one word for its state, its expiry, its gauges, when it was last used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from ak_guard.admin.console.gauges import Gauges, gauges_of, stopping
from ak_guard.listing import states_of
from ak_guard.usage.anomalies import network_of

if TYPE_CHECKING:
    from datetime import datetime

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.listing import ListedKey
    from ak_guard.records import ApiKey
    from ak_guard.status import Status

_TAGS: Final = {"production": "prod", "staging": "staging", "development": "dev", "test": "dev"}


@dataclass(frozen=True, slots=True)
class State:
    """The one word for a key: `kind` is how it looks (`on`, `near`, `full`, `off`), `icon` a symbol of the sprite."""

    word: Markup
    kind: str
    icon: str


@dataclass(frozen=True, slots=True)
class Row:
    """What one line of the list shows. `edge` is the mark at its left: `is-full`, `is-near`, `off` or nothing.

    `new_network` is the network of the last use where the key never came from there before.
    """

    key: ApiKey
    tag: str
    state: State
    expiry: Markup
    soon: bool
    shield: Markup | None
    gauges: Gauges
    edge: str
    used: Markup
    address: str | None
    canary: bool = False
    new_network: str | None = None


def row_of(
    listed: ListedKey, status: Status | None, tongue: Tongue, *, canary: bool = False, strayed: bool = False
) -> Row:
    """One row. `status` None: the counters are away, so no gauge is shown. `canary`: see `canary.py`.

    `strayed` says that its last use came from a network that is new to it.
    """
    key = listed.key
    gauges = gauges_of(status, tongue)
    ended = not key.enabled or is_expired(key, tongue.now)
    level = "full" if canary and listed.last_used_at is not None else gauges.level
    edge = "off" if ended else f"is-{level}" if level else ""
    return Row(
        key=key,
        tag=tag_of(key),
        state=state_of(listed, status, tongue, canary=canary),
        expiry=expiry_words(listed, tongue),
        soon=ends_soon(key, tongue.now) or is_rotating(listed, tongue.now),
        shield=shield_words(key, tongue),
        gauges=gauges,
        edge=edge,
        used=tongue.say("never used") if listed.last_used_at is None else tongue.ago(listed.last_used_at),
        address=listed.last_used_ip,
        canary=canary,
        new_network=network_of(listed.last_used_ip) if strayed and listed.last_used_ip else None,
    )


def tag_of(key: ApiKey) -> str:
    """The key tag: `prod`, `staging`, `dev` or nothing."""
    return _TAGS.get(key.environment or "", "")


def state_of(listed: ListedKey, status: Status | None, tongue: Tongue, *, canary: bool = False) -> State:
    """The first that holds: disabled, expired, a canary, quota used up, a window full, rotating, active."""
    key = listed.key
    if not key.enabled:
        return State(tongue.say("Disabled"), "off", "ban")
    if is_expired(key, tongue.now):
        return State(tongue.say("Expired"), "off", "clock")
    if canary and listed.last_used_at is None:
        return State(tongue.say("Canary, silent"), "off", "bell")
    if canary:
        return State(tongue.say("Canary called"), "full", "bell")
    budget = stopping(status)
    if budget is None:
        if is_rotating(listed, tongue.now):
            return State(tongue.say("Rotating"), "near", "rotate")
        return State(tongue.say("Active"), "on", "check")
    if budget.name == "quota":
        return State(tongue.say("Quota used up"), "full", "full")
    shared = budget.name.startswith("shared-")
    return State(tongue.say("Group window full") if shared else tongue.say("Window full"), "full", "gauge")


def is_expired(key: ApiKey, now: datetime) -> bool:
    return key.expires_at is not None and now >= key.expires_at


def is_rotating(listed: ListedKey, now: datetime) -> bool:
    """Whether a secret that was rotated out still works."""
    return listed.old_secret_until is not None and now < listed.old_secret_until


def ends_soon(key: ApiKey, now: datetime) -> bool:
    """Whether a key that still works ends by itself within a week."""
    return "expiring" in states_of(key, now.timestamp())


def expiry_words(listed: ListedKey, tongue: Tongue) -> Markup:
    """`never expires`, `ends in 6 days`, `old secret 42 min more`, `on 26 Sep` for what ended then."""
    key = listed.key
    if not key.enabled:
        return tongue.say("changed %(day)s", day=tongue.day(key.updated_at)) if key.updated_at else Markup()
    if key.expires_at is not None and is_expired(key, tongue.now):
        return tongue.say("on %(day)s", day=tongue.day(key.expires_at))
    if listed.old_secret_until is not None and is_rotating(listed, tongue.now):
        return tongue.say("old secret %(span)s more", span=tongue.until(listed.old_secret_until))
    if key.expires_at is None:
        return tongue.say("never expires")
    return tongue.say("ends in %(span)s", span=tongue.until(key.expires_at))


def shield_words(key: ApiKey, tongue: Tongue) -> Markup | None:
    """`2 networks`, `1 address`; None where any address may call."""
    entries = key.allow_ips or key.deny_ips
    if not entries:
        return None
    if not key.allow_ips:
        return tongue.say("%(n)s denied", n=len(entries))
    if any("/" in entry for entry in entries):
        return tongue.count("%(n)s network", "%(n)s networks", len(entries))
    return tongue.count("%(n)s address", "%(n)s addresses", len(entries))
