"""The uploader against real servers: oldest first, verified, and nothing goes before its time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from config.model import Archive as Settings
from storage.archival.verified_archive import PIECE, VerifiedArchive
from storage.archive.directory import DirectoryArchive
from storage.archive.port import Put
from storage.records import GapCause, parse_archive_document, recording_name, sha256_of
from storage.spool.reader import SpoolReader
from tests.support.archiving import (
    BRISK,
    NOW,
    C,
    configure,
    kept,
    opened,
    s3,
    sealed,
    told,
    uploading,
)
from tests.support.s3 import free_port, rclone
from tests.support.s3 import settings as s3_settings
from tests.support.spools import fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]


async def test_everything_sealed_is_archived_and_verified(
    database_url: str, tmp_path: Path
) -> None:
    config = configure(tmp_path, database_url, "archives: [archive]\n", rewind="2d")
    fill(config.spool, camera="c", start_ms=NOW - 600_000).close()
    live = fill(config.spool, camera="d", start_ms=NOW - 300_000, runs=1, sealed=False)
    async with uploading(config) as (_, catalogue, archive):
        await until(lambda: told(config)["archived_total"] == sealed(config))
        keys = [e.key async for e in archive.entries("e/")]
        rows = await catalogue.recordings_between(("e", "s", "c"), NOW - 10**6, NOW)
        assert rows and all(r.archives[0].verified == "read back" for r in rows)
        names = {recording_name(r.start_ms, r.record_seq) for r in rows}
        assert all(f"e/s/c/{name}.mp4" in keys for name in names)
        for key in (k for k in keys if k.endswith(".json")):
            index = parse_archive_document(await archive.get(key))
            media = await archive.get(key.replace(".json", ".mp4"))
            assert index.seal is not None and len(media) == index.seal.length
        newest = await catalogue.recordings_between(("e", "s", "d"), NOW - 10**6, NOW)
        assert all(r.end_ms <= (live.last_end_ms or 0) for r in newest)
        (gap,) = await catalogue.gaps_between(("e", "s", "c"), 0, NOW)
        assert gap.cause == "no_data"
        assert len(list(config.spool.glob("s/c/*/*.mp4"))) == len(rows)  # within the window
    live.seal(None)
    live.close()
    status = json.loads((config.spool / "_status/uploader.json").read_text())
    archive_status = status["archives"]["archive"]
    assert archive_status["backlog_recordings"] == 0 and archive_status["ok"]


@pytest.mark.slow
async def test_a_bucket_away_and_back_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port))
    fill(config.spool, start_ms=NOW - 3_600_000).close()
    media = list(config.spool.glob("s/c/*/*.mp4"))
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: not kept(uploader).ok)
        assert kept(uploader).backlog_recordings == len(media)
        assert all(p.exists() for p in media)
        with rclone(tmp_path / "s3", port):
            await until(lambda: kept(uploader).archived_total == len(media))
            # older than the rewind window: off the spool, but for the newest
            await until(lambda: uploader.status.removed_total == len(media) - 1)
            assert kept(uploader).ok
            assert len(list(config.spool.glob("s/c/*/*.mp4"))) == 1
            keys = [e.key async for e in archive.entries("e/s/c/")]
            assert len(keys) == 2 * len(media)

        async def is_noted() -> bool:  # after the file has gone
            rows = await catalogue.recordings_between(("e", "s", "c"), 0, NOW)
            return sum(r.removed_ms is not None for r in rows) == len(media) - 1

        await until(is_noted)


async def test_altered_bytes_are_not_archived(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, start_ms=NOW - 3_600_000).close()
    first = min(config.spool.glob("s/c/*/*.mp4"), key=lambda p: int(p.stem.rpartition("-")[2]))
    data = bytearray(first.read_bytes())
    data[200] ^= 1
    first.write_bytes(data)
    count = sealed(config)
    async with uploading(config) as (uploader, _, archive):
        await until(lambda: kept(uploader).archived_total == count - 1)
        await until(lambda: kept(uploader).failures_total > 1)  # it is tried again
        assert kept(uploader).ok and kept(uploader).backlog_recordings == 1
        await until(lambda: told(config)["blocked"]["altered"] == 1)  # its file is written later
        assert not any(k.endswith(first.name) for k in [e.key async for e in archive.entries("e/")])
        assert first.exists()
        assert "does not have the bytes" in capfd.readouterr().out


@pytest.mark.parametrize("step", ["after_put_before_commit", "after_commit_before_row"])
async def test_crash(tmp_path: Path, step: str) -> None:
    """What an uploader that died left in the archive is gone on with, not refused."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with uploading(config) as (uploader, _, archive):
        await until(lambda: kept(uploader).archived_total == count)
        keys = [e.key async for e in archive.entries("e/")]
    (tmp_path / "k.db").unlink()
    if step == "after_put_before_commit":
        for key in keys:
            if key.endswith(".json"):
                (tmp_path / "archive" / key).unlink()
    async with uploading(config) as (uploader, _, archive):
        await until(lambda: kept(uploader).archived_total == len(keys) // 2)
        assert [e.key async for e in archive.entries("e/")] == keys
        assert kept(uploader).failures_total == 0


@pytest.mark.slow
async def test_a_catalogue_that_refuses_once_gets_every_row(tmp_path: Path) -> None:
    """A lock held by another program, as a backup does it, for longer than we wait."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    async with uploading(config) as (uploader, catalogue, _):
        with contextlib.closing(sqlite3.connect(tmp_path / "k.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            fill(config.spool, start_ms=NOW - 600_000).close()
            count = len(list(config.spool.glob("s/c/*/*.mp4")))
            await until(lambda: not uploader.status.catalogue_ok)
        await until(lambda: kept(uploader).archived_total == count)
        rows = await catalogue.recordings_between(C, 0, NOW)
        assert len(rows) == count and all(r.archives for r in rows)


async def test_the_last_recording_is_archived_without_another_word(tmp_path: Path) -> None:
    """A seal that comes after the uploader looked, at the end of a window: no gap follows it."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    spool = fill(config.spool, start_ms=NOW - 50_000, runs=1, segments=10, sealed=False)
    async with uploading(config) as (uploader, _, _):
        await until(lambda: uploader.status.written_ms)  # it has looked
        count = len(list(config.spool.glob("s/c/*/*.mp4")))
        assert kept(uploader).archived_total < count
        spool.seal(None)
        spool.close()
        await until(lambda: kept(uploader).archived_total == count)


async def test_one_unreadable_file_holds_up_no_other(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000).close()
    fill(config.spool, camera="d", start_ms=NOW - 600_000).close()
    count = len(list(config.spool.glob("s/*/*/*.mp4")))
    first = min(config.spool.glob("s/c/*/*.mp4"))
    first.rename(first.with_suffix(".away"))
    first.mkdir()  # a read fails, whoever asks
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == count - 1)
        await until(lambda: kept(uploader).failures_total > 1)
        assert uploader.status.catalogue_ok
        assert kept(uploader).blocked["unreadable"] == 1
        first.rmdir()
        first.with_suffix(".away").rename(first)  # it was an error of a moment
        await until(lambda: kept(uploader).archived_total == count)
        assert kept(uploader).backlog_recordings == 0
        assert "cannot be read" in capfd.readouterr().out


