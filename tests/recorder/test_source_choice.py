"""Which source takes a camera, over loopback: what is asked of it, recorded and told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.schedule import Window
from recorder.camera_spec import CameraSpec
from recorder.clock import Clock, system_offset_ms
from recorder.rtsp.address import Address
from recorder.rtsp.describe import DescribeFailed, Offer
from recorder.rtsp.description import choose_tracks
from recorder.rtsp.sdp import parse_sdp
from recorder.source_choice import CONFIGURED, why_ffmpeg
from recorder.worker import Worker
from storage.records import GapCause
from tests.support.packets import PPS, SPS, rtp
from tests.support.playing import OTHER, SDP, film, plays, wrapped
from tests.support.rtsp_camera import G722, H264, Camera, Dialogue, Request, sdp_of, serving
from tests.support.stack import recordings
from tests.support.waiting import until

NO_FFMPEG = "/bin/false"


def offer(*media: str) -> Offer:
    return Offer(Address("rtsp://camera/"), choose_tracks(parse_sdp(sdp_of(*media))))


def spec(source: str, url: str = "rtsp://camera/", windows: tuple[Window, ...] = ()) -> CameraSpec:
    return CameraSpec("e", "s", "c", url, source=source, windows=windows)


@pytest.mark.parametrize(
    ("source", "media", "learned", "why"),
    [
        ("ffmpeg", (H264,), None, CONFIGURED),
        ("native", (H264,), "it failed", None),
        ("auto", (H264,), None, None),
        ("auto", (H264,), "it failed", "it failed"),
        ("auto", (H264, G722), None, "sound of codec G722"),
    ],
)
def test_who_takes_a_stream(
    source: str, media: tuple[str, ...], learned: str | None, why: str | None
) -> None:
    assert why_ffmpeg(spec(source), offer(*media), True, learned) == why


def test_what_only_the_native_source_may_take_and_cannot() -> None:
    with pytest.raises(DescribeFailed) as failed:
        why_ffmpeg(spec("native"), offer(H264, G722), True)
    assert "G722" in failed.value.ending.detail and "auto" in failed.value.ending.remedy
    assert why_ffmpeg(spec("native"), offer(H264, G722), False) is None, "without its sound"


@contextlib.asynccontextmanager
async def recorder(
    spool: Path, camera: Camera, source: str, clock: Clock | None = None
) -> AsyncIterator[Worker]:
    """Record a scripted camera while the block runs, with an ffmpeg that ends at once."""
    now_ms = int(time.time() * 1000)
    camera.sdp = camera.sdp or SDP
    async with serving(camera):
        windows = (Window(now_ms - 86_400_000, now_ms + 86_400_000),)
        worker = Worker([spec(source, camera.url(), windows)], spool, NO_FFMPEG, clock=clock)
        running = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            running.cancel()
            await asyncio.wait({running})


async def ends_after_playing(dialogue: Dialogue, request: Request) -> bool:
    await plays(film())(dialogue, request)
    if request.method == "PLAY":
        dialogue.close()
    return request.method == "PLAY"


def lines(said: Sequence[Mapping[str, Any]], event: str) -> list[object]:
    return [line.get("why") for line in said if line["event"] == event]


async def until_told(said: Callable[[], object]) -> None:
    await until(said, every=0.02)


async def test_a_camera_is_recorded_over_the_connection_of_its_description(tmp_path: Path) -> None:
    camera = Camera(script=ends_after_playing)
    async with recorder(tmp_path, camera, "auto") as worker:
        await until_told(lambda: worker.cameras[0].status.segment_no)
    first = camera.methods()[:4]
    assert first == ["DESCRIBE", "SETUP", "SETUP", "PLAY"]
    assert len(camera.connections) == camera.methods().count("DESCRIBE")
    segment = recordings(tmp_path, "c")[0].index.segments[0]
    assert segment.starts_with_key


async def test_a_recording_is_sealed_by_the_clock_that_the_recorder_believes(
    tmp_path: Path,
) -> None:
    """The machine's may be a day ahead, for some seconds."""
    clock = Clock(offset_ms=lambda: system_offset_ms() - 3_600_000)
    camera = Camera(script=ends_after_playing)
    now_ms = time.time() * 1000
    async with recorder(tmp_path, camera, "auto", clock) as worker:
        await until_told(lambda: worker.cameras[0].status.segment_no)
    for found in recordings(tmp_path, "c"):
        assert found.index.seal is not None
        assert found.index.seal.sealed_ms < now_ms - 3_000_000


