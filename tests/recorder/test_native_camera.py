"""The native source at simulated cameras makes the same frames as ffmpeg, at the same times."""

from __future__ import annotations

import pytest

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from tests.support.sources import compare


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "audio", "bframes", "transport"),
    [("h264", "aac", 0, "tcp"), ("h264", None, 2, "udp"), ("h265", None, 0, "tcp")],
)
async def test_frames_are_those_of_ffmpeg(
    codec: str, audio: str | None, bframes: int, transport: str, ffmpeg: str
) -> None:
    camera = SimCamera(
        "a", width=320, height=180, gop_s=1, codec=codec, audio=audio, bframes=bframes
    )
    async with Simulator([camera], ffmpeg=ffmpeg) as simulator:
        await compare(simulator.url("a"), ffmpeg, transport, sound=audio is not None)
