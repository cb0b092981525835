"""Spool and archives are cleared although something of one camera cannot be removed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from base.hostclock import ClockWatch, KernelClock
from config.model import Config
from storage.archival.replicator import Pauses
from storage.archival.uploader import Uploader
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.fsck.check import Fsck
from tests.support.archiving import NOW, C, configure, kept, later_ms, opened, uploading
from tests.support.spools import fill
from tests.support.waiting import until

D = ("e", "s", "d")
HOUR, DAY = 3_600_000, 86_400_000
SOON = Pauses(look_s=0.05, remove_s=0.05, retire_s=86_400)


def filled(folder: Path, archive: str = "archives: [archive]\n", ago_ms: int = 3 * HOUR) -> Config:
    """Have two cameras, of which c is the older."""
    config = configure(folder, f"sqlite:///{folder}/k.db", archive, rewind="30d")
    for camera, start_ms in (("c", NOW - ago_ms - HOUR), ("d", NOW - ago_ms)):
        fill(config.spool, camera=camera, start_ms=start_ms).close()
    return config


def media(config: Config, camera: str) -> list[Path]:
    return sorted(config.spool.glob(f"s/{camera}/*/*.mp4"))


async def refuse_updates(catalogue: Catalogue, table: str, name: Name) -> None:
    """Have the database refuse to change the rows of one camera."""
    pk = (await catalogue.cameras.known([name]))[name]
    async with catalogue.pool.work() as connection:
        await connection.execute(
            sa.text(
                f"CREATE TRIGGER no BEFORE UPDATE ON {table} WHEN NEW.camera_pk = {pk} "
                "BEGIN SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed'); END"
            )
        )


async def test_a_file_that_cannot_be_removed_keeps_no_other_in_the_spool(tmp_path: Path) -> None:
    config = filled(tmp_path)
    count = len(media(config, "c")) + len(media(config, "d"))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == count)
    first = media(config, "c")[0]
    first.rename(tmp_path / "aside")
    first.mkdir()  # cannot be unlinked, whoever asks
    config = config.model_copy(update={"rewind_s": 60})
    with capture_logs() as log:
        async with uploading(config) as (uploader, _, _):
            await until(lambda: uploader.status.removed_total == count - 3)  # the newest two stay
            assert uploader.status.catalogue_ok
            first.rmdir()
            (tmp_path / "aside").rename(first)
            await until(lambda: uploader.status.removed_total == count - 2)
            await until(lambda: any("leave the spool" in e["event"] for e in log))
    (said,) = [entry for entry in log if "cannot be taken off" in entry["event"]]
    assert str(first.with_suffix("")) in said["why"]


async def test_rows_of_one_camera_keep_no_other_in_the_spool(tmp_path: Path) -> None:
    config = filled(tmp_path)
    count = len(media(config, "c")) + len(media(config, "d"))
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total == count)
        await refuse_updates(catalogue, "recordings", C)
    config = config.model_copy(update={"rewind_s": 60})
    async with uploading(config):
        await until(lambda: len(media(config, "d")) == 1)


async def test_rows_of_one_camera_keep_no_other_in_an_archive(tmp_path: Path) -> None:
    config = filled(tmp_path, "archives: [{url: archive, keep: 1d}]\n", 3 * DAY)
    count = len(media(config, "c")) + len(media(config, "d"))
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total == count)
        await refuse_updates(catalogue, "archived", C)
    up_ms = 0.0
    watch = ClockWatch(
        lambda: int(NOW + up_ms), lambda: up_ms, lambda: KernelClock(synchronized=True, error_ms=1)
    )
    async with opened(config) as (catalogue, archives):
        uploader = Uploader(config, catalogue, archives, pauses=SOON, watch=watch)
        task = asyncio.create_task(uploader.run())
        up_ms += DAY
        with capture_logs() as log:
            await until(lambda: uploader.status.retired_total > 0)
            await until(lambda: any("are not removed from archives now" in e["event"] for e in log))
        task.cancel()
        await asyncio.wait({task})
        removed = [
            [r["archives"][0]["removed_ms"] is not None for r in await catalogue.recordings_of(n)]
            for n in (C, D)
        ]
        assert not any(removed[0]) and any(removed[1])


@pytest.mark.parametrize("late", [True, False])
async def test_bytes_in_the_spool_without_an_index_are_told_of(tmp_path: Path, late: bool) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - HOUR).close()
    stray = media(config, "c")[1]
    stray.with_suffix(".jsonl").unlink()
    async with opened(config) as (catalogue, archives):
        clock = later_ms if late else lambda: NOW
        found = await Fsck(config, catalogue, archives, clock=clock).check(C)
    told = [f.which for f in found if f.what == "bytes without an index"]
    assert told == ([stray.name] if late else [])
