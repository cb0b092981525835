"""Simulated cameras with each codec, recorded for some seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.ffmpeg import find_ffmpeg
from storage.spool import recording as recording_module
from tests.support.stack import SMALL, recording, recordings
from tests.support.waiting import until

CAMERAS = [
    SimCamera("h264", **SMALL),
    SimCamera("aac", audio="aac", **SMALL),
    SimCamera("h265", codec="h265", **SMALL),
]
NAMES = [c.name for c in CAMERAS]


async def record_cameras(root: Path, seconds: float) -> None:
    """Record three cameras into a spool, at least so long, in recordings of some seconds."""

    def is_long(name: str) -> bool:
        found = [r.index for r in recordings(root, name) if r.index.segments]
        return len(found) >= 4 and found[-1].end_ms - found[0].start_ms >= 1000 * seconds

    ffmpeg = find_ffmpeg(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recording_module, "ROTATE_MS", 5_000)
        async with (
            Simulator(CAMERAS, ffmpeg=ffmpeg) as simulator,
            recording(root, simulator, ffmpeg),
        ):
            await until(lambda: all(map(is_long, NAMES)), every=0.5)