async def test_what_the_network_lost_is_told(tmp_path: Path) -> None:
    """With the segment that has the hole, and in the status."""
    packets = film().split(b"$\0")
    holed = b"$\0".join([*packets[:4], *packets[5:], packets[-1]])

    async def script(dialogue: Dialogue, request: Request) -> bool:
        await plays(holed)(dialogue, request)
        if request.method == "PLAY":
            dialogue.close()
        return request.method == "PLAY"

    async with recorder(tmp_path, Camera(script=script), "native") as worker:
        status = worker.cameras[0].status
        await until_told(lambda: status.segment_no)
    (segment, *_) = recordings(tmp_path, "c")[0].index.segments
    assert (segment.lost, segment.damaged) == (1, 1)
    assert status.packets > status.packets_lost > 0
    assert status.packets_doubled == 2 * status.packets_lost, "of picture and sound, each session"


async def test_a_camera_without_keyframes_is_recorded_from_its_second_session_on(
    tmp_path: Path,
) -> None:
    pictures = (rtp(n, OTHER, stamp=n * 3600, kind=96 | 0x80) for n in range(9))
    keyless = b"".join(wrapped(0, picture) for picture in pictures)

    async def script(dialogue: Dialogue, request: Request) -> bool:
        await plays(keyless)(dialogue, request)
        if request.method == "PLAY":
            dialogue.close()
        return request.method == "PLAY"

    sets = ",".join(b64encode(nal).decode() for nal in (SPS, PPS))
    camera = Camera(sdp=sdp_of(f"{H264};sprop-parameter-sets={sets}"), script=script)
    async with recorder(tmp_path, camera, "native") as worker:
        await until_told(lambda: worker.cameras[0].status.segment_no)
    assert camera.methods().count("PLAY") >= 2
    segment = recordings(tmp_path, "c")[0].index.segments[0]
    assert not segment.starts_with_key


@pytest.mark.parametrize(
    ("sdp", "why"),
    [(sdp_of(H264, G722), "sound of codec G722"), (sdp_of(H264), "answers 455 to SETUP")],
)
async def test_what_is_not_understood_goes_to_ffmpeg_and_is_told_once(
    tmp_path: Path, sdp: str, why: str
) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "SETUP":
            dialogue.answer(request, "455 Method Not Valid in This State")
        return request.method == "SETUP"

    camera = Camera(sdp=sdp, script=script)
    with capture_logs() as said:
        async with recorder(tmp_path, camera, "auto") as worker:
            await until_told(lambda: lines(said, "Recording through ffmpeg"))
            retries = worker.cameras[0].status.retries
            await until_told(lambda: worker.cameras[0].status.retries > retries)
    (told,) = lines(said, "Recording through ffmpeg")
    assert str(told).endswith(why)


async def test_a_camera_that_only_the_native_source_may_take(tmp_path: Path) -> None:
    camera = Camera(sdp=sdp_of(H264, G722))
    with capture_logs() as said:
        async with recorder(tmp_path, camera, "native") as worker:
            await until_told(lambda: worker.cameras[0].status.cause is GapCause.STREAM_BROKEN)
    assert "G722" in str(lines(said, "Not recording")[0])
    assert set(camera.methods()) == {"DESCRIBE"}
