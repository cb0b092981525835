"""The camera's own clock beside ours is that of the very picture, also where pictures are rare."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from tests.support.stack import SMALL, Recording, recorded, recording, recordings
from tests.support.waiting import until

HOUR_MS = 3_600_000


def camera_less_burned_ms(found: list[Recording], ffmpeg: str) -> list[float]:
    """Return camera_ms less the burned-in time of the first picture, of each segment with both."""
    out = []
    for one in found:
        placed = {round(burned + e): burned for burned, e, _ in one.marked_errors_ms(ffmpeg)}
        for s in one.index.segments:
            nearest = min(placed, key=lambda at: abs(at - s.start_ms))
            if s.camera_ms is not None and placed[nearest]:
                assert abs(nearest - s.start_ms) <= 2
                out.append(s.camera_ms - placed[nearest])
    return out


@pytest.mark.slow
async def test_pictures_that_are_rare(tmp_path: Path, each_ffmpeg: str, ffmpeg: str) -> None:
    """At 1, 5 and 10 a second, with sound and without; the camera's clock is an hour ahead, or
    agrees with ours."""
    names = {
        f"{rate}-{audio or 'silent'}": (float(rate), audio)
        for rate in (1, 5, 10)
        for audio in (None, "aac")
    }
    cameras = [
        SimCamera(f"{name}{kind}", fps=fps, audio=audio, **SMALL)
        for name, (fps, audio) in names.items()
        for kind in ("", "-ahead")
    ]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        for name in names:
            simulator.fault(f"{name}-ahead", "step-clock", 3600)

        def clocks(name: str) -> int:
            segments = [s for r in recordings(tmp_path, name) for s in r.index.segments]
            return sum(s.camera_ms is not None for s in segments)

        async with recording(tmp_path, simulator, each_ffmpeg) as worker:
            await recorded(worker, 20)
            await until(lambda: all(clocks(f"{name}-ahead") > 2 for name in names))
    for name in names:
        off = camera_less_burned_ms(recordings(tmp_path, f"{name}-ahead"), ffmpeg)
        assert off and abs(statistics.median(off) - HOUR_MS) <= 15, (name, off)
        # where both clocks agree it may not be told from ffmpeg's own; if it is, it is right
        off = camera_less_burned_ms(recordings(tmp_path, name), ffmpeg)
        assert not off or abs(statistics.median(off)) <= 15, (name, off)
