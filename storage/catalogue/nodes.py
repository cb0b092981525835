"""Nodes and the shards that they hold, in PostgreSQL: the statements to what `leases` decides.

Each round of a node is one transaction: it renews, reads all rows, and changes what it decides to.
A change looks again whether its row is as it was seen, and passes over rows that another node is
changing (SKIP LOCKED), so nodes neither wait for each other nor undo what others did. All times are
those of the database's clock. A node that hangs within a round loses it after HANG_MS: what it has
locked nobody else could take.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from storage.catalogue.cameras import Name, known_as
from storage.catalogue.connection import BATCH, Pool
from storage.catalogue.database import Connection
from storage.catalogue.leases import LEASE_MS, Decision, Handover, Node, Shard, View
from storage.catalogue.schema import (
    SAME_RECORDING,
    archived,
    cameras,
    gaps,
    nodes,
    recordings,
    shards,
)
from storage.records import LONGEST_MS
from storage.spool.lease_file import SHARDS, Lease
from storage.spool.numbers import CLOCK_2020_S

NOW = sa.literal_column("(extract(epoch FROM clock_timestamp()) * 1000)::bigint", sa.BigInteger)
SERVER = sa.literal_column(
    "(extract(epoch FROM pg_postmaster_start_time()) * 1000)::bigint", sa.BigInteger
)
EPOCH = sa.func.greatest(shards.c.epoch + 1, NOW // 1000 - CLOCK_2020_S)  # of who takes a shard
HANG_MS = LEASE_MS // 2
FORGET_MS = 600_000
# what a node says of itself with each renewal; the rest is an operator's
TOLD = ("name", "address", "weight", "most", "version", "leaving")


class SpoolTaken(RuntimeError):
    """A machine at the address that this says has a spool of the same id: one is a copy."""


class Nodes:
    """The nodes of an installation on PostgreSQL."""

    def __init__(self, pool: Pool, hang_ms: int = HANG_MS):
        self._pool, self._hang_ms = pool, hang_ms

    async def round(self, me: Node, decide: Callable[[View], Decision]) -> View:
        """Renew a node's lease, change what `decide` makes of the rows, and return them as they
        are then. Raises CatalogueError; whether anything was done is then unknown. Raises
        SpoolTaken, and nothing was done."""
        hang = sa.func.set_config("idle_in_transaction_session_timeout", str(self._hang_ms), True)
        address = sa.select(nodes.c.address).where(nodes.c.spool == me.spool).scalar_subquery()
        async with self._pool.work() as connection:
            now_ms, was_at, _ = (await connection.execute(sa.select(NOW, address, hang))).one()
            await self._renew(connection, me, now_ms)
            if was_at not in (None, me.address):
                await _begin_anew(connection, me.spool)
            view = await self._view(connection, me.spool)
            if len(view.shards) < SHARDS:  # somebody emptied the database
                rows = [{"shard": n, "epoch": 0} for n in range(SHARDS)]
                await connection.execute(
                    self._pool.insert(shards).values(rows).on_conflict_do_nothing()
                )
                view = await self._view(connection, me.spool)
            if decision := decide(view):
                await _change(connection, view, decision)
                view = await self._view(connection, me.spool)
        return view

    async def view(self, me: str = "") -> View:
        """Return all rows."""
        async with self._pool.single() as connection:
            return await self._view(connection, me)

    async def forget_viewers(self) -> None:
        """Forget machines that record nothing and are gone: each start of one may have another
        spool, and none has anything that is missed."""
        n = nodes.c
        gone = sa.delete(nodes).where(n.most == 0, n.until_ms < NOW - FORGET_MS)
        await self._pool.execute(gone)

    async def leave(self, me: Node) -> None:
        """End a node's lease: whoever wants its shards need not wait. Nothing is done where the
        lease is of another machine, with a copy of its spool."""
        own = nodes.c.spool == me.spool, nodes.c.address == me.address
        ended = sa.update(nodes).where(*own).values(until_ms=0, leaving=True)
        await self._pool.execute(ended)

    async def drain(self, spool: str, drained: bool) -> None:
        """Have a node give its shards away and take no others, or take part again."""
        told = sa.update(nodes).where(nodes.c.spool == spool)
        await self._pool.execute(told.values(drained=drained))

    async def give_up(self, spool: str) -> bool:
        """Wait no longer for a node; False where its lease lasts."""
        n = nodes.c
        over = sa.update(nodes).where(n.spool == spool, ~_is_alive(NOW))
        return await self._pool.execute(over.values(given_up_ms=NOW)) == 1

    async def _renew(self, connection: Connection, me: Node, now_ms: int) -> None:
        """Renew a lease; raises SpoolTaken where another machine renews that of the same spool."""
        told = {key: getattr(me, key) for key in TOLD}
        told |= {"until_ms": now_ms + LEASE_MS, "given_up_ms": None}
        insert = self._pool.insert(nodes).values(spool=me.spool, **told)
        own = sa.or_(nodes.c.address == me.address, ~_is_alive(NOW))
        renew = insert.on_conflict_do_update(index_elements=["spool"], set_=told, where=own)
        if (await connection.execute(renew)).rowcount == 0:
            asked = sa.select(nodes.c.address).where(nodes.c.spool == me.spool)
            raise SpoolTaken(str((await connection.execute(asked)).scalar_one()))

    async def _view(self, connection: Connection, me: str) -> View:
        """Return all rows. The time is that of the last ones, not of before them: else a lease that
        was renewed meanwhile would last longer than one can, and its node seem dead."""
        rows = await connection.execute(sa.select(shards).order_by(shards.c.shard))
        held = [_shard(row) for row in rows.mappings()]
        asked = sa.select(nodes, NOW.label("now_ms"), SERVER.label("server"))
        found = [dict(row) for row in (await connection.execute(asked)).mappings()]
        now_ms = max((row.pop("now_ms") for row in found), default=0)
        server = max((row.pop("server") for row in found), default=0)
        return View(me, now_ms, {row["spool"]: Node(**row) for row in found}, held, server)

    # -- what else is known of a node's cameras -----------------------------------------------

    async def accounted_ms(self, names: Sequence[Name], lost_ms: int) -> dict[Name, int]:
        """Return until when recordings and gaps in the catalogue account for cameras whose node
        was last alive at `lost_ms`. A gap that lasted lasted until then."""
        r, g, pk = recordings.c, gaps.c, cameras.c.camera_pk
        recorded = (
            sa.select(r.end_ms)
            .where(r.camera_pk == pk, r.start_ms <= lost_ms)
            .order_by(r.start_ms.desc())
            .limit(1)
            .label("recorded_ms")
        )
        missed = (
            sa.select(sa.func.coalesce(g.end_ms, lost_ms))
            .where(g.camera_pk == pk, g.start_ms <= lost_ms)
            .order_by(g.start_ms.desc())
            .limit(1)
            .label("missed_ms")
        )
        c = cameras.c
        asked = sa.select(c.election, c.station, c.camera, recorded, missed)
        found = dict[Name, int]()
        for n in range(0, len(names), BATCH):
            for row in await self._pool.rows(asked.where(known_as(names[n : n + BATCH]))):
                until_ms = max(row["recorded_ms"] or 0, row["missed_ms"] or 0)
                found[row["election"], row["station"], row["camera"]] = until_ms
        return {name: until_ms for name, until_ms in found.items() if until_ms}

    async def only_on(
        self, names: Sequence[Name], spools: Sequence[str], from_ms: int, to_ms: int
    ) -> dict[tuple[Name, int, int], str]:
        """Return the recordings of a stretch that only one of these spools has: the spool by
        camera, number and start."""
        r, c = recordings.c, cameras.c
        asked = (
            sa.select(c.election, c.station, c.camera, r.record_seq, r.start_ms, r.spool)
            .join(cameras, c.camera_pk == r.camera_pk)
            .where(known_as(names), r.start_ms > from_ms - LONGEST_MS, r.start_ms < to_ms)
            .where(r.spool.in_(spools), r.removed_ms.is_(None))
            .where(~sa.exists().where(SAME_RECORDING, archived.c.removed_ms.is_(None)))
        )
        return {
            (
                (row["election"], row["station"], row["camera"]),
                row["record_seq"],
                row["start_ms"],
            ): row["spool"]
            for row in await self._pool.rows(asked)
        }

    async def unarchived(self, spools: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return how many recordings, and how many bytes, only these spools have."""
        r = recordings.c
        asked = (
            sa.select(r.spool, sa.func.count(), sa.func.sum(r.bytes))
            .where(r.spool.in_(spools), r.removed_ms.is_(None))
            .where(~sa.exists().where(SAME_RECORDING, archived.c.removed_ms.is_(None)))
            .group_by(r.spool)
        )
        async with self._pool.single() as connection:
            rows = (await connection.execute(asked)).all()
        return {spool: (count, int(size)) for spool, count, size in rows}


