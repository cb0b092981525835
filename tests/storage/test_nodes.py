"""Nodes and shards in a real PostgreSQL: the statements do what the rules take them to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import asyncpg
import pytest

from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.leases import (
    LEASE_MS,
    SETTLE_MS,
    Contact,
    Decision,
    Node,
    Own,
    View,
    decide,
    leases,
)
from storage.catalogue.nodes import Nodes, SpoolTaken
from storage.catalogue.rows import Archived
from storage.records import Gap, GapCause
from storage.spool.reader import SpoolReader
from tests.support.lease_rows import LeaseRows
from tests.support.set_clock import SetClock, set_clock
from tests.support.spools import UTC0, fill
from tests.support.waiting import BOUND_S, until

pytest_plugins = ["tests.support.postgres"]
pytestmark = pytest.mark.slow
T0 = 1_800_000_000_000
COUNT = 512


async def patient(url: str) -> Catalogue:
    """Open a catalogue whose rounds may take long, as this machine may be busy."""
    catalogue = await Catalogue.open(url)
    catalogue.nodes = Nodes(catalogue.pool, hang_ms=600_000)
    return catalogue


@pytest.fixture
async def catalogue(postgres_url: str) -> AsyncIterator[Catalogue]:
    opened = await patient(postgres_url)
    yield opened
    await opened.close()


@pytest.fixture
async def clock(postgres_url: str, catalogue: Catalogue) -> AsyncIterator[SetClock]:
    async with set_clock(postgres_url, T0) as made:
        yield made


def decision(cameras: list[int], settled: bool, seed: float, view: View) -> Decision:
    """Return what a node decides that is by chance as far with its cameras as it is."""
    random = Random(seed)
    recorded = frozenset(n for n in range(COUNT) if random.random() < 0.7)
    return decide(view, Own(cameras, recorded, recorded, settled), random)


async def test_statements_change_rows_as_the_rules_are_tested_with(
    clock: SetClock, postgres_url: str
) -> None:
    """The same walk of four nodes, over a clock that is set now and then, in memory and here."""
    catalogue = await patient(postgres_url)
    random, rows, elapsed_ms = Random(7), LeaseRows.new(T0, COUNT), 0
    cameras = [random.randrange(4) for _ in range(COUNT)]
    all_ = [Node(f"spool-{n}", f"n{n}", f"127.0.0.{n}:1", weight=n) for n in range(1, 5)]
    contacts = {node.spool: Contact() for node in all_}
    holders, seen_rows = set[str | None](), set[tuple[object, ...]]()
    try:
        for step in range(400):
            passed_ms = random.choice([100, 200, 300, 400, 500, 600, LEASE_MS // 4])
            if step % 150 == 149:
                passed_ms = random.choice([-3_600_000, 3_600_000])
            rows.now_ms += passed_ms
            elapsed_ms += abs(passed_ms) % 3_600_000
            await clock.set(rows.now_ms)
            me = random.choice(all_)
            weight = me.weight if random.random() < 0.95 else 0
            me = replace(me, leaving=random.random() < 0.05, weight=weight)
            contacts[me.spool].renewed(rows.now_ms, elapsed_ms)
            decided = partial(decision, cameras, contacts[me.spool].is_settled, random.random())
            seen = rows.renew(me)
            rows.change(seen, decided(seen))
            found = await catalogue.nodes.round(me, decided)
            assert found == rows.view(me.spool)
            seen_rows |= {(row.handover, row.offered, row.lost_ms is None) for row in found.shards}
            holders |= {row.holder for row in found.shards}
            if random.random() < 0.03:
                rows.leave(me.spool)
                await catalogue.nodes.leave(me)
            if random.random() < 0.03:
                drained = not rows.nodes[me.spool].drained
                rows.nodes[me.spool] = replace(rows.nodes[me.spool], drained=drained)
                await catalogue.nodes.drain(me.spool, drained)
        assert len(holders) == 5 and len(seen_rows) >= 6, seen_rows
    finally:
        await catalogue.close()


async def test_nodes_that_ask_at_once_share_no_epoch_and_leave_no_shard(
    postgres_url: str, catalogue: Catalogue
) -> None:
    """Eight nodes of their own connections; half of the answers are lost on the way. Each goes on
    until all have seen that each has a part: who ended before would be taken for dead."""
    owners: dict[tuple[int, int], str] = {}
    have_seen = set[int]()

    async def live(n: int) -> None:
        random, me = Random(n), Node(f"spool-{n}", f"n{n}", f"127.0.0.{n}:1")
        known, all_ = await patient(postgres_url), frozenset(range(COUNT))
        own = Own([0] * COUNT, all_, all_, settled=True)
        try:
            while time.monotonic() < ends_s and len(have_seen) < 8:
                try:
                    view = await known.nodes.round(me, lambda v: decide(v, own, random))
                except CatalogueError:  # on a busy machine more answers are lost
                    continue
                if len({row.holder for row in view.shards}) == 8:
                    have_seen.add(n)
                for lease in leases(view, ()).values() if random.random() < 0.5 else ():
                    assert owners.setdefault((lease.shard, lease.epoch), me.spool) == me.spool
        finally:
            await known.close()

    ends_s = time.monotonic() + BOUND_S
    async with asyncio.TaskGroup() as living:
        for n in range(8):
            living.create_task(live(n))
    view = await catalogue.nodes.view()
    for row in view.shards:
        assert row.holder and owners.get((row.shard, row.epoch), row.holder) == row.holder
    assert len(have_seen) == 8


async def test_what_another_took_meanwhile_is_taken_from_nobody(
    postgres_url: str, catalogue: Catalogue
) -> None:
    """A node is held up between what it reads and what it changes."""
    own = Own([0] * COUNT, settled=True)
    first, second = (Node(f"spool-{n}", n, f"127.0.0.{n}:1") for n in "12")

    async def take_all() -> None:
        known = await patient(postgres_url)
        await known.nodes.round(first, lambda view: decide(view, own, Random(1)))
        await known.close()

    def held_up(view: View) -> Decision:
        with ThreadPoolExecutor(1) as apart:
            apart.submit(asyncio.run, take_all()).result()
        return decide(view, own, Random(2))

    view = await catalogue.nodes.round(second, held_up)
    assert {(row.holder, row.before) for row in view.shards} == {(first.spool, None)}


async def test_who_renews_while_another_reads_is_not_taken_for_dead(
    postgres_url: str, catalogue: Catalogue
) -> None:
    """A node is held up between its first question and the rows; its clock is that of the rows."""
    first, second = (Node(f"spool-{n}", n, f"127.0.0.{n}:1") for n in "12")
    other, blocking = await patient(postgres_url), await asyncpg.connect(postgres_url)

    async def waits() -> bool:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return bool(await blocking.fetchval(asked))

    try:
        await catalogue.nodes.round(first, lambda view: Decision())
        async with blocking.transaction():
            await blocking.execute("SELECT 1 FROM nodes FOR UPDATE")
            round_ = asyncio.create_task(catalogue.nodes.round(first, lambda view: Decision()))
            await until(waits)
            await other.nodes.round(second, lambda view: Decision())
        assert (await round_).is_alive(second.spool)
    finally:
        await blocking.close()
        await other.close()


async def test_who_hangs_within_a_round_loses_what_it_had_locked(
    postgres_url: str, catalogue: Catalogue
) -> None:
    hanging = Nodes(catalogue.pool, hang_ms=100)
    me, own = Node("a" * 32, "a", "127.0.0.1:1"), Own([0] * COUNT, settled=True)

    async def is_ended() -> None:
        connection = await asyncpg.connect(postgres_url)
        asked = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )

        async def nobody_is() -> bool:
            return not await connection.fetchval(asked)

        await until(nobody_is)
        await connection.close()

    def hang(view: View) -> Decision:
        with ThreadPoolExecutor(1) as apart:
            apart.submit(asyncio.run, is_ended()).result()
        return decide(view, own, Random(1))

    with pytest.raises(CatalogueError):
        await hanging.round(me, hang)
    assert (await catalogue.nodes.view()).nodes == {}


async def test_a_copy_of_a_spool_does_not_hold_what_the_spool_does(
    clock: SetClock, postgres_url: str
) -> None:
    catalogue = await patient(postgres_url)
    me, own = Node("a" * 32, "a", "10.0.0.1:1"), Own([1] * COUNT, settled=True)
    copy = replace(me, address="10.0.0.2:1")
    try:
        for node in (me, me):
            first = await catalogue.nodes.round(node, lambda view: decide(view, own, Random(1)))
        assert len(first.held) == COUNT
        with pytest.raises(SpoolTaken, match=r"10\.0\.0\.1:1"):
            await catalogue.nodes.round(copy, lambda view: decide(view, own, Random(1)))
        assert (await catalogue.nodes.view()).nodes[me.spool].address == me.address
        await catalogue.nodes.leave(copy)  # it ends, and the other one goes on
        assert (await catalogue.nodes.view()).is_alive(me.spool)
        await clock.passes(LEASE_MS)
        view = await catalogue.nodes.round(copy, lambda view: decide(view, own, Random(1)))
        assert view.nodes[me.spool].address == copy.address
        # the first may only be cut off, and record: what the copy records has other numbers
        taken = zip(first.held, view.held, strict=True)
        assert all(was.epoch < row.epoch and row.lost_ms == 0 for was, row in taken)
        again = await catalogue.nodes.round(copy, lambda view: decide(view, own, Random(1)))
        assert again.held == view.held
    finally:
        await catalogue.close()


async def test_what_accounts_for_cameras_of_a_dead_node_is_known(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    fill(tmp_path, runs=1, segments=70).close()
    reader = SpoolReader(tmp_path, "s", "c")
    reader.refresh()
    indexes = [index for _, index in reader.recordings()]
    await catalogue.writer.put_recordings(indexes, "a" * 32)
    one, two, three = (("e", "s", camera) for camera in ("c", "d", "f"))
    lost_ms = indexes[-1].end_ms + 30_000
    ended = Gap(1, lost_ms - 90_000, lost_ms - 70_000, GapCause.NO_DATA)
    await catalogue.writer.put_gaps(two, [ended])
    names = [one, two, three]
    known = await catalogue.nodes.accounted_ms(names, lost_ms)
    assert known == {one: indexes[-1].seal.end_ms, two: ended.end_ms}  # type: ignore[union-attr]
    await catalogue.writer.put_gaps(two, [Gap(2, lost_ms - 60_000, None, GapCause.NO_DATA)])
    assert (await catalogue.nodes.accounted_ms(names, lost_ms))[two] == lost_ms
    # what no archive has is counted for the node alone that has it
    assert await catalogue.nodes.unarchived(["a" * 32, "b" * 32]) == {
        "a" * 32: (len(indexes), sum(i.seal.length for i in indexes if i.seal))
    }
    await catalogue.writer.put_archived([(indexes[0], Archived("near", "", UTC0, "test"))])
    count, _ = (await catalogue.nodes.unarchived(["a" * 32]))["a" * 32]
    assert count == len(indexes) - 1


async def test_an_operator_gives_up_only_who_is_dead(clock: SetClock, postgres_url: str) -> None:
    catalogue = await patient(postgres_url)
    me, own = Node("a" * 32, "a", "127.0.0.1:1"), Own([1] * COUNT)
    try:
        await catalogue.nodes.round(me, lambda view: decide(view, own, Random(1)))
        assert not await catalogue.nodes.give_up(me.spool)
        await clock.passes(SETTLE_MS)
        assert await catalogue.nodes.give_up(me.spool)
        assert (await catalogue.nodes.view()).nodes[me.spool].given_up_ms == T0 + SETTLE_MS
        view = await catalogue.nodes.round(me, lambda view: decide(view, own, Random(1)))
        assert view.nodes[me.spool].given_up_ms is None  # it came back
    finally:
        await catalogue.close()
