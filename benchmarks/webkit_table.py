"""What WebKitGTK makes of the station's page when it plays HLS by itself.

python -m benchmarks.webkit_table prints the table of docs/site.md. It needs python3-gi,
gir1.2-webkit2-4.1, xvfb, xauth, gstreamer1.0-gl and the GStreamer plugins that CI has.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kuager.simulator.camera import SimCamera
from recorder.ffmpeg import find_ffmpeg
from tests.support.burned import GRAB, read_picture
from tests.support.site_stack import recorded
from tests.support.stack import SMALL

PAGE = Path(__file__).with_name("webkit_page.py")
LOOK = f"""() => [
  document.getElementById('now').getAttribute('datetime'),
  [...document.querySelectorAll('figure')].map((one) => one.dataset.state),
  [...document.querySelectorAll('figure video')].map((one) => one.src),
  ({GRAB})('figure video')[1],
]"""


@dataclass
class WebKit:
    """A page in WebKitGTK."""

    process: asyncio.subprocess.Process

    async def evaluate(self, function: str) -> Any:
        """Return what a function of JavaScript returns; None while there is no page."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(function).encode() + b"\n")
        line = await asyncio.wait_for(self.process.stdout.readline(), 20)
        return json.loads(line) if line.strip() else None


@contextlib.asynccontextmanager
async def webkit(url: str) -> AsyncIterator[WebKit]:
    """Open a page; WebKitGTK plays HLS by itself only where it is told to."""
    process = await asyncio.create_subprocess_exec(
        *("xvfb-run", "-a", "/usr/bin/python3", str(PAGE), url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=4 << 20,
        env={**os.environ, "WEBKIT_GST_ENABLE_HLS_SUPPORT": "1"},
    )
    assert process.stdin
    try:
        yield WebKit(process)
    finally:
        process.stdin.close()
        await process.wait()


async def look(page: WebKit, what: str, seconds: float) -> bool:
    """Print a row of the table: how far pictures are from the clock of the page, in s."""
    apart: list[float] = []
    shown: set[int] = set()
    states: set[str] = set()
    native = True
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seen = await page.evaluate(LOOK)
        if seen and seen[0]:
            clock_s = datetime.fromisoformat(seen[0]).timestamp()
            states.update(f"{n}: {state}" for n, state in enumerate(seen[1], 1))
            native = native and all(not one or ".m3u8" in one for one in seen[2])
            read = [one and read_picture(*one) for one in seen[3]]
            pairs = zip(seen[1], read, strict=True)
            known = [one for state, one in pairs if one and state == "plays"]
            apart += [one / 1000 - clock_s for one in known]
            shown.update(known)
        await asyncio.sleep(0.3)
    low, middle, high = (
        (min(apart), statistics.median(apart), max(apart)) if apart else (0.0, 0.0, 0.0)
    )
    said = ", ".join(sorted(states))
    print(f"| {what} | {said} | {len(shown)} | {low:.1f} | {middle:.1f} | {high:.1f} |", flush=True)
    return native and len(shown) > seconds and -2.5 < middle < 1.5


async def main() -> bool:
    """Record two cameras, one with a gap; watch live, and go back over the gap."""
    cameras = [SimCamera("one", **SMALL), SimCamera("two", angle="entrance", **SMALL)]
    with tempfile.TemporaryDirectory() as folder:
        async with recorded(Path(folder), cameras, find_ffmpeg(None)) as (site, simulator):
            await asyncio.sleep(25)
            async with webkit(f"{site.base}/stations/s117?lang=en") as page:
                await asyncio.sleep(6)
                print("| what | states | pictures | least | median | most |")
                print("|---|---|---|---|---|---|")
                well = await look(page, "live", 25)
                simulator.fault("two", "drop", 3)
                well = await look(page, "live, camera 2 away", 35) and well
                await page.evaluate("() => document.getElementById('gap-before').click()")
                await asyncio.sleep(2)
                return await look(page, "back, over the gap", 20) and well


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main()) else 1)
