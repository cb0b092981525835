"""Cameras that are not ours: GStreamer's RTSP server, with Digest, over TCP and UDP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.schedule import Window
from recorder.camera import Target
from recorder.rtsp import DescribeFailed, describe
from recorder.worker import Worker
from storage.index import GapCause
from tests.conftest import missing
from tests.s3 import free_port
from tests.stack import recordings, until

VIDEO = "videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=25/1 ! "
H264 = VIDEO + "x264enc tune=zerolatency key-int-max=50 bitrate=600 ! "
PAY = "rtph264pay name=pay0 pt=96 config-interval={n}"
AUDIO = "audiotestsrc is-live=true wave=ticks ! audio/x-raw,rate={rate},channels=1 ! "
MOUNTS = {
    "aac": H264
    + PAY.format(n=-1)
    + " "
    + AUDIO.format(rate=48000)
    + "avenc_aac ! rtpmp4gpay name=pay1 pt=97",
    "b": VIDEO
    + "x264enc b-adapt=false bframes=2 rc-lookahead=2 key-int-max=50 bitrate=600 ! "
    + "video/x-h264,profile=main ! "
    + PAY.format(n=0),
    "g711": H264
    + PAY.format(n=1)
    + " "
    + AUDIO.format(rate=8000)
    + "mulawenc ! rtppcmupay name=pay1 pt=0",
    "h265": VIDEO
    + "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=50 bitrate=600 ! "
    + "rtph265pay name=pay0 pt=96 config-interval=-1",
    "jpeg": VIDEO.replace("25/1", "15/1,format=I420") + "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
pytestmark = pytest.mark.gstreamer
SYSTEM_PYTHON = "/usr/bin/python3"


@contextlib.asynccontextmanager
async def server(*more: str) -> AsyncIterator[int]:
    """Serve all mounts; yields the port."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    asked = await asyncio.to_thread(
        subprocess.run, [SYSTEM_PYTHON, "-c", probe], capture_output=True
    )
    if asked.returncode:
        missing("GStreamer's RTSP server is missing: apt-get install gir1.2-gst-rtsp-server-1.0")
    port = free_port()
    mounts = [f"{name}={pipeline}" for name, pipeline in MOUNTS.items()]
    script = str(Path(__file__).parent / "gst_server.py")
    child = await asyncio.create_subprocess_exec(
        *(SYSTEM_PYTHON, script, str(port), *mounts, *more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), 30) == b"ready\n"
        yield port
    finally:
        child.kill()
        await child.wait()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_recorded_and_decoded(tmp_path: Path, ffmpeg: str, transport: str) -> None:
    begin = int(time.time() * 1000)
    windows = (Window(begin, begin + 86_400_000),)

    def count(name: str) -> int:
        return sum(len(r.index.segments) for r in recordings(tmp_path, name))

    async with server("--user", "viewer:pass word", "--protocols", transport) as port:
        url = f"rtsp://viewer:pass%20word@127.0.0.1:{port}/"
        targets = [Target("e", "s", name, url + name, transport, True, windows) for name in MOUNTS]
        worker = Worker(targets, tmp_path, ffmpeg)
        task = asyncio.create_task(worker.run())
        try:
            await until(
                lambda: all(count(name) >= 5 for name in MOUNTS),
                60,
                why=str([(c.target.camera, c.status) for c in worker.cameras]),
            )
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    for name in MOUNTS:
        found = recordings(tmp_path, name)
        kept = [r for r in found if len(r.index.segments) > 2]
        assert kept, name
        for r in kept:
            check(name, r.path, ffmpeg)
            header = r.index.header
            kinds = {t.kind: t.codec for t in header.tracks}
            assert kinds["video"] == ("h265" if name == "h265" else "h264")
            assert ("audio" in kinds) == (name in ("aac", "g711"))
            transcoded = {"g711": ("audio",), "jpeg": ("video",)}
            assert header.transcoded == transcoded.get(name, ())
            for segment in r.index.segments[:-1]:
                assert 1.0 < segment.duration_90k / 90_000 < 2.5


def check(name: str, path: Path, ffmpeg: str) -> None:
    """Decode the whole of a recording; ffmpeg must have nothing to say."""
    command = [ffmpeg, "-y", "-v", "error", "-xerror", "-i", str(path), "-fps_mode", "passthrough"]
    done = subprocess.run(
        [*command, "-f", "framemd5", os.devnull], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, f"{name}: {done.stderr}"


async def test_what_a_camera_refuses_is_said_in_its_words() -> None:
    async with server("--user", "viewer:right") as port:
        base = f"127.0.0.1:{port}/"
        for url, cause in (
            (f"rtsp://viewer:wrong@{base}aac", GapCause.REFUSED_PASSWORD),
            (f"rtsp://{base}aac", GapCause.REFUSED_PASSWORD),
            (f"rtsp://viewer:right@{base}nothing", GapCause.NO_SUCH_STREAM),
            ("rtsp://viewer:right@127.0.0.1:1/x", GapCause.UNREACHABLE),
        ):
            with pytest.raises(DescribeFailed) as failed:
                await describe(url, 10)
            assert failed.value.cause is cause
            assert "right" not in failed.value.detail and "wrong" not in failed.value.detail
