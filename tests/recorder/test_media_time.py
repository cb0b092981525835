"""Cameras whose timestamps, sound or link are wrong: where each picture is placed, and marked."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.arrivals import Picture
from recorder.opening import place_opening
from recorder.segmenter import Discontinuity, Segmenter
from recorder.source import Frame
from storage.records import GapCause
from tests.support.frames import UTC0, VIDEO
from tests.support.shots import Shot, record, reported


def camera(
    seconds: float,
    stamp: Callable[[int, float], float] = lambda n, taken: taken,
    delay: Callable[[int, float], float] = lambda n, taken: 20,
    *,
    fps: float = 25,
    gop: int = 50,
    taken: Callable[[int], float] | None = None,
) -> list[Shot]:
    shots, before = [], 0.0
    for n in range(int(seconds * fps)):
        at = taken(n) if taken else n * 1000 / fps
        before = max(before, at + delay(n, at))
        shots.append(Shot(at, 50_000_000 + stamp(n, at), before, n % gop == 0))
    return shots


def jump(at: float, by: float) -> Callable[[int, float], float]:
    return lambda n, taken: taken + (by if taken >= at else 0)


# the last one: to 0
@pytest.mark.parametrize("by", [-1e3, -4e3, -60e3, -7_200e3, -900, 900, 60e3, 7_200e3, -50_010e3])
def test_time_that_jumps_is_placed_and_marked(by: float) -> None:
    result = record(camera(30, jump(10_000, by)))
    assert result.worst() < 60 and not result.ends
    assert any(abs(abs(c.moved_ms) - abs(by)) < 100 for c in result.cuts)
    assert sum(bool(c.moved_ms) for c in result.cuts) <= 2


@pytest.mark.parametrize("every", [None, 100, 26])
@pytest.mark.parametrize("by", [-3_600e3, -3e3, 700, 5e3, 3_600e3, 20_000e3])
def test_a_wild_timestamp_changes_nothing_else(by: float, every: int | None) -> None:
    def stamp(n: int, taken: float) -> float:
        wild = n == 260 if every is None else n % every == 17
        return taken + (by if wild else 0)

    result = record(camera(30, stamp))
    assert result.worst() < 60 and not result.ends


@pytest.mark.parametrize("every", [5, 10, 15])
@pytest.mark.parametrize("by", [1_500, 3_000])
def test_often_wild_timestamps_are_no_b_frames(by: float, every: int) -> None:
    """No decoder holds back more than 16 pictures: at 25 a second that is 0.64 s."""
    result = record(camera(30, lambda n, taken: taken + (by if n % every == 3 else 0)))
    assert result.worst() < 60 and not result.ends


def test_time_that_runs_far_ahead_picture_by_picture() -> None:
    result = record(camera(30, lambda n, t: t + (1e7 + (n - 250) * 20_000 if n >= 250 else 0)))
    assert result.worst() < 60 and result.cuts[-1].by_arrival


@pytest.mark.parametrize("tick", [0, 1 / 90, 40 / 90, 0.4])
def test_timestamps_that_say_nothing_are_placed_by_arrival_and_marked(tick: float) -> None:
    result = record(camera(30, lambda n, taken: n * tick, lambda n, taken: 20 + n * 7 % 30))
    assert result.worst() < 100 and all(c.by_arrival for c in result.cuts)
    later = record(camera(40, lambda n, taken: taken if taken < 15_000 else 15_000 + n * tick))
    assert later.worst() < 100
    assert not later.cuts[3].by_arrival and later.cuts[-1].by_arrival


def test_timestamps_that_come_to_say_something_again_are_used() -> None:
    result = record(camera(60, lambda n, taken: 0 if taken < 20_000 else taken))
    assert result.worst() < 100
    assert result.cuts[0].by_arrival and not result.cuts[-1].by_arrival


@pytest.mark.parametrize("ratio", [0.35, 0.5, 0.56, 0.64, 0.8, 0.9, 0.95, 1.05, 1.2, 1.67, 2, 3])
@pytest.mark.parametrize("from_s", [0, 20])
def test_any_steady_rate(ratio: float, from_s: int) -> None:
    """Media time runs at `ratio` of what passes, from the start or in mid-run."""

    def stamp(n: int, taken: float) -> float:
        return min(taken, from_s * 1000) + max(0.0, taken - from_s * 1000) * ratio

    result = record(camera(90, stamp, lambda n, taken: 20 + n * 7 % 12))
    assert result.worst() <= 150 and not result.ends


@pytest.mark.parametrize("ratio", [0.35, 0.5, 0.8, 1.25, 2])
def test_any_steady_rate_after_a_backlog(ratio: float) -> None:
    """The first second comes at once, as after ffmpeg's probing."""

    def delay(n: int, taken: float) -> float:
        return 20 + n * 7 % 12 + max(0.0, 1_000 - taken) * 0.95

    assert record(camera(60, lambda n, t: t * ratio, delay)).worst(after=2_000) <= 60


