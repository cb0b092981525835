"""Every fault of the simulator on a camera of its own, at once, and what an operator sees.

python -m tests.support.camera_faults [native] prints the table of docs/operations.md, of what is
read through ffmpeg or natively.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog
from structlog.typing import EventDict

from kuager.simulator.camera import Camera, SimCamera
from kuager.simulator.server import Simulator
from recorder.camera_state import Status
from recorder.ffmpeg import find_ffmpeg
from recorder.states import State
from storage.records import Gap, GapCause
from tests.support.stack import gaps, recording, recordings
from tests.support.waiting import BOUND_S, until

LASTS_S = 18.0  # longer than the deadline for silence, so that each shows its worst
OWN = ("ppm", "jump", "wrong-rate", "resize", "no-keyframe", "b-frames")  # need an encoder
UDP = ("lose", "reorder")  # TCP neither loses nor reorders
DROPPED = ("slow-start",)  # shows only at the next connection
VALUES = {"drop": LASTS_S, "no-keyframe": LASTS_S}
FAULTS = [
    "drop",
    "silent",
    "refuse-password",
    "no-such-stream",
    "slow-start",
    "garbage",
    "jump",
    "resize",
    "b-frames",
    "no-keyframe",
    "wrong-rate",
    "ppm",
    "step-clock",
    "no-reports",
    "delay",
    "lose",
    "reorder",
]
WELL = "well"


@dataclass
class Suffered:
    """What became of a camera with a fault."""

    log: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    runs: int = 0
    missed_s: float = 0.0
    restarts_s: float = 0.0  # how long the simulator took to start its encoders anew
    back_s: float | None = None  # after the camera is well; None when it was never away


def cameras() -> list[SimCamera]:
    """Return one camera per fault and one that stays well; those that can share its encoder."""
    well = SimCamera(WELL, width=480, height=270, bitrate=300_000, user="u", password="very-secret")
    sharing = [replace(well, name=f, shared=WELL) for f in FAULTS if f not in OWN]
    return [well, *sharing, *(replace(well, name=f) for f in OWN)]


class Log:
    """Keeps what operators would read, by camera."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}

    def __call__(self, _: object, method: str, event: EventDict) -> EventDict:
        camera = str(event.pop("camera", "")).rpartition("/")[2]
        if "spool" in event:  # that the disk is slow is no camera's, whoever waited for it
            camera = ""
        words = [f"{event.pop('event')}", *(f"{k}={v}" for k, v in sorted(event.items()))]
        self.lines.setdefault(camera, []).append(" ".join(words))
        raise structlog.DropEvent


async def suffer(
    spool: Path, ffmpeg: str, begin_ms: int, source: str = "ffmpeg"
) -> dict[str, Suffered]:
    """Record all, spoil each for LASTS_S, put it right, and tell what happened, by fault."""
    log, before = Log(), structlog.get_config()
    structlog.configure(processors=[log], cache_logger_on_first_use=False)
    found = {name: Suffered() for name in (*FAULTS, WELL)}
    try:
        async with (
            Simulator(cameras(), ffmpeg=ffmpeg) as simulator,
            recording(
                spool,
                simulator,
                ffmpeg,
                start_ms=begin_ms,
                source=source,
                transport=lambda name: "udp" if name in UDP else "auto",
            ) as worker,
        ):
            status = {c.spec.camera: c.status for c in worker.cameras}
            await until(lambda: all(s.state is State.RECORDING for s in status.values()))
            await asyncio.sleep(4)
            log.lines.clear()
            begun_ms = time.time() * 1000
            for name in OWN:
                time_restarts(simulator.cameras[name], found[name])
            for name in FAULTS:
                simulator.fault(name, name, VALUES.get(name))
                if name in DROPPED:
                    simulator.fault(name, "drop", 0.1)
            await asyncio.sleep(LASTS_S)
            well = time.monotonic()
            for name in FAULTS:
                simulator.clear(name)
            await _all_back(found, status, well)
            await asyncio.sleep(5)
            lines = {name: list(log.lines.get(name, ())) for name in found}
    finally:
        structlog.configure(**before)
    for name, one in found.items():
        one.log = lines[name]
        one.runs = len({r.index.header.run_no for r in recordings(spool, name)})
        one.gaps = [
            g
            for g in gaps(spool, name)
            if g.start_ms > begin_ms
            and g.cause not in (GapCause.RECORDER_STOPPED, GapCause.CONNECTING)
        ]
        one.missed_s = sum((g.end_ms or 0) - g.start_ms for g in one.gaps) / 1000
        assert all(g.end_ms and g.end_ms > begun_ms for g in one.gaps)
    return found


def time_restarts(camera: Camera, one: Suffered) -> None:
    """Have the time taken in which a camera's encoder is started anew."""
    change = camera._change

    async def timed() -> None:
        begun = time.monotonic()
        await change()
        one.restarts_s += time.monotonic() - begun

    camera._change = timed  # type: ignore[method-assign]


async def _all_back(found: dict[str, Suffered], status: dict[str, Status], well: float) -> None:
    """Wait until each camera has a new segment; say when those came back that were away."""
    away = {n for n, s in status.items() if s.state is not State.RECORDING}
    first = {n: s.segment_no for n, s in status.items()}
    waiting = set(status)
    while waiting:
        for name in list(waiting):
            s = status[name]
            if s.state is State.RECORDING and s.segment_no > first[name]:
                waiting.discard(name)
                if name in away:
                    found[name].back_s = time.monotonic() - well
        assert time.monotonic() - well < BOUND_S, {n: status[n] for n in waiting}
        await asyncio.sleep(0.05)


def table(found: dict[str, Suffered]) -> str:
    """Return the table for people."""
    lines = [
        f"| fault, for {LASTS_S:.0f} s | the log | gaps | not recorded | back after |",
        "|---|---|---|---|---|",
    ]
    for name, one in found.items():
        causes = ", ".join(
            f"`{g.cause}` {((g.end_ms or 0) - g.start_ms) / 1000:.1f} s" for g in one.gaps
        )
        log = "<br>".join(line.replace("|", "/") for line in one.log)
        back = "" if one.back_s is None else f"{one.back_s:.1f} s"
        lines.append(f"| {name} | {log} | {causes or 'none'} | {one.missed_s:.1f} s | {back} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    source, begin_ms = (*sys.argv[1:], "ffmpeg")[0], int(time.time() * 1000)
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(suffer(Path(folder), find_ffmpeg(None), begin_ms, source))
        print(table(found))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
