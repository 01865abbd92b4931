"""Whom lists of addresses would lock out, out of what a key did. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard.address import IPSet, parse_address

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ak_guard.usage.summaries import UsageSummary


def locked_out(usage: UsageSummary, allow_ips: Iterable[str], deny_ips: Iterable[str]) -> tuple[str, ...]:
    """Addresses whose calls were admitted and that these lists keep out, those with the most calls first."""
    allowed, denied = IPSet(allow_ips, "allow_ips"), IPSet(deny_ips, "deny_ips")
    return tuple(
        place.name
        for place in usage.addresses
        if place.calls > place.refused
        and (address := parse_address(place.name)) is not None
        and (address in denied or (len(allowed) > 0 and address not in allowed))
    )
