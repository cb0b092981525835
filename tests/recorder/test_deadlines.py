"""The deadlines of a session, by a clock that stands until it is moved: what a camera may take its
time for, and what ends a session."""

from __future__ import annotations

import asyncio
import itertools
import selectors
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import cast

import pytest

from config.limits import SpoolLimits
from config.schedule import Window
from recorder.camera_state import (
    MOST_BYTES,
    MOST_BYTES_S,
    MOST_RUNS,
    MOST_RUNS_S,
    CameraState,
)
from recorder.clock import Clock
from recorder.disk_watch import SpoolDisk
from recorder.segmenter import SegmentDraft
from recorder.session import Session
from recorder.source import Frame, PacketCounts, Sink
from recorder.states import Event, State
from storage.media.fmp4 import TrackInit
from storage.records import Ending, Index
from storage.spool.numbers import Numbers
from storage.spool.reader import SpoolReader
from storage.spool.writer import CameraSpool
from tests.support.frames import UTC0, VIDEO
from tests.support.waiting import until

TICK_S = 0.5


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is moved by hand."""

    def __init__(self) -> None:
        super().__init__(selectors.DefaultSelector())
        self.passed_s = 0.0

    def time(self) -> float:
        return self.passed_s


class Silent:
    """A source of which every frame is given by hand."""

    def __init__(self, packets: Sequence[PacketCounts] = ()):
        self.packets = packets

    async def run(self, sink: Sink) -> Ending:
        await asyncio.Event().wait()
        raise AssertionError


async def run_session(
    root: Path,
    shots: Iterable[tuple[float, bool | None]],
    until_s: float,
    source: Silent,
    needs_key: bool,
    spoil: Callable[[Session], None],
    tracks: Mapping[float, TrackInit],
    size: int,
) -> tuple[Ending | None, State]:
    """Run a session in which pictures, keyframes or not, come at moments in seconds after PLAY;
    before those of `tracks` they are told to be of another track. Each has `size` bytes.

    None is a frame that cannot be handled; `spoil` does something to the session before it ends.
    Returns how it ended by itself by `until_s`, None where it went on, and the state then.
    """
    loop = cast(Loop, asyncio.get_running_loop())
    pool, disk = ThreadPoolExecutor(1), SpoolDisk(root, SpoolLimits(), 0, int)
    clock = Clock(offset_ms=lambda: UTC0, elapsed=lambda: loop.passed_s * 1000)
    camera = CameraState("s/c", clock, disk, pool)
    camera.window = Window(int(UTC0) - 60_000, int(UTC0) + 86_400_000)
    camera.move(Event.SCHEDULED)
    spool = CameraSpool(root, "e", "s", "c", Numbers())
    session = Session(camera, source, spool, needs_key=needs_key)
    running = asyncio.create_task(session.run())
    try:
        pictures, at_s = list(shots), 0.0
        while at_s < until_s and not session._ended.done() and not running.done():
            at_s += TICK_S
            while pictures and pictures[0][0] <= at_s:
                shown_s, key = pictures.pop(0)
                loop.passed_s = shown_s
                if session._pictures == 0 or shown_s in tracks:
                    session.on_tracks([tracks.get(shown_s, VIDEO)], ())
                pts = round(shown_s * 90_000)
                data = b"v" * size if key is not None else cast(bytes, 7)
                session.on_frame(Frame(1, pts, bool(key), data, UTC0 + shown_s * 1000))
            loop.passed_s = at_s
            session.tick()
            await until(lambda: not session._unwritten or running.done(), every=0)
        state = camera.status.state
        spoil(session)
        ended = await running if session._ended.done() or running.done() else None
        return ended, state
    finally:
        session.end(None)
        await asyncio.wait({running})
        spool.close()
        pool.shutdown()
        disk.close()


def recorded(root: Path) -> list[Index]:
    view = SpoolReader(root, "s", "c")
    view.refresh()
    return [index for _, index in view.recordings()]


def run(
    root: Path,
    shots: Iterable[tuple[float, bool | None]],
    until_s: float,
    source: Silent | None = None,
    needs_key: bool = True,
    spoil: Callable[[Session], None] = lambda session: None,
    tracks: Mapping[float, TrackInit] = MappingProxyType({}),
    size: int = 10,
) -> tuple[Ending | None, State, float]:
    """Return also how many seconds are recorded."""
    loop = Loop()
    try:
        source = source or Silent()
        ended, state = loop.run_until_complete(
            run_session(root, shots, until_s, source, needs_key, spoil, tracks, size)
        )
    finally:
        loop.close()
    found = sum(s.duration_90k for index in recorded(root) for s in index.segments) / 90_000
    return ended, state, found


def film(
    begin_s: float, seconds: float, *, every_s: float = 0.2, key_s: float = 2.0
) -> list[tuple[float, bool]]:
    count, keys = round(seconds / every_s), round(key_s / every_s)
    return [(begin_s + n * every_s, n % keys == 0) for n in range(count)]


@pytest.mark.parametrize("begin_s", [0.5, 8.0, 19.0])
def test_a_picture_may_begin_long_after_play(tmp_path: Path, begin_s: float) -> None:
    ended, state, found = run(tmp_path, film(begin_s, 30), begin_s + 30)
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(30, abs=0.5)


def test_a_camera_that_never_sends_a_picture(tmp_path: Path) -> None:
    ended, _, found = run(tmp_path, [], 30)
    assert ended is not None and ended.cause == "no_data" and found == 0
    assert "sends no picture in 20 s" in ended.detail


def test_pieces_of_a_picture_are_no_pictures(tmp_path: Path) -> None:
    """Some cameras mark each slice. Of pieces alone no picture comes, and that is said."""

    def spoil(session: Session) -> None:
        status, waiting_since = session._camera.status, session._waiting_since
        before = status.frames
        session.on_frame(Frame(1, 0, False, b"v", UTC0 + 5_000, continues=True))
        assert (status.frames, session._waiting_since) == (before, waiting_since)
        assert before == session._pictures > 20

    run(tmp_path, film(0.2, 5), 5, spoil=spoil)


@pytest.mark.parametrize("begin_s", [25.0, 55.0])
def test_pictures_that_nothing_describes_yet_are_waited_for(tmp_path: Path, begin_s: float) -> None:
    """No parameter sets in the description, rare keyframes: packets come, and are no pictures."""
    came = Silent([PacketCounts(received=100)])
    ended, state, found = run(tmp_path, film(begin_s, 30), begin_s + 30, came)
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(30, abs=0.5)
    ended, _, _ = run(tmp_path / "never", [], 70, came)
    assert ended is not None and ended.cause == "stream_broken"
    assert "says how to decode" in ended.detail


@pytest.mark.parametrize("key_s", [4.0, 10.0, 20.0, 45.0])
def test_keyframes_may_be_rare(tmp_path: Path, key_s: float) -> None:
    """Also where the first one is as far away as two are from each other."""
    shots = film(0.5, key_s * 3, key_s=key_s)
    ended, state, found = run(tmp_path, shots, key_s * 3 + 0.5)
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(key_s * 3, abs=0.5)
    late = film(0.5, key_s - 0.5, key_s=1e6)[1:] + film(key_s, key_s * 2, key_s=key_s)
    ended, state, found = run(tmp_path / "late", late, key_s * 3)
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(key_s * 2, abs=0.5)


def test_a_camera_that_sends_no_keyframe(tmp_path: Path) -> None:
    """It may send one when it is asked again; else it is recorded as it is."""
    shots = film(0.5, 80, key_s=1e6)[1:]
    ended, _, found = run(tmp_path, shots, 80)
    assert ended is not None and "no keyframe in 60 s" in ended.detail and found == 0
    ended, state, found = run(tmp_path / "again", shots, 80.5, needs_key=False)
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(80, abs=0.5)


@pytest.mark.parametrize("still_s", [3.0, 6.0, 8.0, 12.0, 14.5])
def test_a_scene_may_stand_still(tmp_path: Path, still_s: float) -> None:
    """The picture that stands is recorded for as long; a state tells that none comes."""
    shots = film(0.5, 20) + film(20.5 + still_s, 20)
    ended, state, found = run(tmp_path, shots, 20.5 + still_s - 0.5)
    assert ended is None
    assert state is (State.STALLED if still_s - 0.7 > 2 else State.RECORDING)
    ended, state, found = run(tmp_path / "on", shots, 40.5 + still_s)
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(40 + still_s, abs=0.5)
    (index,) = {i.header.run_no for i in recorded(tmp_path / "on")}
    assert index == 1


@pytest.mark.parametrize("every_s", [1.0, 2.5, 5.0])
def test_pictures_may_be_rare(tmp_path: Path, every_s: float) -> None:
    shots = film(0.5, 60, every_s=every_s, key_s=2 * every_s)
    ended, state, found = run(tmp_path, shots, 60.5)
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(60, abs=every_s + 0.5)


@pytest.mark.parametrize("every_s", [0.2, 1.0, 2.5, 5.0])
def test_the_last_picture_lasts_as_long_as_the_one_before_it(
    tmp_path: Path, every_s: float
) -> None:
    """Also where each is a segment of its own: it stands until the next one would have come."""
    shots = film(0.5, 60, every_s=every_s, key_s=every_s)
    ended, _, found = run(tmp_path, shots, 60.5 + every_s)
    assert ended is None and found == pytest.approx(60, abs=0.1)


def test_a_camera_that_falls_silent(tmp_path: Path) -> None:
    ended, _, found = run(tmp_path, film(0.5, 20), 60)
    assert ended is not None and ended.cause == "no_data"
    assert "no picture for 16 s" in ended.detail
    assert found == pytest.approx(20, abs=2.5)


class Falls(Silent):
    """A source that fails by a fault of ours after some seconds."""

    async def run(self, sink: Sink) -> Ending:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await until(lambda: loop.time() - begun > 20, every=0)
        raise RuntimeError("out of ideas")


def test_a_fault_of_ours_in_a_source_is_why_a_run_ended(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of ideas"):
        run(tmp_path, film(0.5, 30), 30, Falls())
    (*_, last) = recorded(tmp_path)
    assert last.seal is not None and last.seal.end_reason == "stream_broken"


def test_a_fault_of_ours_at_a_frame_ends_the_session(tmp_path: Path) -> None:
    """A source goes on after it, and would be said to send nothing."""
    shots = [*film(0.5, 20), (20.6, None), *film(21, 10)]
    ended, _, found = run(tmp_path, shots, 40)
    assert ended is not None and ended.cause == "stream_broken"
    assert "a fault of the recorder: TypeError" in ended.detail
    assert found == pytest.approx(20, abs=0.5)


def test_a_fault_of_ours_while_a_session_closes_leaves_nothing_unsealed(tmp_path: Path) -> None:
    def fail(until_ms: float = 0.0) -> list[SegmentDraft]:
        raise RuntimeError("out of ideas")

    def spoil(session: Session) -> None:
        assert session._run is not None
        session._run.segmenter.finish = fail  # type: ignore[method-assign]

    run(tmp_path, film(0.5, 20), 20, spoil=spoil)
    (*_, last) = recorded(tmp_path)
    assert last.seal is not None and last.seal.end_reason == "recorder_stopped"


def test_another_picture_begins_another_run_with_the_keyframe_in_hand(tmp_path: Path) -> None:
    """A camera changes its size twice: the session goes on, and no picture is lost."""
    larger = replace(VIDEO, width=1920, height=1080)
    shots = film(0.5, 60)
    key_s = [shown_s for shown_s, key in shots if key]
    ended, state, found = run(tmp_path, shots, 60.5, tracks={key_s[10]: larger, key_s[20]: VIDEO})
    assert ended is None and state is State.RECORDING
    assert found == pytest.approx(60, abs=0.5)
    runs = [(i.header.run_no, i.header.tracks[0].width) for i in recorded(tmp_path)]
    assert list(dict.fromkeys(runs)) == [(1, VIDEO.width), (2, 1920), (3, VIDEO.width)]
    times = [(s.start_ms, s.end_ms) for i in recorded(tmp_path) for s in i.segments]
    assert all(b[0] - a[1] <= 60 for a, b in itertools.pairwise(times))
    assert all(i.segments[0].starts_with_key for i in recorded(tmp_path))


def test_pictures_that_wait_for_the_first_segment_keep_their_description(tmp_path: Path) -> None:
    """A camera changes its size with its second keyframe, before anything is written."""
    larger = replace(VIDEO, width=1920, height=1080)
    shots = film(0.5, 20)
    key_s = [shown_s for shown_s, key in shots if key]
    ended, _, found = run(tmp_path, shots, 20.5, tracks={key_s[1]: larger})
    assert ended is None and found == pytest.approx(20, abs=0.5)
    runs = [(i.header.tracks[0].width, i.segments[0].start_ms) for i in recorded(tmp_path)]
    assert [width for width, _ in runs] == [VIDEO.width, 1920]
    assert runs[1][1] - UTC0 == pytest.approx(key_s[1] * 1000, abs=60)


def test_a_camera_that_sends_more_than_there_is_to_see(tmp_path: Path) -> None:
    """A slice of some bytes each, by ten thousands: others would wait while they are taken."""
    burst = [(20.5 + n / 1e6, False) for n in range(1_500)]  # what a link held back comes at once
    ended, state, _ = run(tmp_path, [*film(0.5, 20), *burst, *film(21.6, 10)], 30)
    assert ended is None and state is State.RECORDING
    ended, _, found = run(tmp_path / "more", [*film(0.5, 20), *burst, *burst], 30)
    assert ended is not None and ended.cause == "stream_broken"
    assert "more than 2,000 pictures" in ended.detail and found == pytest.approx(20, abs=1)


@pytest.mark.slow
def test_a_camera_that_would_fill_the_disk_of_all(tmp_path: Path) -> None:
    """However large its pictures are, their bytes are taken up to what a link can hold back, and
    from then on as many as no camera sends."""
    ended, _, found = run(tmp_path, film(0.5, 30), 30, size=12_000_000)
    assert ended is not None and ended.cause == "stream_broken"
    assert "more than 100 Mbit/s" in ended.detail and 0 < found < 5
    written = sum(p.stat().st_size for p in tmp_path.glob("s/c/*/*.mp4"))
    assert written <= MOST_BYTES + 5 * MOST_BYTES_S


@pytest.mark.slow
def test_a_camera_that_changes_its_picture_without_end(tmp_path: Path) -> None:
    """Each change is a recording of its own, which the archives of all would have to take."""
    larger = replace(VIDEO, width=1920, height=1080)
    shots = film(0.5, 60, key_s=0.2)
    alternates = {shown_s: (VIDEO, larger)[n % 2] for n, (shown_s, _) in enumerate(shots)}
    ended, _, _ = run(tmp_path, shots, 61, tracks=alternates)
    assert ended is not None and "changes its picture again and again" in ended.detail
    assert len(recorded(tmp_path)) == pytest.approx(MOST_RUNS / (1 - 0.2 * MOST_RUNS_S), abs=2)
    seldom = dict(list(alternates.items())[::11])
    ended, _, found = run(tmp_path / "seldom", shots, 61, tracks=seldom)
    assert ended is None and found == pytest.approx(60, abs=0.5)


def test_what_one_session_took_counts_for_the_next(tmp_path: Path) -> None:
    pool, disk = ThreadPoolExecutor(1), SpoolDisk(tmp_path, SpoolLimits(), 0, int)
    camera = CameraState("s/c", Clock(), disk, pool)
    assert camera.take_bytes(MOST_BYTES, 100.0)
    assert not camera.take_bytes(1, 100.0) and not camera.take_bytes(MOST_BYTES_S, 100.5)
    begun = 102.0
    assert all(camera.take_bytes(MOST_BYTES_S // 10, begun + n / 10) for n in range(10_000))
    disk.close()
    pool.shutdown()


@pytest.mark.parametrize("kind", ["received", "strays", "malformed", "doubled", "rtcp"])
def test_a_camera_that_sends_packets_that_make_no_pictures(tmp_path: Path, kind: str) -> None:
    """They are as many as a camera can send: others would wait while they are looked at."""

    class Floods(Silent):
        @property
        def packets(self) -> list[PacketCounts]:  # type: ignore[override]
            now_s = asyncio.get_running_loop().time()
            return [PacketCounts(**{kind: round(self.rate * max(0.0, now_s - 20))})]

        def __init__(self, rate: int):
            self.rate = rate

    ended, state, _ = run(tmp_path, film(0.5, 30), 30, Floods(50_000))
    assert ended is None and state is State.RECORDING
    ended, _, found = run(tmp_path / "more", film(0.5, 30), 30, Floods(200_000))
    assert ended is not None and ended.cause == "stream_broken"
    assert "more than 50,000 packets" in ended.detail and found == pytest.approx(20, abs=1)
