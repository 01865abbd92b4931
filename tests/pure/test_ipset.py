"""Sets of networks of both families."""

from __future__ import annotations

import pickle
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import InputError
from ak_guard.address import Address, IPSet, parse_address
from tests.pure.support import examples

MAPPED = IPv6Network("::ffff:0:0/96")


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("10.0.0.5/8", "10.0.0.0/8"),
        ("127.2.3.4/24", "127.2.3.0/24"),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7/32", "203.0.113.7"),
        (" 203.0.113.0/24 ", "203.0.113.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("10.0.0.0/255.255.0.0", "10.0.0.0/16"),
        ("2001:DB8:0:0::5/32", "2001:db8::/32"),
        ("::1", "::1"),
        ("::1/128", "::1"),
        ("::/0", "::/0"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%eth0/64", "fe80::/64"),
        ("::ffff:192.0.2.4", "192.0.2.4"),
        ("::ffff:10.0.0.5/104", "10.0.0.0/8"),
        ("::ffff:c000:204/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::ffff:0:0/95", "::fffe:0:0/95"),
    ],
)
def test_an_entry_is_shown_back_normalised(entry: str, shown: str) -> None:
    assert list(IPSet([entry])) == [shown]
    assert list(IPSet([shown])) == [shown]


def test_entries_keep_their_order_and_are_shown_once() -> None:
    networks = IPSet(["203.0.113.9", "10.1.0.0/8", "::1", "10.0.0.0/8", "::ffff:203.0.113.9"])
    assert list(networks) == ["203.0.113.9", "10.0.0.0/8", "::1"]
    assert len(networks) == 3


BAD_ENTRIES = [
    "",
    " ",
    "localhost",
    "not-a-valid-pattern",
    "*",
    "10.0.0.*",
    "10.0.0.0/33",
    "10.0.0.0/-1",
    "10.0.0.0/",
    "/8",
    "10.0.0.0/8/8",
    "::/129",
    "::ffff:1.2.3.4/200",
    "010.0.0.0/8",
    "10.0.0.0-10.0.0.9",
    "1.2.3.4:80",
    "[::1]",
    "10.0.0.0/\u0668",
    "\udcff",
]


@pytest.mark.parametrize(
    "entry", [*BAD_ENTRIES, None, 5, 3_405_803_783, b"10.0.0.0/8", b"\x0a\x00\x00\x00", ["10.0.0.0/8"]]
)
def test_a_bad_entry_is_an_input_error_that_names_the_field(entry: object) -> None:
    with pytest.raises(InputError) as caught:
        IPSet(["203.0.113.7", entry], "allow_ips")  # type: ignore[list-item]  # what JSON might hold
    assert caught.value.field == "allow_ips"


@pytest.mark.parametrize("entries", ["10.0.0.0/8", "", 5])
def test_what_is_no_list_is_an_input_error_that_names_the_field(entries: object) -> None:
    with pytest.raises(InputError) as caught:
        IPSet(entries, "deny_ips")  # type: ignore[arg-type]  # a frequent slip
    assert caught.value.field == "deny_ips"


@given(st.text(max_size=40) | st.text("0123456789abcdef:./%", max_size=30))
@examples(500)
def test_any_text_is_a_network_or_an_input_error(text: str) -> None:
    try:
        networks = IPSet([text], "allow_ips")
    except InputError as error:
        assert error.field == "allow_ips"  # noqa: PT017  # both ends are right, and raising is but one
    else:
        assert list(IPSet(networks)) == list(networks)


def test_everything_in_ipv6_does_not_cover_ipv4_nor_the_other_way() -> None:
    assert "2001:db8::1" in IPSet(["::/0"])
    for mapped in ("203.0.113.7", "::ffff:203.0.113.7"):
        assert mapped not in IPSet(["::/0"])
        assert mapped in IPSet(["0.0.0.0/0"])
    assert "2001:db8::1" not in IPSet(["0.0.0.0/0"])
    assert "203.0.113.7" in IPSet(["::/0", "0.0.0.0/0"])


def test_a_mapped_client_meets_ipv4_rules_and_a_plain_one_meets_mapped_rules() -> None:
    assert "::ffff:192.0.2.4" in IPSet(["192.0.2.4"])
    assert "::ffff:c000:204" in IPSet(["192.0.2.0/24"])
    assert "192.0.2.4" in IPSet(["::ffff:192.0.2.0/120"])
    assert "192.0.3.4" not in IPSet(["::ffff:192.0.2.0/120"])


