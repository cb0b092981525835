"""The networks by which clients are counted, as text: an IPv4 address, or of IPv6 that of a home.

Whoever has one IPv6 address has all of its network of 64 bits, and many are given 48, which are
65,536 of these. So what a home takes is counted for its site, too, which may take SITE_TIMES as
much: some of many neighbours who share it, and not one who has all of it.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_network

HOME_BITS, SITE_BITS, SITE_TIMES = 64, 48, 4


@lru_cache(20_000)
def site_of(client: str) -> str:
    """Return the network of a client's site; of IPv4, the client itself."""
    return str(ip_network(client).supernet(new_prefix=SITE_BITS)) if ":" in client else client


def counted(client: str) -> tuple[tuple[str, int], ...]:
    """Return the networks that what a client does is counted for, each with how many times as
    much it may do as a client."""
    site = site_of(client)
    return ((client, 1),) if site == client else ((client, 1), (site, SITE_TIMES))
