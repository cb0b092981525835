"""Cameras with faults of media time, recorded through ffmpeg: placed right, or marked."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.clock import Clock, system_offset_ms
from tests.support.stack import SMALL, check_tiling, gaps, recorded, recording, recordings
from tests.support.waiting import until

# a fault, its value, and whether it is there before the recorder
FAULTS = {
    "back": ("jump", -60.0, False),
    "ahead": ("jump", 0.9, False),
    "zero": ("from-zero", None, False),
    "wild": ("wild", -3600.0, False),
    "stall": ("stall", 0.9, False),
    "rate": ("rate", 0.5, False),
    "same": ("same-time", 0.0, True),
    "stopped": ("ppm", -1_000_000.0, False),
}
SOUND = {
    "late": ("sound-late", 1000.0, "aac"),
    "late-g711": ("sound-late", 300.0, "pcmu"),
    "deaf": ("no-sound", None, "aac"),
    "deaf-g711": ("no-sound", None, "pcma"),
}


def typical(pictures: list[tuple[float, float, bool]]) -> float:
    """Return the median error: on a busy machine pictures arrive late, and are placed so.

    What each picture's error is allowed to be is in tests/recorder/test_media_time.py.
    """
    return statistics.median(abs(error) for _, error, _ in pictures)


@pytest.mark.slow
async def test_faults_of_media_time(tmp_path: Path, each_ffmpeg: str, ffmpeg: str) -> None:
    cameras = [SimCamera(n, **SMALL) for n in FAULTS]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        for name, (fault, value, before) in FAULTS.items():
            if before:
                simulator.fault(name, fault, value)
        async with recording(tmp_path, simulator, each_ffmpeg) as worker:
            await recorded(worker, 6)
            for name, (fault, value, before) in FAULTS.items():
                if not before:
                    simulator.fault(name, fault, value)
            await recorded(worker, 13)
    for name in FAULTS:
        found = recordings(tmp_path, name)
        assert len({r.index.header.run_no for r in found}) == 1, name
        pictures = [p for r in found for p in r.marked_errors_ms(ffmpeg)]
        assert typical(pictures) <= 60, name
        marked = [s for r in found for s in r.index.segments if s.moved_ms or s.by_arrival]
        assert len(marked) > 0, name
        assert all(s.start_ms <= (s.arrival_ms or 0) for r in found for s in r.index.segments)


@pytest.mark.slow
async def test_sound_that_is_late_or_missing(tmp_path: Path, each_ffmpeg: str, ffmpeg: str) -> None:
    def camera_less_placed_ms(name: str) -> list[int]:
        segments = [s for r in recordings(tmp_path, name) for s in r.index.segments[1:]]
        return [s.camera_ms - s.start_ms for s in segments if s.camera_ms]

    cameras = [SimCamera(n, audio=a, **SMALL) for n, (_, _, a) in SOUND.items()]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        for name, (fault, value, _) in SOUND.items():
            simulator.fault(name, fault, value)
        async with recording(tmp_path, simulator, each_ffmpeg) as worker:
            await recorded(worker, 13)
            # from when a busy machine has let enough pictures in a row come in time
            await until(lambda: all(len(camera_less_placed_ms(n)) > 2 for n in SOUND))
    for name in SOUND:
        found = recordings(tmp_path, name)
        assert typical([p for r in found for p in r.marked_errors_ms(ffmpeg)]) <= 60, name
        kinds = {t.kind for t in found[-1].index.header.tracks}
        assert ("audio" in kinds) == name.startswith("late"), name
        assert not [
            g
            for g in gaps(tmp_path, name)
            if g.cause.value not in ("connecting", "recorder_stopped")
        ]
        assert abs(statistics.median(camera_less_placed_ms(name))) < 60, name


@pytest.mark.slow
@pytest.mark.parametrize("by_ms", [400.0, -400.0])
async def test_the_recorders_clock_is_set(tmp_path: Path, ffmpeg: str, by_ms: float) -> None:
    ahead = {"ms": 0.0}
    async with Simulator([SimCamera("a", **SMALL)], ffmpeg=ffmpeg) as simulator:
        begin = int(Clock().now_ms())
        clock = Clock(offset_ms=lambda: system_offset_ms() + ahead["ms"])
        async with recording(tmp_path, simulator, ffmpeg, start_ms=begin, clock=clock) as worker:
            await recorded(worker, 3)
            ahead["ms"] = by_ms
            await recorded(worker, 10)
    runs: dict[int, list[float]] = {}
    for r in recordings(tmp_path, "a"):
        errors = [e for _, e, _ in r.marked_errors_ms(ffmpeg)]
        runs.setdefault(r.index.header.run_no, []).extend(errors)
    before, after = runs.values()
    assert abs(statistics.median(before)) <= 60
    assert abs(statistics.median(after) - by_ms) <= 60
    if by_ms > 0:
        check_tiling(tmp_path, "a", begin)
    else:
        assert any(r.index.header.overlaps for r in recordings(tmp_path, "a"))
