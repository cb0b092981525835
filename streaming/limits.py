"""How often one address may do what costs us, or what looks like guessing.

A bucket per address that fills with time; in the memory of one process, so that with N web
processes an address has N of them. What is refused costs nothing but the answer.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from aiohttp import web

ADDRESSES = 20_000  # remembered; the longest unseen is forgotten first
HOME_BITS = 64  # of an IPv6 address: what one home has


class Limit:
    """`burst` at once, and one more every `every_s` seconds."""

    def __init__(self, burst: int, every_s: float, clock: Callable[[], float] = time.monotonic):
        self._burst, self._every_s, self._clock = burst, every_s, clock
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, and when

    def wait_s(self, who: str) -> float:
        """Return how long `who` has to wait; 0: not at all."""
        return max(0.0, (1 - self._left(who)) * self._every_s)

    def take(self, who: str) -> None:
        """Count one."""
        left = self._left(who)
        self._seen[who] = max(0.0, left - 1), self._clock()
        self._seen.move_to_end(who)
        while len(self._seen) > ADDRESSES:
            self._seen.popitem(last=False)

    def give_back(self, who: str) -> None:
        """Count one less: it was right after all."""
        left = min(float(self._burst), self._left(who) + 1)
        self._seen[who] = left, self._clock()

    def _left(self, who: str) -> float:
        left, when = self._seen.get(who, (float(self._burst), self._clock()))
        return min(float(self._burst), left + (self._clock() - when) / self._every_s)


def client(request: web.Request) -> str:
    """Return whom a request is counted for.

    Behind a proxy, which has a private address, that is the last address it wrote into
    X-Forwarded-For: those before it may be invented.
    """
    text = request.remote or ""
    try:
        address = ipaddress.ip_address(text)
        if address.is_private and (said := request.headers.get("X-Forwarded-For")):
            address = ipaddress.ip_address(said.rpartition(",")[2].strip())
    except ValueError:
        return text
    if address.version == 6:
        return str(ipaddress.ip_network((address, HOME_BITS), strict=False))
    return str(address)


def too_many(wait_s: float) -> web.HTTPTooManyRequests:
    """Return the answer to who does it too often."""
    seconds = str(int(wait_s) + 1)
    return web.HTTPTooManyRequests(
        text=f"Too many requests: wait {seconds} s.\n", headers={"Retry-After": seconds}
    )
