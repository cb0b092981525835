"""What a machine of several does, with a real PostgreSQL whose clock the test sets."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random

import orjson
import pytest
import sqlalchemy as sa

from config.load import load
from config.model import Config, Node
from kuager import VERSION
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.leases import HANDOVER_MS, LEASE_MS, SETTLE_MS
from storage.catalogue.nodes import Nodes
from storage.catalogue.schema import nodes, shards
from storage.cluster.agent import MOST_LOST, REFUSED_MS, NodeAgent, Pauses
from storage.records import Gap, GapCause
from storage.spool.lease_file import SHARDS, Lease, read_leases, shard_of
from storage.spool.node_map import read_node_map
from tests.support.config_files import KUAGER, write
from tests.support.set_clock import SetClock, set_clock

pytest_plugins = ["tests.support.postgres"]
pytestmark = pytest.mark.slow
T0 = 1_795_935_600_000  # in the window of the configuration
QUICK = Pauses(answer_s=60.0, moving_s=0.0, leave_s=60.0)
STATIONS = "stations:\n" + "".join(
    f"  - {{id: s{n}, cameras: [{{id: c, url: 'rtsp://10.0.0.1/{n}'}}]}}\n" for n in range(60)
)
NAMES = [f"s{n}/c" for n in range(60)]


class Machine:
    """A node and what its recorders would say, in a folder of its own."""

    def __init__(self, folder: Path, name: str, catalogue: Catalogue, clock: SetClock):
        folder.mkdir(exist_ok=True)
        config = load(write(folder, kuager_yaml=KUAGER, stations_yaml=STATIONS), {})
        node = Node(name=name, host=f"127.0.0.{ord(folder.name[0])}", port=9000)
        self.config: Config = config.model_copy(update={"node": node})
        self.catalogue, self.clock = catalogue, clock
        self.records = True
        self.cause: str | None = None
        self.start()

    def start(self) -> None:
        """Have a process, as if for the first time."""
        self.agent = NodeAgent(
            self.config,
            VERSION,
            pauses=QUICK,
            clock=lambda: self.clock.now_ms,
            elapsed=lambda: float(self.clock.now_ms),
            random=Random(self.config.node.name if self.config.node else ""),
        )

    @property
    def leases(self) -> dict[int, Lease]:
        """What recorders are told."""
        found = read_leases(self.config.spool)
        return found.by_shard if found else {}

    @property
    def cameras(self) -> set[str]:
        """What is recorded."""
        leases = self.leases
        return {name for name in NAMES if shard_of(name) in leases}

    def tell(self) -> None:
        """Have a recorder's status."""
        now_ms = self.clock.now_ms
        state = "recording" if self.records else "backoff"
        cameras = {name: {"state": state, "recorded_ms": now_ms} for name in self.cameras}
        spool = {"cause": self.cause, "bytes_per_s": 0}
        said = {"pid": 1, "written_ms": now_ms, "cameras": cameras, "spool": spool}
        path = self.config.spool / "_status" / "recorder-0.json"
        path.write_bytes(orjson.dumps(said))


@pytest.fixture
async def clock(postgres_url: str) -> AsyncIterator[SetClock]:
    opened = await Catalogue.open(postgres_url)
    await opened.close()
    async with set_clock(postgres_url, T0) as made:
        yield made


Make = Callable[[str], Machine]


@pytest.fixture
async def make(postgres_url: str, clock: SetClock, tmp_path: Path) -> AsyncIterator[Make]:
    catalogue = await Catalogue.open(postgres_url)
    catalogue.nodes = Nodes(catalogue.pool, hang_ms=600_000)  # this machine may be busy
    yield lambda name: Machine(tmp_path / name, name, catalogue, clock)
    await catalogue.close()


async def go_on(clock: SetClock, machines: list[Machine], rounds: int, ms: int = 1_500) -> None:
    for _ in range(rounds):
        await clock.passes(ms)
        for machine in machines:
            await machine.agent.round()
            machine.tell()


async def three(make: Make, clock: SetClock) -> list[Machine]:
    machines = [make(name) for name in "abc"]
    for machine in machines:
        await machine.agent.begin(machine.catalogue)
    await go_on(clock, machines, 24)
    assert sorted(n for m in machines for n in m.cameras) == sorted(NAMES)
    assert all(len(m.leases) in (170, 171) for m in machines)
    return machines


