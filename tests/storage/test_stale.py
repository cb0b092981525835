"""Rows and files that change behind the back of who looked at them: nothing is lost, hidden or
told wrongly for that."""

from __future__ import annotations

import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from base.hostclock import ClockWatch, KernelClock
from config.model import Config
from storage.archival.replicator import Replicator
from storage.archival.retention import gap_object, retire
from storage.archival.uploader import Uploader
from storage.catalogue.catalogue import Catalogue
from storage.fsck.camera import Finding
from storage.fsck.check import Fsck
from storage.fsck.spool import UNREAD, UNSEALED
from storage.media.fmp4 import Sample, TrackRun, write_segment
from storage.records import (
    REMOVED_FORMAT,
    ClockState,
    Gap,
    GapCause,
    Index,
    Trace,
    parse_index,
    sha256_of,
)
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.recording import ROTATE_MS
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from tests.support.archiving import BRISK, NOW, C, configure, later_ms, opened
from tests.support.spools import TRACKS, fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
HOUR = 3_600_000


def indexes(config: Config) -> list[Index]:
    return [parse_index(p.read_bytes()) for p in sorted(config.spool.glob("s/*/*/*.jsonl"))]


def an_uploader(config: Config, catalogue: Catalogue, archives: Any) -> Uploader:
    return Uploader(config, catalogue, archives, pauses=BRISK)


async def archive_due(uploader: Uploader, replicators: Sequence[Replicator]) -> None:
    """Have an uploader look, and some of its replicators archive what is due."""
    assert await uploader.recognise()
    await uploader.discovery.look()
    for replicator in replicators:
        for backlog in replicator._backlogs.values():
            while await replicator._take(backlog):
                pass


async def archived_near(config: Config, catalogue: Catalogue, archives: Any) -> Uploader:
    """Return an uploader whose first archive alone has everything."""
    uploader = an_uploader(config, catalogue, archives)
    await archive_due(uploader, uploader.replicators.all[:1])
    return uploader


async def work(uploader: Uploader, looks: int = 2) -> None:
    """Have an uploader look, archive what is due, and clear the spool, so many times."""
    for _ in range(looks):
        await archive_due(uploader, uploader.replicators.all)
        await uploader.clear()


async def fsck(config: Config, **how: Any) -> list[Finding]:
    async with opened(config) as (catalogue, archives):
        look = Fsck(config, catalogue, archives, clock=later_ms, **how)
        found = [f for name in await look.cameras() for f in await look.check(name)]
    return [f for f in found if f.where != "schedule"]


@contextmanager
def database(folder: Path) -> Iterator[sqlite3.Connection]:
    with sqlite3.connect(folder / "k.db") as db:
        yield db
    db.close()


def one_archive(folder: Path, rewind: str = "60s") -> Config:
    return configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n", rewind=rewind)


async def test_rows_that_are_gone_are_entered_again_before_the_spool_forgets(
    tmp_path: Path,
) -> None:
    """A database that came back from a copy has the same id, and lacks rows."""
    config = one_archive(tmp_path, "1h")
    fill(config.spool, start_ms=NOW - 9 * HOUR).close()
    count = len(indexes(config))
    async with opened(config) as (catalogue, archives):
        uploader = an_uploader(config, catalogue, archives)
        assert await uploader.recognise()
        await uploader.discovery.look()
        for replicator in uploader.replicators.all:
            for backlog in replicator._backlogs.values():
                while await replicator._take(backlog):
                    pass
        with database(tmp_path) as db:
            db.execute("DELETE FROM archived")
            db.execute("DELETE FROM recordings")
        await work(uploader, 3)
        rows = await catalogue.recordings_of(C)
        assert len(rows) == count and all(row.archives for row in rows)
        assert uploader.cleaner.removed_total == count - 1


async def test_a_database_into_which_another_was_loaded_has_one_id(tmp_path: Path) -> None:
    config = one_archive(tmp_path)
    async with opened(config) as (catalogue, _):
        with database(tmp_path) as db:
            db.execute("INSERT INTO catalogue (id) VALUES ('another')")
        assert await catalogue.id() == await catalogue.prepared() != ""


