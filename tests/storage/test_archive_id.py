"""An archive is known by its id: a disk that is not mounted is not written to, nor trusted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from kuager.check import check
from storage.archive.directory import DirectoryArchive
from storage.archive.factory import open_archive
from storage.archive.port import MARKER_KEY, AnotherArchive, ArchiveConflict, ArchiveError, Put
from storage.catalogue.archive_ids import identify, marked
from storage.records import sha256_of
from streaming.context import AppContext
from streaming.ops.metrics import make_registry
from tests.support.archiving import NOW, configure, kept, opened, s3, uploading
from tests.support.s3 import BUCKET, free_port, rclone
from tests.support.spools import fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
ONE = "archives: [archive]\n"


async def test_an_archive_that_hides_its_marker_is_not_remembered(tmp_path: Path) -> None:
    """It says that the marker exists, and that it does not: a list or a node of it is late."""

    class Hiding(DirectoryArchive):
        async def put(self, key: str, *args: Any, **named: Any) -> Put:
            raise ArchiveConflict(f"{key} exists")

    archive = Hiding("archive", tmp_path / "archive")
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE)
    async with opened(config) as (catalogue, archives):
        with pytest.raises(ArchiveError, match="does not give it"):
            await identify(archive, catalogue.archive_ids)
        assert await catalogue.archive_ids.known() == {}
        await identify(archives[0], catalogue.archive_ids)
    await archive.close()


@pytest.mark.slow
async def test_a_disk_that_is_not_mounted_is_not_the_archive(
    database_url: str, tmp_path: Path
) -> None:
    """Taken away between two starts of the uploader: below its mount point is a directory."""
    config = configure(tmp_path, database_url, ONE)
    fill(config.spool, start_ms=NOW - 7_200_000).close()
    config = configure(tmp_path, database_url, ONE, "2d")
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == count)
    assert await asyncio.to_thread(check, config.path, False) == 0
    (tmp_path / "archive").rename(tmp_path / "disk")
    (tmp_path / "archive").mkdir()
    config = configure(tmp_path, database_url, ONE)  # all but the newest may leave the spool
    fill(config.spool, camera="d", start_ms=NOW - 600_000, runs=1).close()
    others = len(list(config.spool.glob("s/d/*/*.mp4")))
    with capture_logs() as log:
        async with uploading(config) as (uploader, _, _):
            await until(lambda: not kept(uploader).ok)
            looked = uploader.discovery.looked
            await until(lambda: uploader.discovery.looked > looked + 5)
            assert kept(uploader).backlog_recordings == others
            assert uploader.status.removed_total == 0 and not list((tmp_path / "archive").iterdir())
            (tmp_path / "archive").rmdir()
            (tmp_path / "disk").rename(tmp_path / "archive")  # it goes on by itself
            await until(lambda: kept(uploader).archived_total == others)
            await until(lambda: uploader.status.removed_total >= count - 1)
            assert kept(uploader).verification_failures_total == 0
    assert any("mount its disk" in str(entry.get("why")) for entry in log)
    assert not any("altered" in entry["event"] for entry in log)


def test_the_check_names_an_archive_that_is_another(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE)
    fill(config.spool, start_ms=NOW - 600_000, runs=1).close()

    async def archived() -> None:
        async with uploading(config) as (uploader, _, _):
            await until(lambda: kept(uploader).archived_total)

    asyncio.run(archived())
    (tmp_path / "archive").rename(tmp_path / "disk")
    assert check(config.path, False) == 1
    assert "WRONG  archive archive: the archive is gone from" in capfd.readouterr().out
    with_mount = f"archives: [{{url: archive, mount: {tmp_path}}}]\n"
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", with_mount)
    assert check(config.path, False) == 1
    assert "no disk is mounted" in capfd.readouterr().out


async def test_ids_tell_new_lost_other_and_renamed_archives(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE)
    async with opened(config) as (catalogue, (archive,)):
        ids = catalogue.archive_ids
        await identify(archive, ids)
        first = await marked(archive)
        assert first and await ids.known() == {"archive": first}
        await identify(archive, ids)
        assert archive.expected_id == first == await marked(archive)
        again = DirectoryArchive("other", tmp_path / "archive")
        with pytest.raises(AnotherArchive, match="give it that name again"):
            await identify(again, ids)
        await again.close()
        marker = tmp_path / "archive" / MARKER_KEY
        kept = marker.read_bytes()
        marker.write_text('{"kuager":"archive/1","id":"0"}')
        for refused in (identify(archive, ids), archive.put("e/x", b"x", sha256_of(b"x"))):
            with pytest.raises(AnotherArchive, match="another archive is at"):
                await refused
        marker.write_bytes(b"{")
        with pytest.raises(AnotherArchive, match="cannot be read"):
            await archive.put("e/x", b"x", sha256_of(b"x"))
        marker.unlink()
        with pytest.raises(AnotherArchive, match="is gone from"):
            await archive.put("e/x", b"x", sha256_of(b"x"))
        marker.write_bytes(kept)
        await archive.put("e/x", b"x", sha256_of(b"x"))


class Late(DirectoryArchive):
    """What is put first comes after another's work."""

    before: Awaitable[object] | None = None

    async def put(self, *args: Any, **named: Any) -> Put:
        if self.before is not None:
            before, self.before = self.before, None
            await before
        return await super().put(*args, **named)


