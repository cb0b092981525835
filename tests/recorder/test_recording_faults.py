"""What goes wrong while a camera is recorded: its faults, the network's, the disk's and ours."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import ffmpeg as ffmpeg_python
import pytest

from config.schedule import Window
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.camera import CameraRecorder
from recorder.camera_spec import CameraSpec
from recorder.session import TAIL_MS
from recorder.states import State
from recorder.worker import Worker
from storage.records import GapCause
from tests.support.camera_faults import suffer
from tests.support.stack import SMALL, check_tiling, gaps, recorded, recording, recordings, state_of
from tests.support.waiting import until
from tests.support.wire import play

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("source", ["ffmpeg", "native"])
async def test_every_fault(tmp_path: Path, ffmpeg: str, source: str) -> None:
    """Each on a camera of its own, at once; one camera has none and misses nothing."""
    begin = int(time.time() * 1000)
    found = await suffer(tmp_path, ffmpeg, begin, source)
    causes = {name: [g.cause for g in one.gaps] for name, one in found.items()}
    for name, one in found.items():
        check_tiling(tmp_path, name, begin)
        assert bool(one.log) == (one.runs > 1), (name, one)
        assert not any("secret" in text for text in (*one.log, *(g.detail for g in one.gaps)))
        for r in recordings(tmp_path, name):
            assert r.index.seal
            for s in r.index.segments:
                # longer only where pictures did not come: the last one stood
                longest_s = r.index.header.target_duration_s + 0.5
                assert (
                    s.duration_90k
                    <= (15.5 if name in ("silent", "garbage") else longest_s) * 90_000
                )
    assert found["well"].runs == 1 and found["well"].gaps == []
    resize = found["resize"]
    assert resize.runs == 3 and resize.missed_s < resize.restarts_s + 2  # while none encoded
    assert set(causes["resize"]) <= {GapCause.PARAMETERS_CHANGED}
    for name in ("step-clock", "no-reports", "delay", "no-keyframe", "jump"):
        assert found[name].runs == 1 and found[name].gaps == [], found[name]
    for name, first, last in (
        ("drop", GapCause.CLOSED_BY_CAMERA, GapCause.CLOSED_BY_CAMERA),
        ("silent", GapCause.NO_DATA, GapCause.NO_DATA),
        ("refuse-password", GapCause.CLOSED_BY_CAMERA, GapCause.REFUSED_PASSWORD),
        ("no-such-stream", GapCause.CLOSED_BY_CAMERA, GapCause.NO_SUCH_STREAM),
        ("slow-start", GapCause.CLOSED_BY_CAMERA, GapCause.CLOSED_BY_CAMERA),
    ):
        assert (causes[name][0], causes[name][-1]) == (first, last), (name, found[name])
    nokey = [s for r in recordings(tmp_path, "no-keyframe") for s in r.index.segments]
    assert any(not s.starts_with_key for s in nokey)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_segments_with_holes_are_those_that_say_so(
    tmp_path: Path, ffmpeg: str, transport: str
) -> None:
    """Every other segment can be decoded without an error, and no camera is away."""
    # pictures of several packets each: one that is lost leaves a hole
    camera = SimCamera("a", width=480, height=270, gop_s=1)
    async with Simulator([camera], ffmpeg=ffmpeg) as simulator:
        ways = {"source": "native", "transport": lambda name: transport}
        async with recording(tmp_path, simulator, "/bin/false", **ways) as worker:  # type: ignore[arg-type]
            await recorded(worker, 4)
            simulator.fault("a", "lose", 2.0)
            await recorded(worker, 20)
            simulator.clear("a")
            await recorded(worker, 4)
            status = worker.cameras[0].status
    found = recordings(tmp_path, "a")
    segments = [s for r in found for s in r.index.segments]
    assert {r.index.header.run_no for r in found} == {found[0].index.header.run_no}
    assert 0 < sum(s.lost for s in segments) <= status.packets_lost
    assert any(s.damaged for s in segments) and any(not s.lost for s in segments)
    for r in found:
        data = r.path.read_bytes()
        for s in r.index.segments:
            if s.starts_with_key and not s.lost:
                alone = data[: r.index.header.init_length] + data[s.offset : s.offset + s.length]
                assert decoding_errors(alone, ffmpeg) == b"", (s, "a hole that nobody told")


def decoding_errors(data: bytes, program: str) -> bytes:
    """Return what ffmpeg says of bytes while it decodes them."""
    command = ffmpeg_python.input("pipe:0").output("pipe:1", f="null").compile(cmd=program)
    done = subprocess.run([*command, "-v", "error"], input=data, capture_output=True, check=False)
    return done.stderr


async def test_reports_that_step_under_sound_move_nothing(tmp_path: Path, ffmpeg: str) -> None:
    """ffmpeg rebuilds timestamps from every report: the pictures stay where they were taken."""
    camera = SimCamera("step", audio="aac", **SMALL)
    async with Simulator([camera], ffmpeg=ffmpeg) as simulator:
        begin = int(time.time() * 1000)
        async with recording(tmp_path, simulator, ffmpeg, start_ms=begin) as worker:
            await recorded(worker, 3)
            for seconds in (0.8, 60.0, None):
                if seconds is None:
                    simulator.clear("step")
                else:
                    simulator.fault("step", "step-clock", seconds)
                await recorded(worker, 9)
    check_tiling(tmp_path, "step", begin)
    found = recordings(tmp_path, "step")
    errors = sorted(abs(e) for r in found for e in r.errors_ms(ffmpeg))
    assert errors[len(errors) // 2] <= 60  # whatever a busy machine holds back
    assert any(s.moved_ms for r in found for s in r.index.segments)


async def test_a_window_is_covered_from_its_first_to_its_last_moment(
    tmp_path: Path, ffmpeg: str
) -> None:
    """One camera is well, one falls silent before the end, one was never there."""
    cameras = [SimCamera("well", **SMALL), SimCamera("silent", shared="well")]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        wire = await play(simulator.url("well"))
        urls = {n: simulator.url(n) for n in ("well", "silent")} | {"away": "rtsp://127.0.0.1:1/x"}
        begin = int(time.time() * 1000) + 12_000  # they connect before
        window = Window(begin, begin + 3_600_000)
        specs = [CameraSpec("e", "s", n, url, windows=(window,)) for n, url in urls.items()]
        worker = Worker(specs, tmp_path, ffmpeg)
        task = asyncio.create_task(worker.run())
        try:
            # it opens when pictures come, and closes when one has been silent for some seconds:
            # a busy machine may take as long as it likes for that
            await until(lambda: all(c.status.frames > 30 for c in worker.cameras[:2]))
            begin = int(time.time() * 1000) + 1_000
            window = Window(begin, begin + 3_600_000)
            await worker.change([replace(spec, windows=(window,)) for spec in specs])
            await recorded(worker, 2, "silent")
            simulator.fault("silent", "silent")
            window = Window(begin, int(time.time() * 1000) + 4_000)
            await worker.change([replace(spec, windows=(window,)) for spec in specs])
            await until(lambda: all(c.status.state is State.IDLE for c in worker.cameras))
            await until(lambda: all(gaps(tmp_path, n)[-1].end_ms for n in ("silent", "away")))
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await wire.close()
    packets = zip(wire.media(), wire.taken_s(), strict=True)
    late_ms = 1000 * max(p.arrival_s - taken_s for p, taken_s in packets)
    for name in urls:
        ends = [g.end_ms for g in gaps(tmp_path, name)]
        if name != "away":
            check_tiling(tmp_path, name, begin)
            ends += [r.index.end_ms for r in recordings(tmp_path, name)]
        assert None not in ends
        assert window.end_ms <= max(e or 0 for e in ends) < window.end_ms + 1_500 + late_ms, name
    # what a busy machine sends later than the recorder waits for the last pictures is missed
    assert gaps(tmp_path, "well") == [] or late_ms > TAIL_MS - 100
    assert [g.cause for g in gaps(tmp_path, "silent")] == [GapCause.NO_DATA]
    assert [g.cause for g in gaps(tmp_path, "away")] == [GapCause.UNREACHABLE]


async def test_a_fault_of_ours_costs_one_camera_five_seconds(
    tmp_path: Path, ffmpeg: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = [SimCamera("a", **SMALL), SimCamera("b", shared="a")]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        live = CameraRecorder._until_scheduled
        failed: list[str] = []

        async def fail_once(self: CameraRecorder) -> Window | None:
            if self.spec.camera == "a" and not failed:
                failed.append("a")
                raise RuntimeError("a fault")
            return await live(self)

        monkeypatch.setattr(CameraRecorder, "_until_scheduled", fail_once)
        async with recording(tmp_path, simulator, ffmpeg) as worker:
            await until(lambda: all(c.status.state is State.RECORDING for c in worker.cameras))
    assert failed and all(recordings(tmp_path, n) for n in ("a", "b"))


async def test_a_disk_that_is_full_costs_what_does_not_fit_and_says_so(
    tmp_path: Path, ffmpeg: str
) -> None:
    """The kernel refuses every file to grow above 300 kB: a segment or two fit, no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with Simulator([SimCamera("a")], ffmpeg=ffmpeg) as simulator:
        begin = int(time.time() * 1000)
        async with recording(tmp_path, simulator, ffmpeg, start_ms=begin) as worker:
            await until(lambda: state_of(worker, "a") == "recording")
            await recorded(worker, 4)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
            camera = worker.cameras[0].status
            try:
                for _ in range(3):  # a segment or two, then full again
                    await until(lambda: camera.cause is GapCause.DISK_FULL)
                    await until(lambda: camera.cause is None)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            await until(lambda: state_of(worker, "a") == "recording")
            await recorded(worker, 4)
    check_tiling(tmp_path, "a", begin)
    causes = [g.cause for g in gaps(tmp_path, "a")]
    assert GapCause.DISK_FULL in causes and causes[-1] is GapCause.RECORDER_STOPPED
    for r in recordings(tmp_path, "a"):
        assert r.index.seal is not None and r.path.stat().st_size == r.index.seal.length
        r.timed_errors_ms(ffmpeg)  # decodes
