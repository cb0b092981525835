"""From a camera to recordings: every codec and transport, in time, in step, decodable."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from pathlib import Path

import pytest

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from storage.records import GapCause
from tests.support.stack import (
    SMALL,
    Recording,
    check_tiling,
    counts,
    gaps,
    recording,
    recordings,
    settled,
)
from tests.support.strip import av_offsets
from tests.support.waiting import until
from tests.support.wire import play

pytestmark = pytest.mark.slow

CAMERAS = [
    SimCamera("h264", **SMALL),
    SimCamera("aac", audio="aac", user="viewer", password="sec'ret p@ss", **SMALL),
    SimCamera("h265", codec="h265", angle="entrance", **SMALL),
    SimCamera("b-pcmu", bframes=2, audio="pcmu", **SMALL),
    SimCamera("udp", fps=25, **SMALL),
    SimCamera("pcma", audio="pcma", **SMALL),
]


SOURCES = ("ffmpeg", "native")


def p99(values: list[float]) -> float:
    ordered = sorted(abs(v) for v in values)
    return ordered[int(len(ordered) * 0.99)]


async def test_codecs_and_transports(tmp_path: Path, each_ffmpeg: str, ffmpeg: str) -> None:
    await record_all(tmp_path, each_ffmpeg, ffmpeg, "ffmpeg")


async def test_codecs_and_transports_natively(tmp_path: Path, ffmpeg: str) -> None:
    await record_all(tmp_path, "/bin/false", ffmpeg, "native")


async def record_all(tmp_path: Path, program: str, ffmpeg: str, source: str) -> None:
    """Record all cameras and look at what came of them; `ffmpeg` is that of the tests."""
    async with Simulator(CAMERAS, ffmpeg=ffmpeg) as simulator:
        begin = int(time.time() * 1000)
        async with recording(
            tmp_path,
            simulator,
            program,
            start_ms=begin,
            source=source,
            transport=lambda name: "udp" if name == "udp" else "auto",
        ) as worker:
            await settled(worker, tmp_path, 12)
    for camera in CAMERAS:
        found = recordings(tmp_path, camera.name)
        assert found and all(r.index.seal for r in found)
        (codec,) = [t.codec for t in found[0].index.header.tracks if t.kind == "video"]
        assert codec == camera.codec
        errors = settled_errors_ms(found, ffmpeg)
        far = [shown for r in found for shown in r.shown(ffmpeg) if abs(shown[1]) > 50]
        assert p99(errors) <= 100, f"{camera.name}: {p99(errors)} ms: {far}"
        check_tiling(tmp_path, camera.name, begin)
        assert gaps(tmp_path, camera.name)[-1].cause is GapCause.RECORDER_STOPPED
        if camera.audio:
            header = found[0].index.header
            assert [t.codec for t in header.tracks] == ["h264", "aac"]
            assert header.transcoded == (() if camera.audio == "aac" else ("audio",))
            # the last one may have begun a moment ago, with no beep in it
            in_step(max(found, key=lambda r: r.index.end_ms - r.index.start_ms), ffmpeg)
    sources = [s.camera_ms for r in recordings(tmp_path, "h264") for s in r.index.segments]
    assert any(s is not None for s in sources)


def settled_errors_ms(found: list[Recording], ffmpeg: str) -> list[float]:
    """Return placed - burned of the pictures that count, of a camera's recordings."""
    return [error for r in found for error in r.settled_errors_ms(ffmpeg)]


def in_step(recording: Recording, ffmpeg: str) -> None:
    """The beep is in each second where the pictures around it say that the second begins, unless
    they are marked as moved: sound that came in time stays."""
    offsets = av_offsets(recording.path, ffmpeg)
    for s in recording.index.segments:
        begin_s, end_s = s.tfdt_90k / 90_000, (s.tfdt_90k + s.duration_90k) / 90_000
        if s.moved_ms or s.by_arrival:
            offsets = {at: o for at, o in offsets.items() if not begin_s - 0.2 < at < end_s + 0.2}
    assert len(offsets) > 3 and all(abs(off) < 0.08 for off in offsets.values()), offsets


async def record_by_both(
    spool: Path, simulator: Simulator, ffmpeg: str, seconds: float
) -> list[Path]:
    """Record all cameras by both sources at once until so many seconds count; returns the spool of
    each."""
    spools = [spool / source for source in SOURCES]
    async with contextlib.AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(recording(one, simulator, ffmpeg, source=one.name))
            for one in spools
        ]
        pairs = zip(workers, spools, strict=True)
        await asyncio.gather(*(settled(worker, one, seconds) for worker, one in pairs))
    return spools


async def test_jitter(tmp_path: Path, ffmpeg: str) -> None:
    cameras = [SimCamera("a", **SMALL), SimCamera("b", fps=25, **SMALL)]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        for name in simulator.cameras:
            simulator.fault(name, "delay", 150)
        spools = await record_by_both(tmp_path, simulator, ffmpeg, 15)
    for spool, name in itertools.product(spools, ("a", "b")):
        errors = settled_errors_ms(recordings(spool, name), ffmpeg)
        assert p99(errors) <= 150, (spool.name, name)


async def test_clocks_of_cameras(tmp_path: Path, ffmpeg: str) -> None:
    """25 fps declared and 21 delivered, 2,000 ppm fast, reports an hour wrong, and none."""
    names = ["slow", "fast", "hour", "silent"]
    async with Simulator([SimCamera(n, **SMALL) for n in names], ffmpeg=ffmpeg) as simulator:
        simulator.fault("slow", "wrong-rate")
        simulator.fault("fast", "ppm", 2000)
        simulator.fault("hour", "step-clock", 3600)
        simulator.fault("silent", "no-reports")
        for name in names:  # the encoders that these faults start anew have begun
            wire = await play(simulator.url(name))
            await until(lambda wire=wire: len(wire.pictures()) > 20)  # type: ignore[misc]
            await wire.close()
        spools = await record_by_both(tmp_path, simulator, ffmpeg, 30)
    for spool, name in itertools.product(spools, names):
        found = recordings(spool, name)
        errors = settled_errors_ms(found, ffmpeg)
        assert p99(errors) <= 100, f"{spool.name} {name}: {p99(errors)}"
        assert len({r.index.header.run_no for r in found}) == 1
        durations_s = [s.duration_90k / 90_000 for r in found for s in r.index.segments]
        target_s = found[0].index.header.target_duration_s  # 2, or two intervals
        assert max(durations_s) < target_s + 0.5, (name, durations_s)
        # only what follows one that was cut for its length, as no keyframe came, may be short
        after = itertools.pairwise([2.0, *durations_s[:-1]])
        assert all(d > 1.5 or before > target_s + 0.3 for before, d in after), (name, durations_s)
    for spool in spools:
        clocks = {
            name: [
                (s.camera_ms - s.start_ms if s.camera_ms else None, counts(r, s))
                for r in recordings(spool, name)
                for s in r.index.segments[1:]
            ]
            for name in ("hour", "silent")
        }
        assert all(c is not None for c, _ in clocks["hour"])
        # by where the picture stands, not by when a busy machine let it come
        assert all(c and abs(c - 3_600_000) < 1_000 for c, is_fit in clocks["hour"] if is_fit)
        assert all(c is None for c, _ in clocks["silent"])
