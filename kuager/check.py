"""`kuager check`: is what the operators wrote right, and do the cameras answer?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from config.load import load
from config.model import Camera, Config, Station
from config.problems import ConfigError, Problem, UnreadableConfig
from kuager.summary import summary
from recorder.ffmpeg import FfmpegSource, find_ffmpeg
from recorder.rtsp import DescribeFailed, describe
from recorder.source import Frame, SourceEnd
from storage.fmp4 import TrackInit
from storage.spool import spool_problem

PROBE_S = 8.0
PARALLEL = 32  # cameras at a time

out = Console()
err = Console(stderr=True)


def read(path: Path) -> Config | int:
    """Return the configuration, or the exit code after all that is wrong was printed."""
    try:
        config = load(path)
    except UnreadableConfig as error:
        _print(error.problems)
        return 2
    except ConfigError as error:
        _print(error.problems)
        wrong = sum(not problem.warning for problem in error.problems)
        err.print(f"{wrong} to put right.", style="bold", highlight=False)
        return 1
    _print(config.warnings)
    return config


def _print(problems: Sequence[Problem]) -> None:
    # straight to the file: rich takes long for 40,000 lines, and would fold them
    err.file.writelines(
        f"{'warning' if problem.warning else 'error'}: {problem}\n" for problem in problems
    )


def check(path: Path, probe: bool) -> int:
    """Validate, print a summary and, asked to, connect to every camera; returns the exit code."""
    config = read(path)
    if isinstance(config, int):
        return config
    out.print(summary(config))
    wrong = [w for w in (spool_problem(config.spool, config.spool_limits.mount),) if w]
    for text in wrong:
        err.print(text, style="red", markup=False)
    if not probe:
        return 1 if wrong else 0
    cameras = [(s, c) for s in config.stations for c in s.cameras]
    found = asyncio.run(_probe_all(config, cameras))
    out.print(_results(found))
    bad = sum(p.wrong is not None for p in found)
    out.print(f"{len(found) - bad} of {len(found)} cameras answer with a picture.")
    return 1 if bad or wrong else 0


@dataclass(slots=True)
class Probed:
    """What a camera showed in a few seconds."""

    name: str
    wrong: str | None = None
    advice: str = ""
    video: str = ""
    size: str = ""
    rate: str = ""
    keyframes: str = ""
    audio: str = ""
    clock: str = ""


class _Sink:
    """Counts what a camera sends."""

    def __init__(self) -> None:
        self.tracks: Sequence[TrackInit] = ()
        self.frames: list[Frame] = []

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        self.tracks = tracks

    def on_frame(self, frame: Frame) -> None:
        if frame.track_id == self.tracks[0].id:
            self.frames.append(frame)


async def _probe_all(config: Config, cameras: Sequence[tuple[Station, Camera]]) -> list[Probed]:
    program = find_ffmpeg(config.ffmpeg)
    gate = asyncio.Semaphore(PARALLEL)
    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("Asking the cameras", total=len(cameras))

        async def one(station: Station, camera: Camera) -> Probed:
            async with gate:
                found = await _probe(program, station, camera)
            progress.advance(task)
            return found

        return list(await asyncio.gather(*(one(s, c) for s, c in cameras)))


async def _probe(program: str, station: Station, camera: Camera) -> Probed:
    found = Probed(f"{station.id}/{camera.id}")
    url = camera.url.reveal()
    try:
        description = await describe(url, PROBE_S)
    except DescribeFailed as failed:
        found.wrong = failed.detail
        found.advice = _ADVICE.get(failed.cause.value, "")
        return found
    sink = _Sink()
    source = FfmpegSource(
        program,
        url,
        description,
        transport=camera.transport,
        keep_audio=camera.audio == "keep",
        clock_ms=lambda: time.time() * 1000,
    )
    task: asyncio.Task[SourceEnd] = asyncio.create_task(source.run(sink))
    await asyncio.wait({task}, timeout=PROBE_S)
    ended = task.result() if task.done() else None
    task.cancel()
    await asyncio.wait({task})
    found.video = description.video or ""
    found.audio = description.audio or "none"
    if ended is not None or not any(f.key for f in sink.frames):
        found.wrong = ended.detail if ended else f"no keyframe in {PROBE_S:.0f} s"
        found.advice = _ADVICE["no_data"]
        return found
    _measure(found, sink)
    return found


def _measure(found: Probed, sink: _Sink) -> None:
    track, frames = sink.tracks[0], sink.frames
    found.size = f"{track.width}x{track.height}"
    live = [f for f in frames if f.arrival_ms > frames[0].arrival_ms + 500] or frames
    span_s = (live[-1].arrival_ms - live[0].arrival_ms) / 1000
    if span_s > 0:
        found.rate = f"{(len(live) - 1) / span_s:.1f}/s"
    keys = [f.pts / track.timescale for f in frames if f.key]
    if len(keys) > 1:  # the time of the very first picture is often a guess
        found.keyframes = f"{median(b - a for a, b in pairwise(keys)):.1f} s"
    else:
        found.keyframes = f"> {PROBE_S - 1:.0f} s"
    clocks = [f.camera_ms - f.arrival_ms for f in frames if f.camera_ms is not None]
    found.clock = f"{clocks[-1] / 1000:+.1f} s" if clocks else "not sent"
    if clocks and abs(clocks[-1]) > 2000:
        found.advice = "the camera's clock is off: give it an NTP server"
    elif len(keys) < 2:
        found.advice = "set the camera's keyframe interval to 2 s"
    elif found.video not in ("h264", "h265"):
        found.advice = "set the camera to H.264: this codec is encoded again, at a cost"


_ADVICE = {
    "unreachable": "check power, cable and address",
    "refused_password": "check user and password in the stations file or the credentials",
    "no_such_stream": "check the path of the address in the camera's manual",
    "stream_broken": "check that this is an RTSP address",
    "no_data": "set its keyframe interval to 2 s; restart it; try transport tcp or udp",
}


def _results(found: Sequence[Probed]) -> Table:
    table = Table(title="Cameras", title_justify="left")
    for column in (
        "camera",
        "video",
        "size",
        "pictures",
        "keyframes",
        "audio",
        "clock",
        "what to do",
    ):
        table.add_column(column)
    for p in found:
        words = ": ".join(w for w in (p.wrong, p.advice) if w)
        table.add_row(
            p.name, p.video, p.size, p.rate, p.keyframes, p.audio, p.clock, words or "well"
        )
    return table