async def test_a_row_that_is_gone_or_names_other_bytes_blocks_no_recording(tmp_path: Path) -> None:
    config = one_archive(tmp_path, "2d")
    fill(config.spool, start_ms=NOW - HOUR).close()
    first, second, *_ = indexes(config)
    async with opened(config) as (catalogue, archives):
        uploader = an_uploader(config, catalogue, archives)
        assert await uploader.recognise()
        await uploader.discovery.look()
        with database(tmp_path) as db:
            db.execute("DELETE FROM recordings WHERE record_seq = ?", (first.identity.record_seq,))
            db.execute(
                "UPDATE recordings SET sha256 = zeroblob(32) WHERE record_seq = ?",
                (second.identity.record_seq,),
            )

        async def is_done() -> bool:
            await work(uploader, 1)
            return not list(uploader.replicators.all[0]._waiting())

        await until(is_done)
        rows = {row.identity: row for row in await catalogue.recordings_of(C)}
        for index in (first, second):
            assert rows[index.identity].archives
        # what another process sees afterwards
        other = an_uploader(config, catalogue, archives)
        await work(other)
        assert not list(other.replicators.all[0]._waiting())


async def test_what_an_archive_removed_in_its_time_stays_removed(tmp_path: Path) -> None:
    """Its time came in one archive while the other one was away: the spool had it all the time."""
    config = configure(
        tmp_path,
        f"sqlite:///{tmp_path}/k.db",
        "archives: [{name: near, url: near, keep: 1d}, {name: far, url: far}]\n"
        "archives_needed: 1\n",
    )
    fill(config.spool, start_ms=NOW - 9 * HOUR).close()
    found = indexes(config)
    (tmp_path / "far").write_text("no directory: the archive is away")
    async with opened(config) as (catalogue, archives):
        uploader = await archived_near(config, catalogue, archives)
        assert await retire(catalogue, archives[0], C, 3600, share=1) == len(found)
        for one in (uploader, an_uploader(config, catalogue, archives)):
            await work(one, 1)
            assert len(indexes(config)) == len(found)  # far has none of it, and keeps all
        (tmp_path / "far").unlink()
        await work(an_uploader(config, catalogue, archives))
        assert not list((tmp_path / "near").glob("e/s/c/*/*.mp4"))
        assert len(list((tmp_path / "far").glob("e/s/c/*/*.mp4"))) == len(found)
        assert len(indexes(config)) == 1
        for row in await catalogue.recordings_of(C):
            told = {a.archive: a.removed_ms for a in row.archives}
            assert told.keys() == {"near", "far"} and told["near"] and told["far"] is None


async def test_an_index_that_cannot_be_read_is_not_one_that_is_gone(tmp_path: Path) -> None:
    """Its last look at the archives needs the index: without one nothing leaves the spool."""
    config = one_archive(tmp_path)
    fill(config.spool, start_ms=NOW - 9 * HOUR).close()
    first = indexes(config)[0]
    lines = next(config.spool.glob(f"s/c/*/*-{first.header.record_seq}.jsonl"))
    async with opened(config) as (catalogue, archives):
        uploader = an_uploader(config, catalogue, archives)
        assert await uploader.recognise()
        await uploader.discovery.look()
        for backlog in uploader.replicators.all[0]._backlogs.values():
            while await uploader.replicators.all[0]._take(backlog):
                pass
        lines.write_bytes(b"no header\n" + lines.read_bytes())
        await work(uploader)
        assert lines.with_suffix(".mp4").exists()
        assert len(list(config.spool.glob("s/c/*/*.mp4"))) == 2


async def test_one_recording_has_one_row_whatever_became_of_the_first_with_its_number(
    database_url: str, tmp_path: Path
) -> None:
    config = configure(tmp_path, database_url, "archives: [archive]\n")
    other = config.model_copy(update={"spool": tmp_path / "b"})
    for n, one in enumerate((config, other)):
        fill(one.spool, start_ms=NOW - HOUR + n, runs=1, segments=1).close()
    (a,), (b,) = indexes(config), indexes(other)
    async with opened(config) as (catalogue, _):
        writer = catalogue.writer
        await writer.put_recordings([a], claim_spool(config.spool))
        assert await writer.put_recordings([b], now_ms=NOW) == [b]  # as fsck does
        await writer.put_recordings([b], claim_spool(other.spool))
        rows = {row.identity: row for row in await catalogue.recordings_of(C)}
        assert rows[b.identity].spool == claim_spool(other.spool)
        assert rows[b.identity].removed_ms is None
        await writer.forget_recording(C, a.identity)
        camera = dict(zip(("election", "station", "camera"), C, strict=True))
        why = {"kuager": REMOVED_FORMAT, "removed_ms": NOW, "reason": "kept for 1 days"}
        trace = Trace.of({**asdict(rows[b.identity]), **camera, **why})
        await writer.put_removed(C, "archive", "", trace)
        await writer.put_recordings([b], claim_spool(other.spool))
        assert len(await catalogue.recordings_of(C)) == 1


