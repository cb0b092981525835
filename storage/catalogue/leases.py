"""Who records which shard of the cameras: rows in, decisions out (decision 20).

Nothing here asks a database or a clock. All times are UTC milliseconds by the clock of PostgreSQL,
but for what `Contact` compares it with. The statements that read and write the rows are in
`nodes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random

from storage.spool.lease_file import Lease

LEASE_MS = 8_000
SETTLE_MS = 12_000  # of contact, in which every node that lives has renewed
STEP_MS = 2_000  # by which the database's clock may differ from ours between two answers
SILENT_MS = LEASE_MS // 2  # between two answers: who was held up may not be the only one
HANDOVER_MS = 8_000  # for which two may record before the old one ends
MOST_MOVED = 20  # cameras that a node hands over at a time


class Handover(StrEnum):
    """How far a shard is on its way from one node to another, which are both alive."""

    BOTH = "both"  # the new holder begins, the one before goes on
    ENDING = "ending"  # the one before is to end


@dataclass(frozen=True, slots=True)
class Node:
    """A machine that joined: a row of `nodes`. `spool` is the id of its spool, and tells it apart.

    It is given shards by `weight`, and `most` cameras at the most, where that is not None.
    """

    spool: str
    name: str
    address: str
    weight: int = 1
    most: int | None = None
    version: str = ""
    until_ms: int = 0  # the end of its lease; 0 where it left in good order
    leaving: bool = False
    drained: bool = False  # by an operator
    given_up_ms: int | None = None  # an operator does not wait for it any more

    def is_alive(self, now_ms: int) -> bool:
        """Tell whether its lease lasts. One that lasts too long is of a clock that was set."""
        return now_ms < self.until_ms <= now_ms + LEASE_MS

    @property
    def takes(self) -> bool:
        """Whether it may have shards at all."""
        return self.weight > 0 and not self.leaving and not self.drained


@dataclass(frozen=True, slots=True)
class Shard:
    """A row of `shards`: `holder` records it under `epoch` since `taken_ms`.

    `before` is who held it before. `lost_ms` is when that one was last alive, where it was dead,
    and 0 where there was none, or where it had stopped in good order before anybody took it.
    """

    shard: int
    epoch: int = 0
    holder: str | None = None
    before: str | None = None
    handover: Handover | None = None
    offered: bool = False  # its holder wants to be rid of it
    taken_ms: int | None = None
    lost_ms: int | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All rows at one moment, as the node `me` (the id of its spool) sees them.

    `server` tells one server of the database, and one start of it, from another.
    """

    me: str
    now_ms: int
    nodes: Mapping[str, Node]
    shards: Sequence[Shard]
    server: int = field(default=0, compare=False)

    def is_alive(self, spool: str | None) -> bool:
        """Tell whether a node lives."""
        node = self.nodes.get(spool or "")
        return node is not None and node.is_alive(self.now_ms)

    @property
    def held(self) -> list[Shard]:
        """What this node holds."""
        return [s for s in self.shards if s.holder == self.me]

    @property
    def takers(self) -> list[Node]:
        """The other nodes that live and may have shards."""
        nodes = self.nodes.values()
        return [n for n in nodes if n.spool != self.me and n.takes and n.is_alive(self.now_ms)]

    def part(self, spool: str) -> int:
        """Return how many shards a node is to have at the most, by its weight."""
        weights = {
            n.spool: n.weight for n in self.nodes.values() if n.is_alive(self.now_ms) and n.takes
        }
        if not (weight := weights.get(spool, 0)):
            return 0
        return -(-len(self.shards) * weight // sum(weights.values()))


@dataclass(frozen=True, slots=True)
class Own:
    """What a node knows of itself. `cameras` is how many a shard has, in the order of shards.

    `recorded` are shards of which all cameras have been recorded since they were taken, `stopped`
    those that nobody records here. `settled` and `waited`: what `Contact` says. `forgotten` are
    leases that the rows do not know.
    """

    cameras: Sequence[int]
    recorded: frozenset[int] = frozenset()
    stopped: frozenset[int] = frozenset()
    settled: bool = False
    forgotten: tuple[Lease, ...] = ()
    waited: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What a node wants to change. Each change is made only where its row is still as it was seen.

    `take` are shards in the order in which they are wanted, `most` of them; `restore` are leases
    that the rows do not know.
    """

    take: tuple[int, ...] = ()
    most: int = 0
    offer: frozenset[int] = frozenset()
    withdraw: frozenset[int] = frozenset()  # what was offered
    ending: frozenset[int] = frozenset()  # whose holder before is to end
    done: frozenset[int] = frozenset()  # whose handover is over
    restore: tuple[Lease, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is to be changed."""
        return self != Decision()


@dataclass(slots=True)
class Contact:
    """How long a node has been in contact with the database, without a break.

    Whoever was not may have missed that others renewed, or come first after an outage in which
    nobody could. So it is after a pause of this process, as all machines of a host may have had it;
    where the clock of the database was set, as leases then only seem over; where another server
    answers, which may not know what was taken last; and where rows are gone, as those who had them
    first have to enter them again.
    """

    _since_ms: int = 0
    # the database's clock, ours, which nobody sets, and which server it was
    _last: tuple[int, float, int] | None = None

    def renewed(
        self, now_ms: int, elapsed_ms: float, server: int = 0, *, is_whole: bool = True
    ) -> None:
        """Take note of an answer of a server, which says `now_ms`; `is_whole`: no rows are gone."""
        if not (is_whole and self._goes_on(now_ms, elapsed_ms, server)):
            self._since_ms = now_ms
        self._last = now_ms, elapsed_ms, server

    def _goes_on(self, now_ms: int, elapsed_ms: float, server: int) -> bool:
        if self._last is None:
            return False
        theirs_ms, ours_ms = now_ms - self._last[0], elapsed_ms - self._last[1]
        is_set = abs(theirs_ms - ours_ms) > STEP_MS
        return server == self._last[2] and ours_ms <= SILENT_MS and not is_set

    def failed(self) -> None:
        """Take note that there was no answer."""
        self._last = None

    @property
    def is_settled(self) -> bool:
        """Whether a lease that is over may be believed to be over."""
        return self._lasts(SETTLE_MS)

    @property
    def has_waited(self) -> bool:
        """Whether others that are settled have had the time to take what is free."""
        return self._lasts(2 * SETTLE_MS)

    def _lasts(self, ms: int) -> bool:
        return self._last is not None and self._last[0] - self._since_ms >= ms


def forgotten(view: View, known: Iterable[Lease], is_told: bool = True) -> dict[int, Lease]:
    """Return the leases of which the rows know nothing, as epochs only rise: the database was
    emptied, or came back from a copy.

    `is_told`: the database gave them to this very process. Else they may be of long ago or of
    another installation, and another node that lives and has the shard is believed.
    """
    found = {}
    for lease in known:
        row = view.shards[lease.shard]
        is_others = row.holder != view.me and view.is_alive(row.holder)
        if row.epoch < lease.epoch and (is_told or not is_others):
            found[lease.shard] = lease
    return found


def leases(view: View, known: Iterable[Lease], is_told: bool = True) -> dict[int, Lease]:
    """Return what a node is to record now; `known` is what it recorded until now, and `is_told`
    what `forgotten` says.

    What it hands over it goes on with, under its own epoch, until it is told to end; and what the
    rows have forgotten until they know better.
    """
    before = {lease.shard: lease for lease in known}
    found = forgotten(view, before.values(), is_told)
    for s in view.shards:
        if s.shard in found:
            continue
        if s.holder == view.me:
            alone = s.handover is None
            found[s.shard] = Lease(s.shard, s.epoch, s.taken_ms or view.now_ms, alone, s.lost_ms)
        elif s.before == view.me and s.handover is Handover.BOTH and s.shard in before:
            found[s.shard] = replace(before[s.shard], given=True)
    return found


def decide(view: View, own: Own, random: Random) -> Decision:
    """Return what a node wants to change of these rows."""
    me = view.nodes[view.me]
    most, take = _take(view, own, me, random)
    offer = _offer(view, own, me)
    offered = {s.shard for s in view.held if s.offered}
    keeps = not offer and me.takes and len(view.held) <= view.part(view.me)
    ending, done = _hand_over(view, own)
    return Decision(
        take,
        most,
        frozenset(offer),
        frozenset(offered if keeps else ()),
        frozenset(ending),
        frozenset(done),
        tuple(lease for lease in own.forgotten if not lease.given),
    )


def _take(view: View, own: Own, me: Node, random: Random) -> tuple[int, tuple[int, ...]]:
    """Return how many shards are to be taken, and which are there, best first.

    Beyond its part a node takes what is free and what nobody else has room for, or nobody took
    though there was time: who has room may hear too little of the database to be settled, or know
    other cameras.
    """
    if not (own.settled and me.takes):
        return 0, ()
    others = [s for s in view.shards if s.holder != view.me]
    free = [s.shard for s in others if not view.is_alive(s.holder)]
    offered = [s.shard for s in others if s.offered and view.is_alive(s.holder)]
    random.shuffle(free)
    random.shuffle(offered)
    held = view.held
    room, wanted = view.part(view.me) - len(held), [*free, *offered]
    if room <= 0:
        late = [shard for shard in free if own.waited and _is_late(view, shard)]
        room, wanted = len(free), late if _has_room(view, own, free) else free
    if me.most is not None:
        cameras = sum(own.cameras[s.shard] for s in held)
        fit: list[int] = []
        for shard in wanted:
            if cameras + own.cameras[shard] <= me.most:
                cameras += own.cameras[shard]
                fit.append(shard)
            if len(fit) == room:
                break
        wanted = fit
    return min(room, len(wanted)), tuple(wanted)


def _is_late(view: View, shard: int) -> bool:
    """Tell whether who held a shard has been dead for so long that others would have taken it."""
    node = view.nodes.get(view.shards[shard].holder or "")
    return node is not None and 0 < node.until_ms < view.now_ms - SETTLE_MS


def _has_room(view: View, own: Own, wanted: Iterable[int]) -> bool:
    """Tell whether another node may take any of these shards within its part."""
    least = min((own.cameras[shard] for shard in wanted), default=0)
    for node in view.takers:
        held = [s.shard for s in view.shards if s.holder == node.spool]
        cameras = sum(own.cameras[shard] for shard in held)
        fits = node.most is None or cameras + least <= node.most
        if fits and len(held) < view.part(node.spool):
            return True
    return False


def _offer(view: View, own: Own, me: Node) -> list[int]:
    """Return what is to be offered beside what is: a few, or all at once where the node ends, or
    records nothing as its disk takes nothing."""
    still = [s.shard for s in view.held if not s.offered and s.handover is None]
    if me.leaving or not me.weight:
        return still if view.takers else []
    excess = len(view.held) - view.part(view.me) - sum(s.offered for s in view.held)
    if excess <= 0 or not _has_room(view, own, still):
        return []
    moving = [s.shard for s in view.shards if _moves(s, view.me)]
    count = sum(own.cameras[shard] for shard in moving)
    found: list[int] = []
    # those with few cameras first: so a node with many small shards finds a part soon
    for shard in sorted(still, key=lambda shard: own.cameras[shard])[:excess]:
        if (moving or found) and count + own.cameras[shard] > MOST_MOVED:
            break
        count += own.cameras[shard]
        found.append(shard)
    return found


def _moves(s: Shard, me: str) -> bool:
    """Tell whether a shard is on its way from a node."""
    return (s.holder == me and s.offered) or (s.before == me and s.handover is not None)


def _hand_over(view: View, own: Own) -> tuple[list[int], list[int]]:
    """Return the shards of which the holder before is to end, and those whose handover is over."""
    ending, done = [], []
    for s in view.shards:
        if s.handover is None:
            continue
        if s.holder == view.me:
            if not view.is_alive(s.before) or s.shard in own.recorded:
                done.append(s.shard)
            elif s.handover is Handover.BOTH and view.now_ms - (s.taken_ms or 0) > HANDOVER_MS:
                ending.append(s.shard)
        elif s.before == view.me and s.handover is Handover.ENDING and s.shard in own.stopped:
            done.append(s.shard)
    return ending, done
