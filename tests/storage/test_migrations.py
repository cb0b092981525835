"""The schema of a catalogue in use changes, and nobody waits for long."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from alembic import command

from storage.catalogue import database
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.rows import recording_values
from storage.catalogue.schema import DAY_MS, order_files
from storage.records import Index
from storage.spool.reader import SpoolReader
from tests.support.spools import UTC0, fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
pytestmark = pytest.mark.slow
NAME = ("e", "s", "c")
COLUMNS = """
import sqlalchemy as sa
from alembic import op

revision = "9998"
down_revision = "HEAD"


def upgrade():
    for table in ("recordings", "archived"):
        op.add_column(table, sa.Column("remark", sa.Text))
"""
INDEX = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "9998"
PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'recordings'::regclass"
)


def upgrade():
    columns = "(camera_pk, end_ms)"
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX IF EXISTS by_end")  # what an earlier attempt left
        op.execute(f"CREATE INDEX by_end ON ONLY recordings {columns}")
        for name in op.get_bind().execute(sa.text(PARTITIONS)).scalars().all():
            op.execute("SET lock_timeout = 0")  # these wait for others, and nobody for them
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_by_end")
            op.execute(f"CREATE INDEX CONCURRENTLY {name}_by_end ON {name} {columns}")
            op.execute("SET lock_timeout = 300")
            op.execute(f"ALTER INDEX by_end ATTACH PARTITION {name}_by_end")
"""


def recorded(spool: Path, day: int) -> list[Index]:
    """Return the recordings of a camera on a day after the first."""
    fill(spool, start_ms=UTC0 + day * DAY_MS).close()
    view = SpoolReader(spool, "s", "c")
    view.refresh()
    return [index for _, index in view.recordings()]


@asynccontextmanager
async def long_reader(url: str) -> AsyncIterator[None]:
    """Have somebody read recordings in a transaction that stays open."""
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        assert await connection.fetchval("SELECT count(*) FROM recordings") > 0
        yield
    await connection.close()


async def test_a_new_day_does_not_wait_for_a_long_reader(postgres_url: str, tmp_path: Path) -> None:
    catalogue, other = await Catalogue.open(postgres_url), await Catalogue.open(postgres_url)
    try:
        await catalogue.writer.put_recordings(recorded(tmp_path / "first", 0))
        async with long_reader(postgres_url):
            second, third = (recorded(tmp_path / str(n), n) for n in (1, 2))
            # two processes find the same new day at once, and one goes on to a third
            both = catalogue.writer, other.writer
            await asyncio.gather(*(writer.put_recordings(second) for writer in both))
            await other.writer.put_recordings(third)
            rows = await catalogue.recordings_between(NAME, UTC0 + DAY_MS, UTC0 + 3 * DAY_MS)
            assert len(rows) == len(second) + len(third)
    finally:
        await catalogue.close()
        await other.close()


