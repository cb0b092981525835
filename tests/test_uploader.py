"""The uploader against real servers: oldest first, verified, and nothing goes before its time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from config.load import load
from config.model import Config
from storage.archive import Archive, open_archive
from storage.catalogue import Catalogue
from storage.disk import Room
from storage.index import ClockState, GapCause, parse_archive_document
from storage.keeper import KeeperStatus, digest_of
from storage.recording import recording_name
from storage.spool import Run
from storage.uploader import Uploader
from tests.s3 import BUCKET, KEY, SECRET, free_port, rclone
from tests.spools import TRACKS, fill
from tests.stack import until

pytest_plugins = ["tests.postgres"]
NOW = int(time.time() * 1000)
C = ("e", "s", "c")

STATIONS = """\
stations:
  - id: s
    number: "1"
    cameras:
      - {id: c, url: "rtsp://127.0.0.1/c"}
      - {id: d, url: "rtsp://127.0.0.1/d"}
"""


def configure(folder: Path, database_url: str, archive: str, rewind: str = "60s") -> Config:
    (folder / "stations.yaml").write_text(STATIONS)
    (folder / "kuager.yaml").write_text(
        "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
        " windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}\n"
        f"stations: stations.yaml\nspool: spool\n{archive}rewind: {rewind}\n"
        f'database: "{database_url}"\n'
    )
    return load(folder / "kuager.yaml", {"SECRET": SECRET})


def kept(uploader: Uploader) -> KeeperStatus:
    return uploader.keepers[0].status


def s3(port: int) -> str:
    return (
        f"archives:\n  - url: s3://{BUCKET}\n    endpoint: http://127.0.0.1:{port}\n"
        f"    region: us-east-1\n    access_key_id: {KEY}\n    secret_access_key: ${{SECRET}}\n"
    )


@contextlib.asynccontextmanager
async def uploading(config: Config) -> AsyncIterator[tuple[Uploader, Catalogue, Archive]]:
    async with opened(config) as (catalogue, archives):
        uploader = Uploader(config, catalogue, archives)
        task = asyncio.create_task(uploader.run())
        try:
            yield uploader, catalogue, archives[0]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Catalogue, list[Archive]]]:
    """Catalogue and archives, without anyone at work."""
    catalogue = await Catalogue.open(config.database_url)
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
            await catalogue.writer.mark_removed(name, row["record_seq"], row["start_ms"], NOW)


async def test_everything_sealed_is_archived_and_verified(
    database_url: str, tmp_path: Path
) -> None:
    config = configure(tmp_path, database_url, "archives: [archive]\n", rewind="2d")
    fill(config.spool, camera="c", start_ms=NOW - 600_000).close()
    live = fill(config.spool, camera="d", start_ms=NOW - 300_000, runs=1, sealed=False)
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: kept(uploader).archived_total >= 3, 30)
        await asyncio.sleep(1.5)
        keys = [e.key async for e in archive.entries("e/")]
        rows = await catalogue.recordings_between(("e", "s", "c"), NOW - 10**6, NOW)
        assert rows and all(r["archives"][0]["verified"] == "read back" for r in rows)
        names = {recording_name(r["start_ms"], r["record_seq"]) for r in rows}
        assert all(f"e/s/c/{name}.mp4" in keys for name in names)
        for key in (k for k in keys if k.endswith(".json")):
            index = parse_archive_document(await archive.get(key))
            media = await archive.get(key.replace(".json", ".mp4"))
            assert index.seal is not None and len(media) == index.seal.length
        newest = await catalogue.recordings_between(("e", "s", "d"), NOW - 10**6, NOW)
        assert all(r["end_ms"] <= (live.last_end_ms or 0) for r in newest)
        (gap,) = await catalogue.gaps_between(("e", "s", "c"), 0, NOW)
        assert gap["cause"] == "no_data"
        assert len(list(config.spool.glob("s/c/*/*.mp4"))) == len(rows)  # within the window
    live.seal(None)
    live.close()
    status = json.loads((config.spool / "_status/uploader.json").read_text())
    archive_status = status["archives"]["archive"]
    assert archive_status["backlog_recordings"] == 0 and archive_status["ok"]


async def test_a_bucket_away_and_back_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port))
    fill(config.spool, start_ms=NOW - 3_600_000).close()
    media = list(config.spool.glob("s/c/*/*.mp4"))
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: not kept(uploader).ok, 20)
        assert kept(uploader).backlog_recordings == len(media)
        assert all(p.exists() for p in media)
        with rclone(tmp_path / "s3", port):
            await until(lambda: kept(uploader).archived_total == len(media), 40)
            # older than the rewind window: off the spool, but for the newest
            await until(lambda: uploader.status.removed_total == len(media) - 1, 20)
            assert kept(uploader).ok
            assert len(list(config.spool.glob("s/c/*/*.mp4"))) == 1
            keys = [e.key async for e in archive.entries("e/s/c/")]
            assert len(keys) == 2 * len(media)
        rows = await catalogue.recordings_between(("e", "s", "c"), 0, NOW)
        assert sum(r["removed_ms"] is not None for r in rows) == len(media) - 1


async def test_altered_bytes_are_not_archived(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, start_ms=NOW - 3_600_000).close()
    first = min(config.spool.glob("s/c/*/*.mp4"), key=lambda p: int(p.stem.rpartition("-")[2]))
    data = bytearray(first.read_bytes())
    data[200] ^= 1
    first.write_bytes(data)
    async with uploading(config) as (uploader, _, archive):
        await until(lambda: kept(uploader).archived_total >= 2, 20)
        await asyncio.sleep(2)
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
        await until(lambda: kept(uploader).archived_total == count, 20)
        keys = [e.key async for e in archive.entries("e/")]
    (tmp_path / "k.db").unlink()
    if step == "after_put_before_commit":
        for key in keys:
            if key.endswith(".json"):
                (tmp_path / "archive" / key).unlink()
    async with uploading(config) as (uploader, _, archive):
        await until(lambda: kept(uploader).archived_total == len(keys) // 2, 20)
        assert [e.key async for e in archive.entries("e/")] == keys
        assert kept(uploader).failures_total == 0


async def test_a_catalogue_that_refuses_once_gets_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock held by another program, as a backup does it, for longer than we wait."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    monkeypatch.setattr("storage.database.BUSY_MS", 200)
    async with uploading(config) as (uploader, catalogue, _):
        await asyncio.sleep(0.5)
        with contextlib.closing(sqlite3.connect(tmp_path / "k.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            fill(config.spool, start_ms=NOW - 600_000).close()
            count = len(list(config.spool.glob("s/c/*/*.mp4")))
            await until(lambda: not uploader.status.catalogue_ok, 20)
        await until(lambda: kept(uploader).archived_total == count, 20)
        rows = await catalogue.recordings_between(C, 0, NOW)
        assert len(rows) == count and all(r["archives"] for r in rows)


async def test_the_last_recording_is_archived_without_another_word(tmp_path: Path) -> None:
    """A seal that comes after the uploader looked, at the end of a window: no gap follows it."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    spool = fill(config.spool, start_ms=NOW - 50_000, runs=1, segments=10, sealed=False)
    async with uploading(config) as (uploader, _, _):
        await asyncio.sleep(2.5)
        before = kept(uploader).archived_total
        spool.seal(None)
        spool.close()
        await until(lambda: kept(uploader).archived_total == before + 1, 10)


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
        await until(lambda: kept(uploader).archived_total == count - 1, 20)
        assert kept(uploader).failures_total == 1 and uploader.status.catalogue_ok
        assert "cannot be read" in capfd.readouterr().out


