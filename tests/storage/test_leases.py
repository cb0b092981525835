"""Leases of shards: no epoch has two owners, an outage moves no camera, every shard is held."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from storage.catalogue.leases import (
    HANDOVER_MS,
    LEASE_MS,
    MOST_MOVED,
    SETTLE_MS,
    SILENT_MS,
    Contact,
    Decision,
    Handover,
    Node,
    Own,
    Shard,
    View,
    decide,
    forgotten,
    leases,
)
from storage.catalogue.nodes import SpoolTaken
from storage.spool.lease_file import Lease
from tests.support.lease_rows import LeaseRows

T0 = 1_800_000_000_000
FEW = 24  # shards
SPOOLS = ("a", "b", "c", "d")
ALL = (*SPOOLS, "copy")  # that is a machine with a copy of the spool of the first


@dataclass
class Process:
    """A node's process: what it knows, and what it has begun and not done yet."""

    node: Node
    cameras: list[int]
    contact: Contact = field(default_factory=Contact)
    known: dict[int, Lease] = field(default_factory=dict)
    begun: tuple[View, Decision] | None = None
    records: bool = True  # its cameras, as soon as it has them
    is_told: bool = False  # what it knows, by the rows
    forgotten: dict[int, Lease] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)  # that it saw last, itself among them

    def own(self) -> Own:
        """Return what it knows of itself."""
        recorded = frozenset(self.known) if self.records else frozenset()
        stopped = frozenset(range(len(self.cameras))) - set(self.known)
        settled, lost = self.contact.is_settled, tuple(self.forgotten.values())
        return Own(self.cameras, recorded, stopped, settled, lost, self.contact.has_waited)

    def begin(self, rows: LeaseRows, elapsed_ms: float, random: Random) -> None:
        """Renew, read and decide: its changes are on their way."""
        try:
            seen = rows.renew(self.node)
        except SpoolTaken:
            self.contact.failed()
            self.known = {}
            return
        self.forgotten = forgotten(seen, self.known.values(), self.is_told)
        is_whole = not (self.forgotten or self.others - seen.nodes.keys())
        self.contact.renewed(seen.now_ms, elapsed_ms, is_whole=is_whole)
        self.others = set(seen.nodes)
        self.begun = seen, decide(seen, self.own(), random)

    def end(self, rows: LeaseRows, heard: bool = True) -> None:
        """Have its changes made, and hear of them or not."""
        if self.begun is None:
            return
        seen, decision = self.begun
        rows.change(seen, decision)
        self.begun = None
        if heard:
            view = rows.view(self.node.spool)
            self.known = leases(view, self.known.values(), self.is_told)
            self.is_told = True
        else:
            self.contact.failed()


def process(spool: str, cameras: Iterable[int], **more: object) -> Process:
    node = Node(spool, name=spool, address=f"{spool}:1", **more)  # type: ignore[arg-type]
    return Process(node, list(cameras))