@pytest.mark.parametrize("by", [-4_000, 900])
@pytest.mark.parametrize("fast", [0.985, 1.015])
def test_how_fast_a_camera_counts_is_known_after_a_jump_too(fast: float, by: float) -> None:
    result = record(camera(60, lambda n, t: t * fast + (by if t >= 30_000 else 0)))
    assert result.worst(after=33_000) <= 60


@pytest.mark.parametrize("stall", [300, 900, 1_900])
def test_a_camera_that_stalls_and_counts_its_timestamps(stall: float) -> None:
    result = record(camera(40, lambda n, t: n * 40.0, taken=lambda n: n * 40.0 + stall * (n > 260)))
    assert result.worst() <= 150
    assert any(abs(c.moved_ms - stall) < 100 for c in result.cuts)


@pytest.mark.parametrize("stall", [300, 900, 1_900, 2_600])
@pytest.mark.parametrize("faster", [0.0, 2.0, 10.0, 25.0])
def test_a_network_that_stalls_moves_nothing(stall: float, faster: float) -> None:
    """What it held back comes at once, or as much faster as 40 ms against `faster`."""

    def delay(n: int, taken: float) -> float:
        return 20 + max(0.0, (stall - (n - 260) * (40 - faster)) if n >= 260 else 0)

    result = record(camera(60, delay=delay))
    assert result.worst() <= 30 and not any(c.moved_ms for c in result.cuts)


@pytest.mark.parametrize("stall", [300, 900, 1_900])
@pytest.mark.parametrize("at", [290, 320, 350])
def test_a_camera_that_stalls_before_a_network_has_caught_up(stall: float, at: int) -> None:
    """What the network held back stays where it was; what comes after the stall is moved."""

    def delay(n: int, taken: float) -> float:
        return 20 + max(0.0, (1_300 - (n - 260) * 12) if n >= 260 else 0)

    result = record(
        camera(40, lambda n, t: n * 40.0, delay, taken=lambda n: n * 40.0 + stall * (n >= at))
    )
    assert result.worst() <= 150
    assert any(abs(c.moved_ms - stall) < 100 for c in result.cuts)


@pytest.mark.slow
@pytest.mark.parametrize(("grown", "most"), [(100, 150), (200, 150), (400, 430), (2_000, 2_030)])
@pytest.mark.parametrize("at", [5_000, 15_000])
def test_a_delay_that_grows_and_stays(grown: float, most: float, at: float) -> None:
    shots = camera(240, delay=lambda n, taken: 20 + (grown if taken >= at else 0))
    result = record(shots)
    assert result.worst() <= most
    assert any(c.moved_ms for c in result.cuts) == (grown > 220)


def test_a_delay_that_was_believed_and_goes_away() -> None:
    result = record(camera(60, delay=lambda n, t: 20 + (400 if 10_000 < t < 30_000 else 0)))
    assert result.worst(after=33_000) <= 30


@pytest.mark.slow
@pytest.mark.parametrize("grown", [150, 200, 250, 400, 2_000])
@pytest.mark.parametrize("at", [5_000, 15_000])
@pytest.mark.parametrize("every", [1_000, 2_000, 5_000])
def test_a_delay_that_grows_and_that_sender_reports_have_too(
    grown: float, at: float, every: float
) -> None:
    """No camera stands still then: all is placed as before, once for half an hour."""
    seconds = 1_800 if (at, every) == (15_000, 2_000) else 120

    def delay(n: int, taken: float) -> float:
        return 20 + (grown if at <= taken < seconds * 1_000 else 0)

    result = record(reported(camera(seconds + 60, delay=delay), every))
    assert result.worst() <= 60 and not any(c.moved_ms for c in result.cuts)