async def test_a_dead_machine_is_replaced_and_gets_its_part_again(
    make: Make, clock: SetClock
) -> None:
    a, b, c = await three(make, clock)
    lost, lost_ms = a.cameras, clock.now_ms
    epochs = {s: lease.epoch for s, lease in a.leases.items()}
    known = sorted(lost)[0]
    name = (a.config.election.id, *known.split("/"))
    ended = Gap(1, lost_ms - 90_000, lost_ms - 40_000, GapCause.NO_DATA)
    await a.catalogue.writer.put_gaps((name[0], name[1], name[2]), [ended])
    await go_on(clock, [b, c], LEASE_MS // 1_500 + 1)
    assert lost <= b.cameras | c.cameras and clock.now_ms - lost_ms < LEASE_MS + 1_600
    taken = {s: lease for m in (b, c) for s, lease in m.leases.items() if s in epochs}
    assert all(lease.epoch > epochs[s] and lease.alone for s, lease in taken.items())
    assert {lease.lost_ms for lease in taken.values()} == {lost_ms}
    assert taken[shard_of(known)].accounted == {known: lost_ms - 40_000}
    there = read_node_map(b.config.spool)
    assert there is not None
    assert {n.name: n.alive for n in there.nodes} == {"a": False, "b": True, "c": True}
    # it comes back: what it recorded is others' now, and it gets its part without a hole
    a.start()
    await a.agent.begin(a.catalogue)
    await a.agent.round()
    assert not a.cameras
    while len(a.leases) < 170:
        await go_on(clock, [a, b, c], 1)
        assert a.cameras | b.cameras | c.cameras == set(NAMES)
    assert {lease.lost_ms for lease in a.leases.values()} == {None}


async def test_without_its_database_a_machine_goes_on_by_what_it_has(
    make: Make, clock: SetClock
) -> None:
    a, b, c = await three(make, clock)
    before = {m.agent: m.leases for m in (a, b, c)}
    away = a.agent
    for machine in (a, b, c):  # each has lost its connection
        machine.agent._catalogue = None  # and cannot open another
    await go_on(clock, [a, b, c], 40)
    there = read_node_map(a.config.spool)
    assert there is not None and there.database and len(there.shards) == SHARDS
    a.start()  # its machine was started again meanwhile
    await a.agent.begin(None)
    said = read_leases(a.config.spool)
    await a.agent.round()  # others may have them by now: an answer is waited for
    assert read_leases(a.config.spool) == said
    await clock.passes(int(QUICK.first_s * 1000))
    await a.agent.round()
    found = read_leases(a.config.spool)
    assert found is not None and found.written_ms == clock.now_ms
    assert a.leases == before[away]
    for machine in (c, b, a):
        machine.agent._catalogue = machine.catalogue
        await go_on(clock, [machine], 1)
    await go_on(clock, [a, b, c], 20)
    assert a.leases == before[away] and c.leases == before[c.agent]


@pytest.mark.parametrize("emptied", ["rows", "tables", "an old copy"])
async def test_a_database_that_was_emptied_ends_no_recording(
    make: Make, clock: SetClock, emptied: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c = await three(make, clock)
    if emptied == "tables":  # as where each was handed over while both recorded
        await a.catalogue.pool.execute(sa.update(shards).values(lost_ms=None))
        await go_on(clock, [a, b, c], 1)
    before = [m.leases for m in (a, b, c)]
    async with a.catalogue.pool.work() as connection:
        await connection.execute(sa.delete(nodes))
        if emptied == "rows":
            await connection.execute(sa.delete(shards))
        else:
            old = sa.update(shards).values(epoch=0, before=None, lost_ms=None, taken_ms=1)
            holder = a.agent._me.spool if emptied == "an old copy" else None
            await connection.execute(old.values(holder=holder))
    for _ in range(SETTLE_MS // 1_500 + 4):
        await go_on(clock, [c, a, b], 1)
        assert c.leases == before[2] and b.leases == before[1], "not for a moment"
        assert a.leases.keys() >= before[0].keys()
    assert [m.leases for m in (a, b, c)] == before
    view = await a.catalogue.nodes.view()
    assert len(view.nodes) == 3 and {s.shard for s in view.shards} == set(range(SHARDS))
    out = capsys.readouterr().out
    assert "no longer knows what this machine records" in out
    assert "knows again what this machine records" in out


@pytest.mark.parametrize("lost", [0, MOST_LOST - 1])
async def test_a_machine_that_is_stopped_hands_over_while_it_records(
    make: Make, clock: SetClock, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """Also where PostgreSQL does not answer at first."""
    a, b, c = await three(make, clock)
    rounds = 0
    real = a.agent.round

    async def round_() -> object:
        nonlocal rounds
        rounds += 1
        a.agent._catalogue = None if rounds <= lost else a.catalogue
        view = await real()
        a.tell()
        await go_on(clock, [b, c], 1, 500)
        assert a.cameras | b.cameras | c.cameras == set(NAMES)
        return view

    monkeypatch.setattr(a.agent, "round", round_)
    await a.agent.leave()
    assert not a.leases and rounds <= 5 + lost
    view = await a.catalogue.nodes.view()
    assert {row.holder for row in view.shards} == {m.agent._me.spool for m in (b, c)}
    assert {row.lost_ms for row in view.shards if row.before == a.agent._me.spool} == {None}


async def test_a_camera_that_takes_one_at_a_time_is_waited_for_no_longer_than_that(
    make: Make, clock: SetClock
) -> None:
    a, b, c = await three(make, clock)
    await a.catalogue.nodes.drain(a.agent._me.spool, True)
    b.records = c.records = False
    begun_ms, both = clock.now_ms, set()
    while a.cameras:
        await go_on(clock, [a, b, c], 1)
        both |= a.cameras & (b.cameras | c.cameras)
        assert clock.now_ms - begun_ms < 60 * HANDOVER_MS
    assert both
    b.records = c.records = True
    await go_on(clock, [a, b, c], 3)
    assert all(lease.alone for m in (b, c) for lease in m.leases.values())
    await a.catalogue.nodes.drain(a.agent._me.spool, False)
    while len(a.leases) < 170:
        await go_on(clock, [a, b, c], 1)


async def test_a_machine_whose_disk_takes_nothing_gives_its_cameras_away(
    make: Make, clock: SetClock
) -> None:
    a, b, c = await three(make, clock)
    a.records, a.cause = False, "disk_failed"
    await go_on(clock, [a, b, c], REFUSED_MS // 1_500 - 1)
    assert len(a.leases) == 170 or len(a.leases) == 171
    while a.cameras:
        await go_on(clock, [a, b, c], 1)
    a.cause = None
    while len(a.leases) < 170:
        await go_on(clock, [a, b, c], 1)


async def test_a_copy_of_a_spool_records_nothing_beside_the_machine_that_it_is_of(
    make: Make, clock: SetClock, capsys: pytest.CaptureFixture[str]
) -> None:
    a, copy = make("a"), make("copy")
    await a.agent.begin(a.catalogue)
    await go_on(clock, [a], SETTLE_MS // 1_500 + 2)
    shutil.copytree(a.config.spool, copy.config.spool)
    assert copy.cameras == set(NAMES)
    await copy.agent.begin(copy.catalogue)
    await go_on(clock, [a, copy], 2)
    assert a.cameras == set(NAMES) and not copy.cameras
    assert "one is a copy of the other" in capsys.readouterr().out
    await go_on(clock, [copy], LEASE_MS // 1_500 + 1)  # the other was stopped, or is cut off
    assert copy.cameras == set(NAMES)
    assert all(copy.leases[s].epoch > lease.epoch for s, lease in a.leases.items())


async def test_two_machines_of_one_name_are_told_of(
    make: Make, clock: SetClock, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    a = make("a")
    twin = Machine(tmp_path / "other", "a", a.catalogue, clock)
    for machine in (a, twin):
        await machine.agent.begin(machine.catalogue)
    await go_on(clock, [a, twin], SETTLE_MS // 1_500 + 2)
    assert "Another machine calls itself by this node's name" in capsys.readouterr().out
    assert sorted(a.cameras | twin.cameras) == sorted(NAMES)
