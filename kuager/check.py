"""`kuager check`: is what the operators wrote right, and do the cameras answer?"""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress

from config.model import Camera, Config, Station
from kuager.preflight import Finding, clock_warnings, look
from kuager.reading import read
from kuager.summary import summary
from recorder.ffmpeg import COPIED_VIDEO, FfmpegSource, find_ffmpeg
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import (
    BUSY,
    LOGIN,
    PATH,
    POWER,
    DescribeFailed,
    Offer,
    Patience,
    describe,
)
from recorder.rtsp.description import Description
from recorder.source import Frame
from storage.media.fmp4 import TrackInit
from storage.records import Ending
from storage.spool.status import SpoolStatus

PROBE_S = 8.0
PARALLEL = 32  # cameras at a time

out = Console()
err = Console(stderr=True)


def check(path: Path, probe: bool) -> int:
    """Validate, print a summary and, asked to, connect to every camera; returns the exit code."""
    config = read(path)
    if isinstance(config, int):
        return config
    out.print(summary(config))
    status = SpoolStatus(config.spool)
    list(status.refresh())
    for text in clock_warnings(status):
        out.print(f"warning: {text}", markup=False, soft_wrap=True)
    found = asyncio.run(look(config))
    for finding in found:
        show(finding)
    wrong = any(finding.wrong is not None for finding in found)
    if not probe:
        return 1 if wrong else 0
    cameras = [(s, c) for s in config.stations for c in s.cameras]
    probed = asyncio.run(_probe_all(config, cameras))
    for finding in probed:
        show(finding)
    bad = sum(p.wrong is not None for p in probed)
    out.print(f"{len(probed) - bad} of {len(probed)} cameras answer with a picture.")
    return 1 if bad or wrong else 0


class _Sink:
    """Counts what a camera sends."""

    def __init__(self) -> None:
        self.tracks: Sequence[TrackInit] = ()
        self.frames: list[Frame] = []
        self.begun = asyncio.Event()

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        self.tracks = tracks

    def on_frame(self, frame: Frame) -> None:
        if frame.track_id == self.tracks[0].id:
            self.frames.append(frame)
            self.begun.set()


async def _probe_all(config: Config, cameras: Sequence[tuple[Station, Camera]]) -> list[Finding]:
    program = find_ffmpeg(config.ffmpeg)
    gate, resolver = asyncio.Semaphore(PARALLEL), Resolver()
    with contextlib.closing(resolver), Progress(console=err, transient=True) as progress:
        task = progress.add_task("Asking the cameras", total=len(cameras))

        async def one(station: Station, camera: Camera) -> Finding:
            async with gate:
                probe = _Probe(program, config.user_agent, resolver, camera)
                found = await probe.run(f"{station.id}/{camera.id}")
            progress.advance(task)
            return found

        return list(await asyncio.gather(*(one(s, c) for s, c in cameras)))


@dataclass(frozen=True, slots=True)
class _Probe:
    """Connects to one camera as a recorder does, for a few seconds."""

    program: str
    user_agent: str
    resolver: Resolver
    camera: Camera

    async def run(self, name: str) -> Finding:
        try:
            offer = await describe(
                self.camera.url.reveal(),
                self.resolver,
                user_agent=self.user_agent,
                video_track=self.camera.video_track,
                patience=Patience(connect_s=PROBE_S),
            )
        except DescribeFailed as failed:
            return Finding(name, failed.ending.detail, to_do=(failed.ending.remedy,))
        sink = _Sink()
        ended = await self._watch(offer, sink)
        if ended is not None:
            return Finding(name, ended.detail, to_do=(ended.remedy or ADVICE[ended.cause.value],))
        if not any(f.key for f in sink.frames):
            text = f"{offer.address.where} plays, but sent no picture with a keyframe"
            to_do = (ADVICE["no_data"], *offer.description.remarks)
            return Finding(name, f"{text} in {PROBE_S:.0f} s", to_do=to_do)
        return _measured(name, offer.description, sink)

    async def _watch(self, offer: Offer, sink: _Sink) -> Ending | None:
        """Fill the sink; return how the stream ended, None where it goes on."""
        source = FfmpegSource(
            self.program,
            offer.address.url,
            offer.description,
            transport=self.camera.transport,
            keep_audio=self.camera.audio == "keep",
            clock_ms=lambda: time.time() * 1000,
            user_agent=self.user_agent,
            proof=offer.proof,
        )
        task: asyncio.Task[Ending] = asyncio.create_task(source.run(sink))
        begun = asyncio.create_task(sink.begun.wait())
        await asyncio.wait({task, begun}, timeout=PROBE_S, return_when=asyncio.FIRST_COMPLETED)
        if begun.done():  # so long from the first picture on
            await asyncio.wait({task}, timeout=PROBE_S)
        begun.cancel()
        ended = task.result() if task.done() else None
        task.cancel()
        await asyncio.wait({task})
        return ended


def _measured(name: str, description: Description, sink: _Sink) -> Finding:
    track, frames = sink.tracks[0], sink.frames
    seen, to_do = [f"{description.video} {track.width}x{track.height}"], []
    live = [f for f in frames if f.arrival_ms > frames[0].arrival_ms + 500] or frames
    span_s = (live[-1].arrival_ms - live[0].arrival_ms) / 1000
    if span_s > 0:
        seen.append(f"{(len(live) - 1) / span_s:.1f} pictures/s")
    keys = [f.pts / track.timescale for f in frames if f.key]
    if len(keys) > 1:  # the time of the very first picture is often a guess
        seen.append(f"keyframe every {median(b - a for a, b in pairwise(keys)):.1f} s")
    else:
        seen.append(f"keyframe rarer than every {span_s:.0f} s")
        to_do.append("set the camera's keyframe interval to 2 s")
    seen.append(f"sound {description.audio or 'none'}")
    # of the picture that came with the least delay
    clock_ms = max((f.camera_ms - f.arrival_ms for f in frames if f.camera_ms), default=None)
    seen.append("clock not sent" if clock_ms is None else f"clock {clock_ms / 1000:+.1f} s")
    if clock_ms is not None and abs(clock_ms) > 2000:
        to_do.append("the camera's clock is off: give it an NTP server")
    if description.video not in COPIED_VIDEO:
        to_do.append("set the camera to H.264: this codec is encoded again, at a cost")
    return Finding(name, None, tuple(seen), (*to_do, *description.remarks))


# where the source has said no more than its cause, by that
ADVICE = {
    "unreachable": POWER,
    "refused_password": LOGIN,
    "no_such_stream": PATH,
    "no_data": "set its keyframe interval to 2 s; restart it; try transport tcp or udp",
    "stream_broken": "restart the camera; try transport tcp or udp",
    "closed_by_camera": BUSY,
    "parameters_changed": "somebody is changing the camera's settings; try again",
}


def show(finding: Finding) -> None:
    """Print what is well on one line, and below it what to do; wrapped only at a terminal."""
    word = "WRONG" if finding.wrong is not None else "ok"
    first = finding.wrong if finding.wrong is not None else ", ".join(finding.seen)
    lines = [f"{word:5}  {finding.name}: {first}", *(f"       -> {text}" for text in finding.to_do)]
    width = out.width if out.is_terminal else 0
    for line in lines:
        folded = textwrap.fill(line, width, subsequent_indent=" " * 10) if width > 40 else line
        out.print(folded, markup=False, highlight=False, soft_wrap=True)
