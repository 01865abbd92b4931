"""Which address counts for a request, given the proxies that are trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import InputError
from ak_guard.address import ClientResolver, parse_address
from tests.pure.support import examples, http

if TYPE_CHECKING:
    from collections.abc import Iterable

PEER = "127.0.0.1"


def client(
    lines: Iterable[str | bytes] = (), *, trusted: Iterable[str] = (PEER,), peer: Any = (PEER, 50_000)
) -> str | None:
    headers = [(b"x-forwarded-for", line if isinstance(line, bytes) else line.encode("latin-1")) for line in lines]
    address = ClientResolver(trusted).client_of(http(headers, client=peer))
    return None if address is None else address.text


@pytest.mark.parametrize(
    ("given_client", "seen"),
    [
        (("203.0.113.7", 40_000), "203.0.113.7"),
        (["203.0.113.7", 40_000], "203.0.113.7"),
        (("203.0.113.7", "40000"), "203.0.113.7"),
        (("203.0.113.7", 0), "203.0.113.7"),
        (("203.0.113.7", None), "203.0.113.7"),
        (("203.0.113.7",), "203.0.113.7"),
        (("::ffff:203.0.113.7", 1), "203.0.113.7"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        (("2001:DB8::1", 1), "2001:db8::1"),
        (None, None),
        ((), None),
        ([], None),
        (("", "0"), None),
        (("testclient", 50_000), None),
        (("unix:/run/app.sock", 0), None),
        (("0127.0.0.1", 1), None),
        ((None, 0), None),
        ((2_130_706_433, 0), None),
        ((b"203.0.113.7", 0), None),
        ("203.0.113.7", None),
    ],
)
@pytest.mark.parametrize("trusted", [(), ("192.0.2.1",), ("0.0.0.0/0", "::/0")])
def test_every_form_in_which_servers_give_the_peer_is_read_or_unknown(
    given_client: object, seen: str | None, trusted: tuple[str, ...]
) -> None:
    assert client(trusted=trusted, peer=given_client) == seen


@pytest.mark.parametrize("trusted", [(), ("192.0.2.1",)])
def test_a_scope_without_a_client_has_no_address(trusted: tuple[str, ...]) -> None:
    assert ClientResolver(trusted).client_of({"type": "http", "headers": []}) is None


def test_without_trusted_proxies_the_header_is_not_read() -> None:
    assert client(["198.51.100.1"], trusted=()) == PEER


def test_an_untrusted_peer_cannot_forge_its_address() -> None:
    assert client(["20.20.20.20, 30.30.30.30"], trusted=["30.30.30.30"], peer=("40.40.40.40", 1)) == "40.40.40.40"


def test_a_peer_without_an_address_is_never_believed() -> None:
    everything = ("0.0.0.0/0", "::/0")
    assert client(["198.51.100.1"], trusted=everything, peer=None) is None
    assert client(["198.51.100.1"], trusted=everything, peer=("unix", 0)) is None


def test_a_trusted_peer_without_the_header_counts_itself() -> None:
    assert client([]) == PEER


@pytest.mark.parametrize("peer", ["127.0.0.1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "trusted", ["127.0.0.1", "127.0.0.0/8", "127.9.9.9/8", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104"]
)
def test_a_proxy_is_trusted_however_either_is_written(peer: str, trusted: str) -> None:
    assert client(["198.51.100.1"], trusted=[trusted], peer=(peer, 1)) == "198.51.100.1"


@pytest.mark.parametrize(
    ("trusted", "lines", "seen"),
    [
        ([PEER], ["198.51.100.1"], "198.51.100.1"),
        ([PEER], ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ([PEER, "192.168.0.2"], ["1.2.3.4, 10.0.2.1, 192.168.0.2"], "10.0.2.1"),
        ([PEER, "10.0.0.0/8"], ["198.51.100.1, 10.0.0.2, 10.0.0.3"], "198.51.100.1"),
        ([PEER, "10.0.0.0/8"], ["10.0.0.1, 198.51.100.1, 10.0.0.3"], "198.51.100.1"),
        ([PEER, "2001:db8::/32"], ["2001:db9::1, 2001:db8::5"], "2001:db9::1"),
        ([PEER, "10.0.0.0/8"], ["::ffff:198.51.100.1, ::ffff:10.0.0.3"], "198.51.100.1"),
    ],
)
def test_walking_from_the_right_the_first_untrusted_entry_is_the_client(
    trusted: list[str], lines: list[str], seen: str
) -> None:
    assert client(lines, trusted=trusted) == seen


@pytest.mark.parametrize("forged", ["127.0.0.1", "10.0.0.1", "junk", "", "203.0.113.66", "1.2.3.4, junk, , 5.6.7.8"])
def test_forged_entries_further_left_never_matter(forged: str) -> None:
    assert client([f"{forged}, 198.51.100.23, 10.0.0.9"], trusted=[PEER, "10.0.0.0/8"]) == "198.51.100.23"


def test_where_all_are_trusted_the_left_most_counts() -> None:
    assert client(["10.0.0.1, 10.0.0.2, 10.0.0.3"], trusted=[PEER, "10.0.0.0/8"]) == "10.0.0.1"
    assert client(["198.51.100.1, 6.6.6.6"], trusted=["0.0.0.0/0"]) == "198.51.100.1"


def test_several_lines_are_joined_in_their_order() -> None:
    assert client(["203.0.113.66, 198.51.100.23", "127.0.0.1"]) == "198.51.100.23"
    assert client(["127.0.0.1", "203.0.113.66"]) == "203.0.113.66"
    assert client(["127.0.0.1", "127.0.0.1"]) == "127.0.0.1"


@pytest.mark.parametrize(
    "line",
    [
        "",
        " ",
        ",",
        "junk",
        "unknown",
        "_hidden",
        " blah ",
        "999.999.999.999",
        "0127.2.3.1",
        "'; DROP TABLE audit_log; --",
        'admin" location="1.2.3.4',
        "1.2.3.4:notaport",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:99999999999999999999",
        "1.2.3.4:-1",
        "1.2.3.4:+1",
        "1.2.3.4:\xb2",
        "1.2.3.4 :80",
        "1.2.3.4;80",
        "1.2.3.4/32",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]extra",
        "[2001:db8::1]:",
        "[2001:db8::1]:notaport",
        "[2001:db8::1]:65536",
        "[2001:db8::1]80",
        "[1.2.3.4]",
        "[1.2.3.4]:80",
        "[[::1]]",
        "[]",
        "for=1.2.3.4",
        "localhost",
        "localhost:80",
        ":80",
        "\xff",
        "1" * 5_000,
    ],
)
def test_a_blank_or_junk_entry_ends_the_walk_and_the_peer_counts(line: str) -> None:
    assert client([line]) == PEER
    assert client([f"198.51.100.1, {line}"]) == PEER
    assert client([f"198.51.100.1, {line}, 10.0.0.1"], trusted=[PEER, "10.0.0.0/8"]) == PEER


def test_a_blank_line_is_a_blank_entry_wherever_it_stands() -> None:
    assert client([", , 9.9.9.9"]) == "9.9.9.9"
    assert client([", , 9.9.9.9, , "]) == PEER
    assert client(["9.9.9.9", ""]) == PEER
    assert client(["", "9.9.9.9"]) == "9.9.9.9"


@pytest.mark.parametrize(
    ("entry", "seen"),
    [
        ("198.51.100.1:80", "198.51.100.1"),
        ("198.51.100.1:0", "198.51.100.1"),
        ("198.51.100.1:65535", "198.51.100.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:DB8:0::1]:65535", "2001:db8::1"),
        ("[fe80::1%eth0]:80", "fe80::1"),
        ("[::ffff:198.51.100.1]:80", "198.51.100.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db8::1:443", "2001:db8::1:443"),
        ("  198.51.100.1\t", "198.51.100.1"),
    ],
)
def test_ports_brackets_and_blanks_are_stripped(entry: str, seen: str) -> None:
    assert client([entry]) == seen
    assert client([f"6.6.6.6,{entry}"]) == seen


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"x-forwarded-for", b"X-FORWARDED-FOR"])
def test_the_case_of_the_header_does_not_matter(name: bytes) -> None:
    address = ClientResolver([PEER]).client_of(http([(name, b"198.51.100.1")], client=(PEER, 1)))
    assert str(address) == "198.51.100.1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"forwarded", b"for=198.51.100.1"),
        (b"x-real-ip", b"198.51.100.1"),
        (b"x_forwarded_for", b"198.51.100.1"),
        (b"x-client-ip", b"198.51.100.1"),
        (b"true-client-ip", b"198.51.100.1"),
        (b"cf-connecting-ip", b"198.51.100.1"),
    ],
)
def test_no_other_forwarding_header_is_read(name: bytes, value: bytes) -> None:
    assert str(ClientResolver([PEER]).client_of(http([(name, value)], client=(PEER, 1)))) == PEER


@pytest.mark.parametrize("trusted", ["*", "localhost", "", "10.0.0.0/40"])
def test_a_proxy_that_is_no_network_is_an_input_error(trusted: str) -> None:
    with pytest.raises(InputError, match=r"^trusted_proxies: "):
        ClientResolver([trusted])
    with pytest.raises(InputError, match=r"^trusted_proxies: "):
        ClientResolver(trusted)


HOPS = st.sampled_from(
    ["10.0.0.1", "198.51.100.1", "::ffff:10.0.0.2", "[2001:db8::1]:8", "", "junk", "10.0.0.3:80", "10.1"]
)


@given(
    st.lists(st.lists(HOPS, min_size=1, max_size=4).map(",".join), min_size=1, max_size=3), st.lists(HOPS, max_size=3)
)
@examples(400)
def test_what_a_client_sends_itself_never_changes_which_address_counts(sent: list[str], forged: list[str]) -> None:
    """Everything left of the first untrusted entry was written by that client."""
    trusted = [PEER, "10.0.0.0/8"]
    honest = client(["198.51.100.77", *sent], trusted=trusted)
    if honest == "198.51.100.77":
        assert client([*forged, "198.51.100.77", *sent], trusted=trusted) == honest
    else:
        assert client([*forged, *sent], trusted=trusted) == honest


@given(st.lists(st.binary(max_size=60), max_size=4), st.text(max_size=20))
@examples(400)
def test_any_bytes_and_any_peer_give_an_address_or_none(lines: list[bytes], host: str) -> None:
    seen = client(lines, trusted=["0.0.0.0/0", "::/0"])
    assert seen is not None
    assert parse_address(seen) is not None
    untrusted = client(lines, peer=(host, 1))
    assert untrusted is None or parse_address(host) is not None
