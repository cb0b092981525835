"""`kuager check`: is what the operators wrote right, and do the cameras answer?"""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from rich.progress import Progress

from base.clock import now_ms
from config.model import LOW, Camera, Config, Station
from kuager.preflight import Finding, clock_warnings, look, schedule_warnings
from kuager.reading import read
from kuager.summary import summary
from kuager.terminal import err, out, say
from recorder.camera_spec import CameraSpec, camera_spec
from recorder.ffmpeg import COPIED_VIDEO, find_ffmpeg
from recorder.native import NativeSource
from recorder.rtsp.connection import Connection, Resolver
from recorder.rtsp.describe import (
    BUSY,
    LOGIN,
    PATH,
    POWER,
    DescribeFailed,
    Offer,
    Patience,
    connect,
)
from recorder.rtsp.description import Description
from recorder.source import Frame, PacketCounts, Source
from recorder.source_choice import ffmpeg_source, why_ffmpeg
from storage.media.fmp4 import TrackInit
from storage.records import Ending
from storage.spool.status import SpoolStatus

PROBE_S = 8.0
PARALLEL = 32  # cameras at a time


def check(path: Path, probe: bool) -> int:
    """Validate, print a summary and, asked to, connect to every camera; returns the exit code."""
    config = read(path)
    if isinstance(config, int):
        return config
    out.print(summary(config))
    status = SpoolStatus(config.spool)
    list(status.refresh())
    for text in (*(warnings := clock_warnings(status)), *schedule_warnings(config, now_ms())):
        say(f"warning: {text}")
    found = asyncio.run(look(config))
    if not warnings:
        found.append(Finding("clock", seen=("synchronized",)))
    for finding in found:
        show(finding)
    wrong = any(finding.wrong is not None for finding in found)
    if not probe:
        return 1 if wrong else 0
    streams = [(s, stream) for s in config.stations for c in s.cameras for stream in c.streams]
    probed = asyncio.run(_probe_all(config, streams))
    for finding in probed:
        show(finding)
    for what, suffixed in (("cameras", False), ("second streams", True)):
        some = [finding for finding in probed if finding.name.endswith(LOW) is suffixed]
        if some:
            answer = sum(finding.wrong is None for finding in some)
            out.print(f"{answer} of {len(some)} {what} answer with a picture.")
    return 1 if wrong or any(finding.wrong is not None for finding in probed) else 0


class _Sink:
    """Counts what a camera sends."""

    def __init__(self) -> None:
        self.tracks: Sequence[TrackInit] = ()
        self.frames: list[Frame] = []
        self.begun = asyncio.Event()

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        self.tracks = tracks

    def on_frame(self, frame: Frame) -> None:
        if frame.track_id == self.tracks[0].id and not frame.continues:
            self.frames.append(frame)
            self.begun.set()


async def _probe_all(config: Config, cameras: Sequence[tuple[Station, Camera]]) -> list[Finding]:
    program = find_ffmpeg(config.ffmpeg)
    gate, resolver = asyncio.Semaphore(PARALLEL), Resolver()
    with contextlib.closing(resolver), Progress(console=err, transient=True) as progress:
        task = progress.add_task("Asking the cameras", total=len(cameras))

        async def one(station: Station, camera: Camera) -> Finding:
            async with gate:
                found = await _Probe(program, resolver, camera_spec(config, station, camera)).run()
            progress.advance(task)
            return found

        return list(await asyncio.gather(*(one(s, c) for s, c in cameras)))


@dataclass(frozen=True, slots=True)
class _Probe:
    """Connects to one camera as a recorder does, for a few seconds."""

    program: str
    resolver: Resolver
    spec: CameraSpec

    async def run(self) -> Finding:
        spec = self.spec
        try:
            connection, offer = await connect(
                spec.url,
                self.resolver,
                user_agent=spec.user_agent,
                video_track=spec.video_track,
                patience=Patience(connect_s=PROBE_S),
            )
            try:
                why = why_ffmpeg(spec, offer, spec.keep_audio)
                if why is None:
                    found = await self._natively(connection, offer)
                    if found.wrong is None or spec.source == "native":
                        return found
                    why = found.wrong
            finally:
                await connection.close()
        except DescribeFailed as failed:
            return Finding(spec.name, failed.ending.detail, to_do=(failed.ending.remedy,))
        by_ffmpeg = ffmpeg_source(spec, self.program, offer, spec.keep_audio, now_ms)
        return await self._probe(offer, by_ffmpeg, f"through ffmpeg: {why}")

    async def _natively(self, connection: Connection, offer: Offer) -> Finding:
        spec, remarks = self.spec, list[str]()
        source = NativeSource(
            connection,
            offer,
            transport=spec.transport,
            keep_audio=spec.keep_audio,
            on_remark=remarks.append,
        )
        found = await self._probe(offer, source, "read natively")
        return replace(found, to_do=(*found.to_do, *remarks))

    async def _probe(self, offer: Offer, source: Source, how: str) -> Finding:
        name, sink = self.spec.name, _Sink()
        ended = await self._watch(source, sink)
        if ended is not None:
            return Finding(name, ended.detail, to_do=(ended.remedy or ADVICE[ended.cause.value],))
        if not any(f.key for f in sink.frames):
            text = f"{offer.address.where} plays, but sent no picture with a keyframe"
            to_do = (ADVICE["no_data"], *offer.description.remarks)
            return Finding(name, f"{text} in {PROBE_S:.0f} s", to_do=to_do)
        return _measured(name, offer.description, sink, source.packets, how)

    async def _watch(self, source: Source, sink: _Sink) -> Ending | None:
        """Fill the sink; return how the stream ended, None where it goes on."""
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


def _measured(
    name: str, description: Description, sink: _Sink, packets: Sequence[PacketCounts], how: str
) -> Finding:
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
    if lost := sum(counts.lost for counts in packets):
        of = lost + sum(counts.received for counts in packets)
        seen.append(f"{lost:,} of {of:,} packets lost")
    # of the picture that came with the least delay
    clock_ms = max((f.camera_ms - f.arrival_ms for f in frames if f.camera_ms), default=None)
    seen.append("clock not sent" if clock_ms is None else f"clock {clock_ms / 1000:+.1f} s")
    if clock_ms is not None and abs(clock_ms) > 2000:
        to_do.append("the camera's clock is off: give it an NTP server")
    seen.append(how)
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
        say(folded)
