"""The catalogue: stations, cameras, runs, recordings and gaps in SQL, to be found again.

SQLite (WAL, one file, several processes) or PostgreSQL by URL; the same statements on both. All
times are UTC milliseconds. The catalogue can be rebuilt from the archive; it is written by the
uploader and `kuager fsck` (storage/catalogue/recordings.py) and read by everyone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import sqlalchemy as sa
import structlog

from base.backoff import Backoff
from storage.catalogue.archive_ids import ArchiveIds
from storage.catalogue.cameras import Cameras, Name
from storage.catalogue.checkouts import Checkouts
from storage.catalogue.connection import Pool
from storage.catalogue.database import CatalogueError, Engine, open_database
from storage.catalogue.holds import Holds
from storage.catalogue.nodes import Nodes
from storage.catalogue.order_files import OrderFiles
from storage.catalogue.orders import Orders
from storage.catalogue.outbox import Outbox
from storage.catalogue.recordings import RecordingRows
from storage.catalogue.rows import ArchivedRow, RecordingRow, TimelineRow
from storage.catalogue.schema import (
    DAY_MS,
    SAME_RECORDING,
    archived,
    cameras,
    catalogue,
    gaps,
    packet_loss,
    recordings,
    runs,
)
from storage.catalogue.usage import Usage
from storage.records import LONGEST_MS, NUMBERS, Gap, Identity, Losses

OWNERS = 4  # of one number, at most
REOPEN_S = (1.0, 2.0, 5.0, 10.0)  # the pauses of a database that is away

log = structlog.get_logger()

Pks = Collection[int] | sa.ScalarSelect[int]  # of cameras; one is a part of the statement


@dataclass(frozen=True, slots=True)
class InSpool:
    """A recording that a spool has as far as the catalogue knows, and which archives have it,
    with bucket and ETags, and which had it until its time came. `spool` is None where its row
    does not say which spool."""

    name: Name
    identity: Identity
    spool: str | None
    archives: dict[str, tuple[str, str]]
    retired: set[str] = field(default_factory=set)


class Catalogue:
    """What there is of recordings and gaps, and all else that the database keeps."""

    def __init__(self, engine: Engine, url: str):
        self._url = url
        self.pool = Pool(engine)
        self.cameras = Cameras(self.pool)
        self.writer = RecordingRows(self.pool, self.cameras)
        self.archive_ids = ArchiveIds(self.pool)
        self.holds = Holds(self.pool, self.cameras)
        self.orders = Orders(self.pool)
        self.order_files = OrderFiles(self.pool)
        self.checkouts = Checkouts(self.pool)
        self.outbox = Outbox(self.pool)
        self.usage = Usage(self.pool)
        self.nodes = Nodes(self.pool)

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect and bring the schema up to date.

        `url` is sqlite:///path or postgresql://...; raises CatalogueError, without a password.
        """
        return cls(await open_database(url), url)

    @classmethod
    async def open_patiently(
        cls, url: str, tell: Callable[[CatalogueError], None] = lambda _: None
    ) -> Self:
        """Open, for as long as it takes; why it cannot be opened is said once per reason, and
        `tell` hears it each time."""
        told, again = "", Backoff(REOPEN_S)
        while True:
            try:
                return await cls.open(url)
            except CatalogueError as error:
                tell(error)
                if str(error) != told:
                    told = str(error)
                    log.error("The catalogue cannot be opened; trying again", why=told)
            await asyncio.sleep(again.failed())

    async def close(self) -> None:
        """Close all connections."""
        await self.pool.engine.dispose()

    async def id(self) -> str:
        """Return what tells this database from another that may take its place.

        Raises CatalogueError unless it answers, and has its tables.
        """
        asked = sa.select(catalogue.c.id).order_by(catalogue.c.id).limit(1)
        (found,) = (await self.pool.rows(asked)) or [{"id": ""}]
        return str(found["id"])

    async def prepared(self) -> str:
        """Return the id; a database that was put there without tables gets them."""
        await self.pool.column(sa.select(1))  # whoever does not answer this has more than no tables
        with contextlib.suppress(CatalogueError):
            if found := await self.id():
                return found
        await (await open_database(self._url)).dispose()
        return await self.id()

    async def in_spool(
        self, station: str, camera: str, spool: str, record_seq: int | None = None
    ) -> dict[tuple[int, int], InSpool]:
        """Return by number and start what was not removed from a spool, of whatever election; of
        one number where that is given."""
        r, a, c = recordings.c, archived.c, cameras.c
        found: dict[tuple[int, int], InSpool] = {}
        asked = (
            sa.select(*(c.election, c.station, c.camera, r.record_seq, r.start_ms, r.sha256))
            .add_columns(r.spool, a.archive, a.bucket, a.etags, a.removed_ms)
            .join(cameras, c.camera_pk == r.camera_pk)
            .join(archived, SAME_RECORDING, isouter=True)
            .where(c.station == station, c.camera == camera, r.removed_ms.is_(None))
            .where(sa.or_(r.spool == spool, r.spool.is_(None)))
            .where(sa.true() if record_seq is None else r.record_seq == record_seq)
            .order_by(r.spool.is_not(None))  # of two with one name that of this spool counts
        )
        for row in await self.pool.rows(asked):
            name, identity = (row["election"], row["station"], row["camera"]), Identity.of(row)
            known = found.get((row["record_seq"], row["start_ms"]))
            if known is None or known.identity != identity:
                known = InSpool(name, identity, row["spool"], {})
                found[row["record_seq"], row["start_ms"]] = known
            if row["removed_ms"] is not None:
                known.retired.add(row["archive"])
            elif row["archive"]:
                known.archives[row["archive"]] = row["bucket"], row["etags"]
        return found

    async def numbers_elsewhere(self, name: Name, spool: str, epoch: int) -> dict[str, int] | None:
        """Return the highest numbers of a camera that came from other spools; None for none.

        A row that does not say its spool, as one that an archive told of, is of another where its
        epoch is higher than `epoch`, this spool's.
        """
        r, g = recordings.c, gaps.c
        pk = self.cameras.camera_pk(name)
        counted = (r.epoch, r.run_no, r.record_seq, r.first_segment_no + r.segments)
        (found,) = await self.pool.rows(
            sa.select(
                *(
                    sa.func.max(column).label(number)
                    for number, column in zip(NUMBERS, counted, strict=False)
                ),
                sa.select(sa.func.max(g.gap_no))
                .where(g.camera_pk == pk)
                .scalar_subquery()
                .label("gap_no"),
            )
            .where(r.camera_pk == pk)
            .where(sa.or_(r.spool != spool, sa.and_(r.spool.is_(None), r.epoch > epoch)))
        )
        return None if found["epoch"] is None else {k: found[k] or 0 for k in NUMBERS}

    async def missing(
        self, name: Name, archives: Mapping[str, int | None], now_ms: int, page: tuple[int, int]
    ) -> list[RecordingRow]:
        """Return what is off the spool and not in each archive that should have it, oldest first.

        `archives` are those of the configuration, with how many seconds each keeps recordings:
        what is older is not missed. `page` is from which number on, and how many.
        """
        r, a = recordings.c, archived.c
        lacking = [
            sa.and_(
                r.end_ms > now_ms - keep_s * 1000 if keep_s else sa.true(),
                ~sa.exists().where(SAME_RECORDING, a.archive == archive),
            )
            for archive, keep_s in archives.items()
        ]
        there = sa.exists().where(SAME_RECORDING, a.removed_ms.is_(None))
        asked = (
            sa.select(recordings)
            .where(r.camera_pk == self.cameras.camera_pk(name), r.removed_ms.is_not(None))
            .where(sa.or_(*lacking), there, r.record_seq >= page[0])
            .order_by(r.record_seq)
            .limit(page[1])
        )
        return await self._recordings(asked)

    async def recordings_between(self, name: Name, from_ms: int, to_ms: int) -> list[RecordingRow]:
        """Return the recordings that touch [from_ms, to_ms), oldest first."""
        touching = self._touching(self.cameras.camera_pk(name), from_ms, to_ms)
        asked = sa.select(recordings).where(*touching).order_by(recordings.c.record_seq)
        rows = await self._recordings(asked)
        await self._add_losses(rows, from_ms, to_ms)
        return rows

    async def _add_losses(self, rows: Sequence[TimelineRow], from_ms: int, to_ms: int) -> None:
        """Add what is missing of recordings in a stretch."""
        p = packet_loss.c
        asked = sa.select(packet_loss).where(
            p.camera_pk.in_({row.camera_pk for row in rows}),
            *(p.start_ms > from_ms - LONGEST_MS, p.start_ms < to_ms),
        )
        losses = {
            (one["camera_pk"], one["record_seq"], one["start_ms"]): Losses(
                one["lost"], one["damaged"], one["restarted"]
            )
            for one in (await self.pool.rows(asked) if rows else ())
        }
        for row in rows if losses else ():
            row.losses = losses.get((row.camera_pk, *row.key), row.losses)

    async def timelines(
        self, names: Sequence[Name], from_ms: int, to_ms: int
    ) -> dict[Name, tuple[list[TimelineRow], list[Gap]]]:
        """Return, by camera, its recordings and gaps that touch [from_ms, to_ms), oldest first.

        Where an archive removed one of them, each has the rows of its archives, else none. All
        cameras of a station are asked for at once, and unlike `recordings_between` this reads
        indexes alone: a row a minute for a day is as many pages.
        """
        r, a = recordings.c, archived.c
        by_pk = {pk: name for name, pk in (await self.cameras.known(names)).items()}
        found: dict[int, tuple[list[TimelineRow], list[Gap]]] = {pk: ([], []) for pk in by_pk}
        columns = (r.camera_pk, r.record_seq, r.start_ms, r.end_ms, r.day, r.collision)
        touching = self._touching(by_pk, from_ms, to_ms)
        asked = sa.select(*columns).where(*touching).order_by(r.record_seq)
        rows = await self.pool.rows_as(TimelineRow, asked)
        await self._add_losses(rows, from_ms, to_ms)
        for row in rows:
            found[row.camera_pk][0].append(row)
        for gap in await self._gaps(by_pk, from_ms, to_ms):
            found[gap["camera_pk"]][1].append(Gap.of(gap))
        shown = {pk: rows for pk, (rows, _) in found.items() if rows}
        stretches = [
            sa.and_(
                a.removed_ms.is_not(None),  # in each, by which SQLite finds its small index
                a.camera_pk == pk,
                a.record_seq.between(rows[0].record_seq, rows[-1].record_seq),
            )
            for pk, rows in shown.items()
        ]
        removed = sa.select(a.camera_pk).where(sa.or_(sa.false(), *stretches)).distinct()
        for pk in await self.pool.column(removed) if stretches else ():
            await self._add_archives(shown[pk])
        return {name: ([], []) for name in names} | {by_pk[pk]: rows for pk, rows in found.items()}

    async def recording_with_segment(self, name: Name, segment_no: int) -> RecordingRow | None:
        """Return the recording that holds a segment, with its archives.

        Where two owners used its number, it is that of the higher epoch.
        """
        r = recordings.c
        rows = await self.pool.rows_as(
            RecordingRow,
            sa.select(recordings)
            .where(r.camera_pk == self.cameras.camera_pk(name), r.first_segment_no <= segment_no)
            .order_by(r.first_segment_no.desc())
            .limit(OWNERS),
        )
        rows = [row for row in rows if segment_no < row.first_segment_no + row.segments]
        newest = sorted(rows, key=lambda row: row.epoch)[-1:]  # whose numbers are believed
        await self._add_archives(newest)
        return newest[0] if newest else None

    async def recording_of_run(self, name: Name, run_no: int) -> RecordingRow | None:
        """Return the first recording of a run, with its archives.

        Where two owners used its number, it is that of the higher epoch.
        """
        pk, r, u = self.cameras.camera_pk(name), recordings.c, runs.c
        run = await self.pool.rows(
            sa.select(u.start_ms, u.epoch).where(u.camera_pk == pk, u.run_no == run_no)
        )
        if not run:
            return None
        # a run has recordings from its start on, without a hole
        start_ms = run[0]["start_ms"]
        rows = await self._recordings(
            sa.select(recordings)
            .where(r.camera_pk == pk, r.run_no == run_no, r.epoch == run[0]["epoch"])
            .where(r.day >= (start_ms - LONGEST_MS) // DAY_MS, r.start_ms >= start_ms - LONGEST_MS)
            .order_by(r.start_ms)
            .limit(1)
        )
        return rows[0] if rows else None

    async def camera_of_same_bytes(self, name: Name, identity: Identity) -> Name | None:
        """Return another camera that has a recording's bytes under its number, in an archive."""
        r, c = recordings.c, cameras.c
        rows = await self.pool.rows(
            sa.select(c.election, c.station, c.camera)
            .select_from(recordings)
            .join(cameras, c.camera_pk == r.camera_pk)
            .join(archived, SAME_RECORDING)
            .where(r.day == identity.start_ms // DAY_MS, r.sha256 == identity.sha256)
            .where(r.record_seq == identity.record_seq, archived.c.removed_ms.is_(None))
        )
        found = [(row["election"], row["station"], row["camera"]) for row in rows]
        return next((other for other in found if other != name), None)

    async def recordings_of(self, name: Name) -> list[RecordingRow]:
        """Return all recordings of a camera by number, with their archives."""
        r = recordings.c
        mine = r.camera_pk == self.cameras.camera_pk(name)
        asked = sa.select(recordings).where(mine).order_by(r.record_seq, r.start_ms)
        return await self._recordings(asked)

    async def extent_ms(self, name: Name) -> tuple[int, int] | None:
        """Return when the oldest recording of a camera began, also one that was removed, and when
        the newest ended; None without any."""
        r = recordings.c
        mine = r.camera_pk == self.cameras.camera_pk(name)
        ends = ((r.start_ms, r.start_ms), (r.end_ms, r.start_ms.desc()))
        asked = [sa.select(what).where(mine).order_by(by).limit(1) for what, by in ends]
        found = [ms for one in asked for ms in await self.pool.column(one)]
        return (found[0], found[1]) if len(found) == 2 else None

    async def _recordings(self, asked: sa.Select[Any]) -> list[RecordingRow]:
        """Return recordings of one camera in their order, with their archives."""
        rows = await self.pool.rows_as(RecordingRow, asked)
        await self._add_archives(rows)
        return rows

    async def _add_archives(self, rows: Sequence[TimelineRow]) -> None:
        """Add what the archives have of one camera's recordings, which are in order."""
        if not rows:
            return
        a, first, last = archived.c, rows[0], rows[-1]
        by_key = defaultdict[tuple[int, ...], list[ArchivedRow]](list)
        for found in await self.pool.rows_as(
            ArchivedRow,
            sa.select(archived)
            .where(a.camera_pk == first.camera_pk)
            .where(a.record_seq.between(first.record_seq, last.record_seq))
            .where(a.day.between(min(r.day for r in rows), max(r.day for r in rows)))
            .order_by(a.record_seq, a.archive),
        ):
            by_key[_key(found)].append(found)
        for row in rows:
            row.archives = by_key.get(_key(row), ())

    async def gaps_between(self, name: Name, from_ms: int, to_ms: int) -> list[Gap]:
        """Return the gaps that touch [from_ms, to_ms), oldest first."""
        rows = await self._gaps(self.cameras.camera_pk(name), from_ms, to_ms)
        return [Gap.of(row) for row in rows]

    async def _gaps(self, pks: Pks, from_ms: int, to_ms: int) -> list[dict[str, Any]]:
        g = gaps.c
        return await self.pool.rows(
            sa.select(gaps)
            .where(_is_one_of(g.camera_pk, pks), g.start_ms < to_ms)
            .where(sa.or_(g.end_ms.is_(None), g.end_ms > from_ms))
            .order_by(g.start_ms)
        )

    @staticmethod
    def _touching(pks: Pks, from_ms: int, to_ms: int) -> list[sa.ColumnElement[bool]]:
        r, first_ms = recordings.c, from_ms - LONGEST_MS
        return [
            _is_one_of(r.camera_pk, pks),
            r.day.between(first_ms // DAY_MS, to_ms // DAY_MS),
            r.start_ms < to_ms,
            r.start_ms > first_ms,
            r.end_ms > from_ms,
        ]


def _key(row: TimelineRow | ArchivedRow) -> tuple[int, ...]:
    return row.camera_pk, row.record_seq, row.day, row.collision


def _is_one_of(column: Any, pks: Pks) -> sa.ColumnElement[bool]:
    if isinstance(pks, sa.ScalarSelect):
        return sa.type_coerce(column == pks, sa.Boolean)
    return sa.type_coerce(column.in_(pks), sa.Boolean)