async def test_two_machines_that_mark_one_archive_at_once_agree(tmp_path: Path) -> None:
    """On a server that lets one object replace another, as some do."""

    class Lax(Late):
        refuses_to_replace = False

        async def put(self, *args: Any, **named: Any) -> Put:
            return await super().put(*args, **{**named, "replace": True})

    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE)
    async with opened(config) as (catalogue, _):
        ids = catalogue.archive_ids
        first, second = (Lax("archive", tmp_path / "archive") for _ in range(2))
        second.before = identify(first, ids)
        await identify(second, ids)
        assert first.expected_id == second.expected_id == await marked(first)
        for archive in (first, second):
            await archive.put("e/x", b"x", sha256_of(b"x"))
            await archive.close()


async def test_two_places_of_one_name_are_not_one_archive(tmp_path: Path) -> None:
    """Two machines that begin at once, each on a disk of its own that should be a common one."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE)
    async with opened(config) as (catalogue, _):
        first, second = (Late("archive", tmp_path / name) for name in ("first", "second"))
        second.before = identify(first, catalogue.archive_ids)
        with pytest.raises(AnotherArchive, match="another archive is at the place"):
            await identify(second, catalogue.archive_ids)
        assert await marked(second) != await marked(first) == first.expected_id
        await first.close()
        await second.close()


async def test_two_new_names_of_one_place_are_not_two_archives(tmp_path: Path) -> None:
    """A recording that "both" have would be there once, and go when the first lets it go."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE)
    marker = tmp_path / "archive" / MARKER_KEY
    marker.parent.mkdir(parents=True)
    marker.write_text('{"kuager":"archive/1","id":"0"}')  # as another catalogue left it
    async with opened(config) as (catalogue, _):
        names = [DirectoryArchive(name, tmp_path / "archive") for name in ("near", "far")]
        ids = catalogue.archive_ids
        ends = await asyncio.gather(*(identify(n, ids) for n in names), return_exceptions=True)
        assert sorted(map(type, ends), key=str) == [type(None), AnotherArchive]
        assert list((await ids.known()).values()) == ["0"]
        for archive in names:
            await archive.close()


async def test_an_archive_from_before_there_were_ids_is_marked_where_it_is(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE, "2d")
    fill(config.spool, start_ms=NOW - 600_000, runs=1).close()
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total)
        await until(lambda: uploader.discovery.looked and uploader.replicators.is_done)
    async with opened(config) as (catalogue, (archive,)):
        async with catalogue.pool.work() as connection:
            await connection.exec_driver_sql("DELETE FROM archive_ids")
        (tmp_path / "archive" / MARKER_KEY).unlink()
        (tmp_path / "archive").rename(tmp_path / "disk")
        with pytest.raises(AnotherArchive, match="nothing is there"):
            await identify(archive, catalogue.archive_ids)
        assert not (tmp_path / "archive").exists()
        (tmp_path / "disk").rename(tmp_path / "archive")
        await identify(archive, catalogue.archive_ids)
        assert await marked(archive) == archive.expected_id


@pytest.mark.slow
async def test_a_bucket_that_is_another_gets_nothing(tmp_path: Path) -> None:
    port = free_port()
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port))
    async with opened(config) as (catalogue, (archive,)):
        with rclone(tmp_path / "s3", port):
            await identify(archive, catalogue.archive_ids)
            await archive.put("e/s/c/x", b"x", sha256_of(b"x"))
        with rclone(tmp_path / "other", port):
            again = open_archive(config.archives[0])
            with pytest.raises(AnotherArchive, match="is gone from"):
                await identify(again, catalogue.archive_ids)
            await again.close()
            names = [p.name for p in (tmp_path / "other" / BUCKET).rglob("*") if p.is_file()]
            assert not [name for name in names if "probe" not in name]


def test_what_waits_does_not_vanish_with_the_uploader(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", ONE)
    fill(config.spool, start_ms=NOW - 600_000, runs=1).close()
    (tmp_path / "archive").write_text("away")

    async def look() -> None:
        async with uploading(config) as (uploader, _, _):
            await until(lambda: not kept(uploader).ok)

    asyncio.run(look())
    status = config.spool / "_status/uploader.json"
    said = status.read_text()
    written = said.partition('"written_ms":')[2].partition(",")[0]
    status.write_text(said.replace(written, str(int(written) - 600_000)))
    context = AppContext(config, None, [])
    list(context.refresh())
    found = {
        (metric.name, *sample.labels.values()): sample.value
        for metric in make_registry(context).collect()
        for sample in metric.samples
        if metric.name.startswith(("kuager_process", "kuager_archive"))
    }
    assert found["kuager_process_up", "uploader-0"] == 0
    told_s = found["kuager_process_told_timestamp_seconds", "uploader-0"]
    assert time.time() - told_s >= 600
    waits = len(list(config.spool.glob("s/c/*/*.mp4")))
    assert found["kuager_archive_backlog_recordings", "archive"] == waits
    assert found["kuager_archive_blocked_recordings", "archive", "gone"] == 0