class Leases(RuleBasedStateMachine):
    """Nodes that come, go, hang and hear nothing, over a clock that anybody may set."""

    @initialize(seed=st.integers(0, 1 << 32), weights=st.lists(st.integers(0, 4), min_size=4))
    def begin(self, seed: int, weights: list[int]) -> None:
        self.random = Random(seed)
        self.rows, self.elapsed_ms = LeaseRows.new(T0, FEW), 0.0
        cameras = [self.random.randrange(4) for _ in range(FEW)]
        self.all = {
            spool: process(spool, cameras, weight=weight)
            for spool, weight in zip(SPOOLS, weights, strict=False)
        }
        copy = replace(self.all["a"].node, address="copy:1")
        self.all["copy"] = Process(copy, cameras)
        self.owners: dict[tuple[int, int], str] = {}

    @rule(ms=st.integers(0, 20_000))
    def time_passes(self, ms: int) -> None:
        self.rows.now_ms += ms
        self.elapsed_ms += ms

    @rule(ms=st.integers(-3_600_000, 3_600_000))
    def the_clock_is_set(self, ms: int) -> None:
        self.rows.now_ms += ms

    @rule(spool=st.sampled_from(ALL))
    def a_round(self, spool: str) -> None:
        self._begun(spool).end(self.rows)

    @rule(spool=st.sampled_from(ALL))
    def hangs_within_a_round(self, spool: str) -> None:
        self._begun(spool)

    def _begun(self, spool: str) -> Process:
        """Return a process within a round, for which one of the same spool is rolled back: it has
        the row of its node locked."""
        one = self.all[spool]
        if one.begun is None:
            for other in self.all.values():
                if other.node.spool == one.node.spool and other is not one and other.begun:
                    other.begun = None
                    other.contact.failed()
            one.begin(self.rows, self.elapsed_ms, self.random)
        return one

    @rule(spool=st.sampled_from(ALL))
    def hears_no_answer(self, spool: str) -> None:
        self._begun(spool).end(self.rows, heard=False)

    @rule(spool=st.sampled_from(ALL))
    def asks_in_vain(self, spool: str) -> None:
        self.all[spool].contact.failed()
        self.all[spool].begun = None  # it was rolled back

    @rule(spool=st.sampled_from(ALL))
    def dies_and_comes_back(self, spool: str) -> None:
        """With what `leases.json` kept, and nothing else."""
        one = self.all[spool]
        one.contact, one.begun, one.is_told = Contact(), None, False
        one.node = replace(one.node, leaving=False)

    @rule(spool=st.sampled_from(ALL))
    def is_asked_to_end(self, spool: str) -> None:
        self.all[spool].node = replace(self.all[spool].node, leaving=True)

    @rule(spool=st.sampled_from(SPOOLS), drained=st.booleans())
    def is_drained(self, spool: str, drained: bool) -> None:
        if spool in self.rows.nodes:
            self.rows.nodes[spool] = replace(self.rows.nodes[spool], drained=drained)

    @rule(spool=st.sampled_from(ALL), records=st.booleans())
    def reaches_its_cameras(self, spool: str, records: bool) -> None:
        self.all[spool].records = records

    @precondition(lambda self: any(n.until_ms for n in self.rows.nodes.values()))
    @rule(spool=st.sampled_from(ALL))
    def has_left(self, spool: str) -> None:
        me = self.all[spool].node
        there = self.rows.nodes.get(me.spool)
        if me.leaving and there is not None and there.address == me.address:
            self.rows.leave(me.spool)

    @invariant()
    def no_epoch_has_two_owners(self) -> None:
        if not hasattr(self, "rows"):
            return
        for row in self.rows.shards:
            if row.holder is not None:
                owner = self.rows.nodes[row.holder].address
                assert self.owners.setdefault((row.shard, row.epoch), owner) == owner
        for one in self.all.values():
            for lease in one.known.values():
                assert self.owners[lease.shard, lease.epoch] == one.node.address

    def teardown(self) -> None:
        """When all is well for a while, each shard is recorded by one node, and by its holder."""
        if not hasattr(self, "rows"):
            return
        for spool, one in self.all.items():
            one.node, one.records = replace(one.node, leaving=False), True
            if spool in self.rows.nodes:
                self.rows.nodes[spool] = replace(self.rows.nodes[spool], drained=False)
        for _ in range(FEW * 4 + 2 * (SETTLE_MS + HANDOVER_MS) // 1500):
            if self.is_well():
                break
            self.time_passes(1500)
            for spool in self.all:
                self.a_round(spool)
        self.no_epoch_has_two_owners()
        assert self.is_well() or not any(one.node.weight for one in self.all.values())

    def is_well(self) -> bool:
        """Tell whether each shard is recorded once, and each node has no more than its part."""
        recorded = sorted(shard for one in self.all.values() for shard in one.known)
        view = self.rows.view("")
        parts = [len(one.known) <= view.part(one.node.spool) for one in self.all.values()]
        quiet = all(row.handover is None and not row.offered for row in self.rows.shards)
        return recorded == list(range(FEW)) and all(parts) and quiet


TestLeases = Leases.TestCase
TestLeases.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)


