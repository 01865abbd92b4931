"""What stands out in the use of one key, beside what is usual for it. Pure: from two summaries.

Nothing is called unusual without what is usual, and nothing at all before there is enough of that.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ak_guard.usage.summaries import Bucket, Place, UsageSummary

Kind = Literal["new_network", "velocity", "spread", "refusals"]

#: The field of a key's metadata under which these are kept, as a list of `203.0.113.0/24`.
KNOWN_NETWORKS: Final = "known_networks"

#: Fewer calls than this are no habit that anything could differ from.
HABIT_CALLS: Final = 20
_HABIT_HOURS: Final = 6
# Spending is unusual from so many times the usual hour on, and never below so many units.
_TIMES: Final = 5.0
_LEAST_COST: Final = 50
# So many addresses are many where there used to be a third of them.
_MANY_ADDRESSES: Final = 10
_ADDRESS_TIMES: Final = 3.0
# More than half refused, where it used to be less than a tenth.
_REFUSED_SHARE: Final = 0.5
_USUAL_SHARE: Final = 0.1
_LEAST_REFUSED: Final = 20

_MOST_KNOWN: Final = 50
_SIZES: Final = {4: 24, 6: 48}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One thing that stands out: `seen` is what was measured, `usual` the same measure as it was before.

    `new_network`: calls from `subject` (an IPv4 /24 or IPv6 /48) of a key that never came from there; `usual` is the
    number of networks it comes from. `velocity`: units in the hour `at`, beside the median hour. `spread`: number of
    addresses. `refusals`: share of the calls that were refused, from 0 to 1.
    """

    kind: Kind
    at: datetime
    subject: str
    seen: float
    usual: float
    calls: int
    cost: int

    @property
    def text(self) -> str:
        """In words, with what is usual."""
        match self.kind:
            case "new_network":
                return (
                    f"{self.calls} calls ({self.cost} units) from {self.subject}, a network this key never came from; "
                    f"it comes from {_count(self.usual, 'network')}"
                )
            case "velocity":
                return f"{self.seen:.0f} units in the hour from {self.at:%H:%M} UTC; usual are {self.usual:.0f}"
            case "spread":
                return f"calls from {self.seen:.0f} addresses; usual are {self.usual:.0f}"
        return f"{self.seen:.0%} of {self.calls} calls were refused; usual are {self.usual:.0%}"


def anomalies(recent: UsageSummary, usual: UsageSummary) -> tuple[Anomaly, ...]:
    """What stands out in `recent` beside `usual`, the time before it; both of one key and by the hour."""
    if usual.calls < HABIT_CALLS:
        return ()
    found = [
        *_new_networks(recent, usual),
        *_velocity(recent, usual),
        *_spread(recent, usual),
        *_refusals(recent, usual),
    ]
    return tuple(sorted(found, key=lambda one: one.at))


def known_networks(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The networks of which somebody said that they are the caller's own; they are no news any more."""
    kept = metadata.get(KNOWN_NETWORKS)
    return tuple(one for one in kept if isinstance(one, str)) if isinstance(kept, list) else ()


def with_network(metadata: Mapping[str, Any], network: str, *, known: bool) -> dict[str, Any]:
    """The metadata of a key with this network among the caller's own, or without it. The newest fifty are kept.

    It should be one of `whole_network`.
    """
    others = [one for one in known_networks(metadata) if one != network]
    return {**metadata, KNOWN_NETWORKS: [*others, network][-_MOST_KNOWN:] if known else others}


def whole_network(network: str) -> str:
    """An address or a network as large as those that are told apart: a /24, or /48 of IPv6, at least."""
    parsed = ip_network(network, strict=False)
    least = _SIZES[parsed.version]
    return str(parsed if parsed.prefixlen <= least else parsed.supernet(new_prefix=least))


def is_among(network: str, known: Iterable[str]) -> bool:
    """Whether a network of `network_of` lies in one of these; what is no network counts for nothing."""
    for one in known:
        try:
            mine, other = ip_network(network), ip_network(whole_network(one))
        except ValueError:
            continue
        if mine.version == other.version and mine.subnet_of(other):  # type: ignore[arg-type]
            return True
    return False


def network_of(address: str) -> str:
    """Who may stand behind an address: its /24, or /48 of IPv6; the text itself where it is no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, _SIZES[parsed.version]), strict=False))


def is_new_network(address: str, before: Mapping[str, int], metadata: Mapping[str, Any]) -> bool:
    """Whether a key that was called so often from which address `before` has now come from somewhere else.

    `metadata` is the key's own, in which networks may be named that are no news.
    """
    if sum(before.values()) < HABIT_CALLS:
        return False
    network = network_of(address)
    return network not in map(network_of, before) and not is_among(network, known_networks(metadata))


def _new_networks(recent: UsageSummary, usual: UsageSummary) -> Iterable[Anomaly]:
    known = {network_of(place.name) for place in usual.addresses}
    # An address that was seen before what is usual begins is no news either.
    known |= {network_of(place.name) for place in recent.addresses if place.first < recent.since}
    grouped: dict[str, list[Place]] = defaultdict(list)
    for place in recent.addresses:
        if (network := network_of(place.name)) not in known:
            grouped[network].append(place)
    for network, places in grouped.items():
        calls, cost = sum(place.calls for place in places), sum(place.cost for place in places)
        first = min(place.first for place in places)
        yield Anomaly("new_network", first, network, calls, len(known), calls, cost)


def _velocity(recent: UsageSummary, usual: UsageSummary) -> Iterable[Anomaly]:
    hours = [bucket.cost for bucket in usual.buckets if bucket.calls]
    if len(hours) < _HABIT_HOURS:
        return
    median = statistics.median(hours)
    # Somebody whose hours differ much is allowed to have one more of the large ones.
    bound = max(_LEAST_COST, _TIMES * median, 1.5 * max(hours))
    busiest = max(recent.buckets, key=_cost, default=None)
    if busiest is not None and busiest.cost > bound:
        yield Anomaly("velocity", busiest.start, "", busiest.cost, median, busiest.calls, busiest.cost)


def _spread(recent: UsageSummary, usual: UsageSummary) -> Iterable[Anomaly]:
    many, few = len(recent.addresses), len(usual.addresses)
    if many >= _MANY_ADDRESSES and many > _ADDRESS_TIMES * few:
        first = min(place.last for place in recent.addresses)
        yield Anomaly("spread", first, "", many, few, recent.calls, recent.cost)


def _refusals(recent: UsageSummary, usual: UsageSummary) -> Iterable[Anomaly]:
    if recent.refused < _LEAST_REFUSED:
        return
    share, before = recent.refused / recent.calls, usual.refused / usual.calls
    if share > _REFUSED_SHARE and before < _USUAL_SHARE:
        first = next(bucket.start for bucket in recent.buckets if bucket.refused)
        yield Anomaly("refusals", first, "", share, before, recent.calls, recent.cost)


def _cost(bucket: Bucket) -> int:
    return bucket.cost


def _count(number: float, what: str) -> str:
    return f"{number:.0f} {what}{'' if number == 1 else 's'}"
