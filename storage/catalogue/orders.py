"""Orders in SQL: each change of one is a single transaction with all that belongs to it.

What may happen to an order is decided elsewhere (copies/orders/events.py), by a function from the
order as it stands to a Change. Here it is called with the order locked, and state, audit log,
money, holds and letters are written together or not at all. All times are UTC milliseconds, money
is in the smallest unit of its currency.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import sqlalchemy as sa

from storage.catalogue.connection import Pool
from storage.catalogue.database import PLACING, Connection, take_lock
from storage.catalogue.order_files import refuse_gone
from storage.catalogue.rows import OfOrder
from storage.catalogue.schema import audit, holds, order_files, orders, outbox, payments
from storage.catalogue.usage import Claim, claim

PAGE = 100
MOST_NUMBER = 2**31 - 1  # of an order, as the database's integer holds it


class OrderGone(RuntimeError):
    """There is no such order any more: it was a quote, and it was deleted."""


class PaymentTaken(RuntimeError):
    """The reference of a payment is entered already, for another order."""

    def __init__(self) -> None:
        super().__init__("its reference is entered already, for another order")


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that came; with a negative amount, money of `returns` that went back."""

    provider: str
    reference: str
    amount: int
    currency: str
    at_ms: int
    returns: str | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands, with its money."""

    order_pk: int
    number: int | None
    election: str
    station: str
    from_ms: int
    to_ms: int
    state: str
    language: str
    quote: dict[str, Any]
    currency: str
    total: int
    created_ms: int
    ordered_ms: int | None = None
    paid_ms: int | None = None
    ready_ms: int | None = None
    ended_ms: int | None = None
    until_ms: int | None = None
    reason: str | None = None
    email: str | None = None
    forget_ms: int | None = None
    payer_name: str | None = None
    payer_bin: str | None = None
    key_sha256: str = ""  # of the secret in its link; only its beginning is shown (`reference`)
    payments: tuple[Payment, ...] = ()

    @property
    def reference(self) -> str:
        """What the payer writes: its number, and what tells it from orders with that number in a
        catalogue that was there before."""
        return f"KUAGER-{self.number}-{self.key_sha256[:4].upper()}"

    def with_(self, change: Change) -> Order:
        """Return the order after a change; `order_pk` and `number` are the database's."""
        return replace(self, payments=self.payments + change.payments, **change.values)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the audit log: `state` is the one after it; no personal data in `detail`.

    `at_ms` is given for what happened before the change with which it is written.
    """

    actor: str
    event: str
    state: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A letter to the requester; `link` is the order's, known only while it is placed."""

    kind: str
    recipient: str
    link: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to an order; all of it, or nothing."""

    at_ms: int
    entries: tuple[Entry, ...]
    values: Mapping[str, Any] = field(default_factory=dict)
    payments: tuple[Payment, ...] = ()
    letters: tuple[Letter, ...] = ()
    numbered: bool = False  # it is given the next number
    claim: Claim | None = None  # what it takes of what its client may have
    hold: bool | None = None  # True: keep what it asks for; False: no longer
    files: Sequence[Mapping[str, Any]] = ()  # how each is made, as `create` takes it


Decide = Callable[[Order], Change | None]
_SHOWN = [orders.c[f.name] for f in fields(Order) if f.name != "payments"]
# of a quote, with its thousands of gaps and files, what a list shows; cut in the database
_IN_LIST = {
    "sqlite": "json_object('station', json_extract(quote, '$.station'), 'cameras', (SELECT"
    " json_group_array(json_object('id', json_extract(value, '$.id')))"
    " FROM json_each(quote, '$.cameras')))",
    "postgresql": "json_build_object('station', quote -> 'station', 'cameras', (SELECT"
    " json_agg(json_build_object('id', camera -> 'id'))"
    " FROM json_array_elements(quote -> 'cameras') camera))",
}


class Orders:
    """The orders of a catalogue."""

    def __init__(self, pool: Pool):
        self._pool = pool

    # -- changes -------------------------------------------------------------------------

    async def create(
        self, key_sha256: str, row: Mapping[str, Any], plans: Sequence[Mapping[str, Any]]
    ) -> int:
        """Insert a quote with the plans of its files; returns its order_pk.

        `row` has the fields of Order, each plan the columns `plan`, `length`, `camera` and
        `recordings` of `order_files`; they may come with the change that orders it. A quote has no
        audit log, which could not be deleted with it.
        """
        async with self._pool.work() as connection:
            done = await connection.execute(
                sa.insert(orders).values(key_sha256=key_sha256, **row).returning(orders.c.order_pk)
            )
            pk = int(done.scalar_one())
            await _plan(connection, pk, plans)
        return pk

    async def change(self, order_pk: int, decide: Decide) -> Order:
        """Do what `decide` says to an order that nobody else changes meanwhile.

        Returns the order after it. What `decide` raises leaves everything as it was. Raises
        OrderGone, PaymentTaken, TooMuch, and FootageGone where what it would hold was removed.
        """
        o = orders.c
        async with self._pool.work() as connection:
            locked = sa.select(*_SHOWN).where(o.order_pk == order_pk).with_for_update()
            order = _one(await _orders(connection, locked))
            change = decide(order)
            if change is None:
                return order
            values = dict(change.values)
            if change.numbered:
                await take_lock(connection, PLACING)
                last = await connection.scalar(sa.select(sa.func.max(o.number)))
                values["number"] = (last or 0) + 1
            await _plan(connection, order_pk, change.files)
            if change.claim:
                await claim(connection, order_pk, change.claim, change.at_ms)
            if values:
                await connection.execute(
                    sa.update(orders).where(o.order_pk == order_pk).values(values)
                )
            for payment in change.payments:
                enter = self._pool.insert(payments).values(order_pk=order_pk, **asdict(payment))
                if not (await connection.execute(enter.on_conflict_do_nothing())).rowcount:
                    raise PaymentTaken
            after = replace(order.with_(change), number=values.get("number", order.number))
            if after.number is not None:
                await _log(connection, order_pk, change.at_ms, change.entries)
            if "email" in values and values["email"] is None:
                await _forget_letters(connection, order_pk)
            if change.letters:
                when = {"order_pk": order_pk, "created_ms": change.at_ms, "next_ms": change.at_ms}
                await connection.execute(
                    sa.insert(outbox), [when | asdict(letter) for letter in change.letters]
                )
            if change.hold is not None:
                await _hold(connection, after, change.hold, change.at_ms)
            return after

    # -- reading -------------------------------------------------------------------------

    async def any_entered(self, asked: Sequence[Payment]) -> bool:
        """Tell whether the reference of any of these is in the books, for whichever order."""
        pairs = [(payment.provider, payment.reference) for payment in asked]
        p = payments.c
        known = sa.select(p.order_pk).where(sa.tuple_(p.provider, p.reference).in_(pairs)).limit(1)
        async with self._pool.single() as connection:
            return await connection.scalar(known) is not None

    async def with_key(self, key_sha256: str) -> Order | None:
        """Return the order whose secret has this SHA-256."""
        return await self._first(orders.c.key_sha256 == key_sha256)

    async def with_number(self, number: int) -> Order | None:
        """Return the order with a number of the register."""
        return await self._first(orders.c.number == number)

    async def get(self, order_pk: int) -> Order:
        """Return an order; raises OrderGone."""
        found = await self._first(orders.c.order_pk == order_pk)
        return _one([found] if found else [])

    async def register(
        self, election: str, before: int | None = None, limit: int = PAGE
    ) -> list[Order]:
        """Return the orders that were placed, newest first, those below a number; of the quote of
        each only `station`, and of `cameras` their `id`."""
        o = orders.c
        quote = sa.literal_column(_IN_LIST[self._pool.engine.dialect.name], sa.JSON)
        shown = [quote.label("quote") if c is o.quote else c for c in _SHOWN]
        asked = sa.select(*shown).where(o.election == election, o.number.is_not(None))
        if before is not None:
            asked = asked.where(o.number < before)
        async with self._pool.single() as connection:
            return await _orders(connection, asked.order_by(o.number.desc()).limit(limit))

    async def due(self, now_ms: int) -> list[OfOrder]:
        """Return the orders whose time is over, or whose address is to go."""
        o = orders.c
        over = sa.or_(o.until_ms <= now_ms, o.forget_ms <= now_ms)
        asked = sa.select(o.order_pk, o.number).where(over).order_by(o.order_pk)
        return await self._pool.rows_as(OfOrder, asked)

    async def newest_ms(self) -> int | None:
        """Return when the newest order or quote was made; None without any."""
        asked = sa.select(orders.c.created_ms).order_by(orders.c.created_ms.desc()).limit(1)
        return next(iter(await self._pool.column(asked)), None)

    async def uneven(self, keeps_nothing: str) -> list[Order]:
        """Return the orders whose money may be owed back, oldest first: what came is there, and it
        is not just the price of one that was paid and is not in the state that keeps nothing."""
        o, p = orders.c, payments.c
        sums = (
            sa.select(p.order_pk, p.currency, sa.func.sum(p.amount).label("amount"))
            .group_by(p.order_pk, p.currency)
            .subquery()
        )
        even = sa.and_(
            *(sums.c.currency == o.currency, sums.c.amount == o.total),
            *(o.paid_ms.is_not(None), o.state != keeps_nothing),
        )
        found = (
            sa.select(o.order_pk)
            .join(sums, sums.c.order_pk == o.order_pk)
            .where(sums.c.amount != 0, ~even)
            .correlate(None)
        )
        asked = sa.select(*_SHOWN).where(o.order_pk.in_(found)).order_by(o.order_pk)
        async with self._pool.single() as connection:
            return await _orders(connection, asked)

    async def drop_quotes(self, before_ms: int) -> int:
        """Delete the quotes that ended before a time and were never ordered; returns how many."""
        o, f = orders.c, order_files.c
        over = sa.and_(
            *(o.number.is_(None), o.ended_ms < before_ms),
            ~sa.exists().where(audit.c.order_pk == o.order_pk),  # of a quote of an older Kuager
        )
        async with self._pool.work() as connection:
            over_pks = sa.select(o.order_pk).where(over)
            await connection.execute(sa.delete(order_files).where(f.order_pk.in_(over_pks)))
            return (await connection.execute(sa.delete(orders).where(over))).rowcount

    async def count(self) -> dict[str, int]:
        """Return how many orders are in each state."""
        o = orders.c
        asked = sa.select(o.state, sa.func.count().label("n")).group_by(o.state)
        rows = await self._pool.rows(asked)
        return {row["state"]: row["n"] for row in rows}

    async def audit(self, order_pk: int) -> list[Entry]:
        """Return the audit log of an order, oldest first."""
        a = audit.c
        return await self._pool.rows_as(
            Entry,
            sa.select(a.at_ms, a.actor, a.event, a.state, a.detail)
            .where(a.order_pk == order_pk)
            .order_by(a.audit_no),
        )

    async def _first(self, where: sa.ColumnElement[bool]) -> Order | None:
        async with self._pool.single() as connection:
            found = await _orders(connection, sa.select(*_SHOWN).where(where))
        return found[0] if found else None


def _one(found: list[Order]) -> Order:
    if not found:
        raise OrderGone("there is no such order any more")
    return found[0]


async def _orders(connection: Connection, asked: sa.Select[Any]) -> list[Order]:
    """Return orders with their payments, in two queries."""
    rows = [dict(row) for row in (await connection.execute(asked)).mappings()]
    found: dict[int, list[Payment]] = {row["order_pk"]: [] for row in rows}
    if found:
        p = payments.c
        paid = sa.select(payments).where(p.order_pk.in_(found)).order_by(p.payment_no)
        for row in (await connection.execute(paid)).mappings():
            taken = {f.name: row[f.name] for f in fields(Payment)}
            found[row["order_pk"]].append(Payment(**taken))
    return [Order(**row, payments=tuple(found[row["order_pk"]])) for row in rows]


async def _plan(connection: Connection, pk: int, plans: Sequence[Mapping[str, Any]]) -> None:
    """Write how the files of an order are made, in place of what was written before."""
    if plans:
        await connection.execute(sa.delete(order_files).where(order_files.c.order_pk == pk))
        rows = [{"order_pk": pk, "file_no": n} | dict(p) for n, p in enumerate(plans, 1)]
        await connection.execute(sa.insert(order_files), rows)


async def _log(connection: Connection, pk: int, at_ms: int, entries: Sequence[Entry]) -> None:
    rows = [
        {"order_pk": pk} | asdict(e) | {"at_ms": at_ms if e.at_ms is None else e.at_ms}
        for e in entries
    ]
    if rows:
        await connection.execute(sa.insert(audit), rows)


async def _forget_letters(connection: Connection, pk: int) -> None:
    """Have the letters of an order that wait not be sent: its address is not to be known."""
    b = outbox.c
    gone = {"next_ms": None, "recipient": None, "link": None, "error": "the address was removed"}
    await connection.execute(
        sa.update(outbox).where(b.order_pk == pk, b.next_ms.is_not(None)).values(gone)
    )


async def _hold(connection: Connection, order: Order, keep: bool, at_ms: int) -> None:
    """Keep what an order asks for beyond its date, or no longer; both may be done twice."""
    h = holds.c
    mine = sa.and_(h.order_pk == order.order_pk, h.released_ms.is_(None))
    if not keep:
        await connection.execute(sa.update(holds).where(mine).values(released_ms=at_ms))
    elif not await connection.scalar(sa.select(sa.exists().where(mine))):
        rows = [
            {
                "election": order.election,
                "station": order.station,
                "camera": camera["id"],
                "from_ms": order.from_ms,
                "to_ms": order.to_ms,
                "reason": f"order {order.number}",
                "created_ms": at_ms,
                "order_pk": order.order_pk,
            }
            for camera in order.quote["cameras"]
        ]
        await connection.execute(sa.insert(holds), rows)
        await refuse_gone(connection, order.order_pk)
