"""How well recordings are placed in time, against the clock burned into the picture.

python -m benchmarks.bench_time --table [--seconds 60] [--only PATTERN]   docs/time.md's
python -m benchmarks.bench_time --minutes 30               drift at +200 ppm

Each takes --source native or ffmpeg, which is usual.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import tempfile
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.clock import Clock, system_offset_ms
from recorder.ffmpeg import ffmpeg_version, find_ffmpeg
from tests.support.stack import recording, recordings

Scene = tuple[str, SimCamera, str | None, float | None, float]
# camera, fault, its value, and after how many seconds of recording it begins (0: before)
SCENES: dict[str, tuple[SimCamera, str | None, float | None, float]] = {
    "steady, H.264": (SimCamera("steady"), None, None, 0),
    "steady, 25 pictures/s, UDP": (SimCamera("udp", fps=25), None, None, 0),
    "H.264 + AAC": (SimCamera("aac", audio="aac"), None, None, 0),
    "H.264 + G.711": (SimCamera("pcmu", audio="pcmu"), None, None, 0),
    "H.265": (SimCamera("h265", codec="h265"), None, None, 0),
    "H.264 with B-frames": (SimCamera("b", bframes=2), None, None, 0),
    "150 ms of jitter": (SimCamera("jitter"), "delay", 150, 0),
    "media time +2,000 ppm": (SimCamera("ppm"), "ppm", 2000, 0),
    "declares 25, delivers 21": (SimCamera("slow"), "wrong-rate", None, 0),
    "sender reports 1 h wrong": (SimCamera("hour"), "step-clock", 3600, 0),
    "no sender reports": (SimCamera("none"), "no-reports", None, 0),
    "dropped every 20 s": (SimCamera("drop"), "drops", 1, 0),
    "AAC promised and not sent": (SimCamera("deaf", audio="aac"), "no-sound", None, 0),
    "G.711 promised and not sent": (SimCamera("deaf8", audio="pcma"), "no-sound", None, 0),
    **{
        f"sound {late / 1000:g} s late": (SimCamera("late", audio=audio), "sound-late", late, 0)
        for late, audio in ((300.0, "aac"), (1000.0, "pcmu"), (3000.0, "aac"))
    },
    **{
        f"delay grows by {more:g} ms": (SimCamera("more"), "late", more, 15)
        for more in (100.0, 200.0, 400.0)
    },
    **{
        f"time stamped {rate:g} times as fast": (SimCamera("rate"), "rate", rate, 0)
        for rate in (0.5, 0.8, 1.2, 2.0)
    },
    **{
        f"from then on {rate:g} times as fast": (SimCamera("rate"), "rate", rate, 20)
        for rate in (0.5, 0.8, 1.25, 2.0)
    },
    **{
        f"stalls {stall:g} s, stamps counted": (SimCamera("stall"), "stall", stall, 20)
        for stall in (0.3, 0.9, 1.9)
    },
    **{
        f"RTP time {by:+g} s": (SimCamera("jump"), "jump", by, 20)
        for by in (-0.9, 0.9, -1.0, -4.0, -60.0, -7200.0)
    },
    "RTP time to 0": (SimCamera("zero"), "from-zero", None, 20),
    "one wild timestamp": (SimCamera("wild"), "wild", None, 20),
    "one wild timestamp, back": (SimCamera("wild"), "wild", -3600, 20),
    "wild timestamps now and then": (SimCamera("wild"), "wild-often", None, 0),
    "all timestamps equal": (SimCamera("same"), "same-time", 0, 0),
    "timestamps a tick apart": (SimCamera("same"), "same-time", 1, 0),
    **{
        f"the recorder's clock {by / 1000:+g} s": (SimCamera("set"), "set-clock", by, 20)
        for by in (250.0, 400.0, 900.0, -400.0)
    },
}
AT_ONCE = 4


async def table(seconds: float, only: str, source: str) -> None:
    """Print the table, a few cameras at a time, so that the machine is not what is measured."""
    ffmpeg = find_ffmpeg(None)
    major, minor = ffmpeg_version(ffmpeg)
    by = f"ffmpeg {major}.{minor}" if source == "ffmpeg" else f"source: {source}"
    print(f"{by}, {seconds:.0f} s each, after the first 10 s\n")
    print("| camera | pictures | median | p99 of the absolute | marked | runs |")
    print("|---|---|---|---|---|---|")
    scenes = [
        (title, replace(camera, name=f"c{n}"), fault, value, after)
        for n, (title, (camera, fault, value, after)) in enumerate(SCENES.items())
        if re.search(only, title)
    ]
    set_clock = [s for s in scenes if s[2] == "set-clock"]  # all cameras of a process have it
    others = [s for s in scenes if s not in set_clock]
    parts = [others[n : n + AT_ONCE] for n in range(0, len(others), AT_ONCE)]
    for part in [*parts, *([s] for s in set_clock)]:
        await _measure(part, seconds, ffmpeg, source)


async def _measure(part: list[Scene], seconds: float, ffmpeg: str, source: str) -> None:
    ahead = {"ms": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder)
        async with Simulator([s[1] for s in part], ffmpeg=ffmpeg) as simulator:

            async def spoil(camera: SimCamera, fault: str, value: float | None) -> None:
                if fault == "drops":
                    for _ in range(int(seconds // 20)):
                        await asyncio.sleep(20)
                        simulator.fault(camera.name, "drop", value)
                elif fault == "set-clock":
                    ahead["ms"] = value or 0.0
                else:
                    simulator.fault(camera.name, fault, value)

            for _, camera, fault, value, after in part:
                if fault and not after and fault != "drops":
                    await spoil(camera, fault, value)
            await asyncio.sleep(2)
            begun_ms = time.time() * 1000
            clock = Clock(offset_ms=lambda: system_offset_ms() + ahead["ms"])
            transports = {s[1].name: "udp" for s in part if "UDP" in s[0]}
            async with (
                recording(
                    spool,
                    simulator,
                    ffmpeg,
                    source=source,
                    transport=lambda name: transports.get(name, "auto"),
                    clock=clock,
                ),
                asyncio.TaskGroup() as tasks,
            ):
                for _, camera, fault, value, after in part:
                    if fault and (after or fault == "drops"):
                        tasks.create_task(_later(after, spoil(camera, fault, value)))
                await asyncio.sleep(seconds)
        for title, camera, *_ in part:
            found = recordings(spool, camera.name)
            first = found[0].index.header.run_no  # later ones are placed by the clock as it was set
            timed = [
                (at, error - (ahead["ms"] if r.index.header.run_no > first else 0), marked)
                for r in found
                for at, error, marked in r.marked_errors_ms(ffmpeg)
                if at >= begun_ms + 10_000
            ]
            errors = sorted(e for _, e, _ in timed)
            p99 = sorted(abs(e) for e in errors)[int(len(errors) * 0.99)]
            runs = len({r.index.header.run_no for r in found})
            middle = errors[len(errors) // 2]
            marked = sum(m for _, _, m in timed)
            row = f"{title} | {len(errors)} | {middle:+.0f} ms | {p99:.0f} ms | {marked} | {runs}"
            print(f"| {row} |", flush=True)


async def _later(seconds: float, what: Coroutine[None, None, None]) -> None:
    await asyncio.sleep(seconds)
    await what


async def drift(minutes: float, ppm: float, source: str) -> None:
    """Print how far placed time moves against burned-in time over a long run."""
    ffmpeg = find_ffmpeg(None)
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder)
        camera = SimCamera("a", width=320, height=180, bitrate=100_000)
        async with Simulator([camera], ffmpeg=ffmpeg) as simulator:
            simulator.fault("a", "ppm", ppm)
            async with recording(spool, simulator, ffmpeg, source=source):
                for minute in range(int(minutes)):
                    print(f"\r{minute} of {minutes:.0f} minutes", end="", flush=True)
                    await asyncio.sleep(60)
        found = recordings(spool, "a")
        means = []
        for r in found[1:-1]:
            errors = r.errors_ms(ffmpeg)
            means.append(sum(errors) / len(errors))
        print(f"\rmedia time {ppm:+.0f} ppm for {minutes:.0f} min, mean of each recording:")
        print(f"first {means[0]:+.1f} ms, last {means[-1]:+.1f} ms, ", end="")
        print(
            f"drift {max(means) - min(means):.1f} ms, "
            f"runs {len({r.index.header.run_no for r in found})}"
        )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", default="", help="rows whose name has this pattern")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--ppm", type=float, default=200)
    parser.add_argument("--source", choices=("ffmpeg", "native"), default="ffmpeg")
    arguments = parser.parse_args()
    if arguments.table:
        asyncio.run(table(arguments.seconds, arguments.only, arguments.source))
    else:
        asyncio.run(drift(arguments.minutes, arguments.ppm, arguments.source))


if __name__ == "__main__":
    main()
