"""A recorder in the test's own process, and readers of what it wrote."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.schedule import Window
from kuager.simulator.server import Simulator
from recorder.camera_spec import CameraSpec
from recorder.clock import Clock
from recorder.worker import Worker
from storage.records import Gap, Index, Segment, parse_index
from storage.spool.gaps import read_gaps
from tests.support.strip import pictures
from tests.support.waiting import BOUND_S, until

SEGMENT_S = 2.0  # of the simulator's cameras, unless they are told otherwise
# of a camera that costs little: several are to be on time beside whatever else the machine does
SMALL: dict[str, Any] = {"width": 320, "height": 180, "bitrate": 150_000}


@dataclass
class Recording:
    """A sealed or unsealed recording in the spool of a test."""

    path: Path
    index: Index

    def errors_ms(self, ffmpeg: str) -> list[float]:
        """Return placed - burned of every picture; fails when one cannot be decoded or read."""
        return [e for _, e in self.timed_errors_ms(ffmpeg)]

    def marked_errors_ms(self, ffmpeg: str) -> list[tuple[float, float, bool]]:
        """Return (burned, placed - burned, is its segment marked) of every picture."""
        return [
            (burned, e, bool(s.moved_ms or s.by_arrival)) for burned, e, s in self.shown(ffmpeg)
        ]

    def settled_errors_ms(self, ffmpeg: str) -> list[float]:
        """Return placed - burned of the pictures of segments that count."""
        return [error for _, error, segment in self.shown(ffmpeg) if counts(self, segment)]

    def shown(self, ffmpeg: str) -> list[tuple[float, float, Segment]]:
        """Return (burned, placed - burned, its segment) of every picture."""
        segments = self.index.segments
        starts = [s.tfdt_90k / 90_000 for s in segments]
        found = []
        for p in pictures(self.path, ffmpeg):
            segment = segments[max(0, bisect.bisect_right(starts, p.media_s + 0.001) - 1)]
            burned_ms = float(p.burned_ms or 0)
            placed_ms = self.index.header.run_start_ms + p.media_s * 1000
            found.append((burned_ms, placed_ms - burned_ms, segment))
        return found

    def timed_errors_ms(self, ffmpeg: str) -> list[tuple[float, float]]:
        """Return (seconds since the run began, placed - burned in ms) of every picture."""
        found, start_ms = self.marked_errors_ms(ffmpeg), self.index.header.run_start_ms
        assert all(burned_ms for burned_ms, _, _ in found)
        return [((at + e - start_ms) / 1000, e) for at, e, _ in found]


def recordings(spool: Path, name: str, station: str = "s") -> list[Recording]:
    """Return a camera's recordings, oldest first, without one whose header is being written."""
    read = ((p, p.read_bytes()) for p in (spool / station / name).glob("*/*.jsonl"))
    found = [
        Recording(p.with_suffix(".mp4"), parse_index(data)) for p, data in read if b"\n" in data
    ]
    return sorted(found, key=lambda r: r.index.header.record_seq)


def gaps(spool: Path, name: str, station: str = "s") -> list[Gap]:
    """Return a camera's gaps that are not empty."""
    found = read_gaps(spool / station / name / "gaps.jsonl")
    return [g for g in found if g.end_ms is None or g.end_ms > g.start_ms]


def check_tiling(spool: Path, name: str, start_ms: int, station: str = "s") -> None:
    """Check that recordings and gaps cover time from the schedule's start without a hole."""
    pieces = [(g.start_ms, g.end_ms) for g in gaps(spool, name, station) if g.end_ms is not None]
    numbers: list[int] = []
    runs: list[int] = []
    for r in recordings(spool, name, station):
        pieces.append((r.index.start_ms, r.index.end_ms))
        numbers += [s.segment_no for s in r.index.segments]
        runs.append(r.index.header.run_no)
    whole = list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers == whole, "segment numbers have a hole or repeat"
    assert runs == sorted(runs)
    pieces.sort()
    assert start_ms - 2_500 < pieces[0][0] <= start_ms  # a segment may have begun before
    for (_, end), (begin, _) in itertools.pairwise(pieces):
        assert end == begin, f"{begin - end} ms between two pieces of {name}: {pieces}"


@contextlib.asynccontextmanager
async def recording(
    spool: Path,
    simulator: Simulator,
    ffmpeg: str,
    *,
    start_ms: int | None = None,
    source: str = "ffmpeg",
    transport: Callable[[str], str] = lambda name: "auto",
    clock: Clock | None = None,
) -> AsyncIterator[Worker]:
    """Record all cameras of a simulator as station 's' while the block runs."""
    begin = int(time.time() * 1000) if start_ms is None else start_ms
    windows = (Window(begin, begin + 86_400_000),)
    specs = [
        CameraSpec(
            "e",
            "s",
            name,
            simulator.url(name),
            source=source,
            transport=transport(name),
            windows=windows,
        )
        for name in simulator.cameras
    ]
    worker = Worker(specs, spool, ffmpeg, clock=clock)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def recorded(worker: Worker, seconds: float, *names: str) -> None:
    """Wait until cameras, all or those named, have recorded so many seconds more of pictures."""
    cameras = [c for c in worker.cameras if not names or c.spec.camera in names]
    await until(lambda: all(c.status.segment_no for c in cameras))
    goal = {c: c.status.segment_no + max(1, round(seconds / SEGMENT_S)) for c in cameras}
    await until(lambda: all(c.status.segment_no >= no for c, no in goal.items()), BOUND_S + seconds)


async def settled(worker: Worker, spool: Path, seconds: float) -> None:
    """Wait until so many seconds of each camera count: see `counts`.

    A busy machine sends pictures late, and what stands late is marked: this waits for more.
    """

    def lasts_s(name: str) -> float:
        found = [s for r in recordings(spool, name) for s in r.index.segments if counts(r, s)]
        return sum(s.duration_90k for s in found) / 90_000

    names = [c.spec.camera for c in worker.cameras]
    await until(lambda: all(lasts_s(n) >= seconds for n in names), BOUND_S + seconds, every=0.5)


def counts(recording: Recording, segment: Segment) -> bool:
    """Whether a segment begins 10 s after its run or later, and has no mark."""
    after_ms = segment.start_ms - recording.index.header.run_start_ms
    return after_ms >= 10_000 and not (segment.moved_ms or segment.by_arrival)


def state_of(worker: Worker, name: str) -> str:
    """Return a camera's state."""
    return next(c.status.state.value for c in worker.cameras if c.spec.camera == name)
