"""One election day of a whole country, made up: cameras, and who recorded what when.

Every camera records 60 s at a time; five times a day its run ends and 30 s are missing. Rows come
in the order of time, all cameras in turn, as recorders seal them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_config import ANGLES, KUAGER, STATIONS, write_csv
from config.load import load
from config.model import Config
from storage.catalogue.schema import DAY_MS
from storage.records import Gap, GapCause, Header, Index, Seal, Segment, Track

ELECTION = "president-2026"
CAMERAS = STATIONS * len(ANGLES)
BEGIN_MS = 1_795_914_000_000  # 2026-11-29 06:00 in Almaty
SEQ0 = 218_000_000  # numbers start above the seconds since 2020
ONE_MS, GAP_MS, RUNS = 60_000, 30_000, 5
SEGMENTS, BYTES = 30, 15_000_000
TRACKS = (Track(1, "video", "h264", 90_000, 1920, 1080),)
VERIFIED = "SHA-256 by the server"
ETAGS = f'["{"ab" * 16}","{"cd" * 16}"]'
SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def name(camera: int) -> tuple[str, str, str]:
    """Return election, station and camera of the n-th camera."""
    return ELECTION, f"{camera // len(ANGLES):05}", sorted(ANGLES)[camera % len(ANGLES)]


def country() -> Config:
    """Return the configuration of all stations."""
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "stations.csv")
        path = Path(folder) / "kuager.yaml"
        path.write_text(KUAGER.format("stations.csv"))
        return load(path, {"CAMERA_PASSWORD": "secret"})


class Day:
    """A day of `each` recordings per camera; `pks` are the cameras' numbers in the catalogue."""

    def __init__(self, pks: list[int], each: int):
        self.pks, self.each = np.array(pks), each
        self.run_of = max(1, -(-each // RUNS))  # recordings
        self.end_ms = self.start_ms(0, each)

    def run(self, camera: Any, k: Any) -> Any:
        """Return which run of the camera its k-th recording belongs to, from 0."""
        return (k + camera % self.run_of) // self.run_of

    def start_ms(self, camera: Any, k: Any) -> Any:
        """Return when the camera's k-th recording starts; the next day goes on."""
        return BEGIN_MS + camera * ONE_MS // CAMERAS + k * ONE_MS + self.run(camera, k) * GAP_MS

    def index(self, camera: int, k: int) -> Index:
        """Return the sealed index of the camera's k-th recording."""
        run, start_ms = int(self.run(camera, k)), int(self.start_ms(camera, k))
        first = max(0, run * self.run_of - camera % self.run_of)
        header = Header(
            *name(camera),
            epoch=SEQ0,
            run_no=SEQ0 + run,
            record_seq=SEQ0 + k,
            run_start_ms=int(self.start_ms(camera, first)),
            init_length=800,
            init_sha256="ab" * 32,
            target_duration_s=2,
            tracks=TRACKS,
        )
        segment = Segment(
            SEQ0 + k * SEGMENTS, start_ms, 0, 180_000, 800, 500_000, "ab" * 32, True, start_ms
        )
        seal = Seal(start_ms + ONE_MS, SEGMENTS, BYTES, f"{camera:032x}{k:032x}", start_ms + ONE_MS)
        return Index(header, [segment], seal)

    def columns(self, k: int) -> dict[str, Any]:
        """Return the k-th recordings of all cameras, a column each."""
        cameras = np.arange(len(self.pks))
        start = self.start_ms(cameras, k)
        digests = np.zeros((len(cameras), 32), np.uint8)
        digests[:, 12:16] = cameras.astype(">u4").view(np.uint8).reshape(-1, 4)
        digests[:, 28:32] = np.frombuffer(k.to_bytes(4, "big"), np.uint8)
        return {
            "camera_pk": self.pks.astype(">i4"),
            "record_seq": _all(cameras, SEQ0 + k, ">i8"),
            "day": (start // DAY_MS).astype(">i4"),
            "epoch": _all(cameras, SEQ0, ">i4"),
            "run_no": (SEQ0 + self.run(cameras, k)).astype(">i8"),
            "first_segment_no": _all(cameras, SEQ0 + k * SEGMENTS, ">i8"),
            "segments": _all(cameras, SEGMENTS, ">i4"),
            "start_ms": start.astype(">i8"),
            "end_ms": (start + ONE_MS).astype(">i8"),
            "bytes": _all(cameras, BYTES, ">i8"),
            "sha256": digests.view("V32").reshape(-1),
            "overlaps": _all(cameras, 0, "i1"),
            "removed_ms": None,
        }

    def kept(self, k: int) -> dict[str, Any]:
        """Return what the archive `far`, a bucket with versions and locks, has of them."""
        columns = self.columns(k)
        cameras = np.arange(len(self.pks))
        return {key: columns[key] for key in ("camera_pk", "record_seq", "day")} | {
            "archive": _all(cameras, b"far", "S3"),
            "bucket": _all(cameras, b"election-2026-1", "S15"),
            "archived_ms": (columns["end_ms"].astype(int) + 5_000).astype(">i8"),
            "verified": _all(cameras, VERIFIED.encode(), f"S{len(VERIFIED)}"),
            "etags": _all(cameras, ETAGS.encode(), f"S{len(ETAGS)}"),
            "version_id": columns["sha256"].view("u1").reshape(-1, 32)[:, :16].copy(),
            "locked_until_ms": _all(cameras, BEGIN_MS + 90 * DAY_MS, ">i8"),
            "removed_ms": None,
            "removed_reason": None,
        }

    def runs(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows of all runs."""
        tracks = json.dumps([t.to_dict() for t in TRACKS])
        for camera, pk in enumerate(self.pks.tolist()):
            for run in range(int(self.run(camera, self.each - 1)) + 1):
                first = max(0, run * self.run_of - camera % self.run_of)
                last = min(self.each, (run + 1) * self.run_of - camera % self.run_of) - 1
                times = (self.start_ms(camera, first), self.start_ms(camera, last) + ONE_MS)
                yield pk, SEQ0 + run, SEQ0, *times, GapCause.NO_DATA, "ab" * 32, tracks

    def gaps(self) -> Iterator[tuple[Any, ...]]:
        """Return the rows of all gaps."""
        for camera, pk in enumerate(self.pks.tolist()):
            for run in range(1, int(self.run(camera, self.each - 1)) + 1):
                end_ms = self.start_ms(camera, run * self.run_of - camera % self.run_of)
                gap = Gap(SEQ0 + run, end_ms - GAP_MS, end_ms, GapCause.NO_DATA, "no picture, 5 s")
                yield pk, *gap.to_dict().values()


async def copied(columns: Iterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Return columns as PostgreSQL's COPY reads them (binary)."""
    yield SIGNATURE
    for found in columns:
        yield _binary(found)
    yield b"\xff\xff"


def rows(columns: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Return columns as tuples, for SQLite."""
    count = len(columns["camera_pk"])

    def plain(column: Any) -> list[Any]:
        if column is None:
            return [None] * count
        if column.ndim == 2:
            return [row.tobytes().hex() for row in column]
        if column.dtype.kind == "V":
            return [bytes(v) for v in column]
        return [v.decode() if isinstance(v, bytes) else v for v in column.tolist()]

    return zip(*map(plain, columns.values()), strict=True)


def _binary(columns: dict[str, Any]) -> bytes:
    parts: list[tuple[Any, Any]] = []
    for column in columns.values():
        if column is None:
            parts.append((-1, None))
        else:
            if column.ndim == 2:  # bytes that are shown as hex digits
                digits = column.tobytes().hex().encode()
                column = np.frombuffer(digits, f"S{2 * column.shape[1]}")
            parts.append((column.dtype.itemsize, column))
    layout: list[tuple[str, str]] = [("fields", ">i2")]
    for n, (_, column) in enumerate(parts):
        layout.append((f"l{n}", ">i4"))
        if column is not None:
            layout.append((f"v{n}", column.dtype.str))
    made = np.empty(len(columns["camera_pk"]), layout)
    made["fields"] = len(parts)
    for n, (length, column) in enumerate(parts):
        made[f"l{n}"] = length
        if column is not None:
            made[f"v{n}"] = column
    return made.tobytes()


def _all(cameras: Any, value: Any, kind: str) -> Any:
    return np.full(len(cameras), value, kind)
