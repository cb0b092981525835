"""Of what several machines recorded of a camera each moment is shown once, or missing once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from base.intervals import length, merge
from storage.records import Gap, GapCause
from storage.shown import Shown
from storage.spool.numbers import lease_of

MOMENT = st.integers(0, 60)


class Counted(int):
    """A moment that counts how often it was compared with another one."""

    count = 0

    def __lt__(self, other: int) -> bool:
        Counted.count += 1
        return int(self) < int(other)

    def __gt__(self, other: int) -> bool:
        Counted.count += 1
        return int(self) > int(other)

    def __le__(self, other: int) -> bool:
        Counted.count += 1
        return int(self) <= int(other)

    def __ge__(self, other: int) -> bool:
        Counted.count += 1
        return int(self) >= int(other)


RECORDING = st.tuples(st.integers(1, 4), MOMENT, MOMENT).map(
    lambda one: (one[0], min(one[1:]), max(one[1:]))
)
GAP = st.tuples(st.integers(1, 9), MOMENT, MOMENT | st.none()).map(
    lambda one: Gap(
        one[0],
        one[1] if one[2] is None else min(one[1], one[2]),
        None if one[2] is None else max(one[1], one[2]),
        GapCause.NO_DATA,
    )
)


@given(recordings=st.lists(RECORDING, max_size=12), gaps=st.lists(GAP, max_size=8))
def test_each_moment_is_shown_by_its_highest_epoch_or_missing_once(
    recordings: list[tuple[int, int, int]], gaps: list[Gap]
) -> None:
    shown = Shown(recordings)
    for moment in range(60):
        there = [epoch for epoch, start, end in recordings if start <= moment < end]
        by = {
            epoch
            for epoch, start, end in recordings
            for a, b in shown.parts(epoch, start, end)
            if a <= moment < b
        }
        assert by == ({max(there)} if there else set())
        numbers = [
            gap.gap_no
            for gap in gaps
            if gap.start_ms <= moment and (gap.end_ms is None or moment < gap.end_ms)
        ]
        missing = [
            gap.gap_no
            for gap in shown.missing(gaps)
            if gap.start_ms <= moment and (gap.end_ms is None or moment < gap.end_ms)
        ]
        if all(gap.end_ms is not None for gap in gaps):
            assert missing == ([max(numbers)] if numbers and not there else [])
    covered = merge((start, end) for _, start, end in recordings)
    parts = [p for one in recordings for p in shown.parts(*one)]
    assert length(parts) == length(covered)
    for epoch, start, end in recordings:
        assert shown.is_second(epoch, start, end) is (
            start < end and not shown.parts(epoch, start, end)
        )


def test_a_gap_of_one_machine_is_none_where_another_recorded() -> None:
    shown = Shown([(5, 0, 100), (6, 90, 300), (5, 250, 320)])
    gaps = [
        Gap(50, 100, 250, GapCause.CLOSED_BY_CAMERA),  # while the other one had the camera
        Gap(60, 70, 90, GapCause.CONNECTING),
        Gap(51, 320, None, GapCause.NO_DATA),
        Gap(61, 310, 330, GapCause.NODE_LOST),
    ]
    assert shown.missing(gaps) == [
        Gap(61, 320, 330, GapCause.NODE_LOST),
        Gap(51, 330, None, GapCause.NO_DATA),
    ]
    assert shown.parts(5, 0, 100) == [(0, 90)] and shown.parts(6, 90, 300) == [(90, 300)]
    assert shown.parts(5, 250, 320) == [(300, 320)]
    assert not shown.is_second(5, 250, 320) and Shown([(1, 5, 9), (2, 0, 9)]).is_second(1, 5, 9)


def test_a_gap_that_lasted_when_its_machine_died_lasts_no_longer() -> None:
    old, new = 5 << 23, 6 << 23
    old += 200_000_000 << 23
    new += 200_000_000 << 23
    of_old, of_new = lease_of(old), lease_of(new)
    lasting = Gap(old, 100, None, GapCause.UNREACHABLE)
    taken_over = Gap(new, 200, 220, GapCause.NODE_LOST)
    assert Shown([(of_new, 220, 300)]).missing([lasting, taken_over]) == [
        Gap(old, 100, 200, GapCause.UNREACHABLE),
        taken_over,
    ]
    assert Shown([(of_new, 220, 300)]).missing([lasting]) == [
        Gap(old, 100, 220, GapCause.UNREACHABLE)
    ]
    # what its own machine recorded before does not end it
    assert Shown([(of_old, 20, 90)]).missing([lasting]) == [lasting]


def test_a_gap_that_lasts_and_began_before_all_else_ended() -> None:
    assert Shown([(1, 0, 50)]).missing([Gap(1, 10, None, GapCause.NO_DATA)]) == [
        Gap(1, 50, None, GapCause.NO_DATA)
    ]
    assert Shown([]).missing(
        [Gap(1, 10, None, GapCause.NO_DATA), Gap(1, 5, 5, GapCause.NO_DATA)]
    ) == [Gap(1, 10, None, GapCause.NO_DATA)]


def test_a_spool_that_knows_nothing_of_before_takes_no_cause_from_one_that_did() -> None:
    """The disk with the spool is lost: the recordings and gaps that it had are in the archive and
    in the catalogue. The next one says that no recorder ran since the window opened."""
    known = [Gap(5, 100, 130, GapCause.UNREACHABLE), Gap(6, 180, None, GapCause.NO_DATA)]
    fresh = [
        Gap(900, 0, 200, GapCause.RECORDER_STOPPED, "or what it wrote in this spool is gone"),
        Gap(901, 200, 203, GapCause.CONNECTING),
    ]
    shown = Shown([(1, 0, 100), (1, 130, 160), (900, 203, 300)])
    assert [(g.gap_no, g.start_ms, g.end_ms) for g in shown.missing([*known, *fresh])] == [
        (5, 100, 130),
        (900, 160, 180),
        (6, 180, 200),
        (901, 200, 203),
    ]


def test_a_camera_that_comes_and_goes_all_day_takes_little_work() -> None:
    """It has thousands of gaps, and who asks for its timeline holds up live video meanwhile."""
    work = []
    for count in (200, 400):
        recordings = [(1, Counted(16 * n), Counted(16 * n + 8)) for n in range(count)]
        gaps = [
            Gap(n, Counted(16 * n + 8), Counted(16 * n + 16), GapCause.UNREACHABLE)
            for n in range(count)
        ]
        Counted.count = 0
        shown = Shown([*recordings, (2, Counted(16 * count), Counted(16 * count + 8))])
        assert len(shown.missing(gaps)) == count
        assert all(shown.parts(*one) == [one[1:]] for one in recordings)
        work.append(Counted.count)
    assert work[1] < 3 * work[0]
