"""For whom a request is counted: peers and proxies, written in every way."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from streaming.http.clients import Clients, bucket, read_address

PROXIES = Clients([ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7/32")])
WAYS = ("{}", " {} ", '"{}"', "[{}]", "[{}]:443", '"[{}]:80"')
ips = st.ip_addresses()


@given(st.ip_addresses(v=6), st.sampled_from(WAYS), st.sampled_from(["", "%eth0", "%25en1"]))
def test_ipv6_addresses_are_read(address: IPv6Address, way: str, zone: str) -> None:
    found = read_address(way.format(f"{address}{zone}"))
    assert found == (address.ipv4_mapped or address)


@given(st.ip_addresses(v=4), st.sampled_from([*WAYS, "{}:51234", "::ffff:{}", "[::FFFF:{}]:9"]))
def test_ipv4_addresses_are_read(address: IPv4Address, way: str) -> None:
    assert read_address(way.format(address)) == address


@given(st.text(max_size=60))
def test_anything_is_an_address_or_none(text: str) -> None:
    found = read_address(text)
    assert found is None or bucket(found)


def asks(peer: str, *said: str, proxies: Clients = PROXIES) -> str:
    return proxies.of(peer, CIMultiDict(("X-Forwarded-For", line) for line in said))


@given(ips, ips, ips)
def test_nobody_else_is_believed(peer: IPv4Address, said: IPv4Address, other: IPv4Address) -> None:
    alone = Clients([])
    assert asks(str(peer), f"{said}, {other}", str(other), proxies=alone) == asks(str(peer))


@given(
    st.lists(ips, max_size=3), st.lists(ips, max_size=3), st.ip_addresses(network="203.0.113.0/24")
)
def test_a_proxy_is_believed_in_its_last_word(
    lines: list[IPv4Address], before: list[IPv4Address], who: IPv4Address
) -> None:
    last = ",".join(map(str, [*before, who]))
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1%eth0", "192.0.2.7"):
        assert asks(peer, *map(str, lines), last) == str(who)
        assert asks(peer, *map(str, lines), f"{last}, 10.9.9.9") == str(who)  # two proxies


@pytest.mark.parametrize(
    ("peer", "said", "counted"),
    [
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "unknown", "10.1.2.3"),
        ("10.1.2.3", "1.2.3.4, _hidden", "10.1.2.3"),
        ("10.1.2.3", "1.2.3.4,", "10.1.2.3"),
        ("10.1.2.3", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("10.1.2.3", "1.2.3.4:80", "1.2.3.4"),
        ("192.168.1.1", "1.2.3.4", "192.168.1.1"),  # private, and not ours
        ("127.0.0.1", "1.2.3.4", "127.0.0.1"),
        ("", "1.2.3.4", "None"),
    ],
)
def test_cases(peer: str, said: str, counted: str) -> None:
    assert asks(peer, said) == counted
