"""The recorder's clock: what arrivals are stamped with, and what the kernel thinks of it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from storage.index import ClockState

JUMP_MS = 150.0  # in half a second; what NTP slews is less, more has been set by somebody
TRIES_NS = 10_000_000  # a reading that took longer says nothing
_STA_UNSYNC = 0x0040  # adjtimex(2)
_TIME_ERROR = 5


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


def clock_state() -> ClockState:
    """Return the kernel's word on the clock (adjtimex(2)); not synchronized where it has none.

    `error_ms` is the kernel's maximum error, which it lets grow while nobody disciplines it.
    """
    timex = _Timex()
    try:
        result = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except AttributeError:  # not Linux
        return ClockState(False, None)
    if result < 0 or result == _TIME_ERROR or timex.status & _STA_UNSYNC:
        return ClockState(False, None)
    return ClockState(True, max(1, round(timex.maxerror / 1000)))


def system_offset_ms() -> float:
    """Return the system's UTC less its monotonic time, in ms.

    Both cannot be read at once: of some readings the one counts that took the shortest time, so
    that a busy machine does not look like a clock that was set.
    """
    best_ns, offset_ns = TRIES_NS, 0.0
    while best_ns == TRIES_NS:
        for _ in range(5):
            before_ns, utc_ns, after_ns = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
            if after_ns - before_ns < best_ns:
                best_ns = after_ns - before_ns
                offset_ns = utc_ns - (before_ns + after_ns) / 2
    return offset_ns / 1e6


class Clock:
    """UTC in milliseconds that cannot jump unnoticed: monotonic time plus a followed offset."""

    def __init__(self, offset_ms: Callable[[], float] = system_offset_ms):
        """`offset_ms` gives UTC less monotonic time, as the system has it now."""
        self._read = offset_ms
        self._offset_ms = offset_ms()

    def now_ms(self) -> float:
        """Return UTC now."""
        return time.monotonic_ns() / 1e6 + self._offset_ms

    def follow(self) -> float:
        """Take over what the system's clock was slewed by; return a jump in ms, else 0.

        To be called about every half second.
        """
        offset_ms = self._read()
        moved_ms, self._offset_ms = offset_ms - self._offset_ms, offset_ms
        return moved_ms if abs(moved_ms) > JUMP_MS else 0.0