async def test_a_recording_of_the_future_blocks_no_removal(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    spool = fill(config.spool, start_ms=NOW + 10**9, runs=1, segments=5)
    future = len(list(config.spool.glob("s/c/*/*.mp4")))
    old = Run(NOW - 7_200_000, b"\0\0\0\x10ftypiso5" + bytes(4), TRACKS, 2)
    for k in range(90):
        spool.append(
            old,
            b"x" * 100,
            tfdt_90k=k * 180_000,
            duration_90k=180_000,
            starts_with_key=True,
            arrival_ms=0,
            camera_ms=None,
            clock=ClockState(True, 2),
        )
    spool.seal(GapCause.RECORDER_STOPPED)
    spool.close()
    before = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: uploader.status.removed_total == before - future - 1, 30)


async def test_a_disk_that_goes_and_comes_back_is_gone_on_with(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    (tmp_path / "archive").write_text("not a directory")  # so that they wait
    async with uploading(config) as (uploader, _, _):
        await until(lambda: not kept(uploader).ok, 10)
        config.spool.rename(tmp_path / "away")
        (tmp_path / "archive").unlink()
        await asyncio.sleep(3)
        assert kept(uploader).archived_total == 0 and not config.spool.exists()
        (tmp_path / "away").rename(config.spool)
        await until(lambda: kept(uploader).archived_total == count, 30)
        assert kept(uploader).ok


async def test_a_disk_that_is_nearly_full_is_cleared_of_what_is_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest go first, and no more than is needed; what is not archived stays."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000, segments=120).close()
    before = sorted(config.spool.glob("s/c/*/*.mp4"))
    found = os.statvfs(config.spool)

    def short() -> int:  # of room, until three recordings have gone
        return 0 if len(list(config.spool.glob("s/c/*/*.mp4"))) > len(before) - 3 else 1 << 50

    monkeypatch.setattr(
        "storage.uploader.room", lambda _: Room(short(), found.f_blocks * found.f_frsize, True)
    )
    monkeypatch.setattr("storage.uploader.REMOVE_S", 0.2)
    async with uploading(config) as (uploader, _, archive):
        await until(lambda: uploader.status.removed_total == 3, 20)
        await asyncio.sleep(1)
        assert sorted(config.spool.glob("s/c/*/*.mp4")) == before[3:]
        keys = [e.key async for e in archive.entries("e/")]
        assert all(any(k.endswith(p.name) for k in keys) for p in before[:3])


def other_digit(data: bytes) -> bytes:
    """Alter one digit of a segment's hash: a document that still can be read."""
    at = data.index(b'"sha256":"', data.index(b'"segments":[')) + 10
    return data[:at] + (b"1" if data[at : at + 1] == b"0" else b"0") + data[at + 1 :]


@pytest.mark.parametrize(
    ("ending", "spoil"),
    [(".mp4", lambda _: b"late"), (".json", lambda _: b"late"), (".json", other_digit)],
)
async def test_what_is_altered_after_it_was_verified_is_put_again(
    tmp_path: Path,
    ending: str,
    spoil: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A write that was long on its way, of an uploader that died; seen before the spool's goes."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port := free_port()), "2d")
    fill(config.spool, start_ms=NOW - 7_200_000).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    with rclone(tmp_path / "s3", port):
        async with uploading(config) as (uploader, _, archive):
            await until(lambda: kept(uploader).archived_total == count, 20)
            keys = [e.key async for e in archive.entries("e/") if e.key.endswith(ending)]
            sha256 = await archive.sha256(keys[0])
            late = spoil(await archive.get(keys[0]))
            await archive.put(keys[0], late, digest_of(late), replace=True)
        config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port))
        monkeypatch.setattr("storage.uploader.REMOVE_S", 0.2)
        async with uploading(config) as (uploader, catalogue, archive):
            await until(lambda: uploader.status.removed_total == count - 1, 20)
            assert kept(uploader).archived_total == 1  # again; none of the others was
            assert await archive.sha256(keys[0]) == sha256
            assert kept(uploader).verification_failures_total
            rows = await catalogue.recordings_of(C)
            assert all(len(r["archives"]) == 1 for r in rows)


async def test_of_two_uploaders_one_waits(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    spool = fill(config.spool, start_ms=NOW - 600_000)
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with uploading(config) as (first, _, _):
        await until(lambda: kept(first).archived_total == count, 20)
        async with uploading(config) as (second, _, _):
            spool.close()
            fill(config.spool, camera="d", start_ms=NOW - 600_000).close()
            every = len(list(config.spool.glob("s/*/*/*.mp4")))
            await until(lambda: kept(first).archived_total == every, 20)
            assert kept(second).archived_total == 0 and not second._cameras
