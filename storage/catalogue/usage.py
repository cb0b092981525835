"""What one client had, and one recipient was sent, within a day, in SQL: for all processes.

Nobody is stored by his address: rows name its HMAC-SHA-256 under a key that the database made when
it was migrated, and are deleted after a day. All times are UTC milliseconds.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from base.prefixes import counted
from storage.catalogue.connection import Pool
from storage.catalogue.database import Connection
from storage.catalogue.schema import DAY_MS, catalogue, order_files, orders, usage


class TooMuch(RuntimeError):
    """A client asks for more than he may have: of his free footage, of unpaid files, or of those
    that all clients together may have."""

    def __init__(self, of: Literal["free", "each", "all"]):
        super().__init__(of)
        self.of = of


@dataclass(frozen=True, slots=True)
class Claim:
    """What an order takes of what its client may have: `free_ms` of the footage that is free on
    the day that began at `day_ms`, and `length` bytes of files that are kept before, or without,
    being paid: those of orders in `states` for which nothing was paid. A client's site (see
    base/prefixes.py) may have more."""

    client: str
    free_ms: int
    most_free_ms: int
    day_ms: int
    states: tuple[str, ...]
    length: int
    most_each: int
    most_in_all: int


class Usage:
    """What was used in a catalogue."""

    def __init__(self, pool: Pool):
        self._pool = pool

    async def free_left_ms(self, client: str, day_ms: int, most_ms: int) -> int:
        """Return how much free footage a client may still have of the `most_ms` of the day that
        began at `day_ms`."""
        left_ms = most_ms
        async with self._pool.single() as connection:
            for name, times in counted(client):
                who = await _hash(connection, "client", name)
                had_ms = await _free_ms(connection, who, day_ms)
                left_ms = min(left_ms, most_ms * times - had_ms)
        return max(0, left_ms)

    async def next_letter_ms(
        self, mailbox: str, order_pk: int, most: int, now_ms: int, again: bool = False
    ) -> int:
        """Return the moment from which on a mailbox may be told of an order; 0: at once.

        It may, where those that it was told of within a day and those of them that the order's
        client placed are together fewer than `most`: who orders much in somebody's name leaves
        room for orders of others. `again`: it was not told once already, and the client may be
        forgotten; then half of them are taken for his.
        """
        u = usage.c
        async with self._pool.single() as connection:
            who = await _hash(connection, "mailbox", mailbox)
            told = sa.and_(u.who == who, u.at_ms > now_ms - DAY_MS)
            clients = sa.select(u.who).where(u.order_pk == order_pk, u.who != who)
            theirs = sa.select(u.order_pk).where(u.who.in_(clients))
            number = sa.select(sa.func.count()).where(told, u.order_pk.in_(theirs))
            had = int(await connection.scalar(number) or 0)
            left = most - max(had, most // 2 if again else 0)
            asked = sa.select(u.at_ms).where(told).order_by(u.at_ms.desc())
            last = await connection.scalar(asked.offset(left - 1).limit(1))
        return 0 if last is None else int(last) + DAY_MS

    async def forget(self, now_ms: int) -> None:
        """Delete what is older than a day."""
        await self._pool.execute(sa.delete(usage).where(usage.c.at_ms <= now_ms - DAY_MS))


async def claim(connection: Connection, order_pk: int, asked: Claim, now_ms: int) -> None:
    """Count what an order takes, in the transaction that places it; raises TooMuch.

    Who has nothing unpaid may have one order of any size, unless others have all there is.
    """
    f, o, u = order_files.c, orders.c, usage.c
    unpaid = (
        sa.select(sa.func.sum(f.length))
        .join(orders, o.order_pk == f.order_pk)
        .where(o.state.in_(asked.states), sa.or_(o.paid_ms.is_(None), o.total == 0))
    )
    rows = []
    for name, times in counted(asked.client):
        who = await _hash(connection, "client", name)
        had_ms = await _free_ms(connection, who, asked.day_ms)
        if asked.free_ms + had_ms > asked.most_free_ms * times:
            raise TooMuch("free")
        his = sa.select(u.order_pk).where(u.who == who, u.at_ms > now_ms - DAY_MS)
        each = await _sum(connection, unpaid.where(o.order_pk.in_(his)))
        if each and each + asked.length > asked.most_each * times:
            raise TooMuch("each")
        row = {"who": who, "at_ms": now_ms, "free_ms": asked.free_ms, "order_pk": order_pk}
        rows.append(row)
    in_all = await _sum(connection, unpaid)
    if in_all and in_all + asked.length > asked.most_in_all:
        raise TooMuch("all")
    await connection.execute(sa.insert(usage), rows)


async def count_letter(connection: Connection, mailbox: str, order_pk: int, now_ms: int) -> None:
    """Count a letter by which a mailbox was told of an order."""
    who = await _hash(connection, "mailbox", mailbox)
    row = {"who": who, "at_ms": now_ms, "order_pk": order_pk}
    await connection.execute(sa.insert(usage).values(row))


async def _free_ms(connection: Connection, who: str, day_ms: int) -> int:
    u = usage.c
    had = sa.select(sa.func.sum(u.free_ms)).where(u.who == who, u.at_ms >= day_ms)
    return await _sum(connection, had)


async def _sum(connection: Connection, asked: sa.Select[tuple[int | None]]) -> int:
    return int(await connection.scalar(asked) or 0)


async def _hash(connection: Connection, kind: str, address: str) -> str:
    """Return by what somebody is known here; a client and a mailbox are never the same."""
    key = (await connection.execute(sa.select(catalogue.c.usage_key).limit(1))).scalar_one()
    return hmac.digest(bytes(key), f"{kind} {address}".encode(), "sha256").hex()
