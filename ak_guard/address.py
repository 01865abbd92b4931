"""Whose address: parsing, sets of networks, and the way back through trusted proxies."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, Self

from ak_guard.errors import InputError
from ak_guard.records import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_LONGEST_ADDRESS: Final = 64
_MAX_PORT: Final = 65_535
# Proxies that stand in front of everybody: RFC 1918, RFC 4193, link-local and loopback; not the documentation ranges.
_PRIVATE_NETWORKS: Final = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1",
)


class Address:
    """An IP address ready to be looked up: its version, its number and its normal text.

    IPv4-mapped IPv6 (`::ffff:192.0.2.4`, RFC 4291 2.5.5.2) is the IPv4 address; a zone id is dropped.
    """

    __slots__ = ("number", "text", "version")

    def __init__(self, ip: IPv4Address | IPv6Address) -> None:
        self.version = ip.version
        self.number: int = int(ip)
        self.text: str = str(ip)

    @property
    def bucket(self) -> str:
        """What one attacker can be held to: an IPv4 address, or the /64 of an IPv6 one."""
        if self.version == 4:
            return self.text
        return str(IPv6Address(self.number >> 64 << 64)) + "/64"

    def __str__(self) -> str:
        return self.text


def bucket_of(client: str | None) -> str:
    """Whose tries are counted together: the bucket of a client's address, one for all who have none."""
    address = None if client is None else parse_address(client)
    return "unknown" if address is None else address.bucket


@lru_cache(maxsize=8_192)
def parse_address(text: str) -> Address | None:
    """Read the text of an address, None when it is none (a host name, leading zeros, junk)."""
    if len(text) > _LONGEST_ADDRESS:
        return None
    try:
        ip = ip_address(text.partition("%")[0] if ":" in text else text)
    except ValueError:
        return None
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return Address(ip.ipv4_mapped)
    return Address(ip)


class IPSet:
    """A set of addresses and networks of both families: `address in networks`.

    Networks are merged into disjoint ranges, so that a look-up is one binary search however many there are. Host bits
    are masked: `IPSet(["10.0.0.5/8"])` holds `10.0.0.0/8` and shows it so. Iterating gives the entries as normal text,
    in the order given. Raises `InputError` naming `field` for an entry that is no address and no network.
    """

    __slots__ = ("_ends", "_starts", "entries")

    def __init__(self, entries: Iterable[str] = (), field: str = "ips") -> None:
        networks = [_network(entry, field) for entry in listed(field, entries, "203.0.113.0/24")]
        self.entries: tuple[str, ...] = tuple(dict.fromkeys(_network_text(network) for network in networks))
        ranges4 = _ranges(network for network in networks if isinstance(network, IPv4Network))
        ranges6 = _ranges(network for network in networks if isinstance(network, IPv6Network))
        self._starts = {4: [start for start, _ in ranges4], 6: [start for start, _ in ranges6]}
        self._ends = {4: [end for _, end in ranges4], 6: [end for _, end in ranges6]}

    def __contains__(self, address: Address | str | None) -> bool:
        if address is None or isinstance(address, str):
            address = None if address is None else parse_address(address)
            if address is None:
                return False
        at = bisect_right(self._starts[address.version], address.number) - 1
        return at >= 0 and address.number <= self._ends[address.version][at]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IPSet) and self._starts == other._starts and self._ends == other._ends

    def __hash__(self) -> int:
        return hash((*self._starts[4], *self._starts[6], *self._ends[4], *self._ends[6]))

    def __repr__(self) -> str:
        return f"IPSet({list(self.entries)!r})"

    @classmethod
    def private(cls) -> Self:
        """The ranges in which a shared proxy may stand: RFC 1918, fc00::/7, link-local and loopback."""
        return cls(_PRIVATE_NETWORKS)


def _network(entry: str, field: str) -> IPv4Network | IPv6Network:
    text = entry.strip() if isinstance(entry, str) else entry
    try:
        if not isinstance(text, str):
            raise ValueError  # ip_network would take an int for an address
        host, slash, size = text.partition("/")
        network = ip_network(host.partition("%")[0] + slash + size, strict=False)
    except ValueError:
        raise InputError(
            field, f"{entry!r} is no address and no network; write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - 96))
    return network


def _network_text(network: IPv4Network | IPv6Network) -> str:
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


def _ranges(networks: Iterable[Any]) -> list[tuple[int, int]]:
    merged = collapse_addresses(networks)
    return sorted((int(net.network_address), int(net.broadcast_address)) for net in merged)


class ClientResolver:
    """Find the address that counts for a request.

    It is the peer of the connection as the server gives it. Where the peer is one of `trusted`, `X-Forwarded-For` is
    believed: all its lines are joined and walked from the right, and the first entry that is not trusted is the client;
    where all are trusted, the left-most. A blank or junk entry ends the walk and the peer counts. No other forwarding
    header is read.
    """

    __slots__ = ("_trusted",)

    def __init__(self, trusted_proxies: Iterable[str] = ()) -> None:
        networks = IPSet(trusted_proxies, "trusted_proxies")
        self._trusted = networks if len(networks) else None

    def client_of(self, scope: Mapping[str, Any]) -> Address | None:
        # The client may be missing, empty, a name, or carry its port as text; only the host is read.
        client = scope.get("client")
        peer = parse_address(client[0]) if client and isinstance(client[0], str) else None
        if self._trusted is None or peer is None or peer not in self._trusted:
            return peer
        lines = [value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
        return self._walk(b",".join(lines).decode("latin-1"), peer) if lines else peer

    def _walk(self, forwarded: str, peer: Address) -> Address:
        trusted = self._trusted or ()
        client = peer
        for entry in reversed(forwarded.split(",")):
            # Overlong junk is kept out of the memory of parsed addresses.
            hop = _hop(entry.strip()) if len(entry) <= _LONGEST_ADDRESS else None
            if hop is None:
                return peer
            client = hop
            if client not in trusted:
                break
        return client


def _hop(entry: str) -> Address | None:
    """Read one entry of `X-Forwarded-For`: an address, with a port perhaps, an IPv6 one in brackets perhaps."""
    if entry.startswith("["):
        host, bracket, rest = entry[1:].partition("]")
        good = bracket and ":" in host and (not rest or (rest[0] == ":" and _is_port(rest[1:])))
        return parse_address(host) if good else None
    host, colon, port = entry.partition(":")
    if colon and ":" not in port:
        return parse_address(host) if _is_port(port) else None
    return parse_address(entry)


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= _MAX_PORT
