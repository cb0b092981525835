"""Spool and archives are cleared although something of one camera cannot be removed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from base.hostclock import ClockWatch, KernelClock
from config.model import Archive, Config
from storage.archival.replicator import PARALLEL, Pauses
from storage.archival.uploader import Uploader
from storage.archive.directory import DirectoryArchive
from storage.archive.port import Put
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.fsck.check import Fsck
from tests.support.archiving import BRISK, NOW, C, configure, kept, later_ms, opened, uploading
from tests.support.spools import fill
from tests.support.waiting import until

D = ("e", "s", "d")
HOUR, DAY = 3_600_000, 86_400_000
ONE = "archives: [archive]\n"
SOON = Pauses(look_s=0.05, remove_s=0.05, retire_s=86_400)


def filled(folder: Path, archive: str = "archives: [archive]\n", ago_ms: int = 3 * HOUR) -> Config:
    """Have two cameras, of which c is the older."""
    config = configure(folder, f"sqlite:///{folder}/k.db", archive, rewind="30d")
    for camera, start_ms in (("c", NOW - ago_ms - HOUR), ("d", NOW - ago_ms)):
        fill(config.spool, camera=camera, start_ms=start_ms).close()
    return config


def media(config: Config, camera: str) -> list[Path]:
    return sorted(config.spool.glob(f"s/{camera}/*/*.mp4"))


class Faulty(DirectoryArchive):
    """One in which a mistake of ours shows with camera c, as long as it is there."""

    is_mended = False

    async def put(self, key: str, *more: Any, **named: Any) -> Put:
        if "/c/" in key and not Faulty.is_mended:
            raise ZeroDivisionError("a mistake")
        return await super().put(key, *more, **named)


async def test_a_fault_of_ours_in_one_recording_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Faulty, "is_mended", False)
    config = filled(tmp_path)
    many, few = len(media(config, "c")) + len(media(config, "d")), len(media(config, "d"))

    def open_archive(settings: Archive) -> DirectoryArchive:
        assert settings.directory
        return Faulty(settings.name, settings.directory)

    with capture_logs() as log:
        async with uploading(config, open_archive=open_archive) as (uploader, _, _):
            await until(lambda: kept(uploader).archived_total == few)
            await until(lambda: len(list(uploader.replicators.blocked)) == many - few)
            monkeypatch.setattr(Faulty, "is_mended", True)
            await until(lambda: kept(uploader).archived_total == many)
    said = [entry for entry in log if entry["event"] == "A fault of Kuager"]
    assert len(said) == many - few and all("/c/" in entry["recording"] for entry in said)


class TwoBuckets(DirectoryArchive):
    """An archive of which the bucket of camera c does not answer until it is back."""

    buckets: tuple[str, ...] = ("one", "two")

    def __init__(self, name: str, root: Path):
        super().__init__(name, root)
        self.is_back = asyncio.Event()

    def bucket_of(self, key: str) -> str:
        return "one" if "/c/" in key else "two"

    async def put(self, key: str, *more: Any, **named: Any) -> Put:
        if "/c/" in key:
            await self.is_back.wait()
        return await super().put(key, *more, **named)


async def test_a_bucket_that_does_not_answer_holds_up_no_other_bucket(tmp_path: Path) -> None:
    config, made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE, "30d"), list[TwoBuckets]()
    for camera in "cd":  # more than are archived at once
        fill(config.spool, camera=camera, start_ms=NOW - HOUR, segments=200).close()
    many, few = len(media(config, "c")) + len(media(config, "d")), len(media(config, "d"))

    def open_archive(settings: Archive) -> TwoBuckets:
        assert settings.directory
        made.append(TwoBuckets(settings.name, settings.directory))
        return made[-1]

    async with uploading(config, open_archive=open_archive) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == few)
        assert kept(uploader).backlog_recordings == many - few > PARALLEL
        made[0].is_back.set()
        await until(lambda: kept(uploader).archived_total == many)


async def test_a_fault_of_ours_in_a_pass_does_not_end_the_uploader(tmp_path: Path) -> None:
    class Once(Uploader):
        tries = 0

        async def find(self) -> None:
            self.tries += 1
            if self.tries < 3:
                raise ZeroDivisionError("a mistake")
            await super().find()

    config = filled(tmp_path)
    many = len(media(config, "c")) + len(media(config, "d"))
    with capture_logs() as log:
        async with opened(config) as (catalogue, archives):
            uploader = Once(config, catalogue, archives, pauses=BRISK)
            task = asyncio.create_task(uploader.run())
            await until(lambda: kept(uploader).archived_total == many)
            task.cancel()
            await asyncio.wait({task})
    assert sum(entry["event"] == "A fault of Kuager" for entry in log) == 1


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
            [r.archives[0].removed_ms is not None for r in await catalogue.recordings_of(n)]
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


@pytest.mark.parametrize("up_ms", [0, 2 * HOUR])
@pytest.mark.parametrize("ahead_ms", [31 * DAY, 400 * DAY])
async def test_a_clock_that_leapt_clears_no_spool(
    tmp_path: Path, ahead_ms: int, up_ms: int
) -> None:
    """By it all is older than the rewind window, also for who has run for long and has not looked
    at the clock since; a server that has the same time is believed."""
    config = filled(tmp_path)
    count = len(media(config, "c")) + len(media(config, "d"))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == count)
    passed_ms = moved_ms = 0

    def clock() -> int:
        return NOW + passed_ms + moved_ms

    kernel = KernelClock(synchronized=True, error_ms=1)
    watch = ClockWatch(clock, lambda: float(passed_ms), lambda: kernel)
    async with opened(config) as (catalogue, archives):
        uploader = Uploader(config, catalogue, archives, clock=clock, watch=watch)
        assert await uploader.recognise()
        await uploader.discovery.look()
        passed_ms = up_ms
        await uploader.clear()
        moved_ms = ahead_ms
        await uploader.clear()
        assert uploader.cleaner.removed_total == 0
        assert len(media(config, "c")) + len(media(config, "d")) == count
        watch.heard("archive", clock(), float(passed_ms))
        await uploader.clear()
        assert uploader.cleaner.removed_total == count - 2  # all but the newest
