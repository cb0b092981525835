"""How often one client may do what costs us, or what looks like guessing.

A bucket per client that fills with time; in the memory of one process, so that with N web
processes a client has N of them. What is refused costs nothing but the answer.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from base.i18n.gettext import N_

BUSY_S = 5  # after so long it is worth to ask again
TOO_MANY = N_("Too many requests: wait %(seconds)s s.")
CLIENTS_KNOWN = 20_000  # the longest unseen is forgotten first


class RateLimit:
    """`burst` at once, and one more every `every_s` seconds."""

    def __init__(self, burst: int, every_s: float, clock: Callable[[], float] = time.monotonic):
        self._burst, self._every_s, self._clock = burst, every_s, clock
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, and when

    def wait_s(self, who: str) -> float:
        """Return how long `who` has to wait; 0: not at all."""
        return max(0.0, (1 - self._left(who)) * self._every_s)

    def take(self, who: str, count: float = 1) -> None:
        """Count something that was done.

        What was begun at the same moment is counted, too: there may be a debt of one burst. A
        negative `count` gives back.
        """
        left = max(-float(self._burst), self._left(who) - count)
        self._seen[who] = min(float(self._burst), left), self._clock()
        self._seen.move_to_end(who)
        while len(self._seen) > CLIENTS_KNOWN:
            self._seen.popitem(last=False)

    def check(self, who: str) -> None:
        """Raise 429 where `who` has to wait."""
        if (wait_s := self.wait_s(who)) > 0:
            raise too_many(wait_s)

    def _left(self, who: str) -> float:
        left, when = self._seen.get(who, (float(self._burst), self._clock()))
        return min(float(self._burst), left + (self._clock() - when) / self._every_s)


class ConcurrencyLimit:
    """How much may be done at the same time: so much by `each` client, so much `in_all`."""

    def __init__(self, each: int, in_all: int):
        self._each, self._in_all = each, in_all
        self._taken: Counter[str] = Counter()

    @contextmanager
    def turn(self, who: str) -> Iterator[None]:
        """Count something while it is done; raises 429 to who does too much, 503 where all do."""
        if self._taken[who] >= self._each:
            raise too_many(BUSY_S)
        if self._taken.total() >= self._in_all:
            raise busy()
        self._taken[who] += 1
        try:
            yield
        finally:
            self._taken[who] -= 1
            if not self._taken[who]:
                del self._taken[who]


def busy() -> web.HTTPServiceUnavailable:
    """Return the answer while others ask for as much as this process does at once."""
    return web.HTTPServiceUnavailable(
        text=N_("Too much is asked for at once; try again in some seconds."),
        headers={"Retry-After": str(BUSY_S)},
    )


def too_many(wait_s: float) -> web.HTTPTooManyRequests:
    """Return the answer to who does it too often."""
    seconds = str(int(wait_s) + 1)
    return web.HTTPTooManyRequests(
        text=TOO_MANY % {"seconds": seconds}, headers={"Retry-After": seconds}
    )