def settle(rows: LeaseRows, all_: list[Process], seconds: float, elapsed_ms: float = 0) -> float:
    """Have all renew for a while; returns the time that has passed by our clock."""
    random = Random(1)
    for _ in range(int(seconds * 1000 / 1500)):
        rows.now_ms += 1500
        elapsed_ms += 1500
        for one in all_:
            one.begin(rows, elapsed_ms, random)
            one.end(rows)
    return elapsed_ms


def three(count: int = FEW) -> tuple[LeaseRows, list[Process], float]:
    """Three nodes that share shards of two cameras."""
    rows, all_ = LeaseRows.new(T0, count), [process(s, [2] * count) for s in "abc"]
    return rows, all_, settle(rows, all_, 120)


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(
    away_ms=st.integers(0, 600_000),
    pauses=st.lists(st.integers(0, 7_000), min_size=3, max_size=3),
    set_ms=st.sampled_from([0, 0, -3_600_000, 3_600_000]),
    is_seen=st.booleans(),
)
def test_an_outage_of_the_database_moves_no_camera(
    away_ms: int, pauses: list[int], set_ms: int, is_seen: bool
) -> None:
    """However long it was, whoever comes back first, and though its clock is another's then.

    It is the same where nobody saw one: all machines stood still for as long, as on one host. A
    short one lies between two rounds; then all renew in time.
    """
    rows, all_, elapsed_ms = three()
    before = [(row.holder, row.epoch) for row in rows.shards]
    if is_seen:
        for one in all_:
            one.contact.failed()
    elif away_ms <= SILENT_MS:
        pauses = [min(ms, LEASE_MS - away_ms - 1) for ms in pauses]
    rows.now_ms += away_ms + set_ms
    elapsed_ms += away_ms
    begun_ms, random = rows.now_ms, Random(2)
    back = sorted(zip(pauses, all_, strict=True), key=lambda pair: pair[0])
    for pause_ms, one in back:
        now_ms = begun_ms + pause_ms
        elapsed_ms += now_ms - rows.now_ms
        rows.now_ms = now_ms
        for there in [other for wait_ms, other in back if wait_ms <= pause_ms]:
            there.begin(rows, elapsed_ms, random)
            there.end(rows)
        assert one.known
    settle(rows, all_, 60, elapsed_ms)
    assert [(row.holder, row.epoch) for row in rows.shards] == before


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(
    order=st.permutations([0, 1, 2]),
    pauses=st.lists(st.integers(0, 3_000), min_size=3, max_size=3),
    is_copy=st.booleans(),
    restarted=st.sets(st.integers(0, 2)),
)
def test_a_database_that_was_emptied_or_is_an_old_copy_ends_no_recording(
    order: list[int], pauses: list[int], is_copy: bool, restarted: set[int]
) -> None:
    """Each node goes on under its epochs, and has the rows know them again."""
    rows, all_ = LeaseRows.new(T0, FEW), [process(s, [2] * FEW) for s in "abc"]
    elapsed_ms = settle(rows, all_[:2], 60)
    old = list(rows.shards)
    elapsed_ms = settle(rows, all_, 120, elapsed_ms)
    before = [dict(one.known) for one in all_]
    rows.shards, rows.nodes = (old if is_copy else LeaseRows.new(T0, FEW).shards), {}
    for n in restarted:
        all_[n].contact, all_[n].is_told, all_[n].others = Contact(), False, set()
    for n, pause_ms in zip(order, pauses, strict=True):
        rows.now_ms, elapsed_ms = rows.now_ms + pause_ms, elapsed_ms + pause_ms
        all_[n].begin(rows, elapsed_ms, Random(1))
        all_[n].end(rows)
        assert all_[n].known.keys() >= before[n].keys() or n in restarted
    settle(rows, all_, 120, elapsed_ms)
    if not is_copy:
        assert [one.known for one in all_] == before
    elif not restarted:
        epochs = [{s: lease.epoch for s, lease in one.known.items()} for one in all_]
        assert epochs == [{s: lease.epoch for s, lease in known.items()} for known in before]
    assert sorted(shard for one in all_ for shard in one.known) == list(range(FEW))


