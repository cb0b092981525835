"""A configuration with a spool and archives, and an uploader at work on them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from base.clock import now_ms
from config.load import load
from config.model import Archive as Settings
from config.model import Config
from storage.archival.replicator import Pauses
from storage.archival.uploader import Uploader
from storage.archive.factory import open_archive
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.fsck.camera import IN_FLIGHT_MS, Finding
from storage.fsck.check import Fsck
from storage.records import parse_index
from storage.spool.disk import DiskSpace, disk_space
from storage.spool.status_records import ArchiveStatus
from tests.support.s3 import BUCKET, KEY, SECRET, free_port
from tests.support.tables import open_catalogue

NOW = int(time.time() * 1000)
C = ("e", "s", "c")

BRISK = Pauses(look_s=0.1, retry_s=(0.2,), one_s=(0.2,), remove_s=0.2, drain_s=0.0)

STATIONS = """\
stations:
  - id: s
    number: "1"
    cameras:
      - {id: c, url: "rtsp://127.0.0.1/c"}
      - {id: d, url: "rtsp://127.0.0.1/d"}
"""


WEB = free_port()  # where a configuration does not say


def configure(folder: Path, database_url: str, archive: str, rewind: str = "60s") -> Config:
    (folder / "stations.yaml").write_text(STATIONS)
    (folder / "kuager.yaml").write_text(
        "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
        " windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}\n"
        f"stations: stations.yaml\nspool: spool\n{archive}rewind: {rewind}\n"
        f'database: "{database_url}"\n'
        + ("" if "web:" in archive else f'web: {{listen: "127.0.0.1:{WEB}"}}\n')
    )
    return load(folder / "kuager.yaml", {"SECRET": SECRET})


def kept(uploader: Uploader) -> ArchiveStatus:
    return uploader.replicators.all[0].status


def later_ms() -> int:
    """A clock of so much later that nothing may be on its way to an archive any more."""
    return now_ms() + IN_FLIGHT_MS + 60_000


def sealed(config: Config) -> int:
    """Return how many recordings of the spool are sealed."""
    found = [parse_index(p.read_bytes()) for p in config.spool.glob("[a-z]*/*/*/*.jsonl")]
    return sum(index.seal is not None for index in found)


def told(config: Config) -> dict[str, Any]:
    """Return what the uploader's status file says of the archive."""
    status = config.spool / "_status/uploader.json"
    if not status.exists():
        return {"archived_total": 0, "backlog_recordings": 0, "blocked": Counter()}
    found: dict[str, Any] = orjson.loads(status.read_bytes())["archives"]["archive"]
    return found


def s3(port: int) -> str:
    return (
        f"archives:\n  - url: s3://{BUCKET}\n    endpoint: http://127.0.0.1:{port}\n"
        f"    region: us-east-1\n    access_key_id: {KEY}\n    secret_access_key: ${{SECRET}}\n"
    )


@contextlib.asynccontextmanager
async def uploading(
    config: Config,
    pauses: Pauses = BRISK,
    disk_space: Callable[[Path], DiskSpace] = disk_space,
    open_archive: Callable[[Settings], Archive] = open_archive,
) -> AsyncIterator[tuple[Uploader, Catalogue, Archive]]:
    """Have an uploader at work; yields it, its catalogue and its first archive."""
    async with opened(config, open_archive) as (catalogue, archives):
        uploader = Uploader(config, catalogue, archives, pauses=pauses, disk_space=disk_space)
        task = asyncio.create_task(uploader.run())
        try:
            yield uploader, catalogue, archives[0]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def opened(
    config: Config, open_archive: Callable[[Settings], Archive] = open_archive
) -> AsyncIterator[tuple[Catalogue, Sequence[Archive]]]:
    """Catalogue and archives, without anyone at work."""
    catalogue = await open_catalogue(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    try:
        yield catalogue, archives
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()


async def forget_the_spool(config: Config, catalogue: Catalogue) -> None:
    """Have every recording out of the spool, with its row."""
    for path in config.spool.rglob("*"):
        if path.is_file():
            path.unlink()
    for name in await catalogue.cameras.names("e"):
        for row in await catalogue.recordings_of(name):
            await catalogue.writer.mark_removed(name, row.identity, NOW)


async def look(
    config: Config, catalogue: Catalogue, archives: Sequence[Archive], **how: Any
) -> list[Finding]:
    fsck = Fsck(config, catalogue, archives, clock=later_ms, **how)
    return [
        f for name in await fsck.cameras() for f in await fsck.check(name) if f.where != "schedule"
    ]
