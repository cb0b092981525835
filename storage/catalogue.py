"""The catalogue: stations, cameras, runs, recordings and gaps in SQL, to be found again.

SQLite (WAL, one file, several processes) or PostgreSQL by URL; the same statements on both. All
times are UTC milliseconds. The catalogue can be rebuilt from the archive; it is written by the
uploader alone and read by everyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
import structlog
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from config.model import Config
from storage.index import Gap, Index

BATCH = 500
BUSY_MS = 10_000
REOPEN_S = (1.0, 2.0, 5.0, 10.0)

log = structlog.get_logger()

metadata = sa.MetaData()
cameras = sa.Table(
    "cameras",
    metadata,
    sa.Column("camera_pk", sa.Integer, primary_key=True),
    sa.Column("election", sa.String(64), nullable=False),
    sa.Column("station", sa.String(64), nullable=False),
    sa.Column("camera", sa.String(64), nullable=False),
    sa.Column("number", sa.Text, nullable=False, server_default=""),
    sa.Column("names", sa.JSON),  # of the station: name, region, district, address; and title
    sa.UniqueConstraint("election", "station", "camera"),
)
runs = sa.Table(
    "runs",
    metadata,
    sa.Column("camera_pk", sa.ForeignKey(cameras.c.camera_pk), primary_key=True),
    sa.Column("run_no", sa.BigInteger, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger),  # null while it goes on
    sa.Column("end_reason", sa.String(32)),
    sa.Column("init_sha256", sa.String(64), nullable=False),
    sa.Column("tracks", sa.JSON, nullable=False),
)
recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("camera_pk", sa.ForeignKey(cameras.c.camera_pk), primary_key=True),
    sa.Column("record_seq", sa.BigInteger, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("run_no", sa.BigInteger, nullable=False),
    sa.Column("first_segment_no", sa.BigInteger, nullable=False),
    sa.Column("segments", sa.Integer, nullable=False),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("archive_key", sa.Text, nullable=False),
    sa.Column("overlaps", sa.Boolean, nullable=False),
    sa.Column("verified", sa.String(32)),  # how; null until it is archived
    sa.Column("archived_ms", sa.BigInteger),
    sa.Column("removed_ms", sa.BigInteger),  # from the spool
    sa.Index("recordings_by_time", "camera_pk", "start_ms"),
    sa.Index("recordings_by_segment", "camera_pk", "first_segment_no"),
)
gaps = sa.Table(
    "gaps",
    metadata,
    sa.Column("camera_pk", sa.ForeignKey(cameras.c.camera_pk), primary_key=True),
    sa.Column("gap_no", sa.BigInteger, primary_key=True),
    sa.Column("start_ms", sa.BigInteger, nullable=False),
    sa.Column("end_ms", sa.BigInteger),  # null while it lasts
    sa.Column("cause", sa.String(32), nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Index("gaps_by_time", "camera_pk", "start_ms"),
)

Name = tuple[str, str, str]  # election, station, camera


class CatalogueError(RuntimeError):
    """The database refuses; the text names it without a password."""


def recording_row(index: Index, key: str) -> dict[str, Any]:
    """Return the row of a sealed recording, without its camera."""
    header, seal = index.header, index.seal
    assert seal is not None
    return {
        "record_seq": header.record_seq,
        "epoch": header.epoch,
        "run_no": header.run_no,
        "first_segment_no": index.segments[0].segment_no,
        "segments": seal.segments,
        "start_ms": index.start_ms,
        "end_ms": seal.end_ms,
        "bytes": seal.length,
        "sha256": seal.sha256,
        "archive_key": key,
        "overlaps": header.overlaps,
    }


class Catalogue:
    """One pool of connections to the catalogue."""

    def __init__(self, engine: AsyncEngine):
        self._engine = engine
        self._pks: dict[Name, int] = {}

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and bring the schema up to date.

        `url` is sqlite:///path or postgresql://...; raises CatalogueError, without a password.
        """
        engine = create_async_engine(_with_driver(url), pool_pre_ping=True)
        if engine.dialect.name == "sqlite":
            event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        self = cls(engine)
        try:
            async with engine.begin() as connection:
                await connection.run_sync(_migrate)
        except (sa.exc.SQLAlchemyError, OSError) as error:
            await engine.dispose()
            shown = make_url(url).render_as_string(hide_password=True)
            raise CatalogueError(f"{shown}: {_words(error)}") from None
        return self

    @classmethod
    async def open_patiently(cls, url: str) -> Self:
        """Open, for as long as it takes; why it cannot be opened is said once per reason."""
        told, tries = "", 0
        while True:
            try:
                return await cls.open(url)
            except Exception as error:  # a database has many ways to say no
                if str(error) != told:
                    told = str(error)
                    log.error("The catalogue cannot be opened; trying again", why=told)
            await asyncio.sleep(REOPEN_S[min(tries, len(REOPEN_S) - 1)])
            tries += 1

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raise CatalogueError unless the database answers."""
        try:
            async with self._engine.connect() as connection:
                await connection.execute(sa.text("SELECT 1"))
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise CatalogueError(_words(error)) from None

    # -- writing -------------------------------------------------------------------------

    async def sync_stations(self, config: Config) -> None:
        """Take over the stations and cameras of the configuration; none is ever removed."""
        rows = [
            {
                "election": config.election.id,
                "station": station.id,
                "camera": camera.id,
                "number": station.number,
                "names": {
                    "name": station.name.model_dump(),
                    "region": station.region.model_dump(),
                    "district": station.district.model_dump(),
                    "address": station.address.model_dump(),
                    "title": camera.title.model_dump(),
                },
            }
            for station in config.stations
            for camera in station.cameras
        ]
        key = ["election", "station", "camera"]
        await self._upsert(cameras, rows, key, ["number", "names"])

    async def put_recordings(self, found: Sequence[tuple[Index, str]]) -> None:
        """Insert recordings (with their archive keys), their runs and the gaps they carry."""
        if not found:
            return
        recording_rows, run_rows, gap_rows = [], {}, []
        for index, key in found:
            header, seal = index.header, index.seal
            assert seal is not None
            pk: dict[str, Any] = {
                "camera_pk": await self._pk(header.election, header.station, header.camera)
            }
            recording_rows.append(pk | recording_row(index, key))
            run_rows[pk["camera_pk"], header.run_no] = pk | {
                "run_no": header.run_no,
                "epoch": header.epoch,
                "start_ms": header.run_start_ms,
                "end_ms": seal.end_ms if seal.end_reason else None,
                "end_reason": seal.end_reason,
                "init_sha256": header.init_sha256,
                "tracks": [t.to_dict() for t in header.tracks],
            }
            gap_rows += [pk | g.to_dict() for g in header.gaps]
        pk_names = ["camera_pk"]
        await self._upsert(
            runs, list(run_rows.values()), [*pk_names, "run_no"], ["end_ms", "end_reason"]
        )
        await self._upsert(recordings, recording_rows, [*pk_names, "record_seq"], [])
        await self._upsert(gaps, gap_rows, [*pk_names, "gap_no"], ["start_ms", "end_ms"])

    async def put_gaps(self, name: Name, found: Sequence[Gap]) -> None:
        """Insert gaps or the ends of gaps of one camera; one that is empty is taken out."""
        pk = await self._pk(*name)
        rows = [
            {"camera_pk": pk} | g.to_dict()
            for g in found
            if g.end_ms is None or g.end_ms > g.start_ms
        ]
        await self._upsert(gaps, rows, ["camera_pk", "gap_no"], ["start_ms", "end_ms"])
        if none := [g.gap_no for g in found if g.end_ms is not None and g.end_ms <= g.start_ms]:
            async with self._engine.begin() as connection:
                await connection.execute(
                    sa.delete(gaps).where(gaps.c.camera_pk == pk, gaps.c.gap_no.in_(none))
                )

    async def mark_archived(
        self, name: Name, record_seq: int, key: str, archived_ms: int, how: str
    ) -> bool:
        """Note that a recording is in the archive, and how that was verified.

        False when there is no row of this number and key.
        """
        return await self._mark(
            name, record_seq, recordings.c.archive_key == key, archived_ms=archived_ms, verified=how
        )

    async def mark_removed(self, name: Name, record_seq: int, removed_ms: int) -> None:
        """Note that a recording is no longer in the spool."""
        await self._mark(name, record_seq, removed_ms=removed_ms)

    async def _mark(
        self, name: Name, record_seq: int, *where: sa.ColumnElement[bool], **values: object
    ) -> bool:
        pk, r = await self._pk(*name), recordings.c
        async with self._engine.begin() as connection:
            done = await connection.execute(
                sa.update(recordings)
                .where(r.camera_pk == pk, r.record_seq == record_seq, *where)
                .values(**values)
            )
        return done.rowcount == 1

    # -- reading -------------------------------------------------------------------------

    async def archived(self, name: Name) -> dict[str, int | None]:
        """Return archive key -> archived_ms (UTC) of what is not yet removed from the spool."""
        pk, r = await self._pk(*name), recordings.c
        rows = await self._rows(
            sa.select(r.archive_key, r.archived_ms).where(r.camera_pk == pk, r.removed_ms.is_(None))
        )
        return {row["archive_key"]: row["archived_ms"] for row in rows}

    async def recordings_between(
        self, name: Name, from_ms: int, to_ms: int
    ) -> list[dict[str, Any]]:
        """Return the recordings that touch [from_ms, to_ms), oldest first."""
        pk, r = await self._pk(*name), recordings.c
        # no recording lasts longer than this, so the index by start is enough
        return await self._rows(
            sa.select(recordings)
            .where(r.camera_pk == pk, r.start_ms < to_ms, r.start_ms > from_ms - 600_000)
            .where(r.end_ms > from_ms)
            .order_by(r.record_seq)
        )

    async def recording_with_segment(self, name: Name, segment_no: int) -> dict[str, Any] | None:
        """Return the recording that holds a segment."""
        pk, r = await self._pk(*name), recordings.c
        rows = await self._rows(
            sa.select(recordings)
            .where(r.camera_pk == pk, r.first_segment_no <= segment_no)
            .order_by(r.first_segment_no.desc())
            .limit(1)
        )
        if rows and segment_no < rows[0]["first_segment_no"] + rows[0]["segments"]:
            return rows[0]
        return None

    async def recording_of_run(self, name: Name, run_no: int) -> dict[str, Any] | None:
        """Return the first recording of a run."""
        pk, r = await self._pk(*name), recordings.c
        rows = await self._rows(
            sa.select(recordings)
            .where(r.camera_pk == pk, r.run_no == run_no)
            .order_by(r.record_seq)
            .limit(1)
        )
        return rows[0] if rows else None

    async def gaps_between(self, name: Name, from_ms: int, to_ms: int) -> list[dict[str, Any]]:
        """Return the gaps that touch [from_ms, to_ms), oldest first."""
        pk, g = await self._pk(*name), gaps.c
        return await self._rows(
            sa.select(gaps)
            .where(g.camera_pk == pk, g.start_ms < to_ms)
            .where(sa.or_(g.end_ms.is_(None), g.end_ms > from_ms))
            .order_by(g.start_ms)
        )

    # -- helpers -------------------------------------------------------------------------

    async def _rows(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        async with self._engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    async def _pk(self, election: str, station: str, camera: str) -> int:
        name = (election, station, camera)
        if name not in self._pks:
            row = dict(zip(("election", "station", "camera"), name, strict=True))
            await self._upsert(cameras, [row], list(row), [])
            c = cameras.c
            (found,) = await self._rows(
                sa.select(c.camera_pk).where(
                    c.election == election, c.station == station, c.camera == camera
                )
            )
            self._pks[name] = found["camera_pk"]
        return self._pks[name]

    async def _upsert(
        self, table: sa.Table, rows: Sequence[dict[str, Any]], key: list[str], update: list[str]
    ) -> None:
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        statement: Any = insert(table)
        if update:
            taken = {column: statement.excluded[column] for column in update}
            statement = statement.on_conflict_do_update(index_elements=key, set_=taken)
        else:
            statement = statement.on_conflict_do_nothing(index_elements=key)
        for n in range(0, len(rows), BATCH):
            async with self._engine.begin() as connection:
                await connection.execute(statement, list(rows[n : n + BATCH]))


def _with_driver(url: str) -> sa.URL:
    parsed = make_url(url)
    drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
    return parsed.set(drivername=drivers.get(parsed.get_backend_name(), parsed.drivername))


def _set_up_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    # FULL: a row that says 'archived' may cost the only copy in the spool
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config as Alembic

    if connection.dialect.name == "sqlite":
        # the write lock now, so that two processes that start do not both create the tables
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7482)")
    settings = Alembic()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _words(error: BaseException) -> str:
    """Return what a database error says, in one line, without the statement."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split()) or type(cause).__name__
