"""From a camera to recordings: every codec and transport, in time, in step, decodable."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from kuager.simulator import SimCamera, Simulator
from recorder.camera import State
from storage.index import GapCause
from tests.stack import check_tiling, gaps, recording, recordings, state_of, until
from tests.strip import beeps

CAMERAS = [
    SimCamera("h264"),
    SimCamera("aac", audio="aac", user="viewer", password="sec'ret p@ss", angle="counting-table"),
    SimCamera("h265", codec="h265", angle="entrance"),
    SimCamera("b-pcmu", bframes=2, audio="pcmu"),
    SimCamera("udp", fps=25),
    SimCamera("pcma", audio="pcma"),
]


def p99(values: list[float]) -> float:
    ordered = sorted(abs(v) for v in values)
    return ordered[int(len(ordered) * 0.99)]


async def test_codecs_and_transports(tmp_path: Path, each_ffmpeg: str, ffmpeg: str) -> None:
    async with Simulator(CAMERAS, ffmpeg=ffmpeg) as simulator:
        begin = int(time.time() * 1000)
        async with recording(
            tmp_path,
            simulator,
            each_ffmpeg,
            start_ms=begin,
            transport=lambda name: "udp" if name == "udp" else "auto",
        ) as worker:
            await until(lambda: all(c.status.state is State.RECORDING for c in worker.cameras), 15)
            await asyncio.sleep(22)
    for camera in CAMERAS:
        found = recordings(tmp_path, camera.name)
        assert found and all(r.index.seal for r in found)
        (codec,) = [t.codec for t in found[0].index.header.tracks if t.kind == "video"]
        assert codec == camera.codec
        errors = [e for r in found for s, e in r.timed_errors_ms(ffmpeg) if s > 10]
        assert p99(errors) <= 100, f"{camera.name}: {p99(errors)} ms"
        check_tiling(tmp_path, camera.name, begin)
        assert gaps(tmp_path, camera.name)[-1].cause is GapCause.RECORDER_STOPPED
        if camera.audio:
            header = found[0].index.header
            assert [t.codec for t in header.tracks] == ["h264", "aac"]
            assert header.transcoded == (() if camera.audio == "aac" else ("audio",))
            in_step(found[-1].path, found[-1].index.header.run_start_ms, errors, ffmpeg)
    sources = [s.camera_ms for r in recordings(tmp_path, "h264") for s in r.index.segments]
    assert any(s is not None for s in sources)


def in_step(path: Path, run_start_ms: int, errors: list[float], ffmpeg: str) -> None:
    """The beep is in each second where the picture says that the second begins."""
    late = sum(errors) / len(errors)  # of the picture, by which the sound must be late too
    for at in beeps(path, ffmpeg)[1:]:
        off = (run_start_ms + at * 1000 - late + 500) % 1000 - 500
        assert abs(off) < 80, f"sound is {off:.0f} ms from the picture"


@pytest.mark.parametrize("jitter_ms", [150])
async def test_jitter(tmp_path: Path, ffmpeg: str, jitter_ms: int) -> None:
    async with Simulator([SimCamera("a"), SimCamera("b", fps=25)], ffmpeg=ffmpeg) as simulator:
        for name in simulator.cameras:
            simulator.fault(name, "delay", jitter_ms)
        async with recording(tmp_path, simulator, ffmpeg) as worker:
            await until(lambda: state_of(worker, "b") == "recording", 15)
            await asyncio.sleep(25)
    for name in ("a", "b"):
        found = recordings(tmp_path, name)
        errors = [e for r in found for s, e in r.timed_errors_ms(ffmpeg) if s > 10]
        assert p99(errors) <= 150


async def test_clocks_of_cameras(tmp_path: Path, ffmpeg: str) -> None:
    """25 fps declared and 21 delivered, 2,000 ppm fast, reports an hour wrong, and none."""
    names = ["slow", "fast", "hour", "silent"]
    async with Simulator([SimCamera(n) for n in names], ffmpeg=ffmpeg) as simulator:
        simulator.fault("slow", "wrong-rate")
        simulator.fault("fast", "ppm", 2000)
        simulator.fault("hour", "step-clock", 3600)
        simulator.fault("silent", "no-reports")
        await asyncio.sleep(1.5)
        async with recording(tmp_path, simulator, ffmpeg) as worker:
            await until(lambda: all(c.status.state is State.RECORDING for c in worker.cameras), 15)
            await asyncio.sleep(40)
    for name in names:
        found = recordings(tmp_path, name)
        errors = [e for r in found for s, e in r.timed_errors_ms(ffmpeg) if s > 10]
        assert p99(errors) <= 100, f"{name}: {p99(errors)}"
        assert len({r.index.header.run_no for r in found}) == 1
        assert all(
            1.5 < s.duration_90k / 90_000 < 2.5 for r in found[:-1] for s in r.index.segments
        )
    clocks = {
        name: [
            s.camera_ms - s.arrival_ms if s.camera_ms else None
            for r in recordings(tmp_path, name)
            for s in r.index.segments[1:]
        ]
        for name in ("hour", "silent")
    }
    assert all(c is not None and abs(c - 3_600_000) < 1_000 for c in clocks["hour"])
    assert all(c is None for c in clocks["silent"])


FAULTS = {
    "drop": ("drop", 6.0, {GapCause.CLOSED_BY_CAMERA, GapCause.UNREACHABLE}),
    "silent": ("silent", None, {GapCause.NO_DATA}),
    "refuse": ("refuse-password", None, {GapCause.CLOSED_BY_CAMERA, GapCause.REFUSED_PASSWORD}),
    "missing": ("no-such-stream", None, {GapCause.CLOSED_BY_CAMERA, GapCause.NO_SUCH_STREAM}),
    "jump": ("jump", 7200.0, {GapCause.CLOCK_JUMP}),
    "resize": ("resize", None, {GapCause.PARAMETERS_CHANGED}),
    # noise may look like anything, new parameter sets too
    "garbage": (
        "garbage",
        None,
        set(GapCause) - {GapCause.RECORDER_CRASHED, GapCause.DISK_FULL},
    ),
    "nokey": ("no-keyframe", 12.0, set()),
}


async def test_faults(tmp_path: Path, ffmpeg: str) -> None:
    """Each fault on a camera of its own, at once; one camera has none and misses nothing."""
    cameras = [
        SimCamera(n, user="u", password="very-secret", width=480, height=270, bitrate=300_000)
        for n in (*FAULTS, "well")
    ]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        begin = int(time.time() * 1000)
        async with recording(tmp_path, simulator, ffmpeg, start_ms=begin) as worker:
            status = {c.target.camera: c.status for c in worker.cameras}
            await until(lambda: all(s.state is State.RECORDING for s in status.values()), 20)
            await asyncio.sleep(4)
            for name, (fault, value, _) in FAULTS.items():
                simulator.fault(name, fault, value)
            await asyncio.sleep(11)
            for name in FAULTS:
                if name not in ("drop", "nokey"):
                    simulator.clear(name)
            back = {}
            for name in FAULTS:
                back[name] = await until(
                    lambda name=name: status[name].state is State.RECORDING,  # type: ignore[misc]
                    15,
                    why=f"{name} is not recorded again: {status[name]}",
                )
            await asyncio.sleep(5)
    assert all(seconds <= 10 for seconds in back.values()), back
    for name, (_, _, causes) in FAULTS.items():
        found = [g for g in gaps(tmp_path, name) if g.cause != GapCause.RECORDER_STOPPED]
        assert {g.cause for g in found} <= causes, (name, found)
        if causes:
            assert found, f"{name} has no gap"
        assert not any("secret" in g.detail for g in found)
        check_tiling(tmp_path, name, begin)
        for r in recordings(tmp_path, name):
            assert r.index.seal
            for s in r.index.segments:
                assert s.duration_90k <= (r.index.header.target_duration_s + 0.5) * 90_000
    check_tiling(tmp_path, "well", begin)
    assert {g.cause for g in gaps(tmp_path, "well")} == {GapCause.RECORDER_STOPPED}
    assert len({r.index.header.run_no for r in recordings(tmp_path, "well")}) == 1
    nokey = [s for r in recordings(tmp_path, "nokey") for s in r.index.segments]
    assert any(not s.starts_with_key for s in nokey)
