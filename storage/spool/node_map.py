"""Which machines there are and who records what: `_status/node.json` (docs/formats.md).

The role `node` writes it with each round, and web processes read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from base.durable import replace_file
from storage.records import Flag, FormatError, Number, Record
from storage.spool.lease_file import shard_of
from storage.spool.status_records import NODE


@dataclass(frozen=True, slots=True)
class MachineEntry(Record):
    """A machine: the id of its spool, its name, where it is reached, and how it is."""

    spool: str
    name: str
    address: str
    alive: Flag
    leaving: Flag = False
    drained: Flag = False
    given_up: Flag = False


@dataclass(frozen=True, slots=True)
class ShardEntry(Record):
    """Who records a shard, by the id of the spool, and who did before; `both`: still does."""

    epoch: Number
    holder: str | None
    before: str | None
    both: Flag = False


@dataclass(frozen=True, slots=True)
class NodeMap(Record):
    """The whole file. `database` is why PostgreSQL did not answer, None where it did."""

    pid: Number
    written_ms: Number
    spool: str
    name: str
    database: str | None
    nodes: tuple[MachineEntry, ...] = ()
    shards: tuple[ShardEntry, ...] = ()
    kuager: str = "node/1"

    def machine(self, spool: str | None) -> MachineEntry | None:
        """Return a machine by the id of its spool."""
        return next((node for node in self.nodes if node.spool == spool), None)

    def shard(self, camera: str) -> ShardEntry | None:
        """Return the shard of "station/camera"; None where nothing is known of shards."""
        return self.shards[shard_of(camera)] if self.shards else None


def read_node_map(spool: Path) -> NodeMap | None:
    """Return what the file says; None where there is none, or nothing to be believed."""
    try:
        return NodeMap.parse((spool / "_status" / NODE).read_bytes())
    except (OSError, FormatError):
        return None


def write_node_map(spool: Path, found: NodeMap) -> None:
    """Replace the file; raises OSError."""
    replace_file(spool / "_status" / NODE, found.to_json())
