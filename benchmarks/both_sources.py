"""The same cameras by both sources at the same time: `make both-sources MINUTES=60`.

Each picture and each frame of sound is known by its bytes. What both recorded is compared: whether
one has something that the other lacks, and how far apart they are placed in time. G.711 is encoded
again by each source in its own way, so of it only the picture is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import tempfile
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.ffmpeg import find_ffmpeg
from storage.media.fmp4 import boxes, parse_init, parse_moof
from tests.support.sources import split_nals
from tests.support.stack import SMALL, Recording, recording, recordings

CAMERAS = {
    "H.264 and AAC": (SimCamera("aac", audio="aac", **SMALL), "tcp"),
    "H.264 and G.711": (SimCamera("pcmu", audio="pcmu", **SMALL), "tcp"),
    "H.264 with B-frames": (SimCamera("b", bframes=2, **SMALL), "tcp"),
    "H.264, UDP": (SimCamera("udp", **SMALL), "udp"),
    "H.265": (SimCamera("h265", codec="h265", **SMALL), "tcp"),
}
SOURCES = ("native", "ffmpeg")
NEAR_MS = 2_000.0  # by which what is one may be apart
SETTLES_MS = 10_000.0  # of a run, until its mapping is what it stays (docs/time.md)


@dataclass(frozen=True, slots=True)
class Placed:
    """A sample: what it is, by its bytes, and when it is shown or heard (UTC ms)."""

    kind: str
    digest: bytes
    at_ms: float
    since_ms: float  # of its run


def samples(found: Recording) -> Iterator[Placed]:
    """Yield the samples of a recording."""
    data, kinds = found.path.read_bytes(), dict[int, tuple[str, int]]()
    start_ms = found.index.header.run_start_ms
    for box in boxes(data, 0, len(data)):
        if box.type == b"moov":
            tracks = parse_init(data[box.start : box.end])
            kinds = {t.id: (t.kind, t.timescale) for t in tracks}
        if box.type != b"moof":
            continue
        for fragment in parse_moof(data, box):
            kind, scale = kinds[fragment.track_id]
            time, at = fragment.decode_time, box.start + fragment.data_offset
            for sample in fragment.samples:
                bytes_ = data[at : at + sample.size]
                # ffmpeg leaves zeros after some NAL units
                whole = b"".join(split_nals(bytes_)) if kind == "video" else bytes_
                since_ms = (time + sample.cts) * 1000 / scale
                digest = hashlib.sha256(whole).digest()
                yield Placed(kind, digest, start_ms + since_ms, since_ms)
                time += sample.duration
                at += sample.size


@dataclass
class Compared:
    """What both have of one kind."""

    both: int
    one: int  # that only the native source has, between the first and the last that both have
    other: int  # that only ffmpeg has
    apart_ms: list[float]  # of those that both have


def compare(mine: list[Placed], theirs: list[Placed]) -> Compared:
    """Compare what two sources made of one track; frames of silence may be alike, so each belongs
    to the nearest one."""
    alike: dict[bytes, deque[Placed]] = defaultdict(deque)
    for t in sorted(theirs, key=_at):
        alike[t.digest].append(t)
    both = []
    for m in sorted(mine, key=_at):
        left = alike[m.digest]
        while left and left[0].at_ms < m.at_ms - NEAR_MS:
            left.popleft()
        near = [(abs(t.at_ms - m.at_ms), n) for n, t in enumerate(_until(left, m.at_ms + NEAR_MS))]
        if near:
            _, n = min(near)
            both.append((m, left[n]))
            del left[n]
    if not both:
        return Compared(0, len(mine), len(theirs), [])
    return Compared(
        len(both),
        _between(mine, [m for m, _ in both]) - len(both),
        _between(theirs, [t for _, t in both]) - len(both),
        sorted(
            abs(m.at_ms - t.at_ms) for m, t in both if min(m.since_ms, t.since_ms) >= SETTLES_MS
        ),
    )


def _at(placed: Placed) -> float:
    return placed.at_ms


def _until(placed: Iterable[Placed], at_ms: float) -> Iterator[Placed]:
    return takewhile(lambda p: p.at_ms <= at_ms, placed)


def _between(placed: list[Placed], both: list[Placed]) -> int:
    """Return how many are between the first and the last that both have."""
    first, last = min(p.at_ms for p in both), max(p.at_ms for p in both)
    return sum(first <= p.at_ms <= last for p in placed)


async def run(minutes: float) -> None:
    """Record all cameras by both sources and print what differs."""
    ffmpeg = find_ffmpeg(None)
    ways = {camera.name: way for camera, way in CAMERAS.values()}
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
        spools = {source: Path(text) / source for source in SOURCES}
        async with (
            Simulator([c for c, _ in CAMERAS.values()], ffmpeg=ffmpeg) as simulator,
            contextlib.AsyncExitStack() as stack,
        ):
            for source, spool in spools.items():
                spool.mkdir()
                how = recording(
                    spool, simulator, ffmpeg, source=source, transport=lambda name: ways[name]
                )
                await stack.enter_async_context(how)
            await asyncio.sleep(minutes * 60)
        print(f"{minutes:g} minutes, ffmpeg beside the native source\n")
        print(
            "| camera | of | both have | only native | only ffmpeg | apart: p99, most | runs: "
            "native, ffmpeg |\n|---|---|---|---|---|---|---|"
        )
        for title, (camera, _) in CAMERAS.items():
            found = {source: recordings(spool, camera.name) for source, spool in spools.items()}
            placed = {s: [p for r in found[s] for p in samples(r)] for s in SOURCES}
            runs = [len({r.index.header.run_no for r in found[s]}) for s in SOURCES]
            for kind in ("video", "audio") if camera.audio == "aac" else ("video",):
                mine, theirs = ([p for p in placed[s] if p.kind == kind] for s in SOURCES)
                c = compare(mine, theirs)
                apart = "-"
                if c.apart_ms:
                    p99 = c.apart_ms[int(len(c.apart_ms) * 0.99)]
                    apart = f"{p99:.0f}, {c.apart_ms[-1]:.0f} ms"
                what = "pictures" if kind == "video" else "sound"
                print(
                    f"| {title} | {what} | {c.both:,} | {c.one} | {c.other} | {apart} "
                    f"| {runs[0]}, {runs[1]} |",
                    flush=True,
                )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    asyncio.run(run(parser.parse_args().minutes))


if __name__ == "__main__":
    main()
