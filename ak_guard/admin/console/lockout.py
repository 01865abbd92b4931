"""Whom a changed list of addresses would lock out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard.address import IPSet, parse_address
from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from ak_guard.admin.console.visit import Visit
    from ak_guard.records import ApiKey

#: So far back callers are recent, in days.
RECENT_DAYS: Final = 7


async def locked_out(visit: Visit, key: ApiKey, allow: tuple[str, ...], deny: tuple[str, ...]) -> list[str]:
    """Addresses whose calls were admitted lately and that the new lists keep out, those with most calls first."""
    if (allow, deny) == (key.allow_ips, key.deny_ips) or not (allow or deny):
        return []
    since = visit.tongue.now.timestamp() - RECENT_DAYS * 86_400
    try:
        told = await visit.keys.usage(key.id, since=since)
    except ConfigurationError:
        return []
    allowed, denied = IPSet(allow), IPSet(deny)
    shut_out = []
    for place in told.addresses:
        address = parse_address(place.name)
        if address is None or place.refused == place.calls:
            continue
        if address in denied or (allow and address not in allowed):
            shut_out.append(place.name)
    return shut_out
