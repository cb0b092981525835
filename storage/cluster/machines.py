"""Which machine records a camera, as this one's role `node` last said in the spool."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage.spool.node_map import MachineEntry, NodeMap, ShardEntry, read_node_map
from storage.spool.status_records import NODE

LOOK_S = 0.5


class Machines:
    """The machines of an installation. What it says may be some seconds old, or hours, where the
    database was away since: who asks a machine has to reckon with it not being there."""

    def __init__(self, spool: Path, clock: Callable[[], float] = time.monotonic):
        self._spool, self._clock = spool, clock
        self._looked_s, self._seen = float("-inf"), None
        self._map: NodeMap | None = None

    _seen: Any

    @property
    def map(self) -> NodeMap | None:
        """What is known of all; None where nothing is."""
        if self._clock() - self._looked_s >= LOOK_S:
            self._looked_s = self._clock()
            try:
                stat = (self._spool / "_status" / NODE).stat()
            except OSError:
                return self._map
            if (seen := (stat.st_ino, stat.st_mtime_ns)) != self._seen:
                self._seen = seen
                self._map = read_node_map(self._spool) or self._map
        return self._map

    def forget(self) -> None:
        """Look anew when something is asked next."""
        self._looked_s = float("-inf")

    def shard(self, camera: str) -> ShardEntry | None:
        """Return who records "station/camera"; None where nothing is known."""
        return self.map.shard(camera) if self.map else None

    def is_elsewhere(self, camera: str) -> bool:
        """Tell whether another machine is to record a camera now."""
        shard = self.shard(camera)
        return shard is not None and self.map is not None and shard.holder != self.map.spool

    def others(self, camera: str) -> list[MachineEntry]:
        """Return the machines that may have the newest recordings of a camera, best first: who
        records it, and who did before. This one is not among them."""
        shard, found = self.shard(camera), self.map
        if shard is None or found is None:
            return []
        spools = dict.fromkeys((shard.holder, shard.before))
        there = (found.machine(spool) for spool in spools if spool != found.spool)
        return [machine for machine in there if machine is not None]

    def machine(self, spool: str | None) -> MachineEntry | None:
        """Return another machine by the id of its spool; None for this one, and one unknown."""
        if self.map is None or spool in (None, self.map.spool):
            return None
        return self.map.machine(spool)

    def away(self) -> dict[str, MachineEntry]:
        """Return the machines that are away, by the ids of their spools."""
        nodes = self.map.nodes if self.map else ()
        return {node.spool: node for node in nodes if not node.alive}
