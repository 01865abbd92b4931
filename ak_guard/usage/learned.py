"""An allow list out of what a key did: the addresses it is called from as a rule. Pure."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from ak_guard.address import parse_address
from ak_guard.usage.anomalies import HABIT_CALLS, is_among, network_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ak_guard.usage.summaries import Place, UsageSummary

# From so many addresses of one network on it is more likely that the next one is of it too.
_CROWD: Final = 3
_MOST: Final = 100


def learned_addresses(usage: UsageSummary, *, news: datetime, ours: Sequence[str] = ()) -> tuple[str, ...]:
    """Addresses whose calls were admitted, those with the most calls first; three of a /24 (/48) are that network.

    A network that was first seen from `news` on is left out, unless it is among `ours` or nothing else is usual yet:
    it may be the one that should be kept out.
    """
    admitted = [place for place in usage.addresses if place.calls > place.refused and parse_address(place.name)]
    usual = [place for place in admitted if place.first < news]
    if sum(place.calls for place in usual) >= HABIT_CALLS:
        known = {network_of(place.name) for place in usual}
        admitted = [
            place for place in admitted if (network := network_of(place.name)) in known or is_among(network, ours)
        ]
    networks: dict[str, list[Place]] = defaultdict(list)
    for place in admitted:
        networks[network_of(place.name)].append(place)
    listed = [
        entry
        for network, places in networks.items()
        for entry in ([network] if len(places) >= _CROWD else [place.name for place in places])
    ]
    return tuple(listed[:_MOST])
