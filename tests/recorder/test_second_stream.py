"""Second streams: recorded beside the first, on its time line, and never at its cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from config.limits import Reserve, SpoolLimits
from config.schedule import Window
from recorder.camera_spec import CameraSpec, camera_specs
from recorder.disk_watch import SpoolDisk
from recorder.rtsp.aac import AacConfig
from recorder.sample_entry import sound_track
from recorder.second_stream import LEFT, REST_S, SOON_S, SecondStream
from recorder.segmenter import Segmenter
from recorder.source import Frame
from recorder.states import State
from recorder.worker import Worker
from storage.media.fmp4 import boxes, parse_moof
from storage.records import Ending, GapCause, Header, parse_index
from storage.spool.writer import TimeLine
from tests.support.config_files import read
from tests.support.frames import UTC0, VIDEO, check
from tests.support.packets import PPS, SPS
from tests.support.playing import KEY, OTHER
from tests.support.rtsp_camera import H264, Camera, Dialogue, Request, sdp_of, serving
from tests.support.stack import recordings
from tests.support.waiting import until

LASTS_MS = 1024 / 48
AUDIO = sound_track(AacConfig.parse(bytes.fromhex("1188")), 48_000)
FILM = [[SPS, PPS, KEY], *([[OTHER]] * 24)]
ONE, TWO = TimeLine(7, int(UTC0)), TimeLine(8, int(UTC0) + 60_000)


# -- the time line ---------------------------------------------------------------------------


@given(st.integers(0, 3_600_000), st.integers(10, 60))
def test_media_time_counts_from_where_that_of_the_first_does(since_ms: int, gop: int) -> None:
    segmenter = Segmenter([VIDEO], origin_ms=int(UTC0))
    begin_ms = UTC0 + since_ms
    frames = [
        Frame(1, n * 3600, n % gop == 0, b"v", begin_ms + n * 40 + 30) for n in range(25 * 10)
    ]
    drafts = [draft for frame in frames for draft in segmenter.push(frame)] + segmenter.finish()
    check(segmenter, drafts)
    assert segmenter.run_start_ms == int(UTC0)
    assert abs(drafts[0].tfdt_90k / 90 - since_ms - 30) < 2
    assert abs(segmenter.end_ms - frames[-1].arrival_ms - 40) < 2


def test_nothing_is_before_the_time_line_begins() -> None:
    """A camera may send what it held while the first stream was begun."""
    segmenter = Segmenter([VIDEO], origin_ms=int(UTC0) + 500)
    frames = [Frame(1, n * 3600, n % 50 == 0, b"v", UTC0 + n * 40) for n in range(150)]
    drafts = [draft for frame in frames for draft in segmenter.push(frame)] + segmenter.finish()
    check(segmenter, drafts)
    assert drafts[0].tfdt_90k == 0


@pytest.mark.parametrize("origin_ms", [None, int(UTC0) - 3_600_000])
def test_sound_from_before_its_first_picture_is_in_no_run(origin_ms: int | None) -> None:
    """It is not of this time line before the run begins, however long ago the first one's did."""
    segmenter = Segmenter([VIDEO, AUDIO], origin_ms=origin_ms)
    frames = [Frame(1, n * 3600, n % 50 == 0, b"v", UTC0 + n * 40 + 20) for n in range(250)]
    frames += [Frame(2, n * 1024, True, b"s", UTC0 + n * LASTS_MS + 20) for n in range(-200, 460)]
    drafts = []
    for frame in sorted(frames, key=lambda frame: frame.arrival_ms):
        drafts += segmenter.push(frame)
    drafts += segmenter.finish()
    check(segmenter, drafts)
    pictures, sound = drafts[0].runs
    assert abs(sound.decode_time / 48 - pictures.decode_time / 90) <= LASTS_MS
    assert sum(len(draft.runs[1].samples) for draft in drafts) > 400


def test_the_header_says_of_which_run_the_time_line_is() -> None:
    header = Header("e", "s", "c", 1, 5, 1, 0, 1, "", 2, ())
    assert b"first_run_no" not in header.to_line() and header.line_no == 5
    second = Header("e", "s", "c.low", 1, 5, 1, 0, 1, "", 2, (), first_run_no=9)
    assert parse_index(second.to_line()).header == second and second.line_no == 9


# -- when it is recorded ---------------------------------------------------------------------


