"""Addresses: what is one, and what it is normally written as."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard.address import parse_address
from tests.pure.support import examples

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address


def text_of(written: str) -> str | None:
    address = parse_address(written)
    return None if address is None else str(address)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("0.0.0.0", "0.0.0.0"),
        ("255.255.255.255", "255.255.255.255"),
        ("::1", "::1"),
        ("::", "::"),
        ("2001:0DB8:85A3:0000:0000:8A2E:0370:7334", "2001:db8:85a3::8a2e:370:7334"),
        ("2001:db8:85a3:0:0:8a2e:370:7334", "2001:db8:85a3::8a2e:370:7334"),
        ("::ffff:192.0.2.4", "192.0.2.4"),
        ("::ffff:c000:204", "192.0.2.4"),
        ("::FFFF:127.0.0.1", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25eth0", "fe80::1"),
        ("::ffff:192.0.2.4%1", "192.0.2.4"),
        # Only mapped addresses are IPv4: 6to4, NAT64 and the deprecated compatible ones are what they look like.
        ("2002:c000:204::1", "2002:c000:204::1"),
        ("64:ff9b::192.0.2.4", "64:ff9b::c000:204"),
        ("::192.0.2.4", "::c000:204"),
    ],
)
def test_an_address_is_read_to_its_normal_form(written: str, normal: str) -> None:
    assert text_of(written) == normal


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "testclient",
        "localhost",
        "unix:",
        "0127.0.0.1",
        "127.0.0.01",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4\n",
        "1.2.3.4:80",
        "1.2.3.4%eth0",
        "1.2.3.4/32",
        "0x7f.0.0.1",
        "2130706433",
        "-1",
        "\u0661.2.3.4",
        "[::1]",
        "::1::2",
        "12345::1",
        "::ffff:1.2.3.256",
        "%",
        "%eth0",
        "x" * 10_000,
        "::" + "0" * 100,
        "\x00",
        "\udcff",
    ],
)
def test_what_is_no_address_is_none(written: str) -> None:
    assert parse_address(written) is None


@given(st.ip_addresses())
@examples(300)
def test_every_address_is_read_back_from_its_text(ip: IPv4Address | IPv6Address) -> None:
    plain = getattr(ip, "ipv4_mapped", None) or ip
    address = parse_address(str(ip))
    assert address is not None
    assert (address.version, address.number, address.text) == (plain.version, int(plain), str(plain))


@given(st.text(max_size=70) | st.text("0123456789abcdef:.%/[]", max_size=45))
@examples(500)
def test_any_text_is_an_address_or_none(text: str) -> None:
    address = parse_address(text)
    assert address is None or parse_address(address.text) is not None


@pytest.mark.parametrize(
    ("written", "bucket"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
    ],
)
def test_an_attacker_is_held_to_an_ipv4_address_or_a_64_of_ipv6(written: str, bucket: str) -> None:
    address = parse_address(written)
    assert address is not None
    assert address.bucket == bucket