async def test_one_recording_that_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    """A file stands where the directory of the oldest recordings belongs."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 3_600_000, runs=1).close()
    fill(config.spool, camera="d", start_ms=NOW - 600_000, runs=3).close()
    refused, count = len(list(config.spool.glob("s/c/*/*.mp4"))), 0
    (tmp_path / "archive/e/s").mkdir(parents=True)
    (tmp_path / "archive/e/s/c").write_text("in the way")
    count = len(list(config.spool.glob("s/d/*/*.mp4")))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == count)
        await until(lambda: kept(uploader).blocked["refused"] > 0)
        assert kept(uploader).backlog_recordings == refused
        (tmp_path / "archive/e/s/c").unlink()
        await until(lambda: kept(uploader).archived_total == count + refused)


async def test_what_one_archive_missed_comes_from_another(tmp_path: Path) -> None:
    """`archives_needed` 1: the spool's copies go while one archive is away."""
    two = "archives: [{name: near, url: near}, {name: far, url: far}]\narchives_needed: 1\n"
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", two)
    fill(config.spool, start_ms=NOW - 7_200_000).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    (tmp_path / "far").write_text("away")
    async with uploading(config) as (uploader, catalogue, _):
        _, far = uploader.replicators.all
        await until(lambda: uploader.status.removed_total == count - 1)
        assert far.status.backlog_recordings == count and not far.status.ok
        (tmp_path / "far").unlink()
        await until(lambda: far.status.archived_total == count)
    for path in (tmp_path / "far").rglob("*"):  # what it had, and its rows, are lost again
        if path.suffix in (".mp4", ".json") and "_kuager" not in path.parts:
            path.unlink()
    async with opened(config) as (catalogue, _):
        for row in await catalogue.recordings_of(C):
            await catalogue.writer.forget_archived(C, row.identity, "far")
    async with uploading(config) as (uploader, _, _):  # another process: it asks the catalogue
        await until(lambda: uploader.replicators.all[1].status.archived_total == count)
        assert uploader.replicators.all[1].is_done
    names = [sorted(p.name for p in (tmp_path / n / "e/s/c").glob("*/*")) for n in ("near", "far")]
    assert names[0] == names[1]