def _shard(row: Any) -> Shard:
    handover = Handover(row["handover"]) if row["handover"] else None
    return Shard(**{**row, "handover": handover})


def _is_alive(now_ms: Any) -> sa.ColumnElement[bool]:
    """Say the same of a row as `Node.is_alive`."""
    until_ms = nodes.c.until_ms
    return sa.and_(until_ms > now_ms, until_ms <= now_ms + LEASE_MS)


async def _begin_anew(connection: Connection, me: str) -> None:
    """Raise the epochs of what a node holds whose lease was over, and is at another address now:
    it may be a copy, and the first one may record on under the old epochs, without the database.
    So may who was handing over."""
    s = shards.c
    handing = sa.update(shards).where(s.before == me, s.handover.is_not(None))
    await connection.execute(handing.values(handover=None))
    before = sa.case((s.handover.is_(None), s.holder), else_=s.before)
    held = sa.update(shards).where(s.holder == me)
    await connection.execute(held.values(epoch=EPOCH, before=before, lost_ms=0, taken_ms=NOW))


async def _change(connection: Connection, view: View, decision: Decision) -> None:
    s = shards.c
    own, before = s.holder == view.me, s.before == view.me
    offer = [own, s.handover.is_(None)]
    await _set(connection, view, decision.offer, offer, offered=True)
    await _set(connection, view, decision.withdraw, [own], offered=False)
    ending = [own, s.handover == Handover.BOTH]
    await _set(connection, view, decision.ending, ending, handover=Handover.ENDING)
    await _set(connection, view, decision.done, [sa.or_(own, before)], handover=None)
    await _restore(connection, view, decision.restore)
    if decision.most:
        await _take(connection, view, decision)