def on(disk: SpoolDisk, *lines: TimeLine | None, **how: Any) -> SecondStream:
    """Return a second stream of a first whose time line is the next one at each look."""
    left = list(lines)
    return SecondStream("s/c.low", lambda: left.pop(0) if len(left) > 1 else left[0], disk, **how)


@pytest.fixture
def disk(tmp_path: Path) -> SpoolDisk:
    return SpoolDisk(tmp_path, SpoolLimits(), 0, int)


async def test_it_waits_for_the_first_and_ends_with_it(disk: SpoolDisk) -> None:
    second = on(disk, None, ONE, ONE, TWO)
    assert await second.wait(lambda: True) and second.line == ONE
    assert second.why_not() is None
    assert second.why_not() == LEFT, "the first began a new run"
    assert not await on(disk, None).wait(lambda: False), "the window is over"


async def test_it_rests_where_the_first_breaks_whenever_it_is_asked_for(disk: SpoolDisk) -> None:
    """Some cameras end a session when another begins."""
    now_s, line = 1000.0, ONE
    second = SecondStream("s/c.low", lambda: line, disk, lambda: now_s, look_s=0)
    with capture_logs() as said:
        for number, rest_s in enumerate(REST_S, 10):
            assert await second.wait(lambda: True)
            now_s, line = now_s + 2, TimeLine(number, 0)
            assert second.why_not() == LEFT
            now_s += rest_s - 0.1
            assert not await second.wait(iter((True, False)).__next__)
            now_s += 0.2
    assert [entry["camera"] for entry in said] == ["s/c.low"] * (len(REST_S) - 1)
    assert await second.wait(lambda: True)
    now_s, line = now_s + SOON_S + 1, TWO  # it was recorded for long: not because of it
    assert second.why_not() == LEFT and await second.wait(lambda: True)


async def test_a_camera_that_gives_none_is_asked_less_and_less_often(disk: SpoolDisk) -> None:
    """It may take no more sessions, and is asked all day."""
    now_s, busy = 1000.0, Ending(GapCause.STREAM_BROKEN, "it is busy")
    second = SecondStream("s/c.low", lambda: ONE, disk, lambda: now_s, look_s=0)

    async def waits_s() -> float:
        nonlocal now_s
        begun_s = now_s
        while not await second.wait(iter((True, False)).__next__):
            now_s += 1
        return now_s - begun_s

    found = []
    for why in (busy, busy, LEFT, busy, busy, busy):
        second.refused(why)
        found.append(await waits_s())
    assert found == [0, 5, 0, 15, 60, 60]
    second.came()
    second.refused(busy)
    assert await waits_s() == 0


async def test_it_waits_for_the_time_line_of_the_clock_that_is_followed(disk: SpoolDisk) -> None:
    later = count(step=10.0).__next__  # it rests, as the first breaks at once
    second = on(disk, ONE, ONE, ONE, TWO, clock=later, look_s=0)
    await second.wait(lambda: True)
    second.clock_was_set()
    assert await second.wait(lambda: True) and second.line == TWO


async def test_room_that_becomes_short_is_for_first_streams(tmp_path: Path) -> None:
    plenty = SpoolDisk(tmp_path, SpoolLimits(reserve=Reserve(1, None)), 0, int)
    short = SpoolDisk(tmp_path, SpoolLimits(reserve=Reserve(None, 50)), 0, int)
    for watch in (plenty, short):
        await watch.look()
        watch.close()
    second = on(plenty, ONE)
    assert await second.wait(lambda: True) and second.why_not() is None
    second = on(short, ONE)
    second.line = ONE
    assert second.why_not() == LEFT


# -- by a recorder ---------------------------------------------------------------------------


def test_a_share_has_a_camera_with_its_second_stream(tmp_path: Path) -> None:
    table = "station_id,camera_id,url,low_url\n" + "".join(
        f"s1,c{n},rtsp://10.0.0.{n}/1,{f'rtsp://10.0.0.{n}/2' if n % 2 else ''}\n"
        for n in range(1, 9)
    )
    config = read(tmp_path, stations_csv=table)
    shares = [camera_specs(config, n, 3) for n in range(3)]
    names = [spec.name for share in shares for spec in share]
    assert len(names) == len(set(names)) == 12 and "s1/c3.low" in names
    for share in shares:
        lows = [spec for spec in share if spec.first]
        assert {spec.first for spec in lows} <= {spec.name for spec in share}
        assert all(spec.url.endswith("/2") for spec in lows)