async def test_a_spool_that_will_never_archive_hides_nothing_from_fsck(tmp_path: Path) -> None:
    """One of two archives was away when the disk of the spool died: the other has it all."""
    url = f"sqlite:///{tmp_path}/k.db"
    two = "archives: [{name: near, url: near}, {name: far, url: far}]\n"
    config = configure(tmp_path, url, two)
    fill(config.spool, start_ms=NOW - 9 * HOUR).close()
    count = len(indexes(config))
    (tmp_path / "far").write_text("no directory: the archive is away")
    async with opened(config) as (catalogue, archives):
        await archived_near(config, catalogue, archives)
    (tmp_path / "far").unlink()
    shutil.rmtree(config.spool)
    claim_spool(config.spool)
    found = await fsck(config)
    assert [f.where for f in found] == ["far"] * count
    assert all(f.done for f in await fsck(config, repair=True))
    assert await fsck(config, deep=True) == []
    assert len(list((tmp_path / "far").glob("e/s/c/*/*.mp4"))) == count


async def test_bytes_of_the_spool_that_no_row_names_are_found(tmp_path: Path) -> None:
    """A row of the same number and start that names other bytes is not their row."""
    config = one_archive(tmp_path, "2d")
    fill(config.spool, start_ms=NOW - HOUR, runs=1, segments=1).close()
    (index,) = indexes(config)
    async with opened(config) as (catalogue, archives):
        await work(an_uploader(config, catalogue, archives))
    shutil.rmtree(config.spool)
    fill(config.spool, start_ms=NOW - HOUR, runs=1, segments=1).close()  # others, of that name
    (other,) = indexes(config)
    assert other.identity[:2] == index.identity[:2]
    lines = next(config.spool.glob("s/c/*/*.jsonl"))
    os.utime(lines, (1, 1))  # long ago
    assert "recording that only the spool has" in {f.what for f in await fsck(config)}
    await fsck(config, repair=True)
    async with opened(config) as (catalogue, _):
        rows = {row.identity for row in await catalogue.recordings_of(C)}
        assert rows == {index.identity, other.identity}
    assert await fsck(config)  # no archive has it, as its name is taken: that is told


