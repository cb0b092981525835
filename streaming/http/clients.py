"""For whom a request is counted: the peer, or what a trusted proxy says of it.

Anybody can send X-Forwarded-For. It is read only where the peer is one of `web.trusted_proxies`,
from its end: the last element is what that proxy itself has seen, all before it may be invented.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import structlog
from aiohttp import web
from multidict import MultiMapping

from base.prefixes import HOME_BITS
from config.model import Network

MOST_PROXIES = 8  # that are looked at, of what X-Forwarded-For names; the rest may be invented
Address = IPv4Address | IPv6Address

_TRANSLATED = IPv6Network("64:ff9b::/96")  # IPv4 addresses behind a translator (RFC 6052, 2.1)
_V4_WITH_PORT = re.compile(r"([0-9.]+):[0-9]{1,5}")

log = structlog.get_logger()


def read_address(text: str) -> Address | None:
    """Return an IP address as proxies write it: alone, with a port, in brackets, with a zone.

    An IPv4 address in an IPv6 one (RFC 4291, 2.5.5.2; RFC 6052, 2.1) is the IPv4 address; None for
    what is none.
    """
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif found := _V4_WITH_PORT.fullmatch(text):
        text = found[1]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return address
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address


def bucket(address: Address | None) -> str:
    """Return the name under which an address is counted: of IPv6 the network of one home."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address, HOME_BITS), strict=False))
    return str(address)


class Clients:
    """Tells who asks."""

    def __init__(self, trusted: Iterable[Network]):
        self._trusted = tuple(trusted)
        self._warned = False

    def is_proxy(self, address: Address | None) -> bool:
        """Tell whether an address is that of a trusted proxy."""
        return address is not None and any(
            address in network for network in self._trusted if network.version == address.version
        )

    def of(self, peer: str, headers: MultiMapping[str]) -> str:
        """Return whom a request is counted for: by the address of its peer, and its headers.

        A trusted proxy that says nothing readable is counted itself.
        """
        found = read_address(peer)
        forwarded = headers.getall("X-Forwarded-For", ())
        if forwarded and not self.is_proxy(found):
            self._warn()
            return bucket(found)
        for line in reversed(forwarded[-MOST_PROXIES:]):
            for element in reversed(line.rsplit(",", MOST_PROXIES)[-MOST_PROXIES:]):
                if not self.is_proxy(found) or (address := read_address(element)) is None:
                    return bucket(found)
                found = address
        return bucket(found)

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "X-Forwarded-For is not believed: if a proxy of yours writes it, name it in"
                " web.trusted_proxies; until then all who come through it are counted as one"
            )


CLIENTS = web.AppKey("clients", Clients)
_CLIENT = web.RequestKey("client", str)


def client(request: web.Request) -> str:
    """Return whom a request is counted for."""
    if (found := request.get(_CLIENT)) is None:
        found = request[_CLIENT] = request.app[CLIENTS].of(request.remote or "", request.headers)
    return found