@pytest.mark.parametrize("stall", [300, 900, 1_900])
@pytest.mark.parametrize("slower", [0, 200, 400])
@pytest.mark.parametrize("every", [1_000, 2_000, 5_000])
def test_a_camera_that_stalls_and_sends_reports(stall: float, slower: float, every: float) -> None:
    shots = camera(
        60,
        lambda n, t: n * 40.0,
        lambda n, t: 20 + (slower if t > 10_000 else 0),
        taken=lambda n: n * 40.0 + stall * (n > 700),
    )
    result = record(reported(shots, every))
    assert result.worst() <= 150
    assert any(abs(c.moved_ms - stall) < 100 for c in result.cuts)


@pytest.mark.parametrize("ratio", [0.5, 0.64, 0.8])
@pytest.mark.parametrize("at", [10_000, 10_300, 10_600, 10_900])
def test_another_rate_while_reports_come_late_now_and_then(ratio: float, at: int) -> None:
    """A report that is as late as the first pictures of many says nothing of the others."""
    chance = random.Random(at)
    shots = camera(
        60,
        lambda n, t: min(t, at) + max(0.0, t - at) * ratio,
        lambda n, t: 20 + (chance.uniform(0, 150) if at - 4_000 <= t <= at + 800 else 0),
    )
    result = record(reported(shots, 1_000))
    assert result.worst(after=at + 3_000) <= 200


@pytest.mark.parametrize("by", [-900, -4_000, 900, 60_000, -7_200_000])
@pytest.mark.parametrize("every", [1_000, 2_000, 5_000])
def test_time_that_jumps_where_there_are_reports(by: float, every: float) -> None:
    result = record(reported(camera(60, jump(20_000, by)), every))
    assert result.worst() <= 150 and any(c.moved_ms for c in result.cuts)


def set_clock(at: float, by: float, every: float, *, fps: float = 25) -> list[Shot]:
    """A camera whose clock is set; it counts its timestamps and dates its reports by it."""
    shots, report, next_ms = camera(90, jump(at, by), fps=fps), None, 0.0
    for shot in shots:
        shot.report = report
        if shot.taken >= next_ms:
            next_ms += every
            report = shot.arrival - shot.taken - (by if shot.taken >= at else 0.0)
    return shots


@pytest.mark.parametrize("by", [-200, -300, -900, -4e3, -60e3, -3_600e3, 300, 900, 60e3])
@pytest.mark.parametrize("every", [1_000, 5_000])
@pytest.mark.parametrize("fps", [25, 5, 1])
def test_the_cameras_clock_is_set(by: float, every: float, fps: float) -> None:
    """Reports come as much later as pictures then, and yet the link is as quick as before:
    nothing was silent, and it is the timestamps that stepped back."""
    result = record(set_clock(20_000, by, every, fps=fps))
    assert result.worst() <= 150 and any(c.moved_ms for c in result.cuts)


@pytest.mark.parametrize("stall", [400, 1_900])
def test_a_camera_that_stalls_after_its_clock_was_set(stall: float) -> None:
    """Reports of before it say nothing of the link any more."""
    shots = set_clock(20_000, -1_000, 2_000)
    for shot in shots:
        if shot.taken >= 32_000:  # it stood still, and counted on
            shot.taken += stall
            shot.arrival += stall
    result = record(shots)
    assert result.worst() <= 150
    assert any(abs(c.moved_ms - stall) < 100 for c in result.cuts)


@pytest.mark.parametrize("by", [-120, -160, -215])
def test_time_that_steps_back_by_little_is_moved_too(by: float) -> None:
    """A link that becomes slower by so much lets nothing come meanwhile; here all goes on."""
    result = record(camera(60, jump(20_000, by)))
    assert result.worst() <= 60 or by == -120
    assert result.worst(after=23_000) <= 30 and any(c.moved_ms for c in result.cuts)


@pytest.mark.parametrize("half", [75, 100])
def test_a_delay_that_wanders_moves_nothing(half: float) -> None:
    """It is no clock: placed time follows less than the delay, of which 20 ms stay always."""
    shots = camera(180, delay=lambda n, t: 20 + half * (1 - math.cos(t * math.tau / 40_000)))
    result = record(shots)
    assert result.worst() - 20 <= min(150, 1.4 * half)
    assert not any(c.moved_ms for c in result.cuts)


