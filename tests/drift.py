"""Records one small camera whose media time runs fast, beside the other tests.

python -m tests.drift SPOOL SECONDS PPM
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kuager.simulator import SimCamera, Simulator
from recorder.ffmpeg import find_ffmpeg
from tests.stack import recording


async def main(spool: Path, seconds: float, ppm: float) -> None:
    """Record until the time is over."""
    ffmpeg = find_ffmpeg(None)
    camera = SimCamera("fast", width=320, height=180, bitrate=100_000)
    async with Simulator([camera], ffmpeg=ffmpeg) as simulator:
        simulator.fault("fast", "ppm", ppm)
        async with recording(spool, simulator, ffmpeg):
            await asyncio.sleep(seconds)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
