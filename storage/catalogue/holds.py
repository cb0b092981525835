"""Holds in SQL: what is kept beyond its date, and what is removed because nothing keeps it.

All times are UTC milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from storage.catalogue.cameras import Cameras, Name
from storage.catalogue.connection import Pool
from storage.catalogue.database import HOLDING, take_lock
from storage.catalogue.rows import DueRow, HoldRow, RecordingRow
from storage.catalogue.schema import (
    RECORDING_KEY,
    SAME_RECORDING,
    archived,
    cameras,
    holds,
    is_archived,
    recordings,
)

AT_ONCE = 500


class Holds:
    """The holds of a catalogue."""

    def __init__(self, pool: Pool, cameras: Cameras):
        self._pool, self._cameras = pool, cameras

    async def add(
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
        async with self._pool.work() as connection:
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

    async def enter(self, told: Mapping[str, Any]) -> bool:
        """Enter a hold that an archive was told of; False where it is there already."""
        columns = ("election", "station", "camera", "from_ms", "to_ms", "until_ms", "created_ms")
        row = {name: told[name] for name in columns}
        same = [holds.c[name].is_not_distinct_from(value) for name, value in row.items()]
        known = sa.select(holds.c.hold_no).where(*same, holds.c.order_pk.is_(None))
        async with self._pool.work() as connection:
            await take_lock(connection, HOLDING)  # fsck and the uploader may both enter it
            if await connection.scalar(known.limit(1)) is not None:
                return False
            await connection.execute(sa.insert(holds).values(reason=told["reason"], **row))
            return True

    async def release(self, hold_no: int, now_ms: int, by: str = "") -> bool:
        """End a hold, and add to its reason `by` whom; False when there is none that lasts under
        this number."""
        h = holds.c
        changed = await self._pool.execute(
            sa.update(holds)
            .where(h.hold_no == hold_no, h.released_ms.is_(None))
            .values(released_ms=now_ms, reason=h.reason + (f" (released by {by})" if by else ""))
        )
        return changed == 1

    async def of(self, election: str) -> list[HoldRow]:
        """Return all holds of an election, also those that ended, oldest first."""
        asked = sa.select(holds).where(holds.c.election == election).order_by(holds.c.hold_no)
        return await self._pool.rows_as(HoldRow, asked)

    async def of_operators(self, election: str) -> list[HoldRow]:
        """Return the holds of an election that no order has, also those that ended."""
        return [hold for hold in await self.of(election) if hold.order_pk is None]

    async def due(
        self,
        name: Name,
        archive: str,
        before_ms: int,
        now_ms: int,
        after_seq: int = 0,
        others: Mapping[str, int | None] = MappingProxyType({}),
    ) -> list[DueRow]:
        """Return what an archive has of a camera that ended before a time and no hold keeps, with
        numbers above `after_seq`, the oldest first, some at a time.

        `others` are the other archives, with how many seconds each keeps recordings: what one of
        them is to keep and never had is not due. What has `removal_begun_ms` was begun to be
        removed then, for `removed_reason`, and its bytes may be there.
        """
        r, a = recordings.c, archived.c
        free = sa.and_(
            a.removed_ms.is_(None),
            sa.or_(a.locked_until_ms.is_(None), a.locked_until_ms < now_ms),
            ~_held(name, r.start_ms, r.end_ms, now_ms).exists(),
            *(
                sa.or_(
                    r.end_ms <= now_ms - keep_s * 1000 if keep_s else sa.false(),
                    _had_by(one),
                )
                for one, keep_s in others.items()
            ),
        )
        begun = sa.and_(a.removed_ms.is_not(None), a.removal_begun_ms.is_not(None))
        return await self._pool.rows_as(
            DueRow,
            sa.select(
                *(recordings, a.bucket, a.etags, a.locked_until_ms),
                *(a.removal_begun_ms, a.removed_reason),
            )
            .join(archived, SAME_RECORDING)
            .where(r.camera_pk == self._cameras.camera_pk(name), r.record_seq > after_seq)
            .where(r.start_ms < before_ms, r.end_ms < before_ms)
            .where(a.archive == archive, sa.or_(free, begun))
            .order_by(r.record_seq)
            .limit(AT_ONCE),
        )

    async def elections_due(self, election: str, archive: str, before_ms: int) -> list[str]:
        """Return the other elections of which an archive has recordings that ended before a
        time."""
        r, a, c = recordings.c, archived.c, cameras.c
        found = []
        for row in await self._pool.rows(sa.select(c.election).distinct()):
            other = str(row["election"])
            old = (
                sa.select(r.record_seq)
                .join(archived, SAME_RECORDING)
                .join(cameras, c.camera_pk == r.camera_pk)
                .where(c.election == other, r.start_ms < before_ms, r.end_ms < before_ms)
                .where(a.archive == archive, a.removed_ms.is_(None))
            )
            if other != election and await self._pool.column(old.limit(1)):
                found.append(other)
        return sorted(found)

    async def is_held(self, name: Name, start_ms: int, end_ms: int) -> bool:
        """Say whether a hold keeps a recording (UTC), or did until its date: whoever asks has no
        clock that is beyond doubt."""
        return bool(await self._pool.column(_held(name, start_ms, end_ms, 0).limit(1)))

    async def recordings(self, name: Name) -> int:
        """Return how many recordings a camera ever had."""
        counted = sa.select(sa.func.count()).where(
            recordings.c.camera_pk == self._cameras.camera_pk(name)
        )
        return int((await self._pool.column(counted))[0])

    async def begin_removal(
        self,
        name: Name,
        row: RecordingRow,
        archive: str,
        at_ms: int,
        reason: str,
        *,
        clock_ms: int | None = None,
    ) -> bool:
        """Note that an archive no longer has a recording, and why; its bytes may go from now on.

        True also where another process noted it before. False where a hold keeps it: whoever of a
        hold and this comes second sees the first. Holds count that last at `clock_ms`, which is
        `at_ms` unless the removal was told of before.
        """
        held = _held(name, row.start_ms, row.end_ms, clock_ms or at_ms)
        begun = (
            self._update(name, row, archive)
            .where(archived.c.removed_ms.is_(None), ~held.exists())
            .values(removed_ms=at_ms, removed_reason=reason, removal_begun_ms=at_ms)
        )
        async with self._pool.work() as connection:
            if connection.dialect.name == "postgresql":  # waits for holds that are being written
                await connection.exec_driver_sql("LOCK TABLE holds IN SHARE MODE")
            if (await connection.execute(begun)).rowcount == 1:
                return True
            noted = sa.select(archived.c.removed_ms).where(*self._row(name, row, archive))
            return (await connection.execute(noted)).scalar() is not None

    async def end_removal(self, name: Name, row: RecordingRow, archive: str) -> None:
        """Note that the bytes of what was removed from an archive are gone."""
        gone = self._update(name, row, archive).values(removal_begun_ms=None, etags="")
        await self._pool.execute(gone)

    def _update(self, name: Name, row: RecordingRow, archive: str) -> sa.Update:
        return sa.update(archived).where(*self._row(name, row, archive))

    def _row(
        self, name: Name, row: RecordingRow, archive: str
    ) -> tuple[sa.ColumnElement[bool], ...]:
        same = is_archived(self._cameras.camera_pk(name), row.identity)
        return same, archived.c.archive == archive


def _had_by(archive: str) -> sa.ColumnElement[bool]:
    """Select recordings that an archive has, or had until their time came."""
    other = archived.alias()
    same = (other.c[key] == recordings.c[key] for key in RECORDING_KEY)
    return sa.exists().where(*same, other.c.archive == archive)


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
