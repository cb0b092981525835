"""Rows of nodes and shards in memory, changed as the catalogue's statements change them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from storage.catalogue.leases import LEASE_MS, Decision, Handover, Node, Shard, View
from storage.catalogue.nodes import SpoolTaken
from storage.spool.numbers import CLOCK_2020_S


@dataclass
class LeaseRows:
    """What `storage.catalogue.nodes` has in PostgreSQL; `now_ms` is its clock."""

    now_ms: int
    shards: list[Shard]
    nodes: dict[str, Node] = field(default_factory=dict)

    @classmethod
    def new(cls, now_ms: int, count: int) -> LeaseRows:
        """Return the rows of a new installation."""
        return cls(now_ms, [Shard(n) for n in range(count)])

    def renew(self, me: Node) -> View:
        """Renew a lease and read all rows; raises SpoolTaken."""
        before = self.nodes.get(me.spool)
        if before is not None and before.address != me.address:
            if before.is_alive(self.now_ms):
                raise SpoolTaken(before.address)
            self._begin_anew(me.spool)
        drained = self.nodes[me.spool].drained if me.spool in self.nodes else False
        until_ms = self.now_ms + LEASE_MS
        self.nodes[me.spool] = replace(me, until_ms=until_ms, drained=drained, given_up_ms=None)
        return self.view(me.spool)

    def view(self, me: str) -> View:
        """Read all rows."""
        return View(me, self.now_ms, dict(self.nodes), list(self.shards))

    def change(self, seen: View, decision: Decision) -> None:
        """Change what is still as it was seen."""
        for n in decision.offer:
            if self._same(seen, n) and self.shards[n].handover is None:
                self._set(n, offered=True)
        for n in decision.withdraw:
            if self._same(seen, n):
                self._set(n, offered=False)
        for n in decision.ending:
            if self._same(seen, n) and self.shards[n].handover is Handover.BOTH:
                self._set(n, handover=Handover.ENDING)
        for n in decision.done:
            if self._same(seen, n, before=True):
                self._set(n, handover=None)
        for lease in decision.restore:
            if self.shards[lease.shard].epoch == seen.shards[lease.shard].epoch:
                self.shards[lease.shard] = Shard(
                    lease.shard,
                    lease.epoch,
                    holder=seen.me,
                    taken_ms=lease.since_ms,
                    lost_ms=lease.lost_ms,
                )
        taken = 0
        for n in decision.take:
            if taken < decision.most and self._take(n, seen):
                taken += 1

    def leave(self, spool: str) -> None:
        """End a node's lease."""
        self.nodes[spool] = replace(self.nodes[spool], until_ms=0, leaving=True)

    def _same(self, seen: View, n: int, before: bool = False) -> bool:
        row = self.shards[n]
        is_own = row.holder == seen.me or (before and row.before == seen.me)
        return is_own and row.epoch == seen.shards[n].epoch

    def _take(self, n: int, seen: View) -> bool:
        row, now_ms = self.shards[n], self.now_ms
        holder = self.nodes.get(row.holder or "")
        alive = holder is not None and holder.is_alive(now_ms)
        if row.holder == seen.me or row.epoch != seen.shards[n].epoch:
            return False
        if alive and not row.offered:
            return False
        lost_ms: int | None = 0
        if holder is not None:
            lost_ms = holder.until_ms - LEASE_MS if holder.until_ms else 0
            if alive:
                lost_ms = None if holder.weight else now_ms
        self.shards[n] = Shard(
            n,
            self._epoch(row),
            holder=seen.me,
            before=row.holder,
            handover=Handover.BOTH if alive else None,
            taken_ms=now_ms,
            lost_ms=lost_ms,
        )
        return True

    def _begin_anew(self, me: str) -> None:
        for n, row in enumerate(self.shards):
            if row.before == me and row.handover:
                self._set(n, handover=None)
            if row.holder == me:
                before = row.before if row.handover else me
                anew = {"before": before, "lost_ms": 0, "taken_ms": self.now_ms}
                self._set(n, epoch=self._epoch(row), **anew)

    def _epoch(self, row: Shard) -> int:
        return max(row.epoch + 1, self.now_ms // 1000 - CLOCK_2020_S)

    def _set(self, n: int, **values: object) -> None:
        self.shards[n] = replace(self.shards[n], **values)  # type: ignore[arg-type]
