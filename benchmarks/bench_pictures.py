"""What pictures cost: `make bench-pictures`, or python -m benchmarks.bench_pictures --cameras 30.

Records cameras and makes their pictures at the same time, and prints CPU of one core per camera
of both: of the recorder with its ffmpegs, and of the picture process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.bench_record import (
    cpu_s,
    descendants,
    kuager_config,
    listening,
    memory_mb,
    process,
    simulated,
)
from tests.support.s3 import free_port

WARM_S = 20.0


async def run(cameras: int, seconds: float) -> None:
    """Serve the cameras, record them, make their pictures, and measure both."""
    names = [f"cam{n}" for n in range(cameras)]
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
        folder, port = Path(text), free_port()
        served = simulated(folder, names)
        kuager_config(folder, port, names)
        config = str(folder / "kuager.yaml")
        serve = (sys.executable, "-m", "kuager.simulator", "--port", str(port), "--config")
        role = (sys.executable, "-m", "kuager", "run", "--config", config, "--role")
        async with process(*serve, served):
            await listening(port)
            async with process(*role, "recorder") as recorder, process(*role, "pictures") as made:
                await asyncio.sleep(WARM_S)
                status = folder / "spool" / "_status" / "pictures.json"
                begun, first = time.monotonic(), json.loads(status.read_bytes())
                before = [cpu_s(descendants(p.pid)) for p in (recorder, made)]
                await asyncio.sleep(seconds)
                after = [cpu_s(descendants(p.pid)) for p in (recorder, made)]
                took_s, last = time.monotonic() - begun, json.loads(status.read_bytes())
                memory = [memory_mb(descendants(p.pid)) for p in (recorder, made)]
                _print(cameras, took_s, before, after, memory)
                count = last["made_total"] - first["made_total"]
                old_s = (last["written_ms"] - last["oldest_ms"]) / 1000
                ms = 1000 * (after[1] - before[1]) / max(1, count)
                print(
                    f"\n{count} pictures in {took_s:.0f} s ({count / cameras:.1f} a camera), "
                    f"{ms:.0f} ms of CPU each, the oldest {old_s:.0f} s old, "
                    f"{last['failures_total']} failures"
                )


def _print(
    cameras: int, took_s: float, before: list[float], after: list[float], memory: list[float]
) -> None:
    used = [(b - a) / took_s / cameras * 100 for a, b in zip(before, after, strict=True)]
    print(f"{cameras} cameras, 1080p25 at 2 Mbit/s, {took_s:.0f} s, a picture of each every 10 s\n")
    print("| what | CPU per camera | memory |\n|---|---|---|")
    for name, share, mb in zip(("recording", "pictures"), used, memory, strict=True):
        print(f"| {name} | {share:.2f}% | {mb:.0f} MB |")
    print(f"\npictures / recording = {used[1] / used[0]:.2f}", flush=True)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=120)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.cameras, arguments.seconds))


if __name__ == "__main__":
    main()