def test_what_a_dead_node_held_is_taken_at_once_by_those_that_live() -> None:
    rows, (a, b, c), elapsed_ms = three()
    lost = set(a.known)
    renewed_ms = rows.now_ms
    settle(rows, [b, c], LEASE_MS / 1000 + 3, elapsed_ms)
    assert lost <= set(b.known) | set(c.known)
    taken = [row for row in rows.shards if row.shard in lost]
    assert {row.lost_ms for row in taken} == {renewed_ms}
    assert max((row.taken_ms or 0) - renewed_ms for row in taken) <= LEASE_MS + 1_500
    assert {lease.lost_ms for lease in (b.known | c.known).values()} >= {renewed_ms}
    assert all(row.handover is None for row in rows.shards)


def test_nobody_waits_for_a_node_that_hears_too_little_to_take_anything() -> None:
    """Its lease lasts, it has less than its part, and it is never settled: what a dead node held,
    above the parts of the others, was recorded by nobody for as long as that went on."""
    rows, all_ = LeaseRows.new(T0, FEW), [process(s, [2] * FEW) for s in "abcd"]
    elapsed_ms = settle(rows, all_, 120)
    a, b, c, _ = all_  # the last one dies
    for _ in range(6):
        c.contact.failed()  # two answers of three do not come in time
        elapsed_ms = settle(rows, [a, b, c], 1.5, elapsed_ms)
        elapsed_ms = settle(rows, [a, b], 4.5, elapsed_ms)
        assert rows.view("").is_alive("c")
    assert set(a.known) | set(b.known) | set(c.known) == set(range(FEW))


def test_a_dead_node_is_noticed_though_the_clock_was_set_back() -> None:
    rows, (_, b, c), elapsed_ms = three()
    rows.now_ms -= 3_600_000
    settle(rows, [b, c], (SETTLE_MS + LEASE_MS) / 1000 + 3, elapsed_ms)
    assert set(b.known) | set(c.known) == set(range(FEW))


def test_a_node_that_comes_back_gets_its_part_slowly_and_without_a_hole() -> None:
    rows, (a, b, c), elapsed_ms = three(96)
    elapsed_ms = settle(rows, [b, c], 30, elapsed_ms)
    moved = []
    while len(rows.view("a").held) < 32:
        elapsed_ms = settle(rows, [a, b, c], 1.5, elapsed_ms)
        moved.append(sum(s.offered or s.handover is not None for s in rows.shards))
        assert set(a.known) | set(b.known) | set(c.known) == set(range(96))
    assert max(moved) * 2 <= 2 * MOST_MOVED  # cameras of two a shard; two nodes give
    assert len(moved) > 1


def test_a_node_that_ends_hands_over_what_it_records_and_ends_when_others_do() -> None:
    rows, (a, b, c), elapsed_ms = three()
    a.node = replace(a.node, leaving=True)
    given = set(a.known)
    seen: list[set[int]] = []
    while a.known:
        elapsed_ms = settle(rows, [a, b, c], 1.5, elapsed_ms)
        seen.append(set(a.known))
        assert set(a.known) | set(b.known) | set(c.known) == set(range(FEW))
    assert len(seen) <= 4
    assert {row.lost_ms for row in rows.shards if row.shard in given} == {None}


def test_a_camera_of_one_session_is_let_go_before_it_is_recorded_elsewhere() -> None:
    rows, (a, b, c), elapsed_ms = three()
    a.node = replace(a.node, leaving=True)
    b.records = c.records = False  # while another has it
    states, held, given = set(), set(a.known), set()
    while a.known:
        elapsed_ms = settle(rows, [a, b, c], 1.5, elapsed_ms)
        states |= {row.handover for row in rows.shards}
        for lease in (b.known | c.known).values():
            if lease.shard in a.known:
                assert not lease.alone
        given |= {lease.shard for lease in a.known.values() if lease.given}
    assert states == {Handover.BOTH, Handover.ENDING, None} and given == held
    settle(rows, [a, b, c], 3, elapsed_ms)
    assert not any(lease.is_shared for one in (b, c) for lease in one.known.values())


