"""The clock of this machine and what else tells the time: whether its word may be acted on.

What cannot be taken back (leaving a window, removing a recording, ending an order) is not done on
one reading of CLOCK_REALTIME. The other witnesses are the kernel, the time that has passed since
this process started, moments that are known to lie in the past, and servers that date their
answers.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import NamedTuple

from base.clock import Clock, now_ms

LEAP_MS = 60_000  # a clock that was set by more than this, or differs by more, is not believed
SETTLE_MS = 600_000  # a clock that was set is not believed for so long, unless a server agrees
# After the start of a process: so long nothing is done on the word of a clock by which nothing has
# happened for a day.
YOUNG_S, SILENT_MS = 3_600.0, 86_400_000
HEARD_MS = 3_600_000  # so long a server's word counts
UNSYNCHRONIZED = "the kernel says that nobody synchronizes the clock: see that NTP or PTP runs"
_STA_UNSYNC = 0x0040  # adjtimex(2)
_TIME_ERROR = 5


class KernelClock(NamedTuple):
    """What the kernel says of the clock; `error_ms` is its maximum error, None where unknown."""

    synchronized: bool
    error_ms: int | None


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2), as far as it is read, padded to more than its size."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def kernel_clock() -> KernelClock:
    """Return the kernel's word on the clock (adjtimex(2)); not synchronized where it has none.

    The kernel lets its maximum error grow while nobody disciplines the clock.
    """
    timex = _Timex()
    try:
        result = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except AttributeError:  # not Linux
        return KernelClock(False, None)
    if result < 0 or result == _TIME_ERROR or timex.status & _STA_UNSYNC:
        return KernelClock(False, None)
    return KernelClock(True, max(1, round(timex.maxerror / 1000)))


def elapsed_ms() -> float:
    """Return milliseconds since this machine started, sleep included: nobody sets this clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) / 1e6


def span(ms: float) -> str:
    """Return a difference of clocks in words, with its sign: '+1.5 h', '-400.0 days'."""
    for unit, name in ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min")):
        if abs(ms) >= unit:
            return f"{ms / unit:+.1f} {name}"
    return f"{ms / 1000:+.1f} s"


class ClockWatch:
    """Weighs the clock of this machine against its witnesses; `look` at it every few seconds."""

    def __init__(
        self,
        clock: Clock = now_ms,
        elapsed: Callable[[], float] = elapsed_ms,
        kernel: Callable[[], KernelClock] = kernel_clock,
    ):
        self._clock, self.elapsed, self._kernel = clock, elapsed, kernel
        self._offset_ms = clock() - elapsed()
        self._steady_since_ms, self._set_by_ms = elapsed(), 0.0
        self._heard: dict[str, tuple[int, float]] = {}  # what servers said, and when (`elapsed`)
        self._newest_ms, self._newest = 0, ""

    def look(self) -> float:
        """Notice whether the clock was set; return by how many ms, 0 where it was not."""
        offset_ms = self._clock() - self.elapsed()
        moved_ms, self._offset_ms = offset_ms - self._offset_ms, offset_ms
        if abs(moved_ms) <= LEAP_MS:
            return 0.0
        self._steady_since_ms, self._set_by_ms = self.elapsed(), moved_ms
        return moved_ms

    def steady_s(self) -> float:
        """Return for how many seconds the clock has run without being set; see `look`."""
        return (self.elapsed() - self._steady_since_ms) / 1000

    def heard(self, server: str, date_ms: int, at_ms: float) -> None:
        """Take a server's word: the `Date` of an answer (RFC 9110) that came `at_ms`, in
        `elapsed_ms`; an answer counts for an hour."""
        self._heard[server] = date_ms, at_ms

    def past(self, at_ms: int, what: str) -> None:
        """Take note of a moment (UTC) that has passed: `what` was written then."""
        if at_ms > self._newest_ms:
            self._newest_ms, self._newest = at_ms, what

    def offset_ms(self, server: str) -> float | None:
        """Return how far this machine's clock is ahead of a server's; None without an answer."""
        date_ms, at_ms = self._heard.get(server, (0, float("-inf")))
        ago_ms = self.elapsed() - at_ms
        return None if ago_ms > HEARD_MS else self._clock() - (date_ms + ago_ms)

    @property
    def synchronized(self) -> bool:
        """Whether the kernel says that somebody disciplines the clock."""
        return self._kernel().synchronized

    def wrong(self) -> str | None:
        """Say why the clock must be wrong, None where nothing speaks against it."""
        offsets = {s: ms for s in self._heard if (ms := self.offset_ms(s)) is not None}
        for server, ms in offsets.items():
            if abs(ms) > LEAP_MS:
                return f"the clock of this machine is off by {span(ms)} against that of {server}"
        if offsets:
            return None
        if self._set_by_ms and self.steady_s() * 1000 < SETTLE_MS:
            ago = f"{self.steady_s() / 60:.0f} minutes ago"
            return f"the clock of this machine was set by {span(self._set_by_ms)} {ago}"
        return self._behind()

    def _behind(self) -> str | None:
        ahead_ms = self._newest_ms - self._clock()
        if ahead_ms > LEAP_MS:
            return f"{self._newest} is dated {span(ahead_ms)} after what the clock says now"
        return None

    def _agrees(self) -> bool:
        """Say whether a server has told the time lately; where `wrong` is None, it agrees."""
        return any(self.offset_ms(server) is not None for server in self._heard)

    def unlikely(self) -> str | None:
        """Say why the clock may be ahead: it is wrong, or this process has just started, and by
        this clock nothing that `past` tells of happened for a day. None after an hour of that, and
        of a moment of the future that may have been written by a clock that was ahead."""
        if (wrong := self.wrong()) is not None:
            is_old = self.synchronized and self.steady_s() >= YOUNG_S
            return None if is_old and wrong == self._behind() else wrong
        if self._agrees():
            return None
        silent_ms = self._clock() - self._newest_ms if self._newest_ms else 0
        if silent_ms > SILENT_MS and self.steady_s() < YOUNG_S:
            return (
                f"{self._newest} is {span(silent_ms)[1:]} old, and nothing is newer: is it so late?"
            )
        return None

    def doubt(self) -> str | None:
        """Say why the clock is not believed, None where it is: nothing speaks against it, and
        the kernel or a server speaks for it."""
        if (wrong := self.wrong()) is not None:
            return wrong
        if self.synchronized or self._agrees():
            return None
        return f"{UNSYNCHRONIZED}; no archive server has told the time in the last hour either"
