"""Letters in SQL: what waits to be sent to requesters, and what became of it.

A letter is written with the change of an order that it tells of (storage/catalogue/orders.py).
All times are UTC milliseconds.
"""

from __future__ import annotations

import sqlalchemy as sa

from storage.catalogue.connection import Pool
from storage.catalogue.rows import LetterRow
from storage.catalogue.schema import orders, outbox
from storage.catalogue.usage import count_letter

AT_ONCE = 20
FOR_EVER = 1 << 62


class Outbox:
    """The letters of a catalogue."""

    def __init__(self, pool: Pool):
        self._pool = pool

    async def due(self, now_ms: int) -> list[LetterRow]:
        """Return letters that are to be sent now: oldest first, and those before that were not
        sent when they were first looked at."""
        b = outbox.c
        return await self._pool.rows_as(
            LetterRow,
            sa.select(outbox, orders.c.number)
            .join(orders, orders.c.order_pk == b.order_pk)
            .where(b.next_ms <= now_ms)
            .order_by(b.error.is_not(None), b.letter_no)
            .limit(AT_ONCE),
        )

    async def waiting(self, now_ms: int = FOR_EVER) -> tuple[int, int | None]:
        """Return how many letters are neither sent nor given up, and when the oldest was written of
        those that were tried or are due; None for none. The others wait for their mailbox."""
        b = outbox.c
        stuck = sa.case((sa.or_(b.tries > 0, b.next_ms <= now_ms), b.created_ms))
        found = [sa.func.count().label("letters"), sa.func.min(stuck).label("ms")]
        row = (await self._pool.rows(sa.select(*found).where(b.next_ms.is_not(None))))[0]
        return row["letters"], row["ms"]

    async def sent(self, letter_no: int, now_ms: int, told: tuple[str, int] | None = None) -> None:
        """Note that a letter was taken by the mail server; its address and link are removed.

        `told`: the mailbox that it is counted for, and the order that it tells of.
        """
        gone = {"next_ms": None, "recipient": None, "link": None}
        taken = gone | {"sent_ms": now_ms, "error": None}
        async with self._pool.work() as connection:
            await connection.execute(_waiting(letter_no).values(taken))
            if told is not None:
                await count_letter(connection, *told, now_ms)

    async def failed(self, letter_no: int, error: str, next_ms: int | None) -> None:
        """Note why a letter was not sent; without a next time its address and link are removed."""
        values: dict[str, object] = {
            "tries": outbox.c.tries + 1,
            "error": error[:300],
            "next_ms": next_ms,
        }
        if next_ms is None:
            values |= {"recipient": None, "link": None}
        await self._set(letter_no, values)

    async def postponed(self, letter_no: int, why: str, next_ms: int) -> None:
        """Note when a letter is to be sent that was not tried, or not for a fault of its own."""
        await self._set(letter_no, {"error": why[:300], "next_ms": next_ms})

    async def give_up(self, before_ms: int, why: str) -> list[int]:
        """Have what was written before a time and waits not be sent; its address and link are
        removed. Returns the numbers of these letters."""
        b = outbox.c
        gone = {"next_ms": None, "recipient": None, "link": None, "error": why}
        async with self._pool.work() as connection:
            done = await connection.execute(
                sa.update(outbox)
                .where(b.created_ms < before_ms, b.next_ms.is_not(None))
                .values(gone)
                .returning(b.letter_no)
            )
            return sorted(done.scalars())

    async def _set(self, letter_no: int, values: dict[str, object]) -> None:
        await self._pool.execute(_waiting(letter_no).values(values))


def _waiting(letter_no: int) -> sa.Update:
    """Change a letter that waits: the address of one that does not must not be asked for."""
    b = outbox.c
    return sa.update(outbox).where(b.letter_no == letter_no, b.next_ms.is_not(None))
