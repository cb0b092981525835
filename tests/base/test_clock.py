"""The clock of the machine is not believed alone: `recorder.clock` and `base.hostclock`."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.hostclock import ClockWatch, KernelClock, span
from recorder.clock import AHEAD_MS, BACK_MS, Clock
from storage.spool.gaps import Coverage

NOW = 1_790_000_000_000
DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000


@dataclass
class Host:
    """A machine whose clock can be set, and whose kernel can be told to be synchronized."""

    offset_ms: float = NOW - 5_000
    up_ms: float = 5_000.0
    synchronized: bool = False

    def now(self) -> float:
        return self.up_ms + self.offset_ms

    def whole(self) -> int:
        return int(self.now())

    def up(self) -> float:
        return self.up_ms

    def kernel(self) -> KernelClock:
        return KernelClock(self.synchronized, 2 if self.synchronized else None)

    def clock(self, known_ms: float = 0.0, begin_ms: float = 0, end_ms: float = 0) -> Clock:
        return Clock(
            *(known_ms, lambda ms: begin_ms <= ms < end_ms),
            offset_ms=lambda: self.offset_ms,
            elapsed=self.up,
            kernel=self.kernel,
        )

    def watch(self) -> ClockWatch:
        return ClockWatch(self.whole, self.up, self.kernel)

    def follow(self, clock: Clock, ms: float, recording: bool = True) -> float:
        """Let time pass; return by how much the clock was set meanwhile."""
        jumped = 0.0
        for _ in range(round(ms / 500)):
            self.up_ms += 500
            jumped += clock.follow(recording=recording)
        return jumped


@pytest.mark.parametrize("by_ms", [DAY, 1.5 * HOUR, HOUR, 400 * DAY, -DAY, -HOUR])
@pytest.mark.parametrize("synchronized", [True, False])
def test_a_leap_of_ten_seconds_is_not_followed(by_ms: float, synchronized: bool) -> None:
    host = Host(synchronized=synchronized)
    clock = host.clock()
    host.offset_ms += by_ms
    assert host.follow(clock, 10_000) == 0
    assert clock.now_ms() == NOW + 10_000
    assert clock.doubt is not None and span(by_ms) in clock.doubt
    assert not clock.state().synchronized  # so the recordings of this time say
    host.offset_ms -= by_ms
    assert host.follow(clock, 10_000) == 0
    assert clock.now_ms() == NOW + 20_000
    assert clock.doubt is None and clock.state().synchronized is synchronized


def test_a_leap_that_lasts_is_followed_once() -> None:
    for by_ms, lasts_ms in ((DAY, AHEAD_MS), (-DAY, BACK_MS)):
        host = Host()
        clock = host.clock()
        host.offset_ms += by_ms
        assert host.follow(clock, lasts_ms - 1_000) == 0
        assert host.follow(clock, 5_000) == by_ms
        assert clock.now_ms() == host.now()
        assert clock.doubt is None


def test_a_leap_back_that_leaves_the_window_is_followed_no_sooner_than_one_ahead() -> None:
    """Nothing is written of what comes before a window: half a minute would be lost by it."""
    host = Host(synchronized=True)
    clock = host.clock(begin_ms=NOW - HOUR, end_ms=NOW + 12 * HOUR)
    host.offset_ms -= DAY
    assert host.follow(clock, 10 * BACK_MS) == 0
    host.offset_ms += DAY
    assert host.follow(clock, 5_000) == 0 and clock.doubt is None


@pytest.mark.parametrize(("by_ms", "lasts_ms"), [(-2 * HOUR, BACK_MS), (2 * HOUR, AHEAD_MS)])
def test_a_leap_that_was_followed_and_is_taken_back(by_ms: float, lasts_ms: float) -> None:
    """By half a minute an hour would be two hours wrong. What lasted less is not gone back to."""
    host = Host(synchronized=True)
    clock = host.clock(begin_ms=NOW - DAY, end_ms=NOW + DAY)
    host.follow(clock, 2 * lasts_ms)
    host.offset_ms += by_ms
    assert host.follow(clock, lasts_ms + 15_000) == by_ms
    host.offset_ms -= by_ms
    assert host.follow(clock, 500) == -by_ms and clock.doubt is None
    host.follow(clock, 2 * lasts_ms)
    host.offset_ms += by_ms
    assert host.follow(clock, 10_000) == 0


def test_a_leap_that_ntp_made_is_followed_at_once() -> None:
    host = Host()
    clock = host.clock()
    host.offset_ms += DAY
    assert host.follow(clock, 1_000) == 0
    host.synchronized = True
    assert host.follow(clock, 500) == DAY


def test_where_nothing_is_recorded_a_leap_is_followed_at_once() -> None:
    host = Host()
    clock = host.clock()
    host.offset_ms -= 3 * DAY  # a machine that had started with a clock that was ahead
    assert host.follow(clock, 500, recording=False) == -3 * DAY


def test_a_clock_that_was_behind_what_is_known_gives_way_at_once() -> None:
    host = Host()
    clock = host.clock(known_ms=NOW + HOUR, begin_ms=0, end_ms=NOW + DAY)
    host.offset_ms += 2 * HOUR
    assert host.follow(clock, 500) == 2 * HOUR


def test_what_a_clock_that_was_ahead_wrote_is_not_known() -> None:
    """A status file of that time: a leap of seconds is followed no sooner for it."""
    host = Host(synchronized=True)
    clock = host.clock(known_ms=NOW + 400 * DAY, begin_ms=0, end_ms=NOW + DAY)
    host.offset_ms += DAY
    assert host.follow(clock, 10_000) == 0


def test_small_steps_are_followed_and_told_above_150_ms() -> None:
    host = Host()
    clock = host.clock()
    for by_ms, told in ((100, 0), (-140, 0), (160, 160), (59_000, 59_000), (-59_000, -59_000)):
        host.offset_ms += by_ms
        assert host.follow(clock, 500) == told
        assert clock.now_ms() == host.now()


@pytest.mark.parametrize("wrong_ms", [3 * DAY, -300 * DAY])
def test_a_machine_that_starts_with_a_wrong_clock_in_a_window(wrong_ms: float) -> None:
    """It goes on from when the recorder last ran, until somebody sets the clock."""
    host = Host(offset_ms=NOW - 5_000 + wrong_ms)
    clock = host.clock(known_ms=NOW - 5 * MINUTE, begin_ms=NOW - HOUR, end_ms=NOW + HOUR)
    assert clock.now_ms() == NOW - 5 * MINUTE
    assert clock.doubt is not None
    assert host.follow(clock, 8_000) == 0
    host.offset_ms -= wrong_ms
    assert host.follow(clock, 500) == 5 * MINUTE
    assert clock.now_ms() == host.now() and clock.doubt is None


def test_a_machine_that_was_off_until_its_window_had_ended() -> None:
    """By a clock that nobody synchronized that may be so or not; by one that is, it is so."""
    host = Host()
    told = {"known_ms": NOW - DAY, "begin_ms": NOW - 2 * DAY, "end_ms": NOW - HOUR}
    clock = host.clock(**told)
    assert host.follow(clock, AHEAD_MS - 1_000) == 0
    assert host.follow(clock, 2_000) == DAY  # an hour of too much at most
    host = Host(synchronized=True)
    assert host.clock(**told).now_ms() == NOW


# -- the watch of those that remove ----------------------------------------------------------


def test_a_clock_is_believed_with_a_witness_only() -> None:
    host = Host()
    watch = host.watch()
    assert "nobody synchronizes" in (watch.doubt() or "") and watch.wrong() is None
    host.synchronized = True
    assert watch.doubt() is None
    host.synchronized = False
    watch.heard("archive a", NOW + 900, host.up())
    assert watch.doubt() is None
    host.up_ms += 2 * HOUR  # that word is old
    assert "nobody synchronizes" in (watch.doubt() or "")


@pytest.mark.parametrize(("by_ms", "words"), [(400 * DAY, "+400.0 days"), (-HOUR, "-1.0 h")])
def test_a_server_that_has_another_time_is_believed(by_ms: int, words: str) -> None:
    host = Host(synchronized=True, offset_ms=NOW + by_ms - 5_000)
    watch = host.watch()
    watch.heard("archive a", NOW, host.up())
    assert words in (watch.doubt() or "") and "archive a" in (watch.wrong() or "")
    assert watch.offset_ms("archive a") == by_ms
    assert watch.offset_ms("archive b") is None


def test_a_clock_before_what_has_passed_is_wrong_unless_a_server_agrees() -> None:
    host = Host(synchronized=True)
    watch = host.watch()
    watch.past(NOW + 3 * DAY, "a recording")
    watch.past(NOW, "an older one")
    assert watch.wrong() == "a recording is dated +3.0 days after what the clock says now"
    watch.heard("archive a", NOW, host.up())
    assert watch.wrong() is None


def test_a_moment_of_the_future_stops_nothing_for_ever() -> None:
    """One order that was made while the clock was ahead would hold up all letters."""
    for synchronized in (True, False):
        host = Host(synchronized=synchronized)
        watch = host.watch()
        watch.past(NOW + 400 * DAY, "the newest order")
        assert watch.unlikely() is not None
        host.up_ms += HOUR + 5_000
        assert (watch.unlikely() is None) is synchronized
        assert watch.wrong() is not None  # by which archives are not cleared


def test_a_set_clock_is_not_steady() -> None:
    host = Host(synchronized=True)
    watch = host.watch()
    host.up_ms += DAY
    assert watch.look() == 0 and watch.steady_s() == 86_400
    host.offset_ms += DAY
    assert watch.look() == DAY and watch.steady_s() == 0
    host.up_ms += HOUR
    assert watch.look() == 0 and watch.steady_s() == 3_600


# -- what is accounted for -------------------------------------------------------------------

stretch = st.tuples(st.integers(0, 500), st.integers(1, 100)).map(lambda s: (s[0], s[0] + s[1]))


@given(st.lists(stretch, max_size=12), st.integers(0, 700))
def test_coverage_is_what_its_stretches_cover(stretches: list[tuple[int, int]], now: int) -> None:
    coverage = Coverage()
    for start_ms, end_ms in stretches:
        coverage.add(start_ms * MINUTE, end_ms * MINUTE)
    found = coverage.until_ms(now * MINUTE)
    begun = [min(end, now) for start, end in stretches if start <= now]
    assert found == (max(begun) * MINUTE if begun else None)
