"""The catalogue: stations, cameras, runs, recordings and gaps in SQL, to be found again.

SQLite (WAL, one file, several processes) or PostgreSQL by URL; the same statements on both. All
times are UTC milliseconds. The catalogue can be rebuilt from the archive; it is written by the
uploader and `kuager fsck` and read by everyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import sqlalchemy as sa
import structlog
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from config.model import Config
from storage.database import CatalogueError as CatalogueError
from storage.database import make_partitions, open_database, words
from storage.index import LONGEST_MS, Gap, Index
from storage.orders import Orders
from storage.schema import DAY_MS, REMOVING, archived, cameras, gaps, holds, recordings, runs

BATCH = 500
REOPEN_S = (1.0, 2.0, 5.0, 10.0)

log = structlog.get_logger()

Name = tuple[str, str, str]
Rows = list[dict[str, Any]]  # election, station, camera


@dataclass(frozen=True, slots=True)
class Archived:
    """What an archive has of a recording: `verified` says how that is known."""

    archive: str
    bucket: str
    archived_ms: int
    verified: str
    etags: str = ""  # of .mp4 and .json, with a space between
    version_id: str | None = None
    locked_until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class InSpool:
    """A recording that the spool has as far as the catalogue knows, and which archives have it,
    with bucket and ETags."""

    start_ms: int
    archives: dict[str, tuple[str, str]]


def _held(name: Name, start_ms: Any, end_ms: Any, now_ms: int) -> sa.Select[Any]:
    """Select the holds that keep a recording, whose start and end are numbers or columns."""
    h = holds.c
    return (
        sa.select(h.hold_no)
        .where(h.election == name[0], h.released_ms.is_(None))
        .where(sa.or_(h.station.is_(None), h.station == name[1]))
        .where(sa.or_(h.camera.is_(None), h.camera == name[2]))
        .where(sa.or_(h.from_ms.is_(None), h.from_ms < end_ms))
        .where(sa.or_(h.to_ms.is_(None), h.to_ms > start_ms))
        .where(sa.or_(h.until_ms.is_(None), h.until_ms > now_ms))
    )


def recording_row(index: Index) -> dict[str, Any]:
    """Return the row of a sealed recording, without its camera."""
    header, seal = index.header, index.seal
    assert seal is not None
    return {
        "record_seq": header.record_seq,
        "day": index.start_ms // DAY_MS,
        "epoch": header.epoch,
        "run_no": header.run_no,
        "first_segment_no": index.segments[0].segment_no,
        "segments": seal.segments,
        "start_ms": index.start_ms,
        "end_ms": seal.end_ms,
        "bytes": seal.length,
        "sha256": seal.sha256,
        "overlaps": header.overlaps,
    }


class Catalogue:
    """One pool of connections to the catalogue."""

    def __init__(self, engine: AsyncEngine):
        self._engine = engine
        self.orders = Orders(engine)
        # what is one statement needs no transaction: one round trip instead of three
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._pks: dict[Name, int] = {}
        self._days: set[int] = set()  # that have partitions

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and bring the schema up to date.

        `url` is sqlite:///path or postgresql://...; raises CatalogueError, without a password.
        """
        return cls(await open_database(url))

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
            async with self._single.connect() as connection:
                await connection.execute(sa.text("SELECT 1"))
        except (sa.exc.SQLAlchemyError, OSError) as error:
            raise CatalogueError(words(error)) from None

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

    async def put_recordings(self, found: Sequence[Index]) -> None:
        """Insert sealed recordings, their runs and the gaps they carry."""
        if not found:
            return
        recording_rows, run_rows, gap_rows = [], {}, []
        for index in found:
            header, seal = index.header, index.seal
            assert seal is not None
            pk: dict[str, Any] = {
                "camera_pk": await self._pk(header.election, header.station, header.camera)
            }
            recording_rows.append(pk | recording_row(index))
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
        await self._have_days({row["day"] for row in recording_rows})
        pk_name = "camera_pk"
        async with self._engine.begin() as connection:  # one, as each costs a flush of the disk
            await self._put(
                connection,
                runs,
                list(run_rows.values()),
                [pk_name, "run_no"],
                ["end_ms", "end_reason"],
            )
            await self._put(
                connection, recordings, recording_rows, [pk_name, "record_seq", "day"], []
            )
            await self._put(connection, gaps, gap_rows, [pk_name, "gap_no"], ["start_ms", "end_ms"])

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

    async def mark_archived(self, index: Index, archive: Archived) -> bool:
        """Note that an archive has a recording, verified.

        False when the catalogue has no row, or another recording's, under its number.
        """
        header, seal, r = index.header, index.seal, recordings.c
        assert seal is not None
        pk = await self._pk(header.election, header.station, header.camera)
        key = {"camera_pk": pk, "record_seq": header.record_seq, "day": index.start_ms // DAY_MS}
        row = key | asdict(archive)
        same = [r[name] == value for name, value in key.items()] + [r.sha256 == seal.sha256]
        values = [sa.literal(value, archived.c[name].type) for name, value in row.items()]
        insert = self._insert(archived).from_select(list(row), sa.select(*values).where(*same))
        async with self._single.connect() as connection:
            if (await connection.execute(insert.on_conflict_do_nothing())).rowcount == 1:
                return True
            return bool(await connection.scalar(sa.select(sa.exists().where(*same))))

    async def put_archived(self, name: Name, found: Sequence[tuple[Index, Archived]]) -> None:
        """Note the same of many recordings of a camera whose rows were just written."""
        pk = await self._pk(*name)
        rows = [
            {"camera_pk": pk, "record_seq": i.header.record_seq, "day": i.start_ms // DAY_MS}
            | asdict(there)
            for i, there in found
        ]
        await self._upsert(archived, rows, ["camera_pk", "record_seq", "day", "archive"], [])

    async def mark_removed(
        self, name: Name, record_seq: int, start_ms: int, removed_ms: int
    ) -> None:
        """Note that a recording is no longer in the spool."""
        r = recordings.c
        where = await self._is(recordings, name, record_seq, start_ms)
        async with self._single.connect() as connection:
            await connection.execute(
                sa.update(recordings)
                .where(*where, r.removed_ms.is_(None))
                .values(removed_ms=removed_ms)
            )

    async def begin_removal(
        self, name: Name, row: Mapping[str, Any], archive: str, at_ms: int, reason: str
    ) -> bool:
        """Note that an archive no longer has a recording, and why; its bytes may go from now on.

        False where it was noted before, or a hold keeps it: whoever of a hold and this comes
        second sees the first. `row` has `record_seq`, `start_ms` and `end_ms`.
        """
        where = await self._is(archived, name, row["record_seq"], row["start_ms"])
        where += [archived.c.archive == archive, archived.c.removed_ms.is_(None)]
        held = _held(name, row["start_ms"], row["end_ms"], at_ms)
        gone = {"removed_ms": at_ms, "removed_reason": reason, "etags": REMOVING}
        async with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # waits for holds that are being written
                await connection.exec_driver_sql("LOCK TABLE holds IN SHARE MODE")
            done = await connection.execute(
                sa.update(archived).where(*where, ~held.exists()).values(gone)
            )
        return done.rowcount == 1

    async def end_removal(self, name: Name, record_seq: int, start_ms: int, archive: str) -> None:
        """Note that the bytes of what was removed from an archive are gone."""
        where = await self._is(archived, name, record_seq, start_ms)
        async with self._single.connect() as connection:
            await connection.execute(
                sa.update(archived).where(*where, archived.c.archive == archive).values(etags="")
            )

    async def put_removed(
        self, name: Name, archive: str, bucket: str, facts: dict[str, Any]
    ) -> None:
        """Insert a recording that an archive no longer has, as its `.removed.json` tells it."""
        pk = await self._pk(*name)
        key = {
            "camera_pk": pk,
            "record_seq": facts["record_seq"],
            "day": facts["start_ms"] // DAY_MS,
        }
        row = {c.name: facts[c.name] for c in recordings.c if c.name in facts} | key
        row["removed_ms"] = facts["removed_ms"]
        gone = {"removed_ms": facts["removed_ms"], "removed_reason": facts["reason"]}
        told = Archived(archive, bucket, facts["removed_ms"], "told by its trace")
        await self._have_days({key["day"]})
        async with self._engine.begin() as connection:
            for table, values in ((recordings, row), (archived, key | asdict(told) | gone)):
                await connection.execute(self._insert(table).on_conflict_do_nothing(), values)

    async def forget_archived(
        self, name: Name, record_seq: int, start_ms: int, archive: str
    ) -> None:
        """Take back that an archive has a recording: it was looked for and is not there."""
        where = await self._is(archived, name, record_seq, start_ms)
        async with self._single.connect() as connection:
            await connection.execute(
                sa.delete(archived).where(*where, archived.c.archive == archive)
            )

    # -- holds ---------------------------------------------------------------------------

    async def hold(
        self,
        election: str,
        reason: str,
        now_ms: int,
        *,
        station: str | None = None,
        camera: str | None = None,
        from_ms: int | None = None,
        to_ms: int | None = None,
        until_ms: int | None = None,
    ) -> int:
        """Keep recordings beyond their date, all or those of a station, camera or stretch.

        Returns the number of the hold, which lasts until `until_ms` or until it is released.
        """
        async with self._engine.begin() as connection:
            done = await connection.execute(
                sa.insert(holds)
                .values(
                    election=election,
                    station=station,
                    camera=camera,
                    from_ms=from_ms,
                    to_ms=to_ms,
                    until_ms=until_ms,
                    reason=reason,
                    created_ms=now_ms,
                )
                .returning(holds.c.hold_no)
            )
            return int(done.scalar_one())

    async def release(self, hold_no: int, now_ms: int) -> bool:
        """End a hold; False when there is none that lasts under this number."""
        h = holds.c
        async with self._engine.begin() as connection:
            done = await connection.execute(
                sa.update(holds)
                .where(h.hold_no == hold_no, h.released_ms.is_(None))
                .values(released_ms=now_ms)
            )
        return done.rowcount == 1

    async def holds(self, election: str) -> list[dict[str, Any]]:
        """Return all holds of an election, also those that ended, oldest first."""
        return await self._rows(
            sa.select(holds).where(holds.c.election == election).order_by(holds.c.hold_no)
        )

    async def due(
        self, name: Name, archive: str, before_ms: int, now_ms: int
    ) -> list[dict[str, Any]]:
        """Return what an archive has of a camera that ended before a time and no hold keeps.

        What has `begun_ms` was begun to be removed then, for `removed_reason`, and may be there.
        """
        pk, r, a = await self._pk(*name), recordings.c, archived.c
        free = sa.and_(
            a.removed_ms.is_(None),
            sa.or_(a.locked_until_ms.is_(None), a.locked_until_ms < now_ms),
            ~_held(name, r.start_ms, r.end_ms, now_ms).exists(),
        )
        begun = sa.and_(a.removed_ms.is_not(None), a.etags == REMOVING)
        same = sa.and_(a.camera_pk == r.camera_pk, a.record_seq == r.record_seq, a.day == r.day)
        return await self._rows(
            sa.select(
                *(recordings, a.bucket, a.version_id, a.locked_until_ms),
                *(a.removed_ms.label("begun_ms"), a.removed_reason),
            )
            .join(archived, same)
            .where(r.camera_pk == pk, r.start_ms < before_ms, r.end_ms < before_ms)
            .where(a.archive == archive, sa.or_(free, begun))
            .order_by(r.record_seq)
            .limit(BATCH)
        )

    # -- reading -------------------------------------------------------------------------

    async def names(self, election: str) -> list[Name]:
        """Return the cameras that the catalogue knows, sorted."""
        c = cameras.c
        rows = await self._rows(
            sa.select(c.election, c.station, c.camera)
            .where(c.election == election)
            .order_by(c.station, c.camera)
        )
        return [(r["election"], r["station"], r["camera"]) for r in rows]

    async def in_spool(self, name: Name) -> dict[int, InSpool]:
        """Return by record_seq what was not removed from the spool."""
        pk, r, a = await self._pk(*name), recordings.c, archived.c
        same = sa.and_(a.camera_pk == r.camera_pk, a.record_seq == r.record_seq, a.day == r.day)
        found: dict[int, InSpool] = {}
        for row in await self._rows(
            sa.select(r.record_seq, r.start_ms, a.archive, a.bucket, a.etags)
            .join(archived, same, isouter=True)
            .where(r.camera_pk == pk, r.removed_ms.is_(None))
        ):
            known = found.setdefault(row["record_seq"], InSpool(row["start_ms"], {}))
            if row["archive"]:
                known.archives[row["archive"]] = row["bucket"], row["etags"]
        return found

    async def recordings_between(
        self, name: Name, from_ms: int, to_ms: int
    ) -> list[dict[str, Any]]:
        """Return the recordings that touch [from_ms, to_ms), oldest first.

        Each has the rows of its archives under "archives".
        """
        touching = self._touching((await self._pk(*name),), from_ms, to_ms)
        asked = sa.select(recordings).where(*touching)
        return await self._with_archives(await self._rows(asked.order_by(recordings.c.record_seq)))

    async def timelines(
        self, names: Sequence[Name], from_ms: int, to_ms: int
    ) -> dict[Name, tuple[Rows, Rows]]:
        """Return, by camera, its recordings and gaps that touch [from_ms, to_ms), oldest first.

        A recording is record_seq, start_ms and end_ms; where an archive removed one of them, each
        has the rows of its archives, else none. All cameras of a station are asked for at once,
        and unlike `recordings_between` this reads indexes alone: a row a minute for a day is as
        many pages.
        """
        r, a, g = recordings.c, archived.c, gaps.c
        by_pk = {pk: name for name, pk in (await self._known(names)).items()}
        found: dict[int, tuple[Rows, Rows]] = {pk: ([], []) for pk in by_pk}
        columns = (r.camera_pk, r.record_seq, r.start_ms, r.end_ms, r.day)
        touching = self._touching(tuple(by_pk), from_ms, to_ms)
        for row in await self._rows(sa.select(*columns).where(*touching).order_by(r.record_seq)):
            found[row["camera_pk"]][0].append(row)
        for row in await self._rows(
            sa.select(gaps)
            .where(g.camera_pk.in_(by_pk), g.start_ms < to_ms)
            .where(sa.or_(g.end_ms.is_(None), g.end_ms > from_ms))
            .order_by(g.start_ms)
        ):
            found[row["camera_pk"]][1].append(row)
        shown = {pk: rows for pk, (rows, _) in found.items() if rows}
        stretches = [
            sa.and_(
                a.removed_ms.is_not(None),  # in each, by which SQLite finds its small index
                a.camera_pk == pk,
                a.record_seq.between(rows[0]["record_seq"], rows[-1]["record_seq"]),
            )
            for pk, rows in shown.items()
        ]
        removed = sa.select(a.camera_pk).where(sa.or_(sa.false(), *stretches)).distinct()
        for row in await self._rows(removed) if stretches else ():
            pk = row["camera_pk"]
            found[pk] = (await self._with_archives(shown[pk]), found[pk][1])
        return {name: ([], []) for name in names} | {
            by_pk[pk]: ([{"archives": []} | row for row in rows], ended)
            for pk, (rows, ended) in found.items()
        }

    async def recording_with_segment(self, name: Name, segment_no: int) -> dict[str, Any] | None:
        """Return the recording that holds a segment, with its archives."""
        pk, r = await self._pk(*name), recordings.c
        rows = await self._rows(
            sa.select(recordings)
            .where(r.camera_pk == pk, r.first_segment_no <= segment_no)
            .order_by(r.first_segment_no.desc())
            .limit(1)
        )
        if rows and segment_no < rows[0]["first_segment_no"] + rows[0]["segments"]:
            return (await self._with_archives(rows))[0]
        return None

    async def recording_of_run(self, name: Name, run_no: int) -> dict[str, Any] | None:
        """Return the first recording of a run, with its archives."""
        pk, r = await self._pk(*name), recordings.c
        run = await self._rows(
            sa.select(runs.c.start_ms).where(runs.c.camera_pk == pk, runs.c.run_no == run_no)
        )
        if not run:
            return None
        # a run has recordings from its start on, without a hole
        start_ms = run[0]["start_ms"]
        rows = await self._rows(
            sa.select(recordings)
            .where(r.camera_pk == pk, r.run_no == run_no)
            .where(r.day >= (start_ms - LONGEST_MS) // DAY_MS, r.start_ms >= start_ms - LONGEST_MS)
            .order_by(r.start_ms)
            .limit(1)
        )
        return (await self._with_archives(rows))[0] if rows else None

    async def recordings_of(self, name: Name) -> list[dict[str, Any]]:
        """Return all recordings of a camera by number, with their archives."""
        pk, r = await self._pk(*name), recordings.c
        return await self._with_archives(
            await self._rows(sa.select(recordings).where(r.camera_pk == pk).order_by(r.record_seq))
        )

    async def _with_archives(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add what the archives have of one camera's recordings, which are in order."""
        if not rows:
            return rows
        a, first, last = archived.c, rows[0], rows[-1]
        by_seq: dict[int, list[dict[str, Any]]] = {}
        for found in await self._rows(
            sa.select(archived)
            .where(a.camera_pk == first["camera_pk"])
            .where(a.record_seq.between(first["record_seq"], last["record_seq"]))
            .where(a.day.between(min(r["day"] for r in rows), max(r["day"] for r in rows)))
            .order_by(a.record_seq, a.archive)
        ):
            by_seq.setdefault(found["record_seq"], []).append(found)
        return [row | {"archives": by_seq.get(row["record_seq"], [])} for row in rows]

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
        async with self._single.connect() as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    @staticmethod
    def _touching(pks: tuple[int, ...], from_ms: int, to_ms: int) -> list[sa.ColumnElement[bool]]:
        r, first_ms = recordings.c, from_ms - LONGEST_MS
        return [
            r.camera_pk.in_(pks),
            r.day.between(first_ms // DAY_MS, to_ms // DAY_MS),
            r.start_ms < to_ms,
            r.start_ms > first_ms,
            r.end_ms > from_ms,
        ]

    async def _is(
        self, table: sa.Table, name: Name, record_seq: int, start_ms: int
    ) -> list[sa.ColumnElement[bool]]:
        c = table.c
        pk = await self._pk(*name)
        return [c.camera_pk == pk, c.record_seq == record_seq, c.day == start_ms // DAY_MS]

    async def _have_days(self, days: set[int]) -> None:
        if missing := days - self._days:
            async with self._engine.begin() as connection:
                await make_partitions(connection, missing)
            self._days |= missing

    async def _known(self, names: Sequence[Name]) -> dict[Name, int]:
        """Return the numbers of those cameras that have one; one statement for all."""
        if missing := [name for name in names if name not in self._pks]:
            c = cameras.c
            asked = sa.select(c.camera_pk, c.election, c.station, c.camera).where(
                c.election.in_({name[0] for name in missing}),
                c.station.in_({name[1] for name in missing}),
            )
            for row in await self._rows(asked):
                self._pks[row["election"], row["station"], row["camera"]] = row["camera_pk"]
        return {name: self._pks[name] for name in names if name in self._pks}

    async def _pk(self, election: str, station: str, camera: str) -> int:
        name = (election, station, camera)
        if name not in self._pks:
            c = cameras.c
            asked = sa.select(c.camera_pk).where(
                c.election == election, c.station == station, c.camera == camera
            )
            if not (found := await self._rows(asked)):
                row = dict(zip(("election", "station", "camera"), name, strict=True))
                await self._upsert(cameras, [row], list(row), [])
                found = await self._rows(asked)
            self._pks[name] = found[0]["camera_pk"]
        return self._pks[name]

    def _insert(self, table: sa.Table) -> Any:
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        return insert(table)

    async def _upsert(
        self, table: sa.Table, rows: Sequence[dict[str, Any]], key: list[str], update: list[str]
    ) -> None:
        for n in range(0, len(rows), BATCH):
            async with self._engine.begin() as connection:
                await self._put(connection, table, rows[n : n + BATCH], key, update)

    async def _put(
        self,
        connection: AsyncConnection,
        table: sa.Table,
        rows: Sequence[dict[str, Any]],
        key: list[str],
        update: list[str],
    ) -> None:
        if not rows:
            return
        statement = self._insert(table)
        if update:
            taken = {column: statement.excluded[column] for column in update}
            statement = statement.on_conflict_do_update(index_elements=key, set_=taken)
        else:
            statement = statement.on_conflict_do_nothing(index_elements=key)
        await connection.execute(statement, list(rows))