async def test_gaps_of_two_spools_with_one_number_are_both_told(
    database_url: str, tmp_path: Path
) -> None:
    config = configure(tmp_path, database_url, "archives: [archive]\n")
    mine = Gap(1, NOW - HOUR, NOW - HOUR // 2, GapCause.UNREACHABLE)
    theirs = Gap(1, NOW - 9 * HOUR, NOW - 8 * HOUR, GapCause.DISK_FULL)
    none = Gap(1, NOW - 8 * HOUR, NOW - 8 * HOUR, GapCause.NO_DATA)
    async with opened(config) as (catalogue, archives):
        for gap in (mine, theirs, none, replace(mine, end_ms=NOW)):
            await catalogue.writer.put_gaps(C, [gap])
        found = await catalogue.gaps_between(C, 0, NOW)
        assert found == [theirs, replace(mine, end_ms=NOW)]
        for gap in found:
            key, data = gap_object(C, gap)
            await archives[0].put(key, data, sha256_of(data))
        await catalogue.writer.put_gaps(C, [replace(mine, end_ms=mine.start_ms)])
        assert len(await catalogue.gaps_between(C, 0, NOW)) == 1
    claim_spool(config.spool)
    await fsck(config, repair=True)
    async with opened(config) as (catalogue, _):
        assert len(await catalogue.gaps_between(C, 0, NOW)) == 2


@pytest.mark.parametrize("line", [2, -1])  # a segment's, and the seal
async def test_a_spoilt_line_of_an_older_index_is_mended_by_fsck(tmp_path: Path, line: int) -> None:
    """A recorder that starts looks at its newest recording only."""
    config = one_archive(tmp_path, "2d")
    claim_spool(config.spool)
    spool = CameraSpool(config.spool, "e", "s", "c", Numbers())
    begun_ms = NOW - NOW % ROTATE_MS + zlib.crc32(b"s/c") % ROTATE_MS  # five segments fit
    for begin_ms in (begun_ms - 2 * HOUR, begun_ms - HOUR):
        run = Run(begin_ms, b"\0\0\0\x10ftypiso5" + bytes(4), TRACKS, 2)
        for k in range(5):
            samples = [Sample(180_000, 100, True, 0)]
            spool.append(
                run,
                write_segment(
                    spool.next_segment_no, [TrackRun(1, k * 180_000, samples, [bytes(100)])]
                ),
                SegmentInfo(
                    tfdt_90k=k * 180_000,
                    duration_90k=180_000,
                    starts_with_key=True,
                    arrival_ms=begin_ms,
                    camera_ms=None,
                ),
                ClockState(True, 2),
            )
        spool.seal(GapCause.NO_DATA)
    spool.close()
    lines = min(config.spool.glob("s/c/*/*.jsonl"))
    whole = parse_index(lines.read_bytes())
    parts = lines.read_bytes().splitlines(keepends=True)
    parts[line] = b"spoilt\n"
    lines.write_bytes(b"".join(parts))
    os.utime(lines, (1, 1))
    found = await fsck(config, repair=True)
    assert {f.done for f in found if f.what in (UNREAD, UNSEALED)} == {"sealed"}
    mended = parse_index(lines.read_bytes())
    assert mended.seal and whole.seal and mended.seal.sha256 == whole.seal.sha256
    assert len(mended.segments) == len(whole.segments)
    assert mended.seal == whole.seal or line == -1  # made anew
    async with opened(config) as (catalogue, archives):
        await work(an_uploader(config, catalogue, archives))
        assert len([r for r in await catalogue.recordings_of(C) if r.archives]) == 2


@pytest.mark.parametrize("text", [b'{"epoch":5}', b'{"epoch":"x"}', b"[]", b"\xff"])
def test_a_spoilt_file_of_others_numbers_stops_no_recording(tmp_path: Path, text: bytes) -> None:
    fill(tmp_path).close()
    (tmp_path / "s/c/others.json").write_bytes(text)
    fill(tmp_path, start_ms=NOW).close()


def test_a_clock_of_a_far_future_gives_no_numbers_that_a_database_refuses() -> None:
    assert Numbers.by_clock(4_200_000_000_000).epoch < 2**31 - 1


async def test_an_uploader_needs_no_room_for_notes(tmp_path: Path) -> None:
    """It is who makes room on a disk that is full."""
    config = one_archive(tmp_path)
    fill(config.spool, start_ms=NOW - 9 * HOUR).close()
    (config.spool / "_status/catalogue.json.new").mkdir(parents=True)  # cannot be written
    (config.spool / "s/c/others.json.new").mkdir()
    async with opened(config) as (catalogue, archives):
        uploader = an_uploader(config, catalogue, archives)
        await work(uploader)
        assert uploader.cleaner.removed_total > 0


async def test_an_archive_is_identified_before_anything_is_retired(tmp_path: Path) -> None:
    """An uploader that has had nothing to archive since its start, and a disk not mounted."""
    config = configure(
        tmp_path,
        f"sqlite:///{tmp_path}/k.db",
        "archives: [{name: archive, url: archive, keep: 1d}]\n",
    )
    fill(config.spool, start_ms=NOW - 48 * HOUR).close()
    async with opened(config) as (catalogue, archives):
        await work(an_uploader(config, catalogue, archives))
    root = tmp_path / "archive"
    root.rename(tmp_path / "elsewhere")
    root.mkdir()
    async with opened(config) as (catalogue, archives):
        watch = ClockWatch(lambda: NOW, lambda: 0.0, lambda: KernelClock(True, 1))
        now = replace(BRISK, retire_s=0.0)
        uploader = Uploader(config, catalogue, archives, pauses=now, watch=watch)
        assert uploader.replicators.all[0].archive.archive.expected_id is None
        await uploader.retention.retire()
        rows = await catalogue.recordings_of(C)
        assert not any(a.removed_ms for row in rows for a in row.archives)
    assert not list(root.iterdir())