@dataclass
class Streams:
    """A scripted camera with two streams, and a recorder of both."""

    camera: Camera
    worker: Worker
    playing: dict[str, Dialogue]  # the newest of each stream

    @property
    def asked(self) -> list[str]:
        """Which streams were described, in order."""
        asked = [r.uri.split("/")[3] for r in self.camera.requests if r.method == "DESCRIBE"]
        return [name for name, _ in groupby(asked)]


@contextlib.asynccontextmanager
async def recorder(spool: Path, camera: Camera) -> AsyncIterator[Streams]:
    """Record a scripted camera and its second stream while the block runs."""
    playing: dict[str, Dialogue] = {}

    async def remember(dialogue: Dialogue, request: Request) -> bool:
        playing[request.uri.split("/")[3]] = dialogue
        return False

    camera.sdp, camera.films, camera.script = sdp_of(H264), (FILM,), remember
    async with serving(camera):
        now_ms = int(time.time() * 1000)
        windows = (Window(now_ms - 60_000, now_ms + 86_400_000),)
        specs = [
            CameraSpec("e", "s", name, camera.url(stream), source="native", windows=windows)
            for name, stream in (("c", "one"), ("c.low", "two"))
        ]
        worker = Worker(specs, spool, "/bin/false")
        running = asyncio.create_task(worker.run())
        try:
            yield Streams(camera, worker, playing)
        finally:
            running.cancel()
            await asyncio.wait({running})


def lines(spool: Path, name: str) -> set[tuple[int, int]]:
    """Return the time lines of a stream's recordings: number and beginning."""
    headers = [recording.index.header for recording in recordings(spool, name)]
    return {(header.line_no, header.run_start_ms) for header in headers}


@pytest.mark.slow
async def test_both_are_recorded_on_one_time_line(tmp_path: Path) -> None:
    async with recorder(tmp_path, Camera()) as streams:
        first, second = (camera.status for camera in streams.worker.cameras)
        await until(lambda: second.segment_no)
        assert streams.asked == ["one", "two"]
        told = json.loads((tmp_path / "_status/recorder-0.json").read_bytes())
        assert list(told["cameras"]) == list(told["low"]) == ["s/c"]
        streams.playing["one"].close()  # what breaks the first ends the second
        await until(lambda: len(lines(tmp_path, "c.low")) == 2)
        assert streams.asked == ["one", "two", "one", "two"]
        await until(lambda: first.runs == second.runs == 2)  # told after it was written
    assert lines(tmp_path, "c.low") == lines(tmp_path, "c")
    its = recordings(tmp_path, "c.low")
    for recording in its:
        header, segment = recording.index.header, recording.index.segments[0]
        assert header.first_run_no and header.camera == "c.low"
        assert segment.start_ms == header.run_start_ms + segment.tfdt_90k // 90
        assert segment.start_ms > header.run_start_ms
        media = recording.path.read_bytes()[segment.offset :][: segment.length]
        moof, _ = boxes(media, 0, len(media))
        assert parse_moof(media, moof)[0].decode_time == segment.tfdt_90k


@pytest.mark.slow
async def test_a_camera_that_takes_one_connection_gives_it_to_the_first(tmp_path: Path) -> None:
    camera = Camera(takes=lambda camera: camera.open == 0)
    async with recorder(tmp_path, camera) as streams:
        first, second = streams.worker.cameras
        await until(lambda: second.status.retries > 1)
        assert first.status.runs == 1 and second.status.segment_no == 0
        streams.playing["one"].close()
        await until(lambda: first.status.runs == 2)
        assert first.status.state is State.RECORDING
        assert set(streams.asked) == {"one"}, "the second stream was never let in"


@pytest.mark.slow
async def test_it_comes_and_goes_with_a_reload_while_the_first_goes_on(tmp_path: Path) -> None:
    async with recorder(tmp_path, Camera()) as streams:
        worker = streams.worker
        first, second = worker.cameras
        both = [first.spec, second.spec]
        await until(lambda: second.status.segment_no)
        await worker.change(both[:1])
        assert worker.cameras == [first]
        assert all(r.index.seal for r in recordings(tmp_path, "c.low"))
        await worker.change(both)
        await until(lambda: worker.cameras[1].status.runs)
        assert worker.cameras[0] is first and first.status.runs == 1
