"""Writing the catalogue: what the uploader, `kuager fsck` and the retention note down in it.

Every step may be done twice, as it is after a crash. All times are UTC milliseconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace

import sqlalchemy as sa
import structlog

from storage.catalogue.cameras import Cameras, Name
from storage.catalogue.connection import Pool
from storage.catalogue.database import CatalogueError, Connection, make_partitions
from storage.catalogue.rows import Archived, recording_values
from storage.catalogue.schema import (
    DAY_MS,
    RECORDING_KEY,
    archived,
    gaps,
    is_archived,
    is_recording,
    packet_loss,
    recordings,
    runs,
)
from storage.records import Gap, Identity, Index, Losses, Trace, plain

GAP = ["camera_pk", "gap_no", "start_ms"]
LOSS = ["camera_pk", "start_ms", "record_seq"]
LOSSES = tuple(field.name for field in fields(Losses))
END_UNKNOWN = "nobody noted its end: it is taken to last until what follows began"

log = structlog.get_logger()


def collision_of(identity: Identity) -> int:
    """Return what tells a recording from the one that had its number first: never 0."""
    return int(identity.sha256[:7], 16) + 1


def _gap_row(camera_pk: object, gap: Gap) -> dict[str, object]:
    """Return the row of a gap. Who wrote it may have quoted a camera's words as they were: what no
    database takes must not keep a recording that carries it out of the archives."""
    return {"camera_pk": camera_pk} | gap.to_dict() | {"detail": plain(gap.detail)}


def _bytes_of(row: Mapping[str, object]) -> tuple[object, ...]:
    return row["camera_pk"], row["record_seq"], row["day"], row["sha256"]


class RecordingRows:
    """Writes what became of recordings and gaps."""

    def __init__(self, pool: Pool, cameras: Cameras):
        self._pool, self._cameras = pool, cameras
        self._days: set[int] = set()  # that have partitions

    async def put_recordings(
        self, found: Sequence[Index], spool: str | None = None, *, now_ms: int | None = None
    ) -> list[Index]:
        """Insert sealed recordings, their runs and the gaps they carry.

        `spool` is the id of the spool that has them; without one they are off every spool since
        `now_ms`. Returns those whose number other bytes had before, and which got a row beside it.
        """
        if not found:
            return []
        days = {index.start_ms // DAY_MS for index in found}
        async with self._writing(days) as connection:  # one, as each costs a flush of the disk
            pks = await self._cameras.make(connection, {index.name for index in found})
            rows, run_rows, gap_rows, loss_rows = [], {}, [], []
            for index in found:
                header, seal = index.header, index.seal
                assert seal is not None
                pk: dict[str, object] = {"camera_pk": pks[index.name]}
                where = {"spool": spool, "removed_ms": None if spool else now_ms, "collision": 0}
                rows.append(pk | recording_values(index) | where)
                run_rows[pk["camera_pk"], header.run_no, header.run_start_ms] = pk | {
                    "run_no": header.run_no,
                    "epoch": header.epoch,
                    "start_ms": header.run_start_ms,
                    "end_ms": seal.end_ms if seal.end_reason else None,
                    "end_reason": seal.end_reason,
                    "init_sha256": header.init_sha256,
                    "tracks": [t.to_dict() for t in header.tracks],
                }
                gap_rows += [_gap_row(pk["camera_pk"], g) for g in header.gaps]
                if losses := Losses.of(index.segments):
                    where = {"start_ms": index.start_ms, "record_seq": header.record_seq}
                    loss_rows.append(pk | where | asdict(losses))
            await self._put_runs(connection, list(run_rows.values()))
            there = await self._stored(connection, rows)
            for row in rows:
                row["collision"] = there.get(_bytes_of(row), 0)
            await self._put_rows(connection, rows)
            there = await self._stored(connection, rows)
            others = [n for n, row in enumerate(rows) if _bytes_of(row) not in there]
            for n in others:
                rows[n]["collision"] = collision_of(found[n].identity)
            await self._put_rows(connection, [rows[n] for n in others])
            await self._pool.put(connection, gaps, gap_rows, GAP, ["end_ms", "detail"])
            await self._pool.put(connection, packet_loss, loss_rows, LOSS, [*LOSSES])
        return [found[n] for n in others]

    async def _put_runs(self, connection: Connection, rows: list[dict[str, object]]) -> None:
        """Insert runs or their ends. Where two spools used a number, the run of the higher epoch
        has it, whichever comes first; of one epoch the run that was there."""
        insert, r = self._pool.insert(runs), runs.c
        taken = insert.excluded
        same = sa.and_(taken.epoch == r.epoch, taken.start_ms == r.start_ms)
        await connection.execute(
            insert.on_conflict_do_update(
                index_elements=["camera_pk", "run_no"],
                set_={c.name: taken[c.name] for c in r if not c.primary_key},
                where=sa.or_(taken.epoch > r.epoch, same),
            ),
            rows,
        )

    async def _put_rows(self, connection: Connection, rows: list[dict[str, object]]) -> None:
        """Insert rows; of the same bytes it is noted that this spool has them."""
        if not rows:
            return
        insert = self._pool.insert(recordings)
        taken, r = insert.excluded, recordings.c
        again = insert.on_conflict_do_update(
            index_elements=RECORDING_KEY,
            set_={"spool": taken.spool, "removed_ms": None},
            where=sa.and_(r.sha256 == taken.sha256, taken.spool.is_not(None)),
        )
        await connection.execute(again, rows)

    async def _stored(
        self, connection: Connection, rows: list[dict[str, object]]
    ) -> dict[tuple[object, ...], int]:
        """Return which bytes have rows under the numbers of these rows, with `collision`."""
        r = recordings.c
        asked = sa.select(r.camera_pk, r.record_seq, r.day, r.sha256, r.collision).where(
            r.camera_pk.in_({row["camera_pk"] for row in rows}),
            r.record_seq.in_({row["record_seq"] for row in rows}),
            r.day.in_({row["day"] for row in rows}),
        )
        found = (await connection.execute(asked)).mappings()
        return {_bytes_of(dict(row)): row["collision"] for row in found}

    async def set_spool(self, name: Name, found: Collection[Identity], spool: str) -> None:
        """Note which spool has recordings whose rows do not say so yet."""
        r = recordings.c
        for identity in found:
            same = is_recording(self._cameras.camera_pk(name), identity)
            await self._pool.execute(
                sa.update(recordings).where(same, r.spool.is_(None)).values(spool=spool)
            )

    async def put_gaps(self, name: Name, found: Sequence[Gap]) -> None:
        """Insert gaps or the ends of gaps of one camera; one that is empty is taken out."""
        none = [g for g in found if g.end_ms is not None and g.end_ms <= g.start_ms]
        async with self._pool.work() as connection:
            pk = (await self._cameras.make(connection, [name]))[name]
            rows = [_gap_row(pk, g) for g in found if g not in none]
            await self._pool.put(connection, gaps, rows, GAP, ["end_ms", "detail"])
            for gap in none:
                same = gaps.c.gap_no == gap.gap_no, gaps.c.start_ms == gap.start_ms
                await connection.execute(sa.delete(gaps).where(gaps.c.camera_pk == pk, *same))

    async def end_lost_gaps(
        self, name: Name, known: Collection[tuple[int, int]], now_ms: int
    ) -> list[Gap]:
        """End gaps that last and are not `known`, by number and start: the spool that had them is
        lost, or nobody writes there. Each ends where the next recording or gap of the camera began
        by now, and says so. Returns them."""
        pk, g, r = self._cameras.camera_pk(name), gaps.c, recordings.c
        lasting = sa.select(gaps).where(g.camera_pk == pk, g.end_ms.is_(None))
        ended: list[Gap] = []
        for row in await self._pool.rows(lasting):
            begun = [
                sa.select(sa.func.min(c.start_ms).label("at")).where(
                    c.camera_pk == pk, c.start_ms > row["start_ms"], c.start_ms <= now_ms
                )
                for c in (g, r)
            ]
            found = [at for asked in begun for at in await self._pool.column(asked) if at]
            if found and (row["gap_no"], row["start_ms"]) not in known:
                gap = Gap.of(row)
                detail = f"{gap.detail}; {END_UNKNOWN}"
                ended.append(replace(gap, end_ms=min(found), detail=detail))
        await self.put_gaps(name, ended)
        return ended

    async def forget_recording(self, name: Name, identity: Identity) -> None:
        """Take out a row that the archive contradicts, with what it says of archives."""
        pk = self._cameras.camera_pk(name)
        log.warning(
            "A row of the catalogue contradicts the archive and is taken out",
            camera="/".join(name[1:]),
            record_seq=identity.record_seq,
            sha256=identity.sha256,
        )
        async with self._pool.work() as connection:
            await connection.execute(sa.delete(archived).where(is_archived(pk, identity)))
            await connection.execute(sa.delete(recordings).where(is_recording(pk, identity)))
            p = packet_loss.c
            same = p.start_ms == identity.start_ms, p.record_seq == identity.record_seq
            await connection.execute(sa.delete(packet_loss).where(p.camera_pk == pk, *same))

    async def mark_archived(self, index: Index, archive: Archived) -> bool:
        """Note that an archive has a recording, verified; False when these bytes have no row."""
        r = recordings.c
        same = is_recording(self._cameras.camera_pk(index.name), index.identity)
        values = [sa.literal(v, archived.c[k].type) for k, v in asdict(archive).items()]
        row = sa.select(*(r[key] for key in RECORDING_KEY), *values).where(same)
        columns = [*RECORDING_KEY, *asdict(archive)]
        insert = self._pool.insert(archived).from_select(columns, row)
        if await self._pool.execute(insert.on_conflict_do_nothing()) == 1:
            return True
        return (await self._pool.column(sa.select(sa.exists().where(same))))[0] == 1

    async def put_archived(self, found: Sequence[tuple[Index, Archived]]) -> None:
        """Note the same of many recordings whose rows were just written."""
        async with self._pool.work() as connection:
            pks = await self._cameras.make(connection, {index.name for index, _ in found})
            for index, archive in found:
                same = is_recording(pks[index.name], index.identity)
                keys = sa.select(*(recordings.c[key] for key in RECORDING_KEY)).where(same)
                rows = [
                    dict(row) | asdict(archive)
                    for row in (await connection.execute(keys)).mappings()
                ]
                await self._pool.put(connection, archived, rows, [*RECORDING_KEY, "archive"], [])

    async def mark_removed(self, name: Name, identity: Identity, removed_ms: int) -> None:
        """Note that a recording is no longer in the spool."""
        await self._pool.execute(
            sa.update(recordings)
            .where(is_recording(self._cameras.camera_pk(name), identity))
            .where(recordings.c.removed_ms.is_(None))
            .values(removed_ms=removed_ms)
        )

    async def put_removed(self, name: Name, archive: str, bucket: str, trace: Trace) -> None:
        """Insert a recording that an archive no longer has, as its `.removed.json` tells it."""
        identity, facts, day = trace.identity, trace.to_dict(), trace.start_ms // DAY_MS
        row = {c.name: facts[c.name] for c in recordings.c if c.name in facts}
        row["day"] = day
        gone = {"removed_ms": trace.removed_ms, "removed_reason": trace.reason}
        told = Archived(archive, bucket, trace.removed_ms, "told by its trace")
        async with self._writing({day}) as connection:
            row["camera_pk"] = (await self._cameras.make(connection, [name]))[name]
            row["collision"] = (await self._stored(connection, [row])).get(_bytes_of(row), 0)
            nothing = self._pool.insert(recordings).on_conflict_do_nothing()
            await connection.execute(nothing, row)
            if _bytes_of(row) not in await self._stored(connection, [row]):
                row["collision"] = collision_of(identity)
                await connection.execute(nothing, row)
            key = sa.select(*(recordings.c[key] for key in RECORDING_KEY)).where(
                is_recording(row["camera_pk"], identity)
            )
            there = (await connection.execute(key)).mappings().one()
            insert = self._pool.insert(archived).on_conflict_do_nothing()
            await connection.execute(insert, dict(there) | asdict(told) | gone)

    async def forget_archived(
        self, name: Name, identity: Identity, archive: str, *, removed: bool = False
    ) -> None:
        """Take back that an archive has a recording: it was looked for and is not there. With
        `removed`, that it was removed from there."""
        gone = is_archived(self._cameras.camera_pk(name), identity), archived.c.archive == archive
        told = archived.c.removed_ms.is_not(None) if removed else archived.c.removed_ms.is_(None)
        await self._pool.execute(sa.delete(archived).where(*gone, told))

    @contextlib.asynccontextmanager
    async def _writing(self, days: set[int]) -> AsyncIterator[Connection]:
        """Give a transaction in which rows of these days can be written. Where it fails it may be
        of another database than before, without the partitions that the last one had."""
        try:
            await self._have_days(days)
            async with self._pool.work() as connection:
                yield connection
        except CatalogueError:
            self._days.clear()
            raise

    async def _have_days(self, days: set[int]) -> None:
        if missing := days - self._days:
            async with self._pool.work() as connection:
                await make_partitions(connection, missing)
            self._days |= missing
