"""How often one client may do what costs us, or what looks like guessing.

A bucket per client, and one for its site (base/prefixes.py), that fill with time; in the memory of
one process, so that with N web processes a client has N of them. What is refused costs nothing but
the answer.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog
from aiohttp import web

from base.i18n.gettext import N_
from base.prefixes import counted

BUSY_S = 5  # after so long it is worth to ask again
TOO_MANY = N_("Too many requests: wait %(seconds)s s.")
CLIENTS_KNOWN = 20_000  # the longest unseen is forgotten first

log = structlog.get_logger()


class RateLimit:
    """`burst` at once, and one more every `every_s` seconds."""

    def __init__(self, burst: int, every_s: float, clock: Callable[[], float] = time.monotonic):
        self._burst, self._every_s, self._clock = burst, every_s, clock
        self._seen: OrderedDict[str, tuple[float, float]] = OrderedDict()  # left, and when

    def wait_s(self, who: str) -> float:
        """Return how long `who` has to wait; 0: not at all."""
        waits = [(1 - self._left(*one)) * self._every_s / one[1] for one in counted(who)]
        return max(0.0, *waits)

    def take(self, who: str, count: float = 1) -> None:
        """Count something that was done.

        What was begun at the same moment is counted, too: there may be a debt of one burst. A
        negative `count` gives back.
        """
        for name, times in counted(who):
            most = float(self._burst * times)
            left = max(-most, self._left(name, times) - count)
            self._seen[name] = min(most, left), self._clock()
            self._seen.move_to_end(name)
        while len(self._seen) > CLIENTS_KNOWN:
            self._seen.popitem(last=False)

    def check(self, who: str) -> None:
        """Raise 429 where `who` has to wait."""
        if (wait_s := self.wait_s(who)) > 0:
            raise too_many(wait_s)

    def _left(self, name: str, times: int = 1) -> float:
        most = float(self._burst * times)
        left, when = self._seen.get(name, (most, self._clock()))
        return min(most, left + (self._clock() - when) * times / self._every_s)


class ConcurrencyLimit:
    """How much may be done at the same time: so much by `each` client, so much `in_all`."""

    def __init__(self, each: int, in_all: int):
        self._each, self._in_all = each, in_all
        self._taken: Counter[str] = Counter()
        self._all = 0

    @contextmanager
    def turn(self, who: str) -> Iterator[None]:
        """Count something while it is done; raises 429 to who does too much, 503 where all do."""
        names = counted(who)
        if any(self._taken[name] >= self._each * times for name, times in names):
            raise too_many(BUSY_S)
        if self._all >= self._in_all:
            raise busy()
        self._all += 1
        self._taken.update(name for name, _ in names)
        try:
            yield
        finally:
            self._all -= 1
            self._taken.subtract(name for name, _ in names)
            self._taken = +self._taken  # without those that do nothing


def busy() -> web.HTTPServiceUnavailable:
    """Return the answer while others ask for as much as this process does at once; it is said."""
    log.warning("More is asked for at once than this process does; some are told to come again")
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