async def test_rows_of_before_stay_as_they_were(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A catalogue of the version before identities: each row is there, and is found as before."""
    index = recorded(tmp_path / "spool", 0)[0]
    shutil.copytree(database.MIGRATIONS, before := tmp_path / "migrations")
    for version in (before / "versions").glob("0*.py"):
        if version.name >= "0004":
            version.unlink()
    row = recording_values(index) | {"camera_pk": 1}
    there = {"archive": "near", "bucket": "b", "archived_ms": 5, "verified": "x", "etags": "y"}
    there |= {"record_seq": row["record_seq"], "day": row["day"], "removed_ms": 7, "camera_pk": 1}
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", before)
        catalogue = await Catalogue.open(database_url)
        async with catalogue.pool.work() as connection:
            camera = dict(zip(("election", "station", "camera"), NAME, strict=True))
            await database.make_partitions(connection, {row["day"]})
            for table, values in ("cameras", camera), ("recordings", row), ("archived", there):
                columns = ", ".join(f'"{name}"' for name in values)
                marks = ", ".join(f":{name}" for name in values)
                raw = {k: bytes.fromhex(str(v)) if k == "sha256" else v for k, v in values.items()}
                text = f"INSERT INTO {table} ({columns}) VALUES ({marks})"
                await connection.execute(sa.text(text), raw)
        await catalogue.close()
    catalogue = await Catalogue.open(database_url)
    try:
        (found,) = await catalogue.recordings_of(NAME)
        assert asdict(found).items() >= row.items()
        assert (found.spool, found.collision, found.removed_ms) == (None, 0, None)
        (archived,) = found.archives
        assert asdict(archived).items() >= there.items()
        # other bytes under its number get a row of their own, and the same bytes none
        assert index.seal is not None
        other = replace(index, seal=replace(index.seal, sha256="ab" * 32))
        assert await catalogue.writer.put_recordings([index, other], "a") == [other]
        assert await catalogue.writer.put_recordings([index, other], "a") == []
        rows = await catalogue.recordings_of(NAME)
        assert [r.spool for r in rows] == ["a", "a"] and len({r.sha256 for r in rows}) == 2
        listed = {"sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'"}
        async with catalogue.pool.work() as connection:
            text = listed.get(connection.dialect.name, "SELECT indexname FROM pg_indexes")
            indexes = set((await connection.execute(sa.text(text))).scalars())
        assert {"recordings_by_time", "recordings_by_segment", "archived_removed"} <= indexes
    finally:
        await catalogue.close()


async def test_a_removal_under_way_and_a_file_of_before_are_understood_there_and_back(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = recorded(tmp_path / "spool", 0)[0]
    part = {"record_seq": 1, "start_ms": 2, "sha256": "ab" * 32}
    plan = {"camera": "c", "parts": [[*part.values(), 1, 1, 1, 1]]}
    ids = {"camera_pk": 1, "record_seq": index.header.record_seq, "day": index.start_ms // DAY_MS}
    there = ids | {"bucket": "b", "archived_ms": 5, "verified": "x", "etags": "y"}
    gone = there | {"removed_ms": 7, "etags": ""}
    placed = {"order_pk": 1, "key_sha256": b"", "election": "e", "station": "s", "from_ms": 1}
    placed |= {"to_ms": 2, "state": "quoted", "language": "kk", "quote": "{}", "currency": "KZT"}
    file = {"order_pk": 1, "length": 1}
    before = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, before)
    for revision in before.glob("versions/*.py"):
        if revision.name >= "0006":
            revision.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", before)
        catalogue = await Catalogue.open(database_url)
        await catalogue.writer.put_recordings([index])
        await insert(catalogue, "archived", there | {"archive": "has it"})
        await insert(catalogue, "archived", gone | {"archive": "had it"})
        await insert(catalogue, "archived", gone | {"archive": "loses it", "etags": "removing"})
        await insert(catalogue, "orders", placed | {"total": 1, "created_ms": 1})
        await insert(catalogue, "order_files", file | {"file_no": 1, "plan": json.dumps(plan)})
        await insert(catalogue, "order_files", file | {"file_no": 2, "plan": "{}"})
        await catalogue.close()
    catalogue = await Catalogue.open(database_url)
    try:
        (row,) = await catalogue.recordings_of(NAME)
        begun = {a.archive: (a.removal_begun_ms, a.etags) for a in row.archives}
        assert begun == {"has it": (None, "y"), "had it": (None, ""), "loses it": (7, "")}
        (due,) = await catalogue.holds.due(NAME, "loses it", index.start_ms + DAY_MS, 8)
        assert due.removal_begun_ms == 7
        files = sa.select(order_files).order_by(order_files.c.file_no)
        one, two = await catalogue.pool.rows(files)
        assert (one["camera"], one["recordings"]) == ("c", [part])
        assert (two["camera"], two["recordings"]) == (None, None)
        assert one["plan"] == plan
        await downgrade(catalogue, "0005")
        async with catalogue.pool.single() as connection:
            asked = sa.text("SELECT archive, etags FROM archived ORDER BY archive")
            rows = {(a, etags) for a, etags in (await connection.execute(asked)).all()}
            assert rows == {("had it", ""), ("has it", "y"), ("loses it", "removing")}
            columns = (await connection.execute(sa.text("SELECT * FROM order_files"))).keys()
            assert not {"camera", "recordings"} & set(columns)
    finally:
        await catalogue.close()


async def insert(catalogue: Catalogue, table: str, values: dict[str, Any]) -> None:
    columns, marks = (", ".join(f"{m}{name}" for name in values) for m in ("", ":"))
    async with catalogue.pool.work() as connection:
        await connection.execute(
            sa.text(f"INSERT INTO {table} ({columns}) VALUES ({marks})"), values
        )


async def downgrade(catalogue: Catalogue, revision: str) -> None:
    def work(connection: sa.Connection) -> None:
        command.downgrade(database._alembic(connection), revision)
        connection.commit()

    engine = catalogue.pool.engine
    if isinstance(engine, database.PostgresEngine):
        async with engine.connect() as connection:
            await connection.run_sync(work)
    else:
        with engine.sync_engine.connect() as own:
            work(own)


async def test_a_migration_under_a_long_reader_holds_up_nobody(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = await Catalogue.open(postgres_url)
    every = recorded(tmp_path / "spool", 0)
    rounds = 0

    async def write() -> None:
        nonlocal rounds
        while True:  # ends with an error when the database refuses or does not answer in time
            await catalogue.writer.put_recordings(every)
            rounds += 1

    try:
        await catalogue.writer.put_recordings(every)
        changed = tmp_path / "migrations"
        shutil.copytree(database.MIGRATIONS, changed)
        head = max(p.stem[:4] for p in (changed / "versions").glob("0*.py"))
        (changed / "versions" / "9998_test.py").write_text(COLUMNS.replace("HEAD", head))
        (changed / "versions" / "9999_test.py").write_text(INDEX)
        monkeypatch.setattr(database, "MIGRATIONS", changed)
        writer = asyncio.create_task(write())
        async with long_reader(postgres_url):
            with pytest.raises(CatalogueError, match="lock timeout"):
                await Catalogue.open(postgres_url)
            assert not writer.done()
        # several start at once on the new version, and writers of the old one go on
        opened = await asyncio.gather(*(Catalogue.open_patiently(postgres_url) for _ in range(3)))
        for one in opened:
            await one.close()
        before = rounds
        await until(lambda: writer.done() or rounds >= before + 3)
        assert not writer.done()
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer
        connection = await asyncpg.connect(postgres_url)
        names = "indexrelid::regclass::text ~ 'by_end'"
        found = await connection.fetch(f"SELECT indisvalid FROM pg_index WHERE {names}")
        assert [row[0] for row in found] == [True, True]  # of the table and of its one day
        await connection.close()
        assert len(await catalogue.recordings_between(NAME, UTC0, UTC0 + DAY_MS)) == len(every)
        await catalogue.writer.put_recordings(recorded(tmp_path / "next", 1))
    finally:
        await catalogue.close()


NEWER = """
import sqlalchemy as sa
from alembic import op

revision = "9998"
down_revision = "HEAD"


def upgrade():
    op.execute("UPDATE catalogue SET oldest = 'OLDEST'")
"""


@pytest.mark.parametrize("fits", [True, False])
async def test_a_version_goes_on_beside_a_newer_one_that_allows_it(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    changed = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, changed)
    head = max(p.stem[:4] for p in (changed / "versions").glob("0*.py"))
    text = NEWER.replace("HEAD", head).replace("OLDEST", head if fits else "9998")
    (changed / "versions" / "9998_newer.py").write_text(text)
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", changed)
        newer = await Catalogue.open(database_url)
    try:
        if fits:
            older = await Catalogue.open(database_url)
            await older.writer.put_recordings(recorded(tmp_path / "spool", 0))
            assert await newer.recordings_of(NAME)
            assert await database.describe_database(database_url) == "answers, with its tables"
            await older.close()
        else:
            with pytest.raises(CatalogueError, match=r"of a newer Kuager .*: upgrade this machine"):
                await Catalogue.open(database_url)
    finally:
        await newer.close()