def test_the_first_and_last_address_of_a_network_are_in_it_and_their_neighbours_are_not() -> None:
    networks = IPSet(["10.1.2.0/24", "2001:db8::/126"])
    assert [ip in networks for ip in ("10.1.1.255", "10.1.2.0", "10.1.2.255", "10.1.3.0")] == [False, True, True, False]
    assert [ip in networks for ip in ("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::", "2001:db8::3")] == [
        False,
        True,
        True,
    ]
    assert "2001:db8::4" not in networks


def test_no_address_and_no_text_of_one_is_in_any_set() -> None:
    everything = IPSet(["0.0.0.0/0", "::/0"])
    assert None not in everything
    assert "testclient" not in everything
    assert "203.0.113.7" not in IPSet()
    assert len(IPSet()) == 0


# Few distinct high bits, so that networks and addresses meet often.
NUMBERS4 = st.builds(lambda high, low: high << 24 | low, st.sampled_from([0, 10, 255]), st.integers(0, 2**24 - 1))
NUMBERS6 = st.builds(
    lambda high, low: high | low,
    st.sampled_from([0, 0xFFFF << 32, 0xFFFE << 32, 0x20010DB8 << 96, 0xFFFF << 112]),
    st.integers(0, 2**33 - 1),
)
NETWORKS = st.one_of(
    st.tuples(NUMBERS4, st.integers(0, 32)).map(lambda pair: IPv4Network(pair, strict=False)),
    st.tuples(NUMBERS6, st.integers(0, 128)).map(lambda pair: IPv6Network(pair, strict=False)),
)
ADDRESSES = NUMBERS4.map(IPv4Address) | NUMBERS6.map(IPv6Address) | st.ip_addresses()


def covers(network: IPv4Network | IPv6Network, ip: IPv4Address | IPv6Address) -> bool:
    """The naive rule: unmap both, then ask the standard library."""
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address in MAPPED:
        low = int(network.network_address) & 0xFFFF_FFFF
        network = ip_network(f"{IPv4Address(low)}/{network.prefixlen - 96}")
    plain = getattr(ip, "ipv4_mapped", None) or ip
    return plain.version == network.version and plain in network


@given(st.lists(NETWORKS, max_size=12), st.lists(ADDRESSES, max_size=5))
@examples(300)
def test_a_look_up_agrees_with_asking_each_network(
    networks: list[IPv4Network | IPv6Network], addresses: list[IPv4Address | IPv6Address]
) -> None:
    ours = IPSet([str(network) for network in networks])
    edges = [edge for network in networks for edge in (network[0], network[-1])]
    for ip in addresses + edges:
        expected = any(covers(network, ip) for network in networks)
        assert (str(ip) in ours) == expected
        assert (parse_address(str(ip)) in ours) == expected


@given(st.lists(NETWORKS, max_size=8), st.randoms())
@examples(100)
def test_sets_that_hold_the_same_addresses_are_equal(networks: list[IPv4Network | IPv6Network], chance: object) -> None:
    texts = [str(network) for network in networks]
    shuffled = chance.sample(texts, len(texts))  # type: ignore[attr-defined]  # a random.Random
    assert IPSet(texts) == IPSet(shuffled)
    assert hash(IPSet(texts)) == hash(IPSet(shuffled))


def test_two_halves_equal_the_whole() -> None:
    assert IPSet(["10.0.0.0/9", "10.128.0.0/9"]) == IPSet(["10.0.0.0/8"])
    assert IPSet(["10.0.0.0/9"]) != IPSet(["10.0.0.0/8"])
    assert IPSet(["10.0.0.0/8"]) != ["10.0.0.0/8"]


@pytest.mark.parametrize(
    "inside",
    [
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.1.1",
        "::1",
        "fd00::1",
        "fc00::1",
        "fe80::1",
        "febf::1",
        "::ffff:10.0.0.1",
    ],
)
def test_private_addresses_are_those_of_a_shared_proxy(inside: str) -> None:
    assert inside in IPSet.private()


@pytest.mark.parametrize(
    "outside",
    ["172.15.0.1", "172.32.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "fec0::1", "8.8.8.8"],
)
def test_documentation_ranges_and_the_public_internet_are_not_private(outside: str) -> None:
    assert outside not in IPSet.private()


def test_an_input_error_of_an_entry_survives_a_trip_between_processes() -> None:
    with pytest.raises(InputError) as caught:
        IPSet(["junk"], "allow_ips")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.field, str(again)) == ("allow_ips", str(caught.value))


def test_a_set_made_of_an_address_answers_for_it() -> None:
    assert Address(ip_address("192.0.2.4")) in IPSet(["192.0.2.0/24"])