def test_who_left_in_good_order_is_not_waited_for_and_goes_on_where_nobody_came() -> None:
    rows, a = LeaseRows.new(T0, FEW), process("a", [1] * FEW)
    elapsed_ms = settle(rows, [a], 30)
    assert set(a.known) == set(range(FEW))
    epochs = [row.epoch for row in rows.shards]
    rows.leave("a")
    b = process("b", [1] * FEW)
    rows.now_ms += 60_000
    again = process("a", [1] * FEW)
    settle(rows, [again], 3, elapsed_ms)
    assert [row.epoch for row in rows.shards] == epochs and len(again.known) == FEW
    rows.leave("a")
    settle(rows, [b], SETTLE_MS / 1000 + 1.5, elapsed_ms)
    assert set(b.known) == set(range(FEW))
    # nobody recorded until then: b tells of the time since what is known of a
    assert {lease.lost_ms for lease in b.known.values()} == {0}


def test_no_node_is_given_more_cameras_than_it_takes() -> None:
    cameras = [2] * FEW
    rows, all_ = LeaseRows.new(T0, FEW), [process("a", cameras, most=10), process("b", cameras)]
    settle(rows, all_, 60)
    assert len(all_[0].known) == 5
    assert len(all_[1].known) == FEW - 5  # beyond its part, as nobody else has room
    assert not any(row.offered for row in rows.shards)
    settle(rows, [*all_, process("c", cameras)], 60)
    assert max(len(one.known) for one in all_) <= FEW // 3 + 5


def test_a_machine_whose_disk_takes_nothing_gives_all_of_it_away_at_once() -> None:
    rows, (a, b, c), elapsed_ms = three(96)
    lost, a.node = set(a.known), replace(a.node, weight=0)
    settle(rows, [a, b, c], 4.5, elapsed_ms)
    assert not a.known and len(lost) * 2 > MOST_MOVED
    since = {row.lost_ms for row in rows.shards if row.shard in lost}
    assert since <= {row.taken_ms for row in rows.shards}  # what nobody has of it is a gap


def test_parts_follow_weights_and_drained_nodes_have_none() -> None:
    nodes = [Node("a", "a", "", 1), Node("b", "b", "", 3), Node("c", "c", "", 2, drained=True)]
    there = {n.spool: replace(n, until_ms=T0 + LEASE_MS) for n in nodes}
    view = View("a", T0, there, [Shard(n) for n in range(512)])
    assert [view.part(s) for s in "abcx"] == [128, 384, 0, 0]
    assert View("a", T0, {}, view.shards).part("a") == 0


@pytest.mark.parametrize(("by_ms", "settled"), [(1_900, True), (2_100, False), (-2_100, False)])
def test_contact_is_broken_by_a_clock_that_is_set(by_ms: int, settled: bool) -> None:
    contact = Contact()
    for n in range(SETTLE_MS // 1000 + 1):
        contact.renewed(T0 + n * 1000, n * 1000)
    assert contact.is_settled
    contact.renewed(T0 + SETTLE_MS + 1000 + by_ms, SETTLE_MS + 1000)
    assert contact.is_settled is settled
    contact.failed()
    assert not contact.is_settled


@pytest.mark.parametrize(("silent_ms", "server"), [(SILENT_MS + 1, 1), (1_000, 2)])
def test_contact_is_broken_by_a_pause_and_by_another_server(silent_ms: int, server: int) -> None:
    contact = Contact()
    for n in range(SETTLE_MS // 1000 + 1):
        contact.renewed(T0 + n * 1000, n * 1000, 1)
    assert contact.is_settled
    passed_ms = SETTLE_MS + silent_ms
    contact.renewed(T0 + passed_ms, passed_ms, server)
    assert not contact.is_settled
