"""Second streams in the spool: they go by their age, and are archived where that is set."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.model import Config
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.spool.disk import DiskSpace
from storage.spool.reader import SpoolReader
from tests.support.archiving import NOW, configure, look, opened, uploading
from tests.support.spools import fill
from tests.support.waiting import until

FIRST, SECOND = ("e", "s", "c"), ("e", "s", "c.low")
HOUR = 3_600_000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Have a camera and its second stream, of each of which some recordings are old."""
    made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "1h")
    for camera in ("c", "c.low"):
        fill(made.spool, camera=camera, start_ms=NOW - 4 * HOUR).close()
        fill(made.spool, camera=camera, start_ms=NOW - 600_000).close()
    return made


def left(config: Config, camera: str) -> int:
    return len(list(config.spool.glob(f"s/{camera}/*/*.mp4")))


def oldest_ms(config: Config, camera: str) -> int:
    reader = SpoolReader(config.spool, "s", camera)
    reader.refresh()
    return min(stored.start_ms for stored in reader.stored())


async def cleared(config: Config, catalogue: Catalogue, count: int) -> None:
    """Wait until what is old of so many archived recordings has left the spool, by the rows too."""
    await until(lambda: oldest_ms(config, "c.low") > NOW - HOUR)
    away = count - left(config, "c.low")
    assert away

    async def is_noted() -> bool:
        rows = await catalogue.recordings_of(SECOND)
        assert len(rows) == count and all(row.archives for row in rows)
        return sum(row.removed_ms is not None for row in rows) == away

    await until(is_noted)


async def archived(catalogue: Catalogue, archive: Archive) -> tuple[int, list[str], list[str]]:
    """Return how many rows the second stream has, which cameras have some, and which objects."""
    rows = await catalogue.recordings_of(SECOND)
    names = await catalogue.cameras.names("e")
    return len(rows), [name[2] for name in names], sorted(await archive.below("e/s/"))


async def test_a_second_stream_leaves_the_spool_without_an_archive(config: Config) -> None:
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: oldest_ms(config, "c.low") > NOW - HOUR < oldest_ms(config, "c"))
        await until(lambda: uploader.discovery.looked and uploader.replicators.is_done)
        assert await archived(catalogue, archive) == (0, ["c", "d"], ["c"])
        assert await catalogue.gaps_between(SECOND, 0, 1 << 60) == []
        assert await catalogue.gaps_between(FIRST, 0, 1 << 60)
        assert not list(uploader.replicators.blocked)
    async with opened(config) as stores:
        assert await look(config, *stores) == []


async def test_it_leaves_the_spool_first_where_room_is_short(config: Config) -> None:
    config = config.model_copy(update={"rewind_s": 86_400})
    first, second = left(config, "c"), left(config, "c.low")

    def nearly_full(spool: Path) -> DiskSpace:
        room = 150_000_000 if left(config, "c.low") > 1 else 900_000_000
        return DiskSpace(free_bytes=room, total_bytes=10**10, files=True)

    async with uploading(config, disk_space=nearly_full) as (uploader, _, _):
        await until(lambda: uploader.cleaner.removed_total == second - 1)
        await until(lambda: uploader.discovery.looked and uploader.replicators.is_done)
    assert (left(config, "c"), left(config, "c.low")) == (first, 1)


async def test_it_is_archived_where_that_is_set(config: Config) -> None:
    config = config.model_copy(update={"archive_low": True})
    before = left(config, "c.low")
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: uploader.discovery.looked and uploader.replicators.is_done)
        await cleared(config, catalogue, before)
        rows, names, objects = await archived(catalogue, archive)
        assert (rows, names, objects) == (before, ["c", "c.low", "d"], ["c", "c.low"])
    async with opened(config) as stores:
        assert await look(config, *stores) == []


async def test_what_was_archived_goes_on_when_it_no_longer_is(config: Config) -> None:
    """A row that says that the spool has a recording is put right when it leaves."""
    kept = config.model_copy(update={"archive_low": True, "rewind_s": 30 * 86_400})
    async with uploading(kept) as (uploader, catalogue, _):
        await until(lambda: uploader.discovery.looked and uploader.replicators.is_done)
        count = len(await catalogue.recordings_of(SECOND))
    with capture_logs() as log:
        async with uploading(config) as (uploader, catalogue, _):
            await cleared(config, catalogue, count)
    assert not [entry for entry in log if entry["log_level"] == "error"]