@pytest.mark.parametrize("by", [250, 400, 900, -250, -900])
def test_the_recorders_clock_is_set(by: float) -> None:
    """Pictures are placed by the clock of when they came, and nothing is squeezed."""
    shots = camera(60)
    for shot in shots:
        if shot.taken >= 20_000:
            shot.arrival += by
            shot.taken += by
    result = record(shots)
    assert result.worst() <= 150
    assert bool(result.ends) == (by < -150) or by == -250
    assert all(e.ending.cause is GapCause.CLOCK_JUMP for e in result.ends)


@pytest.mark.parametrize("interval", [2_500, 1_000])
def test_slow_pictures(interval: float) -> None:
    result = record(camera(120, fps=1000 / interval, gop=2))
    assert result.worst() <= 30 and not result.ends


@pytest.mark.parametrize("still", [3_000, 8_000, 12_000])
def test_a_scene_that_stands_still_is_recorded(still: float) -> None:
    def taken(n: int) -> float:
        return n * 40.0 + (still if n >= 270 else 0) + (still if n >= 600 else 0)

    result = record(camera(40, taken=taken))
    assert result.worst() <= 30 and not result.ends


def test_keyframes_that_are_rare() -> None:
    for gop in (250, 500, 1125):
        assert record(camera(100, gop=gop)).worst() <= 30


@pytest.mark.parametrize("seconds", [0.04, 0.5, 1.9, 7.8])
def test_a_session_that_ends_early_keeps_what_came(seconds: float) -> None:
    assert record(camera(seconds, gop=250)).worst() <= 30


@pytest.mark.parametrize("gop", [1, 25, 90])
def test_time_that_steps_back_to_the_picture_before_is_no_b_frame(gop: int) -> None:
    """Twice among 32 pictures, at half the rate: by a picture and a millisecond."""

    def stamp(n: int, taken: float) -> float:
        return taken * 0.5 - 21 * (n >= 19) - 21 * (n >= 49)

    record(camera(20, stamp, gop=gop))


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_any_camera(data: st.DataObject, seed: int) -> None:
    """Whatever timestamps and links do: all is kept, in order, nothing after its arrival."""
    rng = random.Random(seed)
    jumps = data.draw(st.lists(st.tuples(st.integers(0, 400), st.integers(-9_000, 9_000))))
    wild = data.draw(st.floats(0, 0.2))
    jitter = data.draw(st.floats(0, 400))
    rate = data.draw(st.sampled_from([0, 0.5, 1, 1, 1, 2]))
    moved = dict(jumps)

    def stamp(n: int, taken: float) -> float:
        offset = sum(by for at, by in moved.items() if n >= at)
        return max(-40e6, taken * rate + offset + rng.uniform(-1e6, 1e6) * (rng.random() < wild))

    shots = camera(20, stamp, lambda n, t: 20 + rng.uniform(0, jitter), gop=rng.choice([1, 25, 90]))
    record(shots, ordered=len(moved) <= 3)  # many small jumps back look like B-frames


def test_pieces_of_a_picture_are_bounded_and_cheap() -> None:
    """Pieces without end are not joined one by one: the work would grow as their square."""
    joined = 0

    class Counted(bytes):
        def __add__(self, other: Any) -> Any:
            nonlocal joined
            joined += len(self) + len(other)
            return Counted(bytes(self) + bytes(other))

        __radd__ = __add__

    cutter = Segmenter([VIDEO])
    cutter.push(Frame(1, 0, True, Counted(b"v"), UTC0))
    piece, pieces = Frame(1, 0, False, Counted(1400), UTC0, None, True), 0
    with pytest.raises(Discontinuity, match="does not end"):
        while True:
            cutter.push(piece)
            pieces += 1
    assert 1_000 < pieces < 100_000
    assert joined == 0