async def _set(
    connection: Connection,
    view: View,
    which: Collection[int],
    still: list[sa.ColumnElement[bool]],
    **values: object,
) -> None:
    """Change rows that are still as they were seen, and that nobody else is changing."""
    if not which:
        return
    seen = _as_seen(view, which)
    free = sa.select(shards.c.shard).where(seen, *still).with_for_update(skip_locked=True)
    await connection.execute(
        sa.update(shards).where(shards.c.shard.in_(free.scalar_subquery())).values(**values)
    )


def _as_seen(view: View, which: Iterable[int]) -> sa.ColumnElement[bool]:
    """Tell whether a row is one of these, and under the epoch that was seen."""
    seen = [(n, view.shards[n].epoch) for n in sorted(which)]
    return sa.tuple_(shards.c.shard, shards.c.epoch).in_(seen)


async def _restore(connection: Connection, view: View, kept: Sequence[Lease]) -> None:
    """Enter leases again that the rows do not know, where these are still as they were seen."""
    if not kept:
        return
    s = shards.c
    free = sa.select(s.shard).where(_as_seen(view, [lease.shard for lease in kept]))
    columns = (sa.column(one.name, one.type) for one in (s.shard, s.epoch, s.taken_ms, s.lost_ms))
    found = sa.values(*columns, name="kept").data(
        [(lease.shard, lease.epoch, lease.since_ms, lease.lost_ms) for lease in kept]
    )
    await connection.execute(
        sa.update(shards)
        .where(s.shard == found.c.shard)
        .where(s.shard.in_(free.with_for_update(skip_locked=True).scalar_subquery()))
        .values(
            epoch=found.c.epoch,
            before=None,
            holder=view.me,
            handover=None,
            lost_ms=sa.cast(found.c.lost_ms, sa.BigInteger),  # of NULLs alone it has no type
            offered=False,
            taken_ms=found.c.taken_ms,
        )
    )


async def _take(connection: Connection, view: View, decision: Decision) -> None:
    """Take shards that are free or offered, each under a new epoch.

    The time is asked for again: whoever was held up since it read the rows judges nobody by a clock
    that has gone on. The epoch may be no other than was seen, as a row that somebody else took in
    this moment is looked at again beside the node that had it before.
    """
    s, n = shards.c, nodes.c
    alive = sa.and_(n.spool.is_not(None), _is_alive(NOW))
    given = sa.and_(alive, s.offered)
    lost_ms = sa.case(
        (sa.and_(given, n.weight == 0), NOW),
        (given, None),
        (sa.or_(s.holder.is_(None), n.until_ms == 0), 0),
        else_=n.until_ms - LEASE_MS,
    )
    free = (
        sa.select(s.shard, sa.case((given, Handover.BOTH.value)).label("handover"))
        .add_columns(lost_ms.label("lost_ms"))
        .join(nodes, n.spool == s.holder, isouter=True)
        .where(_as_seen(view, decision.take), s.holder.is_distinct_from(view.me))
        .where(sa.or_(~alive, s.offered))
        .order_by(sa.func.array_position(list(decision.take), s.shard))
        .limit(decision.most)
        .with_for_update(skip_locked=True, of=shards)
        .subquery()
    )
    await connection.execute(
        sa.update(shards)
        .where(s.shard == free.c.shard)
        .values(
            epoch=EPOCH,
            before=s.holder,
            holder=view.me,
            handover=free.c.handover,
            lost_ms=free.c.lost_ms,
            offered=False,
            taken_ms=NOW,
        )
    )
