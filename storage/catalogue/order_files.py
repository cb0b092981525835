"""The files of orders in SQL: how each is made, and what the pass over its bytes found.

They are inserted with their order (storage/catalogue/orders.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import sqlalchemy as sa

from storage.catalogue.connection import Pool
from storage.catalogue.database import Connection
from storage.catalogue.rows import FileRow, OfOrder, PlannedFile
from storage.catalogue.schema import (
    DAY_MS,
    SAME_RECORDING,
    archived,
    cameras,
    order_files,
    orders,
    recordings,
)
from storage.records import Identity

_FILE = [order_files.c[f.name] for f in fields(FileRow) if f.name in order_files.c]


class FootageGone(RuntimeError):
    """What is ordered was removed a moment ago."""


class OrderFiles:
    """The files of a catalogue's orders."""

    def __init__(self, pool: Pool):
        self._pool = pool

    async def of(self, order_pk: int) -> list[FileRow]:
        """Return what is known of an order's files, without their plans and heads."""
        f = order_files.c
        asked = sa.select(*_FILE).where(f.order_pk == order_pk).order_by(f.file_no)
        return await self._pool.rows_as(FileRow, asked)

    async def plans(self, order_pk: int, file_no: int | None = None) -> list[PlannedFile]:
        """Return an order's files with all that is known of them, or one of them."""
        f = order_files.c
        asked = sa.select(*_FILE, f.plan, f.head).where(f.order_pk == order_pk)
        if file_no is not None:
            asked = asked.where(f.file_no == file_no)
        return await self._pool.rows_as(PlannedFile, asked.order_by(f.file_no))

    async def progress(
        self, order_pk: int, file_no: int, hashed: int, failed: str | None = None
    ) -> None:
        """Note how far the pass over a file is, or why it ended; of one that failed, that is said
        until a pass comes to its end."""
        values: dict[str, object] = {"hashed": hashed}
        await self._set(order_pk, file_no, values | ({"failed": failed} if failed else {}))

    async def hashed(
        self, order_pk: int, file_no: int, sha256: str, crc32: int, head: bytes, length: int
    ) -> None:
        """Note what the pass over a file found."""
        found = {"sha256": sha256, "crc32": crc32, "head": head, "hashed": length, "failed": None}
        await self._set(order_pk, file_no, found)

    async def _set(self, order_pk: int, file_no: int, values: dict[str, object]) -> None:
        f = order_files.c
        await self._pool.execute(
            sa.update(order_files)
            .where(f.order_pk == order_pk, f.file_no == file_no)
            .values(values)
        )

    async def unhashed(self, state: str) -> list[FileRow]:
        """Return the files without a SHA-256 of orders in a state, of the oldest order first, and
        those that cost nothing last."""
        o, f = orders.c, order_files.c
        return await self._pool.rows_as(
            FileRow,
            sa.select(*_FILE, o.number)
            .join(orders, o.order_pk == f.order_pk)
            .where(o.state == state, f.sha256.is_(None))
            .order_by(o.total == 0, f.order_pk, f.file_no),
        )

    async def left(self, state: str) -> tuple[int, int, int]:
        """Return how many files of orders in a state have no SHA-256 yet, how many bytes of them
        were not read, and how many of them could not be read when they were last tried."""
        o, f = orders.c, order_files.c
        found = [
            sa.func.count().label("files"),
            sa.func.sum(f.length - f.hashed).label("bytes"),
            sa.func.count(f.failed).label("failed"),
        ]
        asked = sa.select(*found).join(orders, o.order_pk == f.order_pk)
        row = (await self._pool.rows(asked.where(o.state == state, f.sha256.is_(None))))[0]
        return row["files"], int(row["bytes"] or 0), row["failed"]

    async def all_hashed(self, state: str) -> list[OfOrder]:
        """Return the orders in a state whose files all have their SHA-256."""
        o, f = orders.c, order_files.c
        left = sa.exists().where(f.order_pk == o.order_pk, f.sha256.is_(None))
        asked = sa.select(o.order_pk, o.number).where(o.state == state, ~left)
        return await self._pool.rows_as(OfOrder, asked)

    async def drop(self, states: Sequence[str]) -> None:
        """Forget the plans of orders that have ended; what they were is in their quotes."""
        o, f = orders.c, order_files.c
        ended = sa.select(o.order_pk).where(o.state.in_(states))
        await self._pool.execute(sa.delete(order_files).where(f.order_pk.in_(ended)))


async def refuse_gone(connection: Connection, order_pk: int) -> None:
    """Raise FootageGone where a recording of an order was removed from all archives that had it,
    or where it is not said what the order is made of (by an older Kuager).

    Its holds are written already: a removal that is not seen here sees them.
    """
    a, c, f, o, r = archived.c, cameras.c, order_files.c, orders.c, recordings.c
    asked = sa.select(f.camera, f.recordings, o.election, o.station)
    asked = asked.join(orders, o.order_pk == f.order_pk).where(f.order_pk == order_pk)
    for file in (await connection.execute(asked)).mappings().all():
        if not file["recordings"]:
            raise FootageGone
        ordered = {Identity.of(one) for one in file["recordings"]}
        days = {one.start_ms // DAY_MS for one in ordered}
        numbers = {one.record_seq for one in ordered}
        identity = (r.record_seq, r.start_ms, r.sha256)
        gone = (
            sa.select(*identity)
            .select_from(archived)
            .join(recordings, SAME_RECORDING)
            .join(cameras, c.camera_pk == a.camera_pk)
            .where(c.election == file["election"], c.station == file["station"])
            .where(c.camera == file["camera"], a.day.between(min(days), max(days)))
            .where(a.record_seq.between(min(numbers), max(numbers)))
            .group_by(*identity)
            .having(sa.func.count() == sa.func.count(a.removed_ms))
        )
        found = (await connection.execute(gone)).mappings()
        if ordered & {Identity.of(dict(row)) for row in found}:
            raise FootageGone
