"""For whom a request is counted: peers and proxies, written in every way."""

from __future__ import annotations

import asyncio
import contextlib
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from base.prefixes import SITE_TIMES, counted, site_of
from streaming.http.clients import Clients, bucket, read_address
from streaming.http.rate_limit import ConcurrencyLimit, RateLimit
from streaming.http.scheduler import FairQueue

PROXIES = Clients([ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7/32")])
WAYS = ("{}", " {} ", '"{}"', "[{}]", "[{}]:443", '"[{}]:80"')
ips = st.ip_addresses()


@given(st.ip_addresses(v=6), st.sampled_from(WAYS), st.sampled_from(["", "%eth0", "%25en1"]))
def test_ipv6_addresses_are_read(address: IPv6Address, way: str, zone: str) -> None:
    found = read_address(way.format(f"{address}{zone}"))
    if int(address) >> 32 != int(IPv6Address("64:ff9b::")) >> 32:
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
        ("64:ff9b::1.2.3.4", "", "1.2.3.4"),  # by a translator, which all come through
        ("10.1.2.3", "[64:ff9b::102:304]:80", "1.2.3.4"),
        ("64:ff9b:1::1.2.3.4", "", "64:ff9b:1::/64"),
    ],
)
def test_cases(peer: str, said: str, counted: str) -> None:
    assert asks(peer, said) == counted


@given(ips, ips)
def test_a_site_is_of_48_bits(one: IPv4Address | IPv6Address, other: IPv6Address) -> None:
    names = [bucket(address) for address in (one, other)]
    same = one == other
    if isinstance(one, IPv6Address) and isinstance(other, IPv6Address):
        same = int(one) >> 80 == int(other) >> 80
    assert (site_of(names[0]) == site_of(names[1])) == same
    assert counted(names[0])[0] == (names[0], 1)


def test_who_has_a_site_has_no_more_than_some_neighbours() -> None:
    homes = [f"2001:db8:1:{n:x}::/64" for n in range(50)]
    now_s = [0.0]
    limit = RateLimit(10, 1.0, lambda: now_s[0])
    done = 0
    for _ in range(20):
        for home in homes:
            if limit.wait_s(home) == 0:
                limit.take(home)
                done += 1
    assert done == 10 * SITE_TIMES
    assert 0 < limit.wait_s(homes[0]) <= 1 / SITE_TIMES
    with pytest.raises(web.HTTPTooManyRequests):
        limit.check("2001:db8:1:ffff::/64")
    limit.check("2001:db8:2::/64")
    now_s[0] += 3
    assert limit.wait_s("2001:db8:1:ffff::/64") == 0

    at_once = ConcurrencyLimit(2, 20)
    with contextlib.ExitStack() as stack:
        for home in homes[: 2 * SITE_TIMES]:
            stack.enter_context(at_once.turn(home))
        with pytest.raises(web.HTTPTooManyRequests):
            at_once.turn(homes[-1]).__enter__()
        stack.enter_context(at_once.turn("192.0.2.1"))
    assert not at_once._taken and not at_once._all


async def test_a_site_waits_for_itself() -> None:
    queue, begun = FairQueue(), list[str]()

    async def work(who: str) -> None:
        await queue.turn(who)
        begun.append(who)

    many = [work(f"2001:db8:1:{n:x}::/64") for n in range(20)]
    await asyncio.gather(*many, work("192.0.2.1"))
    assert begun.index("192.0.2.1") <= 2
