"""How many cameras a machine carries: `make density CAMERAS=400 MINUTES=30`.

Records simulated cameras of 2 Mbit/s natively, with a recorder process for each core, while live
playlists are asked for, and tells whether any segment came late or not at all, what it takes, and
whether memory stays as it is. The cameras are played on the same machine: what they take is told
besides. Recordings are counted and removed once they are sealed, as half an hour of them fills
disks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from benchmarks.bench_record import (
    cpu_s,
    descendants,
    kuager_config,
    listening,
    memory_mb,
    process,
    simulated,
)
from benchmarks.tally import STATION, SpoolTally, oldest_ms
from tests.support.s3 import free_port
from tests.support.waiting import until

LATE_MS = 3_500.0  # a segment lasts 2 s: written later than this after the one before, it is late
SETTLES_S = 300.0  # until memory is what it stays
BEGINS_S = 120.0  # until all cameras have a segment
LOOK_S, COUNT_S = 1.0, 30.0  # between looks at the cameras, at their recordings
PLAYLISTS = 10  # asked for in a second


@dataclass
class Asked:
    """Live playlists that were asked for."""

    count: int = 0
    failed: int = 0
    slowest_s: float = 0.0

    async def ask(self, port: int, names: list[str]) -> None:
        """Ask for playlists until cancelled."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            while True:
                await asyncio.sleep(1 / PLAYLISTS)
                begun = time.monotonic()
                path = f"/live/{STATION}/{random.choice(names)}/index.m3u8"
                try:
                    async with session.get(path) as answer:
                        text = await answer.text()
                        self.failed += answer.status != 200 or "#EXTINF" not in text
                except (OSError, aiohttp.ClientError):
                    self.failed += 1
                self.count += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - begun)


@dataclass
class Late:
    """Looks at the cameras: how many, at how many one was late, and by how much at the most."""

    looks: int = 0
    late: int = 0
    worst_ms: float = 0.0

    def look(self, spool: Path, names: list[str]) -> None:
        """Look once."""
        oldest = oldest_ms(spool, names)
        self.looks += 1
        self.late += oldest > LATE_MS
        self.worst_ms = max(self.worst_ms, oldest)


async def all_recorded(spool: Path, names: list[str]) -> None:
    """Wait until every camera has a segment that is not late."""
    why = "some cameras are not recorded, or late from the beginning"
    await until(lambda: oldest_ms(spool, names) <= LATE_MS, BEGINS_S, LOOK_S, why)


async def run(cameras: int, minutes: float, workers: int, data: Path | None) -> None:
    """Serve the cameras, record them, and tell what became of it."""
    names = [f"cam{n}" for n in range(cameras)]
    with tempfile.TemporaryDirectory(prefix="kuager-bench-", dir=data) as text:
        folder, rtsp, web = Path(text), free_port(), free_port()
        kuager_config(folder, rtsp, names, "native", web=web)
        kuager = (sys.executable, "-m", "kuager", "run", "--config", str(folder / "kuager.yaml"))
        serve = (sys.executable, "-m", "kuager.simulator", "--port", str(rtsp), "--config")
        async with contextlib.AsyncExitStack() as stack:
            sender = await stack.enter_async_context(process(*serve, simulated(folder, names)))
            await listening(rtsp)
            tally = SpoolTally(folder / "spool", names, remove=True)
            async with contextlib.AsyncExitStack() as recording:
                role = (*kuager, "--role", "recorder", "--share")
                recorders = [
                    await recording.enter_async_context(process(*role, f"{n}/{workers}"))
                    for n in range(workers)
                ]
                site = await recording.enter_async_context(process(*kuager, "--role", "web"))
                await all_recorded(folder / "spool", names)
                parts = {
                    "recorders": [p.pid for p in recorders],
                    "web": [site.pid],
                    "sender": [sender.pid],
                }
                await _record(tally, folder / "spool", names, minutes * 60, parts, web)
            tally.read()  # what was sealed at the end
            print(tally, flush=True)


async def _record(
    tally: SpoolTally,
    spool: Path,
    names: list[str],
    seconds: float,
    parts: dict[str, list[int]],
    web: int,
) -> None:
    """Record for some time and print what that took."""

    def used_s() -> list[float]:
        return [cpu_s(p for root in roots for p in descendants(root)) for roots in parts.values()]

    def memory() -> float:
        return memory_mb(p for root in parts["recorders"] for p in descendants(root))

    asked, late = Asked(), Late()
    asking = asyncio.create_task(asked.ask(web, names))
    begun, before, counted = time.monotonic(), used_s(), time.monotonic()
    settled_mb, settles_s = math.nan, min(SETTLES_S, seconds / 2)
    while (passed := time.monotonic() - begun) < seconds:
        await asyncio.sleep(LOOK_S)
        late.look(spool, names)
        if time.monotonic() - counted > COUNT_S:
            counted = time.monotonic()
            await asyncio.to_thread(tally.read)
        if math.isnan(settled_mb) and passed >= settles_s:
            settled_mb = memory()
    last_mb, after = memory(), used_s()
    asking.cancel()
    took_s = time.monotonic() - begun
    print(f"{len(names)} cameras of 2 Mbit/s for {took_s / 60:.1f} minutes\n")
    print("| what | CPU of one core | for each camera |\n|---|---|---|")
    for name, a, b in zip(parts, before, after, strict=True):
        share = (b - a) / took_s * 100
        print(f"| {name} | {share:.0f}% | {share / len(names):.2f}% |")
    print(
        f"\nlate at {late.late} of {late.looks} looks, the newest segment of the camera that was "
        f"the most behind ended {late.worst_ms / 1000:.1f} s before"
    )
    change = (last_mb / settled_mb - 1) * 100
    print(
        f"memory of the recorders after {settles_s / 60:.1f} minutes {settled_mb:.0f} MB, "
        f"in the end {last_mb:.0f} MB ({change:+.1f}%)"
    )
    print(
        f"playlists asked for {asked.count:,}, not answered {asked.failed}, "
        f"the slowest took {asked.slowest_s * 1000:.0f} ms"
    )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--data", type=Path, help="folder on the disk to record to")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.cameras, arguments.minutes, arguments.workers, arguments.data))


if __name__ == "__main__":
    main()
