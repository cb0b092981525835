"""Cameras that are not ours: GStreamer's RTSP server, with Digest, over TCP and UDP, and
MediaMTX where it is named."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import ffmpeg as ffmpeg_python
import numpy as np
import pytest

from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import DescribeFailed
from storage.records import GapCause, parse_archive_document
from tests.support.foreign_cameras import MEDIAMTX, MOUNTS, NATIVE, PUBLISHED, mediamtx, server
from tests.support.programs import need
from tests.support.rtsp_camera import described
from tests.support.s3 import free_port
from tests.support.sources import compare
from tests.support.stack import recordings
from tests.support.strip import beeps, presentation_times
from tests.support.waiting import BOUND_S, until

pytestmark = [pytest.mark.gstreamer, pytest.mark.slow]

WITH_SOUND = ("aac", "g711")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_live_recorded_archived(tmp_path: Path, ffmpeg: str, transport: str) -> None:
    """`kuager run` as operators start it; what it archives decodes, sound in step with picture."""
    ffprobe = need("ffprobe", "apt-get install ffmpeg")
    port = free_port()
    begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    begins = tmp_path / "begins"
    more = ("--user", "viewer:pass word", "--protocols", transport, "--begins", str(begins))
    async with server(*more) as rtsp:
        cameras = "".join(
            f"      - {{id: {name}, transport: {transport}, "
            f'url: "rtsp://viewer:pass%20word@127.0.0.1:{rtsp}/{name}"}}\n'
            for name in MOUNTS
        )
        (tmp_path / "stations.yaml").write_text("stations:\n  - id: s\n    cameras:\n" + cameras)
        (tmp_path / "kuager.yaml").write_text(
            "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
            f" windows: [{{from: {begin}, to: 2090-01-01T00:00}}]}}\n"
            "stations: stations.yaml\nspool: spool\narchives: [archive]\n"
            f'web: {{listen: "127.0.0.1:{port}"}}\n'
        )
        log = tmp_path / "kuager.log"
        async with kuager_run(tmp_path, log):
            for name in MOUNTS:
                await probed(f"http://127.0.0.1:{port}/live/s/{name}/index.m3u8", ffprobe, log)
            spool = tmp_path / "spool"
            await until(lambda: all(_seconds(spool, name) > 10 for name in MOUNTS))
    upload = (sys.executable, "-m", "kuager", "upload", "--config", str(tmp_path / "kuager.yaml"))
    assert await (await asyncio.create_subprocess_exec(*upload)).wait() == 0
    archive = tmp_path / "archive/e/s"
    for name in MOUNTS:
        found = [p.with_suffix(".json") for p in archive.glob(f"{name}/*/*.mp4")]
        longest = max(found, key=lambda p: p.with_suffix(".mp4").stat().st_size)
        header = parse_archive_document(longest.read_bytes()).header
        kinds = {t.kind: t.codec for t in header.tracks}
        assert kinds["video"] == ("h265" if name == "h265" else "h264")
        assert ("audio" in kinds) == (name in WITH_SOUND)
        transcoded = {"g711": ("audio",), "jpeg": ("video",)}
        assert header.transcoded == transcoded.get(name, ())
        for document in found:
            check(name, document.with_suffix(".mp4"), ffmpeg)
        if "audio" in kinds:
            early_s = ticks_early_s(begins, name, header.run_start_ms)
            offsets = [o + early_s for o in tick_offsets_s(longest.with_suffix(".mp4"), ffmpeg)]
            # until its first sender report says how they belong together, sound is where ffmpeg
            # guesses: it takes what came first of each for simultaneous
            assert len(offsets) >= 4 and abs(statistics.median(offsets)) < 0.1, (name, offsets)
            assert all(abs(o) < 0.2 for o in offsets), (name, offsets)


def _seconds(spool: Path, name: str) -> float:
    """Return how long the longest recording of a camera in the spool is, of those with all that
    the camera sends: its sound may come after its first pictures, and then another begins."""
    count = 2 if name in WITH_SOUND else 1
    found = [r.index for r in recordings(spool, name) if len(r.index.header.tracks) == count]
    return max((one.end_ms - one.start_ms for one in found), default=0) / 1000


@contextlib.asynccontextmanager
async def kuager_run(folder: Path, log: Path) -> AsyncIterator[None]:
    """Run `kuager run` while the block runs."""
    with log.open("ab") as file:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kuager", "run", "--config", str(folder / "kuager.yaml")),
            stderr=file,
            stdin=asyncio.subprocess.DEVNULL,
        )
    try:
        yield
    finally:
        child.terminate()
        assert await asyncio.wait_for(child.wait(), BOUND_S) == 0


async def probed(url: str, ffprobe: str, log: Path) -> None:
    """Wait until ffprobe has nothing to complain of in a live playlist."""
    begun = time.monotonic()
    while True:
        child = await asyncio.create_subprocess_exec(
            *(ffprobe, "-v", "error", url), stderr=asyncio.subprocess.PIPE
        )
        _, words = await child.communicate()
        if child.returncode == 0 and not words:
            return
        assert time.monotonic() - begun < BOUND_S, f"{url}: {words.decode()}, see {log}"
        await asyncio.sleep(1)


def tick_offsets_s(path: Path, ffmpeg: str) -> list[float]:
    """Return for each tick how many seconds it comes after where the picture says that it should.

    GStreamer ticks at every full second of its pipeline, and changes colours at every other. Where
    it is busy it leaves out pictures, so that one change may be seen late: most are not.
    """
    grey = {"fps_mode": "passthrough", "f": "rawvideo", "pix_fmt": "gray"}
    small = ffmpeg_python.input(str(path))["v"].filter("scale", 32, 18).output("pipe:1", **grey)
    command = small.compile(cmd=[ffmpeg, "-nostdin", "-v", "error"])
    raw = subprocess.run(command, capture_output=True, timeout=BOUND_S, check=True).stdout
    light = np.frombuffer(raw, np.uint8).reshape(-1, 32 * 18).mean(axis=1) > 128
    times = presentation_times(path.read_bytes())
    flips = [times[n + 1] for n in np.flatnonzero(light[1:] != light[:-1])]
    late = statistics.median((flip - flips[0] + 0.5) % 1 - 0.5 for flip in flips)
    return [(at - flips[0] - late + 0.5) % 1 - 0.5 for at in beeps(path, ffmpeg)]


def ticks_early_s(begins: Path, mount: str, before_ms: int) -> float:
    """Return by how much the ticks of a mount come before the changes of its picture, in seconds.

    It is what the server began last before a moment (UTC).
    """
    began = {}
    for line in begins.read_text().splitlines():
        name, utc_ms, source, at_ms = line.split()
        if name == mount and int(utc_ms) <= before_ms:
            began[source] = float(at_ms)
    return (began["videotestsrc"] - began["audiotestsrc"]) / 1000


def check(name: str, path: Path, ffmpeg: str) -> None:
    """Decode the whole of a recording; ffmpeg must have nothing to say."""
    whole = ffmpeg_python.input(str(path)).output(os.devnull, fps_mode="passthrough", f="framemd5")
    command = whole.compile(cmd=[ffmpeg, "-y", "-nostdin", "-v", "error", "-xerror"])
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S)
    assert done.returncode == 0 and not done.stderr, f"{name}: {done.stderr}"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_read_without_ffmpeg(ffmpeg: str, transport: str) -> None:
    """The native source makes the same frames of them, with Digest too."""
    async with server("--user", "viewer:pass word", "--protocols", transport) as rtsp:
        for name in NATIVE:
            url = f"rtsp://viewer:pass%20word@127.0.0.1:{rtsp}/{name}"
            await compare(url, ffmpeg, transport, sound=name == "aac", steady=False)


@pytest.mark.skipif(MEDIAMTX is None, reason="MEDIAMTX names no binary")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_mediamtx_with_what_ffmpeg_sends_to_it(
    tmp_path: Path, ffmpeg: str, transport: str
) -> None:
    async with mediamtx(tmp_path, ffmpeg) as rtsp:
        for name, published in PUBLISHED.items():
            url = f"rtsp://127.0.0.1:{rtsp}/{name}"
            await compare(url, ffmpeg, transport, sound="c:a" in published, steady=False)


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
                await described(url, Resolver())
            ending = failed.value.ending
            assert ending.cause is cause
            assert "right" not in ending.detail and "wrong" not in ending.detail
