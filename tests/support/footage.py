"""Recordings with real boxes and random pictures, made by the real writers, for tests of copies."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from copies.files.virtual import VirtualFile
from copies.footage.plan import CopyPlan
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import Archived
from storage.media.fmp4 import (
    Sample,
    TrackInit,
    TrackRun,
    make_box,
    write_init,
    write_segment,
)
from storage.recording_source import Sources
from storage.records import (
    ClockState,
    GapCause,
    Index,
    Track,
    parse_index,
)
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo

UTC0 = 1_764_392_400_000  # 10:00 in Almaty
AVC1 = make_box(b"avc1", bytes(24) + b"\x03\x56\x01\xe0" + bytes(50), make_box(b"avcC", bytes(4)))
VIDEO = TrackInit(1, "video", "h264", 90_000, AVC1, 854, 480)
AUDIO = TrackInit(2, "audio", "aac", 48_000, make_box(b"mp4a", bytes(28)))
NAME = ("e", "s", "c")


@dataclass
class Camera:
    """One camera's spool, in which `record` writes runs; a picture a fifth of a second."""

    root: Path
    start_ms: int = UTC0
    audio: bool = True
    size: int = 300  # of a picture, in bytes
    seed: int = 1
    segments: dict[int, bytes] = field(default_factory=dict)  # as they were written, by number

    def __post_init__(self) -> None:
        claim_spool(self.root)
        self.random = random.Random(self.seed)
        self.spool = CameraSpool(self.root, *NAME, Numbers())
        self.at_ms = self.start_ms

    def record(
        self,
        segments: int,
        *,
        early: int = 0,
        end: GapCause | None = GapCause.NO_DATA,
        keys: int = 1,
        lost: int = 0,
    ) -> None:
        """Write a run of 2 s segments, with a keyframe in every `keys`-th.

        Of each segment `lost` packets are missing. Its sound begins `early` samples of 1/48000 s
        before its pictures. With `end` it is sealed; else the last recording goes on.
        """
        tracks = [VIDEO, AUDIO] if self.audio else [VIDEO]
        told = tuple(Track(t.id, t.kind, t.codec, t.timescale, t.width, t.height) for t in tracks)
        run = Run(self.at_ms, write_init(tracks), told, 2)
        for n in range(segments):
            data = self._segment(n, early, n % keys == 0)
            segment = self.spool.append(
                run,
                data,
                SegmentInfo(
                    tfdt_90k=n * 180_000,
                    duration_90k=180_000,
                    starts_with_key=n % keys == 0,
                    arrival_ms=self.at_ms + 2000 * n,
                    camera_ms=None,
                    lost=lost,
                    damaged=min(1, lost),
                ),
                ClockState(True, 2),
            )
            self.segments[segment.segment_no] = data
        self.at_ms = self.spool.last_end_ms or 0
        if end:
            self.spool.seal(end)

    def _segment(self, n: int, early: int, key: bool) -> bytes:
        pictures = [self.random.randbytes(self.random.randrange(1, self.size)) for _ in range(10)]
        rows = [Sample(18_000, len(p), key and k == 0, 0) for k, p in enumerate(pictures)]
        runs = [TrackRun(1, n * 180_000, rows, pictures)]
        if self.audio:
            sounds = [self.random.randbytes(20) for _ in range(4)]
            at = max(0, n * 96_000 - early)
            runs.append(TrackRun(2, at, [Sample(24_000, 20, True, 0)] * 4, sounds))
        return write_segment(self.spool.next_segment_no, runs)

    def gap(self, ms: int, cause: GapCause = GapCause.NO_DATA) -> None:
        """Let time go without a recording."""
        self.spool.begin_gap(self.at_ms, cause, "no picture")
        self.at_ms += ms

    def indexes(self) -> list[tuple[Path, Index]]:
        """Return all recordings, with the paths of their media."""
        found = [
            (p.with_suffix(".mp4"), parse_index(p.read_bytes()))
            for p in self.spool.directory.glob("*/*.jsonl")
        ]
        return sorted(found, key=lambda f: f[1].header.record_seq)

    async def archive(
        self, catalogue: Catalogue, *archives: Archive, keep: bool = False, at_ms: int = 1
    ) -> None:
        """Put what is sealed into the catalogue and archives, and off the spool unless `keep`."""
        for path, index in self.indexes():
            if index.seal is None:
                continue
            await catalogue.writer.put_recordings([index])
            key = "/".join((*NAME, path.parent.name, path.stem))
            for archive in archives:
                put = await archive.put(f"{key}.mp4", path.read_bytes(), index.seal.sha256)
                await archive.put(f"{key}.json", index.archive_document(), "")
                there = Archived(archive.name, put.bucket, at_ms, "read back")
                assert await catalogue.writer.mark_archived(index, there)
            if not keep:
                path.unlink()
                path.with_suffix(".jsonl").unlink()
                await catalogue.writer.mark_removed(NAME, index.identity, at_ms)


async def whole(plan: CopyPlan, sources: Sources, head: bytes | None = None) -> bytes:
    """Return all bytes of a copy."""
    return b"".join([bytes(p) async for p in VirtualFile(plan, sources, head).read()])