async def test_no_recording_is_in_memory_as_a_whole(tmp_path: Path) -> None:
    """Not when it is archived from the spool, nor when it comes from another archive."""
    held: list[int] = []

    class Counting(DirectoryArchive):
        """Counts the bytes of recordings that it is given, or gives, at a time."""

        async def put(self, key: str, data: bytes | Path, *args: Any, **named: Any) -> Put:
            if isinstance(data, bytes) and key.endswith(".mp4"):
                held.append(len(data))
            return await super().put(key, data, *args, **named)

        async def get(self, key: str, *args: Any, **named: Any) -> bytes:
            data = await super().get(key, *args, **named)
            if key.endswith(".mp4"):
                held.append(len(data))
            return data

    def counting(settings: Settings) -> Counting:
        assert settings.directory is not None
        return Counting(settings.name, settings.directory)

    two = "archives: [{name: near, url: near}, {name: far, url: far}]\narchives_needed: 1\n"
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", two)
    fill(config.spool, start_ms=NOW - 7_200_000, segments=3, size=PIECE).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    (tmp_path / "far").write_text("away")
    async with uploading(config, open_archive=counting) as (uploader, _, _):
        await until(lambda: uploader.status.removed_total == count - 1)
        assert held == []
        (tmp_path / "far").unlink()
        await until(lambda: uploader.replicators.all[1].status.archived_total == count)
    assert held and max(held) <= PIECE
    assert not list(config.spool.glob("_status/*.fetched"))


async def test_rows_of_one_camera_that_are_refused_hold_up_no_other(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000).close()
    fill(config.spool, camera="d", start_ms=NOW - 600_000).close()
    count = len(list(config.spool.glob("s/d/*/*.mp4")))
    refused = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with opened(config) as (catalogue, _):
        await catalogue.cameras.sync(config)
        pk = (await catalogue.cameras.known([C]))[C]
        async with catalogue.pool.work() as connection:
            await connection.execute(
                sa.text(
                    "CREATE TRIGGER no BEFORE INSERT ON recordings WHEN NEW.camera_pk = "
                    f"{pk} BEGIN SELECT RAISE(ABORT, 'FOREIGN KEY constraint failed'); END"
                )
            )
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total == count)

        def all_told() -> bool:
            found = told(config)
            return (found["backlog_recordings"], found["blocked"]["no_row"]) == (refused, refused)

        await until(all_told)
        async with catalogue.pool.work() as connection:
            await connection.execute(sa.text("DROP TRIGGER no"))
        await until(lambda: kept(uploader).archived_total == count + refused)


async def test_what_nobody_seals_is_backlog(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 10_800_000, runs=1, segments=20, sealed=False).close()
    lines = max(config.spool.glob("s/c/*/*.jsonl"))
    os.utime(lines, (NOW / 1000 - 10_000,) * 2)
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).blocked["unsealed"] == 1)
        fill(config.spool, start_ms=NOW - 600_000, runs=1).close()  # a recorder comes and seals
        count = len(list(config.spool.glob("s/c/*/*.mp4")))
        await until(lambda: kept(uploader).archived_total == count)
        assert kept(uploader).backlog_recordings == 0


