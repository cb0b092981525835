"""A camera's spool written step by step, and what must hold of its files at any moment."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from storage.records import (
    ClockState,
    Index,
    Track,
    parse_index,
)
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo

UTC0 = 1_764_392_400_000
TRACKS = (Track(1, "video", "h264", 90_000, 854, 480),)
CLOCK = ClockState(True, 3)


def open_spool(root: Path, floor: Numbers = Numbers()) -> CameraSpool:  # noqa: B008
    return CameraSpool(root, "e", "s", "c", floor)


def run_at(ms: int) -> Run:
    return Run(ms, b"init" * 20, TRACKS, 2)


def write(
    spool: CameraSpool, run: Run, n: int, count: int = 1, size: int = 200, key: bool = True
) -> None:
    for k in range(n, n + count):
        spool.append(
            run,
            b"moof" + os.urandom(size),
            SegmentInfo(
                tfdt_90k=k * 180_000,
                duration_90k=180_000,
                starts_with_key=key,
                arrival_ms=run.run_start_ms + k * 2000 + 5,
                camera_ms=None,
            ),
            CLOCK,
        )


def indexes(root: Path) -> list[Index]:
    found = [parse_index(p.read_bytes()) for p in root.glob("s/c/*/*.jsonl")]
    return sorted(found, key=lambda i: i.header.record_seq)


def check_files(root: Path, *, holes: bool = False) -> list[Index]:
    """Every index line describes bytes that are there; numbers go on by one, or with `holes` only
    rise; seals are true."""
    found = indexes(root)
    for numbers in (
        [s.segment_no for i in found for s in i.segments],
        [i.header.record_seq for i in found],
    ):
        assert numbers == (sorted(set(numbers)) if holes else list(range(1, len(numbers) + 1)))
    for path in root.glob("s/c/*/*.jsonl"):
        index, media = parse_index(path.read_bytes()), path.with_suffix(".mp4").read_bytes()
        header = index.header
        assert hashlib.sha256(media[: header.init_length]).hexdigest() == header.init_sha256
        for s in index.segments:
            part = media[s.offset : s.offset + s.length]
            assert hashlib.sha256(part).hexdigest() == s.sha256
        if index.seal:
            assert index.seal.length == len(media)
            assert index.seal.sha256 == hashlib.sha256(media).hexdigest()
            assert index.seal.segments == len(index.segments)
    return found