@pytest.mark.slow
@settings(max_examples=150)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 60.0, 400.0, 700.0]), st.integers(0, 40))
def test_pictures_that_show_before_earlier_ones_keep_their_order(
    seed: int, delay: float, backlog: int
) -> None:
    """B-frames: I0 P3 B1 B2 P6 B4 B5 …, whatever the link and the machine hold back."""
    chance = random.Random(seed)
    rate = 1 + chance.choice([0, 0.002])
    shots, before, late = [], backlog * 40.0, 0.0
    for group in range(160):
        late = max(0.0, late - 80) if chance.random() < 0.9 else chance.uniform(0, delay)
        numbers = [3 * group + 3, 3 * group + 1, 3 * group + 2]
        if numbers[0] % 48 == 0:  # a keyframe: nothing that comes after it shows before it
            numbers.sort()
        for n in [0] * (group == 0) + numbers:
            taken = n * 40.0
            before = max(before, (3 * group + 4) * 40.0 + 20 + late)
            shots.append(Shot(taken, 50_000_000 + taken / rate, before, n % 48 == 0))
    placed = sorted((taken, taken + error) for taken, error, _ in record(shots, False).errors)
    times = [at for _, at in placed]
    assert all(a < b for a, b in itertools.pairwise(times)), "pictures change places"


@pytest.mark.parametrize(("fps", "gop", "b"), [(25, 12, 2), (12.5, 24, 2), (25, 48, 3)])
def test_b_frames_that_show_before_their_keyframe(fps: float, gop: int, b: int) -> None:
    """An open group of pictures: the next segment begins with them, and each shows in its time."""
    step, order = 1000 / fps, [0]
    for last in range(b + 1, int(30 * fps), b + 1):
        order += [last, *range(last - b, last)]
    newest = itertools.accumulate((n * step for n in order), max)
    shots = [
        Shot(n * step, 5e7 + n * step, sent + 20 + k % (b + 1), n % gop == 0)
        for k, (n, sent) in enumerate(zip(order, newest, strict=True))
    ]
    result = record(shots, False)
    assert all(cut.starts_with_key for cut in result.cuts[1:])
    assert all(abs(error - 20) <= 4 for taken, error, _ in result.errors if taken > 2_000)


@pytest.mark.parametrize("by", [-1_000, -2_000, -3_000])
def test_time_that_jumps_back_among_b_frames(by: float) -> None:
    """By more than B-frames show before what came earlier: what came before is not moved to it."""
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    shots = []
    for n in range(750):
        taken = (n // 10 * 10 + order[n % 10]) * 40.0
        stamp = 5e7 + taken + (by if n >= 250 else 0)
        shots.append(Shot(taken, stamp, (n + 3) * 40.0 + 20, n % 10 == 0))
    result = record(shots, False)
    assert result.worst() < 740 and not result.ends


@pytest.mark.parametrize("count", [9, 12, 20])
def test_time_that_jumps_back_among_the_first_b_frames(count: int) -> None:
    """Those from before the jump tell nothing of where B-frames after it show."""
    order = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    shots = []
    for n in range(300):
        taken = (n // 10 * 10 + order[n % 10]) * 40.0
        stamp = 5e7 + taken + (400 if n < count else 0)
        shots.append(Shot(taken, stamp, (n + 3) * 40.0 + 20, n % 10 == 0))
    assert record(shots, False).worst() < 150


def test_what_is_placed_by_arrival_shows_as_it_came() -> None:
    """Where timestamps say nothing they tell no order either."""
    stamps = [0.0, 120.0, 40.0, 80.0, 240.0, 160.0, 200.0]
    pictures = [
        Picture(Frame(1, 0, n == 0, b"", UTC0 + 40.0 * n), stamp, 1)
        for n, stamp in enumerate(stamps)
    ]
    place_opening(pictures, 0, None, 40.0, 80.0)
    times = [p.media_ms for p in pictures]
    assert times == sorted(times) and not any(p.moved_ms for p in pictures)


def test_a_first_timestamp_that_is_that_of_the_next_picture_is_not_believed() -> None:
    shots = camera(8)
    order = [0, *(n for group in range(66) for n in (3 * group + 3, 3 * group + 1, 3 * group + 2))]
    shots = [shots[n] for n in order if n < len(shots)]
    for shot, before in zip(shots, sorted(s.arrival + 120 for s in shots), strict=True):
        shot.arrival, shot.key = before, shot.taken == 0
    shots[0].stamp = shots[1].stamp
    placed = sorted((taken, error) for taken, error, _ in record(shots, False).errors)
    assert max(abs(error - placed[1][1]) for _, error in placed) < 10
