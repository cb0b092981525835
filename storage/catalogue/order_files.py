"""The files of orders in SQL: how each is made, and what the pass over its bytes found.

They are inserted with their order (storage/catalogue/orders.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from storage.catalogue.connection import Pool
from storage.catalogue.schema import order_files, orders


class OrderFiles:
    """The files of a catalogue's orders."""

    def __init__(self, pool: Pool):
        self._pool = pool

    async def of(self, order_pk: int) -> list[dict[str, Any]]:
        """Return what is known of an order's files, without their plans and heads."""
        f = order_files.c
        return await self._pool.rows(
            sa.select(f.file_no, f.length, f.hashed, f.sha256, f.crc32, f.failed)
            .where(f.order_pk == order_pk)
            .order_by(f.file_no)
        )

    async def plans(self, order_pk: int, file_no: int | None = None) -> list[dict[str, Any]]:
        """Return an order's files with all that is known of them, or one of them."""
        f = order_files.c
        asked = sa.select(order_files).where(f.order_pk == order_pk)
        if file_no is not None:
            asked = asked.where(f.file_no == file_no)
        return await self._pool.rows(asked.order_by(f.file_no))

    async def progress(
        self, order_pk: int, file_no: int, hashed: int, failed: str | None = None
    ) -> None:
        """Note how far the pass over a file is, or why it ended."""
        await self._set(order_pk, file_no, {"hashed": hashed, "failed": failed})

    async def hashed(
        self, order_pk: int, file_no: int, sha256: str, crc32: int, head: bytes, length: int
    ) -> None:
        """Note what the pass over a file found."""
        found = {"sha256": sha256, "crc32": crc32, "head": head, "hashed": length, "failed": None}
        await self._set(order_pk, file_no, found)

    async def _set(self, order_pk: int, file_no: int, values: dict[str, Any]) -> None:
        f = order_files.c
        await self._pool.execute(
            sa.update(order_files)
            .where(f.order_pk == order_pk, f.file_no == file_no)
            .values(values)
        )

    async def unhashed(self, state: str) -> list[dict[str, Any]]:
        """Return the files without a SHA-256 of orders in a state, of the oldest order first, and
        those that cost nothing last."""
        o, f = orders.c, order_files.c
        return await self._pool.rows(
            sa.select(f.order_pk, f.file_no, f.length, f.hashed, f.failed, o.number)
            .join(orders, o.order_pk == f.order_pk)
            .where(o.state == state, f.sha256.is_(None))
            .order_by(o.total == 0, f.order_pk, f.file_no)
        )

    async def all_hashed(self, state: str) -> list[dict[str, Any]]:
        """Return `order_pk` and `number` of orders in a state whose files all have their
        SHA-256."""
        o, f = orders.c, order_files.c
        left = sa.exists().where(f.order_pk == o.order_pk, f.sha256.is_(None))
        return await self._pool.rows(sa.select(o.order_pk, o.number).where(o.state == state, ~left))

    async def drop(self, states: Sequence[str]) -> None:
        """Forget the plans of orders that have ended; what they were is in their quotes."""
        o, f = orders.c, order_files.c
        ended = sa.select(o.order_pk).where(o.state.in_(states))
        await self._pool.execute(sa.delete(order_files).where(f.order_pk.in_(ended)))
