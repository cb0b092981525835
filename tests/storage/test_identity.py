"""A recording is told by its bytes and its names: no number, row or file stands for another."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from config.model import Config
from storage.archival.retention import retire
from storage.archive.directory import DirectoryArchive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.schema import archived, cameras, catalogue, gaps, recordings, runs
from storage.fsck.camera import Finding
from storage.fsck.check import Fsck
from storage.records import GapCause, Index, parse_archive_document, parse_index, sha256_of
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool
from tests.support.archiving import (
    NOW,
    C,
    configure,
    forget_the_spool,
    kept,
    later_ms,
    opened,
    uploading,
)
from tests.support.identity_walk import walk
from tests.support.spools import fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
D = ("e", "s", "d")
HOUR = 3_600_000


def machine(folder: Path, name: str, url: str, rewind: str = "2d", election: str = "e") -> Config:
    """Return the configuration of one of two machines with one database and one archive."""
    config = configure(folder, url, "archives: [archive]\n", rewind=rewind)
    told = config.election.model_copy(update={"id": election})
    return config.model_copy(update={"spool": folder / name, "election": told})


def indexes(config: Config) -> list[Index]:
    return [parse_index(p.read_bytes()) for p in config.spool.glob("s/*/*/*.jsonl")]


async def archive_all(config: Config) -> None:
    count = len(indexes(config))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == count)


async def fsck(config: Config, **how: Any) -> list[Finding]:
    async with opened(config) as (catalogue, archives):
        look = Fsck(config, catalogue, archives, clock=later_ms, **how)
        found = [f for name in await look.cameras() for f in await look.check(name)]
    return [f for f in found if f.where != "schedule"]


def documents(folder: Path) -> list[tuple[Path, Index]]:
    found = (folder / "archive").glob("*/*/*/*/*Z-[0-9]*.json")
    whole = [p for p in found if ".removed" not in p.name]
    return [(p, parse_archive_document(p.read_bytes())) for p in whole]


async def test_two_recordings_with_one_number_are_both_archived(
    database_url: str, tmp_path: Path
) -> None:
    """Two machines record one camera, and start from the same numbers."""
    a, b = (machine(tmp_path, name, database_url) for name in "ab")
    fill(a.spool, start_ms=NOW - HOUR).close()
    fill(b.spool, start_ms=NOW - HOUR + 700).close()
    count = len(indexes(a))
    with capture_logs() as log:
        await archive_all(a)
        await archive_all(b)
    assert any("Another recording has the number" in e["event"] for e in log)
    assert len(documents(tmp_path)) == count + len(indexes(b))
    async with opened(a) as (catalogue, _):
        rows = await catalogue.recordings_of(C)
        assert {r.sha256 for r in rows} == {i.identity.sha256 for i in [*indexes(a), *indexes(b)]}
        assert all(len(r.archives) == 1 for r in rows)
        between = await catalogue.recordings_between(C, NOW - 2 * HOUR, NOW)
        assert len(between) == len(rows)
        shown, _ = (await catalogue.timelines([C], NOW - 2 * HOUR, NOW))[C]
        assert len(shown) == len(rows)
    for config in (a, b):  # neither calls the other's missing, nor says that it left the spool
        assert await fsck(config, repair=True, deep=True) == []
        async with opened(config) as (catalogue, _):
            assert all(r.removed_ms is None for r in await catalogue.recordings_of(C))


async def test_the_recorder_learns_which_numbers_another_spool_used(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    a, b = (machine(tmp_path, name, url) for name in "ab")
    fill(a.spool, start_ms=NOW - HOUR, segments=70).close()
    await archive_all(a)
    fill(b.spool, start_ms=NOW - HOUR + 700, segments=20).close()
    async with uploading(b):
        await until(lambda: (b.spool / "s/c/others.json").exists())
    used = max(i.segments[-1].segment_no for i in indexes(a))
    spool = CameraSpool(b.spool, "e", "s", "c", Numbers())
    assert spool.next_segment_no > used
    assert spool.numbers.epoch > max(i.header.epoch for i in indexes(a))
    spool.close()


async def another_database(catalogue_: Catalogue) -> None:
    """Have an empty database in the place of the first; its cameras get other numbers."""
    async with catalogue_.pool.work() as connection:
        for table in (archived, recordings, gaps, runs, cameras):
            await connection.execute(sa.delete(table))
        await catalogue_.cameras.make(connection, [("e", "s", "x")])
        await catalogue_.cameras.make(connection, [D])
        await connection.execute(sa.update(catalogue).values(id="another"))


async def test_a_database_that_takes_the_place_of_the_first_gets_all_rows_under_their_names(
    database_url: str, tmp_path: Path
) -> None:
    config = machine(tmp_path, "a", database_url)
    for camera in "cd":
        fill(config.spool, camera=camera, start_ms=NOW - HOUR).close()
    count = len(indexes(config))
    async with uploading(config) as (uploader, first, _):
        await until(lambda: kept(uploader).archived_total == count)
        with capture_logs() as log:
            await another_database(first)
            await until(lambda: kept(uploader).archived_total == 2 * count)  # verified again
        assert any("Another database" in e["event"] for e in log)
        for name in (C, D):
            rows = await first.recordings_of(name)
            assert {r.sha256 for r in rows} == {
                i.identity.sha256 for i in indexes(config) if i.name == name
            }
            assert all(r.archives for r in rows)
            assert await first.gaps_between(name, 0, NOW)
        assert kept(uploader).ok and kept(uploader).backlog_recordings == 0
    assert await fsck(config, deep=True) == []


async def test_a_database_without_tables_is_not_ready_and_gets_them(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/k.db"
    found = await Catalogue.open(url)
    async with found.pool.work() as connection:
        for (table,) in (
            await connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type='table'")
        ).all():
            await connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    with pytest.raises(CatalogueError):
        await found.id()  # what /readyz asks
    assert len(await found.prepared()) == 32
    assert await found.id() == await found.prepared()
    await found.close()


async def test_a_database_in_the_place_of_the_first_gets_partitions(
    postgres_url: str, tmp_path: Path
) -> None:
    """Who wrote to the one before knows that that one had them."""
    config = machine(tmp_path, "a", postgres_url)
    fill(config.spool, start_ms=NOW - HOUR).close()
    (index, *_) = indexes(config)
    found = await Catalogue.open(postgres_url)
    await found.writer.put_recordings([index], "a")
    async with found.pool.work() as connection:
        await connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        await connection.execute(sa.text("CREATE SCHEMA public"))
    assert len(await found.prepared()) == 32
    with pytest.raises(CatalogueError, match="no partition"):
        await found.writer.put_recordings([index], "a")
    await found.writer.put_recordings([index], "a")  # as it is tried again
    assert len(await found.recordings_of(index.name)) == 1
    await found.close()


async def test_a_row_under_another_camera_is_put_right(tmp_path: Path) -> None:
    """A catalogue that an earlier version filled while it was rebuilt."""
    config = machine(tmp_path, "a", f"sqlite:///{tmp_path}/k.db", rewind="60s")
    for camera in "cd":
        fill(config.spool, camera=camera, start_ms=NOW - HOUR, runs=1).close()
    await archive_all(config)
    with sqlite3.connect(tmp_path / "k.db") as db:  # c's rows say d, and d's have their numbers
        (c,), (d,) = (
            db.execute("SELECT camera_pk FROM cameras WHERE camera = ?", name) for name in "cd"
        )
        for table in ("archived", "recordings"):
            db.execute(f"DELETE FROM {table} WHERE camera_pk = ?", d)
            db.execute(f"UPDATE {table} SET camera_pk = ? WHERE camera_pk = ?", (d[0], c[0]))
    db.close()
    for path in config.spool.glob("s/*/*/*"):
        path.unlink()
    await fsck(config, repair=True)
    await fsck(config, repair=True)
    assert await fsck(config, deep=True) == []
    async with opened(config) as (catalogue_, _):
        for name in (C, D):
            right = {i.identity for p, i in documents(tmp_path) if i.name == name}
            assert {
                (r.record_seq, r.start_ms, r.sha256) for r in await catalogue_.recordings_of(name)
            } == right


async def test_the_archive_wins_over_a_row(tmp_path: Path) -> None:
    config = machine(tmp_path, "a", f"sqlite:///{tmp_path}/k.db")
    fill(config.spool, start_ms=NOW - HOUR).close()
    await archive_all(config)
    with sqlite3.connect(tmp_path / "k.db") as db:
        db.execute("UPDATE recordings SET epoch = 9 WHERE record_seq = 1")
        db.execute("UPDATE recordings SET sha256 = zeroblob(32) WHERE record_seq = 2")
    db.close()
    found = await fsck(config, deep=True)
    assert {f.what for f in found} >= {
        "row with another epoch than its recording",
        "row with another sha256 than its recording",
    }
    assert all(f.done for f in await fsck(config, deep=True, repair=True))
    assert await fsck(config, deep=True) == []
    async with opened(config) as (catalogue_, _):
        rows = await catalogue_.recordings_of(C)
        assert {r.sha256 for r in rows} == {i.identity.sha256 for _, i in documents(tmp_path)}


async def test_one_archive_does_not_outweigh_the_catalogue_and_another(tmp_path: Path) -> None:
    """Whoever can write to one archive replaces a recording and what describes it."""
    two = "archives: [{name: archive, url: archive}, {name: far, url: far}]\n"
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", two, rewind="2d")
    fill(config.spool, start_ms=NOW - HOUR).close()
    async with uploading(config) as (uploader, _, _):
        archives = uploader.replicators.all
        await until(lambda: all(a.status.archived_total == len(indexes(config)) for a in archives))
    description, index = sorted(documents(tmp_path))[0]
    media, last = description.with_suffix(".mp4"), index.segments[-1]
    data = media.read_bytes()[:-1] + b"?"
    index.segments[-1] = replace(last, sha256=sha256_of(data[last.offset :]))
    index.seal = index.seal and replace(index.seal, sha256=sha256_of(data))
    media.write_bytes(data)
    description.write_bytes(index.archive_document())
    async with opened(config) as (catalogue_, _):
        await forget_the_spool(config, catalogue_)
        before = {row.identity for row in await catalogue_.recordings_of(C)}
    for _ in range(2):
        found = await fsck(config, deep=True, repair=True)
        assert [(f.where, f.done) for f in found if f.kind == "different"] == [("archive", "")]
        async with opened(config) as (catalogue_, _):
            assert {row.identity for row in await catalogue_.recordings_of(C)} == before
    assert media.read_bytes() == data  # nothing is replaced


async def test_repair_removes_only_what_the_row_names(tmp_path: Path) -> None:
    """A number on two days: of the first its time has come, and the second stays."""
    config = machine(tmp_path, "a", f"sqlite:///{tmp_path}/k.db")
    other = machine(tmp_path, "b", f"sqlite:///{tmp_path}/k.db")
    day = 86_400_000
    fill(config.spool, start_ms=NOW - 9 * day, runs=1, segments=1).close()
    fill(other.spool, start_ms=NOW - 2 * day, runs=1, segments=1).close()
    await archive_all(config)
    await archive_all(other)
    async with opened(config) as (catalogue_, archives):
        assert await retire(catalogue_, archives[0], C, 5 * 86_400, share=1.0) == 1
    (young,) = documents(tmp_path)
    for how in ({"repair": True}, {"repair": True, "deep": True}):
        await fsck(config, **how)
        assert documents(tmp_path) == [young] and young[0].with_suffix(".mp4").exists()


@pytest.mark.parametrize("why", ["other bytes", "a hold"])
async def test_repair_does_not_remove_other_bytes_nor_what_is_held(
    tmp_path: Path, why: str
) -> None:
    """A row says that a recording is to go, while its bytes are there."""
    config = machine(tmp_path, "a", f"sqlite:///{tmp_path}/k.db")
    fill(config.spool, start_ms=NOW - HOUR, runs=1, segments=1).close()
    await archive_all(config)
    (media,) = (tmp_path / "archive").glob("e/s/c/*/*.mp4")
    async with opened(config) as (catalogue_, _):
        (row,) = await catalogue_.recordings_of(C)
        assert await catalogue_.holds.begin_removal(C, row, "archive", 1, "kept for a day")
        if why == "a hold":
            await catalogue_.holds.add("e", "a court asks", NOW)
    if why == "other bytes":
        media.write_bytes(b"other" + media.read_bytes()[5:])
    found = await fsck(config, repair=True)
    assert media.exists() and media.with_suffix(".json").exists()
    (done,) = [f.done for f in found if f.where == "archive"]
    assert done.startswith("kept" if why == "a hold" else "") and done != "removed"
    assert bool(done) == (why == "a hold")


async def test_rows_of_the_next_election_do_not_take_over_those_of_the_last(
    tmp_path: Path,
) -> None:
    """The spool still has recordings and gaps of election e when e2 begins on it."""
    url = f"sqlite:///{tmp_path}/k.db"
    config = machine(tmp_path, "a", url, rewind="60s", election="e2")
    spool = fill(config.spool, start_ms=NOW - 9 * HOUR)
    spool.begin_gap(NOW - 8 * HOUR, GapCause.UNREACHABLE)
    spool.end_gap(NOW - 7 * HOUR)  # no recording follows that could carry it
    spool.close()
    fill(config.spool, start_ms=NOW - 2 * HOUR, election="e2").close()
    count = len(indexes(config))
    with capture_logs() as log:
        async with uploading(config) as (uploader, found, _):
            await until(lambda: kept(uploader).archived_total == count)
            await until(lambda: uploader.status.removed_total == count - 1)
            await until(lambda: list((tmp_path / "archive/e/s/c").glob("*/*gap*")))
            for election in ("e", "e2"):
                name = (election, "s", "c")
                rows = await found.recordings_of(name)
                assert {(election, r.sha256) for r in rows} == {
                    (i.name[0], i.identity.sha256)
                    for _, i in documents(tmp_path)
                    if i.name[0] == election
                }
                inside = await found.gaps_between(name, 0, NOW)
                assert inside and all(
                    (g.start_ms < NOW - 3 * HOUR) == (election == "e") for g in inside
                )

            async def one_is_left() -> bool:  # its row says so after the file has gone
                return len(await found.in_spool("s", "c", uploader.cameras.spool_id)) == 1

            await until(one_is_left)
    assert any("another election" in e["event"] for e in log)
    assert all(path.parts[-5] == i.name[0] for path, i in documents(tmp_path))


async def test_a_spool_that_another_has_is_said_after_an_hour(tmp_path: Path) -> None:
    """Until then it is on its way: only the machine that has it can archive it."""
    url = f"sqlite:///{tmp_path}/k.db"
    a, b = (machine(tmp_path, name, url) for name in "ab")
    fill(a.spool, start_ms=NOW - 600_000, runs=1, segments=1).close()
    fill(a.spool, camera="d", start_ms=NOW - 9 * HOUR, runs=1, segments=1).close()
    async with opened(a) as (catalogue_, _):
        await catalogue_.writer.put_recordings(indexes(a), claim_spool(a.spool))
    claim_spool(b.spool)
    found = await fsck(b, repair=True)
    assert {(f.camera, f.done) for f in found} == {("s/d", "")}
    assert all("only the spool" in f.what for f in found)
    async with opened(a) as (catalogue_, _):
        assert all(r.removed_ms is None for r in await catalogue_.recordings_of(C))


async def test_a_rebuilt_row_knows_the_version_of_its_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = machine(tmp_path, "a", f"sqlite:///{tmp_path}/k.db")
    fill(config.spool, start_ms=NOW - HOUR, runs=1, segments=1).close()
    await archive_all(config)

    async def version_id(self: DirectoryArchive, key: str, *, bucket: str = "") -> str:
        return f"version of {key[-4:]}"

    monkeypatch.setattr(DirectoryArchive, "version_id", version_id)
    other = machine(tmp_path, "b", f"sqlite:///{tmp_path}/new.db")
    await fsck(other, repair=True)
    async with opened(other) as (catalogue_, _):
        (row,) = await catalogue_.recordings_of(C)
        assert row.archives[0].version_id == "version of .mp4"
        assert row.removed_ms is not None  # no spool has it


@pytest.mark.slow
def test_whatever_happens_to_two_recorders_nothing_is_lost_or_misfiled() -> None:
    walk(25, 30)
