"""What a crash at each step of the commit order leaves, and what the next start makes of it:
`python -m benchmarks.crash_table` prints the table of docs/crashes.md. The checks themselves are
in tests/storage/test_crashes.py.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pgserver.postgres_server as pgserver
import sqlalchemy as sa

from config.model import Config
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.schema import archived, recordings
from storage.fsck.check import Fsck
from storage.spool.disk import spool_id
from tests.support.archiving import NOW, configure, later_ms, opened, uploading
from tests.support.dying import UPLOADER, WRITER
from tests.support.postgres import new_database
from tests.support.spools import fill
from tests.support.waiting import until


async def state(config: Config) -> str:
    """Say in a few words how far spool, catalogue and archive are."""
    catalogue = await Catalogue.open(config.database_url)
    counts = [len(list(config.spool.glob(f"s/*/*/*.{ending}"))) for ending in ("mp4", "jsonl")] + [
        len(list((config.path.parent / "archive").glob(f"e/*/*/*/*.{ending}")))
        for ending in ("mp4", "json")
    ]
    asked = (
        sa.select(sa.func.count()).select_from(recordings),
        sa.select(sa.func.count()).select_from(archived),
        sa.select(sa.func.count()).where(recordings.c.removed_ms.is_not(None)),
    )
    rows = [next(iter((await catalogue.pool.rows(a))[0].values())) for a in asked]
    await catalogue.close()
    return (
        f"spool {counts[0]}+{counts[1]}, rows {rows[0]}, archive {counts[2]}+{counts[3]},"
        f" archived {rows[1]}, off {rows[2]}"
    )


async def uploader_row(folder: Path, url: str, step: str, when: str) -> tuple[str, str]:
    """Die, look, start again, look."""
    config = configure(folder, url, "archives: [archive]\n")
    for camera in "cd":
        fill(config.spool, camera=camera, start_ms=NOW - 7_200_000, segments=60).close()
    command = [
        sys.executable,
        "-m",
        "tests.support.dying",
        "uploader",
        str(config.path),
        step,
        when,
    ]
    died = await asyncio.to_thread(subprocess.run, command, capture_output=True)
    assert died.returncode == -9
    left = await state(config)
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: len(list(config.spool.glob("s/*/*/*.mp4"))) == 2)
        await until(lambda: uploader.replicators.all[0].status.backlog_recordings == 0)

        async def only_the_newest_are_left() -> bool:
            known = [
                await catalogue.in_spool("s", camera, spool_id(config.spool)) for camera in "cd"
            ]
            return sum(len(k) for k in known) == 2

        await until(only_the_newest_are_left)
    async with opened(config) as (catalogue, archives):
        fsck = Fsck(config, catalogue, archives, deep=True, clock=later_ms)
        found = [f for n in await fsck.cameras() for f in await fsck.check(n)]
    wrong = [f for f in found if f.where != "schedule"]
    return left, f"{await state(config)}; fsck --deep: {wrong or 'all agree'}"


def writer_row(folder: Path, step: str, when: str) -> tuple[str, str]:
    """The same for the recorder's steps."""
    command = [sys.executable, "-m", "tests.support.dying", "writer", str(folder), step, when]
    died = subprocess.run(command, capture_output=True, text=True)
    assert died.returncode == -9
    live = len(died.stdout.splitlines())

    def sizes() -> str:
        lines = [p.read_bytes() for p in sorted(folder.glob("s/c/*/*.jsonl"))]
        seals = sum(b'"sealed_ms"' in text for text in lines)
        segments = sum(text.count(b'"segment_no"') for text in lines)
        torn = sum(not text.endswith(b"\n") for text in lines)
        return f"{segments} segments in {len(lines)} recordings, {seals} sealed, {torn} torn"

    left = f"{live} live; {sizes()}"
    from storage.spool.numbers import Numbers
    from storage.spool.writer import CameraSpool

    CameraSpool(folder, "e", "s", "c", Numbers()).close()
    return left, sizes()


async def main() -> None:
    """Print the table."""
    print("| step | crash | left behind | after the next start |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="kuager-pg-") as place:
        os.chmod(place, 0o755)  # noqa: PTH101 as root, pgserver runs it as another user
        server = pgserver.get_server(place, cleanup_mode="stop")
        for step, (_, function, _) in WRITER.items():
            for when in ("before", *(("half",) if function == "write_all" else ()), "after"):
                with tempfile.TemporaryDirectory() as folder:
                    left, after = writer_row(Path(folder), step, when)
                print(f"| {step} | {when} | {left} | {after} |", flush=True)
        for step in UPLOADER:
            for when in ("before", "after"):
                told: dict[tuple[str, str], list[str]] = {}
                for database in ("SQLite", "PostgreSQL"):
                    with tempfile.TemporaryDirectory() as folder:
                        url = f"sqlite:///{folder}/k.db"
                        if database == "PostgreSQL":
                            url = await asyncio.to_thread(new_database, server.get_uri())
                        row = await uploader_row(Path(folder), url, step, when)
                    told.setdefault(row, []).append(database)
                for (left, after), databases in told.items():
                    where = " and ".join(databases)
                    print(f"| {step} ({where}) | {when} | {left} | {after} |", flush=True)
        server.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
