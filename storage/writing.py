"""Writing the catalogue: what the uploader, `kuager fsck` and the retention note down in it.

Every step may be done twice, as it is after a crash. All times are UTC milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from storage.cameras import Cameras, Name
from storage.database import make_partitions
from storage.index import Gap, Index
from storage.pool import Pool
from storage.schema import DAY_MS, archived, gaps, recordings, runs

RECORDING, GAP = ["camera_pk", "record_seq", "day"], ["camera_pk", "gap_no"]


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


class Writer:
    """Writes what became of recordings and gaps."""

    def __init__(self, pool: Pool, cameras: Cameras):
        self._pool, self._cameras = pool, cameras
        self._days: set[int] = set()  # that have partitions

    async def put_recordings(self, found: Sequence[Index]) -> None:
        """Insert sealed recordings, their runs and the gaps they carry."""
        if not found:
            return
        recording_rows, run_rows, gap_rows = [], {}, []
        for index in found:
            header, seal = index.header, index.seal
            assert seal is not None
            name = header.election, header.station, header.camera
            pk: dict[str, Any] = {"camera_pk": await self._cameras.pk(name)}
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
        ended, put = ["end_ms", "end_reason"], self._pool.put
        async with self._pool.work() as connection:  # one, as each costs a flush of the disk
            await put(connection, runs, list(run_rows.values()), ["camera_pk", "run_no"], ended)
            await put(connection, recordings, recording_rows, RECORDING, [])
            await put(connection, gaps, gap_rows, GAP, ["start_ms", "end_ms"])

    async def put_gaps(self, name: Name, found: Sequence[Gap]) -> None:
        """Insert gaps or the ends of gaps of one camera; one that is empty is taken out."""
        pk = await self._cameras.pk(name)
        rows = [
            {"camera_pk": pk} | g.to_dict()
            for g in found
            if g.end_ms is None or g.end_ms > g.start_ms
        ]
        await self._pool.upsert(gaps, rows, GAP, ["start_ms", "end_ms"])
        if none := [g.gap_no for g in found if g.end_ms is not None and g.end_ms <= g.start_ms]:
            await self._pool.execute(
                sa.delete(gaps).where(gaps.c.camera_pk == pk, gaps.c.gap_no.in_(none))
            )

    async def mark_archived(self, index: Index, archive: Archived) -> bool:
        """Note that an archive has a recording, verified.

        False when the catalogue has no row, or another recording's, under its number.
        """
        header, seal, r = index.header, index.seal, recordings.c
        assert seal is not None
        pk = await self._cameras.pk((header.election, header.station, header.camera))
        key = {"camera_pk": pk, "record_seq": header.record_seq, "day": index.start_ms // DAY_MS}
        row = key | asdict(archive)
        same = [r[name] == value for name, value in key.items()] + [r.sha256 == seal.sha256]
        values = [sa.literal(value, archived.c[name].type) for name, value in row.items()]
        insert = self._pool.insert(archived).from_select(list(row), sa.select(*values).where(*same))
        if await self._pool.execute(insert.on_conflict_do_nothing()) == 1:
            return True
        return (await self._pool.column(sa.select(sa.exists().where(*same))))[0] == 1

    async def put_archived(self, name: Name, found: Sequence[tuple[Index, Archived]]) -> None:
        """Note the same of many recordings of a camera whose rows were just written."""
        pk = await self._cameras.pk(name)
        rows = [
            {"camera_pk": pk, "record_seq": i.header.record_seq, "day": i.start_ms // DAY_MS}
            | asdict(there)
            for i, there in found
        ]
        await self._pool.upsert(archived, rows, [*RECORDING, "archive"], [])

    async def mark_removed(
        self, name: Name, record_seq: int, start_ms: int, removed_ms: int
    ) -> None:
        """Note that a recording is no longer in the spool."""
        r = recordings.c
        where = await self._is(recordings, name, record_seq, start_ms)
        await self._pool.execute(
            sa.update(recordings)
            .where(*where, r.removed_ms.is_(None))
            .values(removed_ms=removed_ms)
        )

    async def put_removed(
        self, name: Name, archive: str, bucket: str, facts: dict[str, Any]
    ) -> None:
        """Insert a recording that an archive no longer has, as its `.removed.json` tells it."""
        pk = await self._cameras.pk(name)
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
        async with self._pool.work() as connection:
            for table, values in ((recordings, row), (archived, key | asdict(told) | gone)):
                await connection.execute(self._pool.insert(table).on_conflict_do_nothing(), values)

    async def forget_archived(
        self, name: Name, record_seq: int, start_ms: int, archive: str
    ) -> None:
        """Take back that an archive has a recording: it was looked for and is not there."""
        where = await self._is(archived, name, record_seq, start_ms)
        await self._pool.execute(sa.delete(archived).where(*where, archived.c.archive == archive))

    async def _is(
        self, table: sa.Table, name: Name, record_seq: int, start_ms: int
    ) -> list[sa.ColumnElement[bool]]:
        c = table.c
        pk = await self._cameras.pk(name)
        return [c.camera_pk == pk, c.record_seq == record_seq, c.day == start_ms // DAY_MS]

    async def _have_days(self, days: set[int]) -> None:
        if missing := days - self._days:
            async with self._pool.work() as connection:
                await make_partitions(connection, missing)
            self._days |= missing
