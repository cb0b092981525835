"""The recorder's clock: what arrivals are stamped with, and when a set clock is followed.

A clock that leaps is often a mistake of seconds: a dead battery, a wrong time server, a typing
error. So a leap is not taken over at once while something is recorded: time goes on as it did,
by the clock that nobody sets, and footage is marked as made by a clock that is not synchronized.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from base.hostclock import LEAP_MS, KernelClock, elapsed_ms, kernel_clock, span
from storage.records import ClockState

JUMP_MS = 150.0  # in half a second; what NTP slews is less, more has been set by somebody
TRIES_NS = 10_000_000  # a reading that took longer says nothing
# How long a leap is not taken over. Ahead, it would leave a window and put a gap into the future,
# for good. Back within a window it does neither, and is mostly a clock that was wrong when the
# machine started.
AHEAD_MS, BACK_MS = 3_600_000.0, 15_000.0


@dataclass(slots=True)
class _Leap:
    """A reading that is not believed yet."""

    offset_ms: float
    since_ms: float
    was_unsynchronized: bool


def _elapsed_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def system_offset_ms() -> float:
    """Return the system's UTC less the time since it started (`elapsed_ms`), in ms.

    Both cannot be read at once: of some readings the one counts that took the shortest time, so
    that a busy machine does not look like a clock that was set.
    """
    best_ns, offset_ns = TRIES_NS, 0.0
    while best_ns == TRIES_NS:
        for _ in range(5):
            before_ns, utc_ns, after_ns = _elapsed_ns(), time.time_ns(), _elapsed_ns()
            if after_ns - before_ns < best_ns:
                best_ns = after_ns - before_ns
                offset_ns = utc_ns - (before_ns + after_ns) / 2
    return offset_ns / 1e6


class Clock:
    """UTC in milliseconds that cannot jump unnoticed: elapsed time plus a followed offset."""

    def __init__(
        self,
        known_ms: float = 0.0,
        is_on: Callable[[float], bool] = lambda _: False,
        *,
        offset_ms: Callable[[], float] = system_offset_ms,
        elapsed: Callable[[], float] = elapsed_ms,
        kernel: Callable[[], KernelClock] = kernel_clock,
    ):
        """`known_ms` is the newest moment (UTC) that is known to have passed, 0 for none; `is_on`
        says whether something is to be recorded at a moment. `offset_ms` gives UTC less `elapsed`,
        as the system has it now.

        Where nothing is to be recorded by a clock that nobody synchronized, but was at
        `known_ms`, time goes on from there until somebody sets the clock.
        """
        self._read, self._elapsed, self._kernel = offset_ms, elapsed, kernel
        self._is_on = is_on
        # since when this offset is in force; the one before the last leap, and how long that was
        self._since_ms, self._before = elapsed(), (0.0, 0.0)
        self._known_offset_ms = known_ms - elapsed()
        self._synchronized = kernel().synchronized
        self._offset_ms = self._read()
        if self._synchronized:  # what is known was written by a clock that was ahead
            self._known_offset_ms = min(self._known_offset_ms, self._offset_ms)
        self._leap: _Leap | None = None
        self._goes_on_from_known = (
            not self._synchronized and not is_on(self.now_ms()) and is_on(known_ms)
        )
        if self._goes_on_from_known:
            self._leap = _Leap(self._offset_ms, elapsed(), True)
            self._offset_ms = self._known_offset_ms

    def now_ms(self) -> float:
        """Return UTC now."""
        return self._elapsed() + self._offset_ms

    @property
    def synchronized(self) -> bool:
        """Whether the kernel said, when it was last asked, that the clock is synchronized."""
        return self._synchronized

    def state(self) -> ClockState:
        """Return how good this clock is, for the header of a recording."""
        return ClockState(False, None) if self._leap else ClockState(*self._kernel())

    @property
    def doubt(self) -> str | None:
        """Say why the clock of this machine is not believed; None where it is."""
        if self._leap is None:
            return None
        by = span(self._leap.offset_ms - self._offset_ms)
        return f"the clock of this machine is off by {by} against the time that has passed"

    def follow(self, *, recording: bool = True) -> float:
        """Take over what the system's clock was slewed or set by; return a jump in ms, else 0.

        To be called about every half second. A leap is taken over at once where nothing is
        `recording`, else when NTP has made it (the kernel was not synchronized, and is now), when
        the time so far is before what is known to have passed, when it takes back a leap that was
        followed, or when it has lasted.
        """
        was_synchronized, self._synchronized = self._synchronized, self._kernel().synchronized
        offset_ms = self._read()
        moved_ms = offset_ms - self._offset_ms
        leap = self._leap
        if abs(moved_ms) > LEAP_MS:
            if leap is None or abs(leap.offset_ms - offset_ms) > LEAP_MS:
                leap = self._leap = _Leap(offset_ms, self._elapsed(), not was_synchronized)
                is_set = self._goes_on_from_known
            else:
                is_set = False
            leap.was_unsynchronized |= not self._synchronized
            if recording and not is_set and self._is_doubtful(leap, moved_ms):
                return 0.0
            now_ms = self._elapsed()
            self._before, self._since_ms = (self._offset_ms, now_ms - self._since_ms), now_ms
        self._leap, self._offset_ms, self._goes_on_from_known = None, offset_ms, False
        return moved_ms if abs(moved_ms) > JUMP_MS else 0.0

    def _is_doubtful(self, leap: _Leap, moved_ms: float) -> bool:
        if leap.was_unsynchronized and self._synchronized:  # NTP has made it
            return False
        if self._offset_ms < self._known_offset_ms - LEAP_MS:
            return False
        before_ms, lasted_ms = self._before
        if abs(leap.offset_ms - before_ms) < LEAP_MS and leap.since_ms - self._since_ms < lasted_ms:
            return False  # it is set right again
        leaves = self._is_on(self.now_ms()) and not self._is_on(self.now_ms() + moved_ms)
        is_likely = moved_ms < 0 and leap.offset_ms > self._known_offset_ms - LEAP_MS
        patience_ms = BACK_MS if is_likely and not leaves else AHEAD_MS
        return self._elapsed() - leap.since_ms < patience_ms
