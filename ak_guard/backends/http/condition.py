"""What a key service can do for a guard, asked without changing anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from ak_guard.backends.documents import roll_from
from ak_guard.backends.http.wire import NotLetIn, NotOffered, Refused, Unanswered
from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from ak_guard.backends.http.wire import Wire


class Condition(NamedTuple):
    """`protocol` is the version that the service speaks, None where it does not say.

    `lets_in` says whether it accepts the service token; where it does not, nothing else is known. `follows` is whether
    it tells of changes, `counts` whether it counts budgets. `skew` is how far its clock is ahead of ours, in seconds,
    None where it tells no time. `open_wire` is whether the token can be read on the way.
    """

    protocol: int | None
    lets_in: bool
    follows: bool = False
    counts: bool = False
    skew: float | None = None
    open_wire: bool = False


async def condition(wire: Wire, *, open_wire: bool) -> Condition:
    """Ask. Raises `BackendError` where the service does not answer, or makes no sense."""
    try:
        protocol = await _protocol(wire)
        try:
            await wire.told("POST", "/v1/resolve", {"digest": bytes(32).hex()})
        except NotLetIn:
            return Condition(protocol, lets_in=False, open_wire=open_wire)
        skew = await _skew(wire)
        counts = await _counts(wire)
    except (Unanswered, NotOffered, Refused) as error:
        raise BackendError(str(error)) from error
    return Condition(protocol, True, skew is not None, counts, skew, open_wire)


async def _protocol(wire: Wire) -> int | None:
    try:
        told = await wire.told("GET", "/v1/healthz")
    except (NotOffered, Refused):
        # A small service has none, and need not let anybody ask.
        return None
    version = told.get("protocol") if isinstance(told, dict) else None
    return version if isinstance(version, int) else None


async def _skew(wire: Wire) -> float | None:
    asked = time.time()
    try:
        told = await wire.told("GET", "/v1/workers")
    except NotOffered:
        return None
    return roll_from(told).now - (asked + time.time()) / 2


async def _counts(wire: Wire) -> bool:
    asked = {"subject": "key/ak_guard-doctor", "windows": [{"amount": 1, "seconds": 60}], "now": time.time()}
    try:
        await wire.told("POST", "/v1/peek", asked)
    except NotOffered:
        return False
    return True
