"""Time and memory of `kuager fsck` on an archive of many recordings, and whether a catalogue that
is rebuilt from it equals the one that was lost: python -m benchmarks.bench_fsck"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from config.load import load
from config.model import Config
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import Archived
from storage.catalogue.schema import archived, cameras, gaps, recordings, runs
from storage.records import ClockState, Gap, GapCause, Header, Index, Seal, Segment, Track

PER_CAMERA = 1000  # recordings of a minute: 17 hours
BEGIN_MS = 1_764_392_400_000
OWN = {"camera_pk", "spool", "archived_ms", "verified", "etags", "removed_ms", "number", "names"}


def recording(camera: str, n: int) -> tuple[Index, bytes]:
    """Return a recording of a minute: 30 segments, each of a few random bytes."""
    init, start_ms = b"init" * 8, BEGIN_MS + n * 60_000
    parts = [os.urandom(48) for _ in range(30)]
    gap = Gap(n // 100, start_ms - 10_000, start_ms, GapCause.NO_DATA)
    header = Header(
        election="e",
        station="s",
        camera=camera,
        epoch=1,
        run_no=1 + n // 100,
        record_seq=n + 1,
        run_start_ms=BEGIN_MS + n // 100 * 6_000_000,
        init_length=len(init),
        init_sha256=hashlib.sha256(init).hexdigest(),
        target_duration_s=2,
        tracks=(Track(1, "video", "h264", 90_000, 1920, 1080),),
        clock=ClockState(True, 2),
        gaps=(gap,) if n % 100 == 99 else (),
    )
    segments, offset = [], len(init)
    for k, part in enumerate(parts):
        at_ms = start_ms + 2000 * k
        tfdt = (at_ms - header.run_start_ms) * 90
        sha256 = hashlib.sha256(part).hexdigest()
        segments.append(
            Segment(n * 30 + k, at_ms, tfdt, 180_000, offset, len(part), sha256, True, at_ms)
        )
        offset += len(part)
    media = init + b"".join(parts)
    reason = GapCause.NO_DATA if n % 100 == 98 else None
    whole = hashlib.sha256(media).hexdigest()
    seal = Seal(start_ms + 60_500, 30, len(media), whole, start_ms + 60_000, reason)
    return Index(header, segments, seal), media


async def fill(config: Config, count: int) -> None:
    """Write the archive and its catalogue, as the uploader would have."""
    catalogue = await Catalogue.open(config.database_url)
    root = config.archives[0].directory
    assert root is not None
    for camera in range(count // PER_CAMERA):
        batch = []
        for n in range(PER_CAMERA):
            index, media = recording(f"c{camera}", n)
            path = root / index.archive_key
            path.parent.mkdir(parents=True, exist_ok=True)
            for ending, data in ((".mp4", media), (".json", index.archive_document())):
                file = path.with_name(path.name + ending)
                file.write_bytes(data)
                os.utime(file, (BEGIN_MS / 1000, BEGIN_MS / 1000))  # not on its way any more
            batch.append(index)
        await catalogue.writer.put_recordings(batch)
        there = Archived("archive", "", BEGIN_MS, "read back")
        await catalogue.writer.put_archived([(i, there) for i in batch])
    async with catalogue.pool.work() as connection:  # all are off the spool
        await connection.execute(sa.update(recordings).values(removed_ms=BEGIN_MS))
    await catalogue.close()


async def dump(url: str) -> dict[str, int]:
    """Return a hash of each table's rows with cameras by name, without what only it can know."""
    catalogue, out = await Catalogue.open(url), {}
    for table in (recordings, runs, gaps, archived):
        columns: list[Any] = [c for c in table.c if c.name not in OWN]
        rows = await catalogue.pool.rows(
            sa.select(cameras.c.station, cameras.c.camera, *columns).join(
                cameras, cameras.c.camera_pk == table.c.camera_pk
            )
        )
        out[f"{table.name}, {len(rows):,} rows"] = hash(
            frozenset(tuple(map(str, row.values())) for row in rows)
        )
    await catalogue.close()
    return out


def fsck(config: Config, *how: str) -> tuple[str, float, float]:
    """Run the command; return its last line, seconds and the most memory it had in MB."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "kuager", "fsck", "--config", str(config.path), *how]
    said = subprocess.run(command, capture_output=True, text=True)
    took = time.monotonic() - begun
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return said.stdout.strip().splitlines()[-1], took, most


def configure(folder: Path, database: str) -> Config:
    """Write a configuration that knows none of the cameras, as after years."""
    (folder / "stations.yaml").write_text(
        'stations:\n  - id: s\n    cameras:\n      - {id: other, url: "rtsp://127.0.0.1/c"}\n'
    )
    (folder / "kuager.yaml").write_text(
        "election: {id: e, name: E, date: 2025-11-29, time_zone: UTC,"
        " windows: [{from: 2020-01-01T00:00, to: 2020-01-02T00:00}]}\n"
        "stations: stations.yaml\nspool: spool\narchives: [archive]\n"
        f"database: sqlite:///{database}.db\n"
    )
    return load(folder / "kuager.yaml", {})


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    count = parser.parse_args().recordings
    with tempfile.TemporaryDirectory(prefix="kuager-fsck-") as text:
        folder = Path(text)
        config = configure(folder, "first")
        asyncio.run(fill(config, count))
        before = asyncio.run(dump(config.database_url))
        print(f"{count:,} recordings in a directory, SQLite\n")
        print("| kuager fsck | took | recordings/s | memory | it says |\n|---|---|---|---|---|")
        for name, database, how in (
            ("compare", "first", ()),
            ("rebuild the catalogue", "second", ("--repair",)),
            ("compare --deep", "second", ("--deep",)),
        ):
            config = configure(folder, database)
            said, took, most = fsck(config, *how)
            print(f"| {name} | {took:.0f} s | {count / took:,.0f} | {most:.0f} MB | {said} |")
        after = asyncio.run(dump(config.database_url))
        same = "equal" if before == after else "DIFFERENT"
        print(f"\nlost and rebuilt catalogue: {same} ({'; '.join(after)})")


if __name__ == "__main__":
    main()
