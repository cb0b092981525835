"""How well recordings are placed in time, against the clock burned into the picture.

python -m benchmarks.bench_time --table [--seconds 60]     the table of docs/time.md
python -m benchmarks.bench_time --minutes 30               drift at +200 ppm
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from kuager.simulator import SimCamera, Simulator
from recorder.ffmpeg import ffmpeg_version, find_ffmpeg
from tests.stack import recording, recordings

SCENES: dict[str, tuple[SimCamera, str | None, float | None]] = {
    "steady, H.264": (SimCamera("steady"), None, None),
    "steady, 25 pictures/s, UDP": (SimCamera("udp", fps=25), None, None),
    "H.264 + AAC": (SimCamera("aac", audio="aac"), None, None),
    "H.264 + G.711": (SimCamera("pcmu", audio="pcmu"), None, None),
    "H.265": (SimCamera("h265", codec="h265"), None, None),
    "H.264 with B-frames": (SimCamera("b", bframes=2), None, None),
    "150 ms of jitter": (SimCamera("jitter"), "delay", 150),
    "media time +2,000 ppm": (SimCamera("ppm"), "ppm", 2000),
    "declares 25, delivers 21": (SimCamera("slow"), "wrong-rate", None),
    "sender reports 1 h wrong": (SimCamera("hour"), "step-clock", 3600),
    "no sender reports": (SimCamera("none"), "no-reports", None),
    "dropped every 20 s": (SimCamera("drop"), "drops", 1),
}
AT_ONCE = 4


async def table(seconds: float) -> None:
    """Print the table, a few cameras at a time, so that the machine is not what is measured."""
    ffmpeg = find_ffmpeg(None)
    major, minor = ffmpeg_version(ffmpeg)
    print(f"ffmpeg {major}.{minor}, {seconds:.0f} s each, after the first 10 s of each run\n")
    print("| camera | pictures | median | p99 of the absolute | runs |\n|---|---|---|---|---|")
    scenes = list(SCENES.items())
    for n in range(0, len(scenes), AT_ONCE):
        part = scenes[n : n + AT_ONCE]
        with tempfile.TemporaryDirectory() as folder:
            spool = Path(folder)
            async with Simulator([c for _, (c, _, _) in part], ffmpeg=ffmpeg) as simulator:
                for _, (camera, fault, value) in part:
                    if fault and fault != "drops":
                        simulator.fault(camera.name, fault, value)
                await asyncio.sleep(2)
                async with recording(
                    spool,
                    simulator,
                    ffmpeg,
                    transport=lambda name: "udp" if name == "udp" else "auto",
                ):
                    for _ in range(int(seconds // 20)):
                        await asyncio.sleep(20)
                        for _, (camera, fault, _) in part:
                            if fault == "drops":
                                simulator.fault(camera.name, "drop", 1)
            for title, (camera, _, _) in part:
                found = recordings(spool, camera.name)
                timed = [e for r in found for e in r.timed_errors_ms(ffmpeg)]
                errors = sorted(e for s, e in timed if s > 10)
                p99 = sorted(abs(e) for e in errors)[int(len(errors) * 0.99)]
                runs = len({r.index.header.run_no for r in found})
                middle = errors[len(errors) // 2]
                print(f"| {title} | {len(errors)} | {middle:+.0f} ms | {p99:.0f} ms | {runs} |")


async def drift(minutes: float, ppm: float) -> None:
    """Print how far placed time moves against burned-in time over a long run."""
    ffmpeg = find_ffmpeg(None)
    with tempfile.TemporaryDirectory() as folder:
        spool = Path(folder)
        camera = SimCamera("a", width=320, height=180, bitrate=100_000)
        async with Simulator([camera], ffmpeg=ffmpeg) as simulator:
            simulator.fault("a", "ppm", ppm)
            async with recording(spool, simulator, ffmpeg):
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
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--ppm", type=float, default=200)
    arguments = parser.parse_args()
    if arguments.table:
        asyncio.run(table(arguments.seconds))
    else:
        asyncio.run(drift(arguments.minutes, arguments.ppm))


if __name__ == "__main__":
    main()