async def test_a_stop_archives_what_is_sealed_meanwhile(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    spool = fill(config.spool, start_ms=NOW - 50_000, runs=1, segments=10, sealed=False)
    pauses = replace(BRISK, look_s=0.05, drain_s=60.0, seal_s=30.0)
    async with uploading(config, pauses) as (uploader, _, _):
        await until(lambda: uploader.status.written_ms)
        asyncio.get_running_loop().call_later(0.3, spool.seal, GapCause.RECORDER_STOPPED)
    assert kept(uploader).archived_total == sealed(config) > 0
    assert kept(uploader).backlog_recordings == 0
    spool.close()


async def test_a_stop_says_how_many_wait(tmp_path: Path) -> None:
    """What no archive has is on this disk alone: nobody is to wipe it."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000).close()
    (tmp_path / "archive").write_text("away")
    with capture_logs() as log:
        async with uploading(config) as (uploader, _, _):
            await until(lambda: kept(uploader).backlog_recordings == sealed(config))
    (said,) = [entry for entry in log if entry["event"].startswith("Uploader stopped")]
    assert (said["log_level"], said["recordings"]) == ("warning", sealed(config))
    assert said["bytes"] == sum(p.stat().st_size for p in config.spool.glob("s/c/*/*.mp4"))


def other_digit(data: bytes) -> bytes:
    """Alter one digit of a segment's hash: a document that still can be read."""
    at = data.index(b'"sha256":"', data.index(b'"segments":[')) + 10
    return data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "spoil"),
    [(".mp4", lambda _: b"late"), (".json", lambda _: b"late"), (".json", other_digit)],
)
async def test_what_is_altered_after_it_was_verified_is_put_again(
    tmp_path: Path,
    ending: str,
    spoil: Callable[[bytes], bytes],
) -> None:
    """A write that was long on its way, of an uploader that died; seen before the spool's goes."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port := free_port()), "2d")
    fill(config.spool, start_ms=NOW - 7_200_000).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    with rclone(tmp_path / "s3", port):
        async with uploading(config) as (uploader, _, archive):
            await until(lambda: kept(uploader).archived_total == count)
            keys = [e.key async for e in archive.entries("e/") if e.key.endswith(ending)]
            sha256 = await archive.sha256(keys[0])
            late = spoil(await archive.get(keys[0]))
            await archive.put(keys[0], late, sha256_of(late), replace=True)
        config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port))
        async with uploading(config) as (uploader, catalogue, archive):
            await until(lambda: uploader.status.removed_total == count - 1)
            assert kept(uploader).archived_total == 1  # again; none of the others was
            assert await archive.sha256(keys[0]) == sha256
            assert kept(uploader).verification_failures_total
            rows = await catalogue.recordings_of(C)
            assert all(len(r.archives) == 1 for r in rows)


async def test_of_two_uploaders_one_waits(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    spool = fill(config.spool, start_ms=NOW - 600_000)
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with contextlib.AsyncExitStack() as ends:
        first, _, _ = await ends.enter_async_context(uploading(config))
        await until(lambda: kept(first).archived_total == count)
        with capture_logs() as log:
            second, _, _ = await ends.enter_async_context(uploading(config))
            await until(lambda: any("Another uploader" in entry["event"] for entry in log))
        spool.close()
        fill(config.spool, camera="d", start_ms=NOW - 600_000).close()
        await until(lambda: kept(first).archived_total == sealed(config))
        assert kept(second).archived_total == 0 and not len(second.cameras)


def test_what_was_to_be_kept_until_now_is_archived_without_a_lock(tmp_path: Path) -> None:
    """A recording that waited for longer, or that a clock dated back: a server refuses its date."""
    fill(tmp_path, start_ms=NOW - 3_600_000, runs=1, segments=5).close()
    reader = SpoolReader(tmp_path, "s", "c")
    reader.refresh()
    index = next(index for _, index in reader.recordings())
    settings, nothing = s3_settings(1, lock="governance", keep="1d"), cast(Any, None)
    until_ms = index.end_ms + 86_400_000

    def locked(now_ms: int) -> int | None:
        archive = VerifiedArchive(settings, nothing, nothing, clock=lambda: now_ms)
        return archive.locked_until_ms(index)

    assert locked(NOW) == locked(until_ms - 3_600_000) == until_ms
    for now_ms in (until_ms - 1, until_ms, until_ms + 86_400_000):
        assert locked(now_ms) is None
