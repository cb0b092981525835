"""Orders in SQL: each change of one is a single transaction with all that belongs to it.

What may happen to an order is decided elsewhere (copies/orders.py), by a function from the order
as it stands to a Change. Here it is called with the order locked, and state, audit log, money,
holds and letters are written together or not at all. All times are UTC milliseconds, money is in
the smallest unit of its currency.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.database import CatalogueError, words
from storage.schema import (
    DAY_MS,
    archived,
    audit,
    cameras,
    checkouts,
    holds,
    order_files,
    orders,
    outbox,
    payments,
)

PAGE = 100
NUMBERING = 10  # tries: two orders that are placed at the same moment want the same number


class FootageGone(RuntimeError):
    """What is ordered was removed a moment ago."""


class PaymentTaken(RuntimeError):
    """The reference of a payment is entered already, for another order."""


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
    payments: tuple[Payment, ...] = ()

    def with_(self, change: Change) -> Order:
        """Return the order after a change; `order_pk` and `number` are the database's."""
        return replace(self, payments=self.payments + change.payments, **change.values)


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the audit log: `state` is the one after it; no personal data in `detail`."""

    actor: str
    event: str
    state: str
    detail: Mapping[str, Any] = field(default_factory=dict)


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
    hold: bool | None = None  # True: keep what it asks for; False: no longer


Decide = Callable[[Order], Change | None]
_SHOWN = [orders.c[f.name] for f in fields(Order) if f.name != "payments"]


class Orders:
    """The orders of a catalogue."""

    def __init__(self, engine: AsyncEngine):
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    # -- changes -------------------------------------------------------------------------

    async def create(
        self, key_sha256: str, row: Mapping[str, Any], plans: Sequence[Mapping[str, Any]]
    ) -> int:
        """Insert a quote with the plans of its files; returns its order_pk.

        `row` has the fields of Order, each plan its `plan` and `length`.
        """
        async with self._work() as connection:
            done = await connection.execute(
                sa.insert(orders).values(key_sha256=key_sha256, **row).returning(orders.c.order_pk)
            )
            pk = int(done.scalar_one())
            if plans:
                rows = [{"order_pk": pk, "file_no": n} | dict(p) for n, p in enumerate(plans, 1)]
                await connection.execute(sa.insert(order_files), rows)
            entry = Entry("requester", "quote", row["state"])
            await _log(connection, pk, row["created_ms"], (entry,))
        return pk

    async def change(self, order_pk: int, decide: Decide) -> Order:
        """Do what `decide` says to an order that nobody else changes meanwhile.

        Returns the order after it. What `decide` raises leaves everything as it was; it may be
        called again. Raises PaymentTaken, and FootageGone where what it would hold was removed.
        """
        for _ in range(NUMBERING):
            try:
                return await self._change(order_pk, decide)
            except sa.exc.IntegrityError as error:
                if "number" not in str(error.orig):
                    raise PaymentTaken from None
        raise RuntimeError("no number for the order was free")

    async def _change(self, order_pk: int, decide: Decide) -> Order:
        o = orders.c
        async with self._work() as connection:
            if connection.dialect.name == "sqlite":  # else two readers could both become writers
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            locked = sa.select(*_SHOWN).where(o.order_pk == order_pk).with_for_update()
            order = (await _orders(connection, locked))[0]
            change = decide(order)
            if change is None:
                return order
            values = dict(change.values)
            if change.numbered:
                last = await connection.scalar(sa.select(sa.func.max(o.number)))
                values["number"] = (last or 0) + 1
            if values:
                await connection.execute(
                    sa.update(orders).where(o.order_pk == order_pk).values(values)
                )
            if change.payments:
                rows = [{"order_pk": order_pk} | asdict(p) for p in change.payments]
                await connection.execute(sa.insert(payments), rows)
            await _log(connection, order_pk, change.at_ms, change.entries)
            if change.letters:
                when = {"order_pk": order_pk, "created_ms": change.at_ms, "next_ms": change.at_ms}
                await connection.execute(
                    sa.insert(outbox), [when | asdict(letter) for letter in change.letters]
                )
            after = replace(order.with_(change), number=values.get("number", order.number))
            if change.hold is not None:
                await _hold(connection, after, change.hold, change.at_ms)
            return after

    # -- reading -------------------------------------------------------------------------

    async def with_key(self, key_sha256: str) -> Order | None:
        """Return the order whose secret has this SHA-256."""
        return await self._one(orders.c.key_sha256 == key_sha256)

    async def with_number(self, number: int) -> Order | None:
        """Return the order with a number of the register."""
        return await self._one(orders.c.number == number)

    async def get(self, order_pk: int) -> Order:
        """Return an order that there is."""
        found = await self._one(orders.c.order_pk == order_pk)
        assert found is not None
        return found

    async def register(
        self, election: str, before: int | None = None, limit: int = PAGE
    ) -> list[Order]:
        """Return the orders that were placed, newest first, those below a number."""
        o = orders.c
        asked = sa.select(*_SHOWN).where(o.election == election, o.number.is_not(None))
        if before is not None:
            asked = asked.where(o.number < before)
        async with self._look() as connection:
            return await _orders(connection, asked.order_by(o.number.desc()).limit(limit))

    async def due(self, now_ms: int) -> list[int]:
        """Return the order_pk of orders whose time is over, or whose address is to go."""
        o = orders.c
        over = sa.or_(o.until_ms <= now_ms, o.forget_ms <= now_ms)
        return await self._column(sa.select(o.order_pk).where(over).order_by(o.order_pk))

    async def with_payments(self) -> list[Order]:
        """Return the orders for which money came, oldest first."""
        o = orders.c
        paid = sa.exists().where(payments.c.order_pk == o.order_pk)
        async with self._look() as connection:
            return await _orders(connection, sa.select(*_SHOWN).where(paid).order_by(o.order_pk))

    async def count(self) -> dict[str, int]:
        """Return how many orders are in each state."""
        o = orders.c
        rows = await self._rows(sa.select(o.state, sa.func.count().label("n")).group_by(o.state))
        return {row["state"]: row["n"] for row in rows}

    async def audit(self, order_pk: int) -> list[dict[str, Any]]:
        """Return the audit log of an order, oldest first."""
        a = audit.c
        return await self._rows(
            sa.select(a.at_ms, a.actor, a.event, a.state, a.detail)
            .where(a.order_pk == order_pk)
            .order_by(a.audit_no)
        )

    # -- files ---------------------------------------------------------------------------

    async def files(self, order_pk: int) -> list[dict[str, Any]]:
        """Return what is known of an order's files, without their plans and heads."""
        f = order_files.c
        return await self._rows(
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
        return await self._rows(asked.order_by(f.file_no))

    async def progress(
        self, order_pk: int, file_no: int, hashed: int, failed: str | None = None
    ) -> None:
        """Note how far the pass over a file is, or why it ended."""
        await self._set_file(order_pk, file_no, {"hashed": hashed, "failed": failed})

    async def hashed(
        self, order_pk: int, file_no: int, sha256: str, crc32: int, head: bytes, length: int
    ) -> None:
        """Note what the pass over a file found."""
        found = {"sha256": sha256, "crc32": crc32, "head": head, "hashed": length, "failed": None}
        await self._set_file(order_pk, file_no, found)

    async def _set_file(self, order_pk: int, file_no: int, values: dict[str, Any]) -> None:
        f = order_files.c
        async with self._work() as connection:
            await connection.execute(
                sa.update(order_files)
                .where(f.order_pk == order_pk, f.file_no == file_no)
                .values(values)
            )

    async def unhashed(self, states: Sequence[str]) -> list[dict[str, Any]]:
        """Return the files without a SHA-256 of orders in these states, in that order."""
        o, f = orders.c, order_files.c
        rank = sa.case({state: n for n, state in enumerate(states)}, value=o.state)
        return await self._rows(
            sa.select(f.order_pk, f.file_no, f.length, f.hashed, f.failed)
            .join(orders, o.order_pk == f.order_pk)
            .where(o.state.in_(states), f.sha256.is_(None))
            .order_by(rank, f.order_pk, f.file_no)
        )

    async def all_hashed(self, state: str) -> list[int]:
        """Return the order_pk of orders in a state whose files all have their SHA-256."""
        o, f = orders.c, order_files.c
        left = sa.exists().where(f.order_pk == o.order_pk, f.sha256.is_(None))
        return await self._column(sa.select(o.order_pk).where(o.state == state, ~left))

    async def drop_files(self, states: Sequence[str]) -> None:
        """Forget the plans of orders that have ended; what they were is in their quotes."""
        o, f = orders.c, order_files.c
        ended = sa.select(o.order_pk).where(o.state.in_(states))
        async with self._work() as connection:
            await connection.execute(sa.delete(order_files).where(f.order_pk.in_(ended)))

    # -- checkouts -----------------------------------------------------------------------

    async def open_checkout(
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
        try:
            async with self._work() as connection:
                await connection.execute(sa.insert(checkouts).values(row))
        except sa.exc.IntegrityError:
            pass

    async def close_checkout(self, provider: str, reference: str, now_ms: int) -> None:
        """Note that a page can be paid no longer, and that what came is entered."""
        await self._set_checkout(provider, reference, {"closed_ms": now_ms})

    async def looked(self, provider: str, reference: str, now_ms: int) -> None:
        """Note when the provider was last asked about a page."""
        await self._set_checkout(provider, reference, {"looked_ms": now_ms})

    async def _set_checkout(self, provider: str, reference: str, values: dict[str, Any]) -> None:
        c = checkouts.c
        async with self._work() as connection:
            await connection.execute(
                sa.update(checkouts)
                .where(c.provider == provider, c.reference == reference, c.closed_ms.is_(None))
                .values(values)
            )

    async def checkouts(self) -> list[dict[str, Any]]:
        """Return all pages that are not closed, oldest first."""
        c = checkouts.c
        asked = sa.select(checkouts).where(c.closed_ms.is_(None)).order_by(c.opened_ms)
        return await self._rows(asked)

    async def checkouts_of(self, order_pk: int) -> list[dict[str, Any]]:
        """Return all pages of an order, also the closed ones, oldest first."""
        c = checkouts.c
        asked = sa.select(checkouts).where(c.order_pk == order_pk).order_by(c.opened_ms)
        return await self._rows(asked)

    async def checkout(self, provider: str, reference: str) -> dict[str, Any] | None:
        """Return a page, closed or not."""
        c = checkouts.c
        asked = sa.select(checkouts).where(c.provider == provider, c.reference == reference)
        found = await self._rows(asked)
        return found[0] if found else None

    # -- letters -------------------------------------------------------------------------

    async def letters(self, now_ms: int, limit: int = 20) -> list[dict[str, Any]]:
        """Return letters that are to be sent now, oldest first."""
        b = outbox.c
        return await self._rows(
            sa.select(outbox).where(b.next_ms <= now_ms).order_by(b.letter_no).limit(limit)
        )

    async def letters_waiting(self) -> int:
        """Return how many letters are neither sent nor given up."""
        (row,) = await self._rows(
            sa.select(sa.func.count().label("n")).where(outbox.c.next_ms.is_not(None))
        )
        return int(row["n"])

    async def letter_sent(self, letter_no: int, now_ms: int) -> None:
        """Note that a letter was taken by the mail server; its address and link are removed."""
        gone = {"next_ms": None, "recipient": None, "link": None}
        await self._set_letter(letter_no, gone | {"sent_ms": now_ms, "error": None})

    async def letter_failed(self, letter_no: int, error: str, next_ms: int | None) -> None:
        """Note why a letter was not sent; without a next time its address and link are removed."""
        values: dict[str, Any] = {
            "tries": outbox.c.tries + 1,
            "error": error[:300],
            "next_ms": next_ms,
        }
        if next_ms is None:
            values |= {"recipient": None, "link": None}
        await self._set_letter(letter_no, values)

    async def _set_letter(self, letter_no: int, values: dict[str, Any]) -> None:
        async with self._work() as connection:
            await connection.execute(
                sa.update(outbox).where(outbox.c.letter_no == letter_no).values(values)
            )

    # -- helpers -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _work(self) -> AsyncIterator[AsyncConnection]:
        """A transaction; raises CatalogueError where the database refuses or is away."""
        with _said():
            async with self._engine.begin() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def _look(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with, each statement for itself; raises CatalogueError."""
        with _said():
            async with self._single.connect() as connection:
                yield connection

    async def _one(self, where: sa.ColumnElement[bool]) -> Order | None:
        async with self._look() as connection:
            found = await _orders(connection, sa.select(*_SHOWN).where(where))
        return found[0] if found else None

    async def _rows(self, statement: sa.Select[Any]) -> list[dict[str, Any]]:
        async with self._look() as connection:
            return [dict(row) for row in (await connection.execute(statement)).mappings()]

    async def _column(self, statement: sa.Select[Any]) -> list[int]:
        async with self._look() as connection:
            return list((await connection.execute(statement)).scalars())


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except sa.exc.IntegrityError:  # what it means is known where it happens
        raise
    except (sa.exc.SQLAlchemyError, OSError) as error:
        raise CatalogueError(words(error)) from None


async def _orders(connection: AsyncConnection, asked: sa.Select[Any]) -> list[Order]:
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


async def _log(connection: AsyncConnection, pk: int, at_ms: int, entries: Sequence[Entry]) -> None:
    rows = [{"order_pk": pk, "at_ms": at_ms} | asdict(e) for e in entries]
    if rows:
        await connection.execute(sa.insert(audit), rows)


async def _hold(connection: AsyncConnection, order: Order, keep: bool, at_ms: int) -> None:
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
        await _refuse_gone(connection, order)


async def _refuse_gone(connection: AsyncConnection, order: Order) -> None:
    """Raise FootageGone where a recording of an order was removed from all archives that had it.

    Its holds are written already: a removal that is not seen here sees them.
    """
    a, c, f = archived.c, cameras.c, order_files.c
    planned = sa.select(f.plan).where(f.order_pk == order.order_pk)
    for plan in (await connection.execute(planned)).scalars().all():
        days = {part[1] // DAY_MS for part in plan["parts"]}
        numbers = {part[0] for part in plan["parts"]}
        gone = (
            sa.select(a.record_seq)
            .join(cameras, c.camera_pk == a.camera_pk)
            .where(c.election == order.election, c.station == order.station)
            .where(c.camera == plan["camera"], a.day.between(min(days), max(days)))
            .where(a.record_seq.between(min(numbers), max(numbers)))
            .group_by(a.record_seq)
            .having(sa.func.count() == sa.func.count(a.removed_ms))
        )
        if numbers & set((await connection.execute(gone)).scalars()):
            raise FootageGone
