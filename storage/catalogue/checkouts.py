"""Checkouts in SQL: the pages of providers on which orders can be paid, by their references.

All times are UTC milliseconds. A page is closed once it can be paid no longer and what came is
entered.
"""

from __future__ import annotations

import sqlalchemy as sa

from storage.catalogue.connection import Pool
from storage.catalogue.rows import CheckoutRow
from storage.catalogue.schema import checkouts, orders

_CHECKOUT = sa.select(checkouts, orders.c.number).join(
    orders, orders.c.order_pk == checkouts.c.order_pk
)


class Checkouts:
    """The checkouts of a catalogue."""

    def __init__(self, pool: Pool):
        self._pool = pool

    async def open(
        self, order_pk: int, provider: str, reference: str, url: str, now_ms: int
    ) -> None:
        """Note a page on which an order can be paid; again is the same as once."""
        row = {
            "provider": provider,
            "reference": reference,
            "order_pk": order_pk,
            "url": url,
            "opened_ms": now_ms,
        }
        await self._pool.execute(self._pool.insert(checkouts).values(row).on_conflict_do_nothing())

    async def close(self, provider: str, reference: str, now_ms: int) -> None:
        """Note that a page can be paid no longer, and that what came is entered."""
        await self._set(provider, reference, {"closed_ms": now_ms})

    async def looked(self, provider: str, reference: str, now_ms: int) -> None:
        """Note when the provider was last asked about a page."""
        await self._set(provider, reference, {"looked_ms": now_ms})

    async def _set(self, provider: str, reference: str, values: dict[str, object]) -> None:
        c = checkouts.c
        await self._pool.execute(
            sa.update(checkouts)
            .where(c.provider == provider, c.reference == reference, c.closed_ms.is_(None))
            .values(values)
        )

    async def all_open(self) -> list[CheckoutRow]:
        """Return all pages that are not closed, oldest first."""
        c = checkouts.c
        return await self._pool.rows_as(
            CheckoutRow, _CHECKOUT.where(c.closed_ms.is_(None)).order_by(c.opened_ms)
        )

    async def of(self, order_pk: int) -> list[CheckoutRow]:
        """Return all pages of an order, also the closed ones, oldest first."""
        c = checkouts.c
        asked = _CHECKOUT.where(c.order_pk == order_pk).order_by(c.opened_ms)
        return await self._pool.rows_as(CheckoutRow, asked)

    async def get(self, provider: str, reference: str) -> CheckoutRow | None:
        """Return a page, closed or not."""
        c = checkouts.c
        asked = _CHECKOUT.where(c.provider == provider, c.reference == reference)
        found = await self._pool.rows_as(CheckoutRow, asked)
        return found[0] if found else None
