"""Frames to segments: no input makes a wrong duration, an unbounded buffer or a broken segment."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.segmenter import (
    LONGEST_TARGET_S,
    MAX_FRAMES,
    ROUNDS_DOWN_S,
    Discontinuity,
    SegmentDraft,
    Segmenter,
    target_duration,
)
from recorder.source import Frame
from recorder.tracks import output_tracks
from storage.media.fmp4 import TrackInit, make_box
from storage.records import GapCause
from tests.support.frames import UTC0, VIDEO, check

AUDIO = TrackInit(2, "audio", "aac", 48_000, make_box(b"mp4a", bytes(28)))


def camera(
    seconds: float, *, fps: float = 25, gop: int = 50, start: int = 900_000, delay: float = 30
) -> list[Frame]:
    step = 90_000 / fps
    return [
        Frame(1, start + round(n * step), n % gop == 0, b"v" * 10, UTC0 + n * 1000 / fps + delay)
        for n in range(int(seconds * fps))
    ]


def cut_all(segmenter: Segmenter, frames: list[Frame]) -> list[SegmentDraft]:
    drafts = [draft for f in frames for draft in segmenter.push(f)]
    return drafts + segmenter.finish()


def shown(drafts: list[SegmentDraft]) -> list[int]:
    """Return when each picture is shown (1/90000 s), in the order in which they are stored."""
    times = list[int]()
    for draft in drafts:
        at = draft.tfdt_90k
        for sample in draft.runs[0].samples:
            times.append(at + sample.cts)
            at += sample.duration
    return times


def test_segments_are_keyframe_intervals() -> None:
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, camera(21))
    check(segmenter, drafts)
    assert segmenter.target_duration_s == 2
    assert all(c.starts_with_key for c in drafts)
    assert [round(c.duration_90k / 90_000, 1) for c in drafts] == [2.0] * 10 + [1.0]
    assert abs(segmenter.run_start_ms - UTC0 - 30) < 2  # type: ignore[operator]


def test_no_frame_is_lost_or_twice() -> None:
    frames = camera(30, gop=60)
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, frames)
    assert sum(len(c.runs[0].samples) for c in drafts) == len(frames)


@given(st.lists(st.tuples(st.integers(0, 499), st.integers(0, 5), st.booleans()), max_size=20))
def test_holes_are_told_of_the_segments_that_have_them(
    holes: list[tuple[int, int, bool]],
) -> None:
    frames = camera(20)
    for n, lost, damaged in holes:
        frames[n] = frames[n]._replace(lost=lost, damaged=damaged, data=b"hole")
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, frames)
    assert sum(d.lost for d in drafts) == sum(f.lost for f in frames)
    at = 0
    for draft in drafts:
        its = frames[at : at + len(draft.runs[0].samples)]
        at += len(its)
        assert draft.lost == sum(f.lost for f in its)
        assert draft.damaged == sum(f.damaged for f in its)
        assert [bytes(data) for data in draft.runs[0].data] == [f.data for f in its], "all is kept"


def test_lost_sound_and_pieces_count_too() -> None:
    sound = [
        Frame(2, n * 1024, True, b"s", UTC0 + n * 1024 / 48 + 30, lost=n % 2) for n in range(200)
    ]
    pieces = [
        part
        for n, f in enumerate(camera(4))
        for part in (f, f._replace(data=b"w", continues=True, lost=n == 60, damaged=n == 60))
    ]
    frames = sorted([*sound, *pieces], key=lambda f: f.arrival_ms)
    segmenter = Segmenter([VIDEO, AUDIO])
    drafts = cut_all(segmenter, frames)
    told = sum(d.lost for d in drafts)
    assert 75 <= told <= 101, "what comes after the last picture belongs to no segment"
    assert [d.damaged for d in drafts] == [0, 1]


def test_a_camera_that_begins_its_stream_anew() -> None:
    frames = camera(8)
    frames[120] = frames[120]._replace(restarted=True)
    drafts = cut_all(Segmenter([VIDEO]), frames)
    assert [d.restarted for d in drafts] == [False, False, True, False]


def test_a_picture_whose_end_did_not_come_is_left_out() -> None:
    """A stream that gives pictures in pieces may end between two pieces of the last."""
    whole = camera(4.04)
    pieces = [p for f in whole for p in (f, f._replace(data=b"w", continues=True))]
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, pieces[:-1])
    check(segmenter, drafts)
    written = [data for c in drafts for data in c.runs[0].data]
    assert written == [f.data + b"w" for f in whole[:-1]]
    assert drafts[-1].tfdt_90k + drafts[-1].duration_90k == pytest.approx(100 * 3_600, abs=90)


@pytest.mark.parametrize("each", [3_600, 7_200, 18_000])
@pytest.mark.parametrize(
    "order", [[0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 4, 2, 1, 3, 8, 6, 5, 7, 9]], ids=str
)
def test_b_frames_start_where_they_show_and_keep_their_times(order: list[int], each: int) -> None:
    """Decode order I P B B P B B ...: the segment starts with its first shown frame. At five
    pictures a second they reach back further."""
    frames = [
        Frame(1, (g * 10 + p) * each, k == 0, b"x", UTC0 + (g * 10 + k + 3) * each / 90)
        for g in range(20)
        for k, p in enumerate(order)
    ]
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, frames)
    check(segmenter, drafts)
    assert [round(s / each) for s in shown(drafts)] == [f.pts // each for f in frames]
    assert all(c.runs[0].samples[0].cts == 0 for c in drafts)


@pytest.mark.parametrize("apart", [0, 1_800])
@pytest.mark.parametrize(
    "order", [[*range(10)], [0, 2, 1, 4, 3, 6, 5, 8, 7, 9], [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]], ids=str
)
def test_pictures_that_come_as_two_fields_keep_their_times(order: list[int], apart: int) -> None:
    """Each field is a picture of its own (H.264, 3.30), with the time of the first one or its
    own."""
    frames = [
        Frame(
            1,
            (g * 10 + p) * 3_600 + field * apart,
            k == field == 0,
            b"x",
            UTC0 + (g * 10 + k + 3) * 40 + field * 20,
        )
        for g in range(20)
        for k, p in enumerate(order)
        for field in (0, 1)
    ]
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, frames)
    check(segmenter, drafts)
    late = [s - f.pts for s, f in zip(shown(drafts), frames, strict=True)]
    assert max(late) - min(late) < 180, "2 ms: of two with one time the first shows for an instant"
    assert not any(draft.moved_ms or draft.by_arrival for draft in drafts)


def test_no_picture_is_in_memory_once_it_is_cut() -> None:
    """Of a camera that sends keyframes of 16 MB each as many as the time line looks back at."""
    alive = 0

    class Counted(bytearray):
        def __init__(self) -> None:
            nonlocal alive
            alive += 1

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    segmenter = Segmenter([VIDEO])
    for n in range(100):
        segmenter.push(Frame(1, n * 90_000, True, Counted(), UTC0 + n * 1000.0))
    assert 1 <= alive <= 3, "those of the open segment"


def test_no_keyframe_ever_is_cut_all_the_same() -> None:
    frames = camera(60, gop=100_000)
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, frames)
    check(segmenter, drafts)
    assert [c.starts_with_key for c in drafts] == [True] + [False] * (len(drafts) - 1)
    assert segmenter.target_duration_s == LONGEST_TARGET_S
    assert all(c.duration_90k <= (LONGEST_TARGET_S + ROUNDS_DOWN_S + 0.1) * 90_000 for c in drafts)


def test_keyframes_stop_for_a_minute_and_the_target_stays() -> None:
    frames = camera(80)
    frames = [
        Frame(f.track_id, f.pts, f.key and not 250 < n < 1700, f.data, f.arrival_ms)
        for n, f in enumerate(frames)
    ]
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, frames)
    check(segmenter, drafts)
    assert segmenter.target_duration_s == 2
    assert sum(not c.starts_with_key for c in drafts) >= 24


def test_waits_for_the_first_keyframe_but_not_for_ever() -> None:
    segmenter = Segmenter([VIDEO])
    with pytest.raises(Discontinuity) as broken:
        cut_all(segmenter, [Frame(1, f.pts, False, f.data, f.arrival_ms) for f in camera(65)])
    assert broken.value.ending.cause is GapCause.STREAM_BROKEN


def test_a_hole_is_a_gap_not_a_long_frame() -> None:
    frames = camera(40)
    segmenter = Segmenter([VIDEO])
    with pytest.raises(Discontinuity) as broken:
        cut_all(segmenter, frames[:265] + frames[665:])
    assert broken.value.ending.cause is GapCause.NO_DATA


def test_wrong_first_times_cost_nothing() -> None:
    frames = camera(20)
    wrong = Frame(1, frames[0].pts + 90_000 * 7200, True, b"v", frames[0].arrival_ms - 1)
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, [wrong, *frames])
    check(segmenter, drafts)
    assert sum(len(c.runs[0].samples) for c in drafts) == len(frames) + 1
    assert drafts[0].moved_ms < -7_000_000
    assert abs(sum(c.duration_90k for c in drafts) - 20 * 90_000) < 5_000


def test_audio_goes_along_in_step() -> None:
    frames = camera(20)
    sound = [
        Frame(2, 480_000 + n * 1024, True, b"a", UTC0 + n * 1024 / 48 + 60) for n in range(937)
    ]
    both = sorted(frames + sound, key=lambda f: f.arrival_ms)
    segmenter = Segmenter([VIDEO, AUDIO])
    drafts = cut_all(segmenter, both)
    check(segmenter, drafts)
    end = None
    count = 0
    for draft in drafts:
        audio = draft.runs[1]
        assert audio.track_id == 2
        at = audio.decode_time / 48_000
        assert abs(at - draft.tfdt_90k / 90_000) < 0.1
        if end is not None:
            assert abs(audio.decode_time - end) <= 1
        end = audio.decode_time + sum(s.duration for s in audio.samples)
        count += len(audio.samples)
    assert count >= 930


@pytest.mark.parametrize("late_ms", [20, 140, 1_000])
def test_sound_that_counts_from_elsewhere_is_in_step_by_the_cameras_clock(late_ms: int) -> None:
    """Each track of RTP begins at a random number; sender reports tell what belongs together."""
    hour_ms = 3_600_000
    frames = [f._replace(camera_ms=f.pts / 90 + hour_ms) for f in camera(20)]
    begun_ms = frames[0].pts / 90
    sound = []
    for n in range(937):
        at_ms, number = n * 1024 / 48, n.to_bytes(4, "big")
        frame = Frame(2, 77_777 + n * 1024, True, number, UTC0 + at_ms + late_ms)
        sound.append(frame._replace(camera_ms=begun_ms + at_ms + hour_ms))
    segmenter = Segmenter([VIDEO, AUDIO])
    drafts = cut_all(segmenter, sorted(frames + sound, key=lambda f: f.arrival_ms))
    check(segmenter, drafts)
    heard = [d.runs[1] for d in drafts if len(d.runs) > 1]
    assert sum(len(run.samples) for run in heard) > 400
    for run in heard:
        taken_ms = int.from_bytes(run.data[0], "big") * 1024 / 48
        assert abs(run.decode_time / 48 - taken_ms) < 40, "in step with the picture"


def test_a_burst_at_the_start_is_placed_where_it_was_taken() -> None:
    """Frames that the camera held, all at once, then real time: time is set by what is live."""
    frames = camera(20)
    held = [
        Frame(1, f.pts, f.key, f.data, frames[60].arrival_ms + n * 0.1)
        for n, f in enumerate(frames[:60])
    ]
    segmenter = Segmenter([VIDEO])
    drafts = cut_all(segmenter, held + frames[61:])
    check(segmenter, drafts)
    assert segmenter.run_start_ms is not None
    assert abs(segmenter.run_start_ms - UTC0 - 30) < 45


@pytest.mark.slow
@given(
    ends=st.integers(1, 400),
    held=st.lists(st.floats(0, 900), min_size=500, max_size=500),
    fps=st.sampled_from([1.0, 15.0, 25.0]),
)
def test_a_run_begins_where_the_one_before_it_ended_or_later(
    ends: int, held: list[float], fps: float
) -> None:
    """Wherever one ends, and however unevenly a busy machine lets pictures come."""
    frames, before = [], 0.0
    for f, late in zip(camera(500 / fps, fps=fps), held, strict=True):
        before = max(before, f.arrival_ms + (late if late > 600 else 0))
        frames.append(f._replace(arrival_ms=before))
    first = Segmenter([VIDEO])
    for f in frames[:ends]:
        first.push(f)
    first.finish(frames[ends].arrival_ms)
    second = Segmenter([VIDEO], first.target_duration_s, False, first.end_ms)
    check(second, cut_all(second, frames[ends:]))
    assert first.run_start_ms is not None and second.run_start_ms is not None
    gap_ms = second.run_start_ms - first.end_ms
    assert -1 < gap_ms < 1_000 / fps + 1_000


@pytest.mark.parametrize(
    ("interval", "target"),
    [(2.0, 2), (1.0, 2), (0.5, 2), (4.0, 4), (1.5, 3), (2.13, 2), (2.4, 3), (30.0, 8), (0.04, 2)],
)
def test_target_duration(interval: float, target: int) -> None:
    assert target_duration([0, interval, 2 * interval]) == target


def test_output_tracks() -> None:
    mixed = [TrackInit(7, "audio", "aac", 8000, b""), TrackInit(9, "video", "h265", 12800, b"")]
    video, audio = output_tracks(mixed)
    assert (video.id, video.timescale, audio.id, audio.timescale) == (1, 90_000, 2, 8000)


@pytest.mark.parametrize("gop", [1, 3_000])
@pytest.mark.parametrize("wild", [0.0, 700.0, 1e6])
def test_a_flood_of_pictures_is_looked_at_once(gop: int, wild: float) -> None:
    """As many as a camera may send that marks every packet: none is compared again and again."""
    looked, rng = 0, random.Random(1)

    class Counted(float):
        def __sub__(self, other: float) -> float:
            nonlocal looked
            looked += 1
            return float(self) - other

    segmenter = Segmenter([VIDEO])
    for n in range(9_000):
        at = n / 3 + 30
        stamp = n / 3 + 5e6 + (rng.uniform(-wild, wild) if wild > 700 else -wild * (n > 3_000))
        frame = Frame(1, round(stamp * 90), n % gop == 0, b"v", Counted(UTC0 + at))
        segmenter.push(frame)
    check(segmenter, segmenter.finish())
    assert looked < 9_000 * 700


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data(), seed=st.integers(0, 10_000))
def test_any_frames(data: st.DataObject, seed: int) -> None:
    """Random rates, keyframes, jitter, losses, jumps and sizes."""
    rng = random.Random(seed)
    fps = data.draw(st.floats(0.6, 60))
    gop = data.draw(st.integers(1, 400))
    chaos = data.draw(st.floats(0, 0.1))
    target = data.draw(st.integers(0, 8))
    segmenter = Segmenter([VIDEO, AUDIO], target if target != 1 else 2)
    drafts: list[SegmentDraft] = []
    pts, arrival = rng.randrange(2**33), UTC0
    for n in range(int(min(60, 2000 / fps) * fps)):
        pts += round(90_000 / fps * rng.uniform(0.5, 1.5))
        arrival += 1000 / fps * rng.uniform(0, 2)
        frame_pts = pts
        if rng.random() < chaos:
            frame_pts += rng.choice([-1, 1]) * rng.randrange(1, 90_000 * rng.choice([1, 3, 7200]))
        if rng.random() < chaos:
            continue
        try:
            drafts += segmenter.push(
                Frame(1, max(0, frame_pts), n % gop == 0, bytes(rng.randrange(1, 50)), arrival)
            )
            if rng.random() < 0.5:
                segmenter.push(Frame(2, max(0, frame_pts) * 48 // 90, True, b"a", arrival))
        except Discontinuity:
            break
        assert len(segmenter._open) <= MAX_FRAMES + 1
    drafts += segmenter.finish()
    check(segmenter, drafts)


def started_late(
    arrivals: Callable[[int, float], float], backlog_ms: float, gop: int, seconds: int = 90
) -> float:
    """Return the worst |placed - taken - delay| in ms of a session that begins with a backlog."""
    segmenter, written, before, worst = Segmenter([VIDEO]), 0, 0.0, 0.0
    for n in range(seconds * 25):
        taken = n * 40.0 - backlog_ms
        before = max(taken + 30, arrivals(n, before))
        frame = Frame(1, 900_000 + n * 3600, n % gop == 0, b"v", UTC0 + before)
        for draft in segmenter.push(frame):
            assert segmenter.run_start_ms is not None
            placed = segmenter.run_start_ms + draft.tfdt_90k / 90
            worst = max(worst, abs(placed - UTC0 - (written * 40.0 - backlog_ms) - 30))
            written += len(draft.runs[0].samples)
    return worst


@pytest.mark.parametrize(
    ("arrivals", "backlog_ms", "gop"),
    [
        (lambda n, at: at + 40 / 1.2, 1000, 50),
        (lambda n, at: at + 40 / 1.5, 1000, 50),
        (lambda n, at: at + 20, 3000, 100),
        (lambda n, at: at + 40 / 3, 2000, 50),
        (lambda n, at: at + (17 if n % 12 == 11 else 2), 3000, 50),  # as TCP starts
        (lambda n, at: at + (40 if n < 5 else 0.4), 3000, 50),
        (lambda n, at: at + 1500 if n == 20 else at, 0, 50),  # a stall, caught up at once
        (lambda n, at: at + 1500 if n == 20 else at + 20 * (n > 20), 0, 50),  # or slowly
        (lambda n, at: at + 1500 if n == 35 else at + 13 * (n > 35), 0, 50),
        (lambda n, at: at + 300 if n and n % 25 == 0 else at + 5, 0, 25),  # late keyframes
    ],
)
def test_what_was_held_back_at_the_start_does_not_move_the_mapping(
    arrivals: Callable[[int, float], float], backlog_ms: float, gop: int
) -> None:
    assert started_late(arrivals, backlog_ms, gop) < 20


def test_a_backlog_that_drains_for_a_minute_is_followed() -> None:
    """Its first pictures cannot be placed better; later ones are never after their arrival."""
    assert started_late(lambda n, at: at + 40 / 1.05, 3000, 50, seconds=200) < 3_050
