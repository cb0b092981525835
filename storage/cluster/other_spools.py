"""The spools of other machines as one more place from which recordings are read, after archives.

`storage.recording_source` reads from it as from an archive: its name stands among them in rows, and
its buckets are the ids of spools.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from base.clock import now_ms
from storage.archive.port import ArchiveError, ObjectNotFound
from storage.catalogue.cameras import Name
from storage.cluster.machines import Machines
from storage.cluster.peers import Peers, Unreachable
from storage.records import LONGEST_MS, FormatError, parse_index
from storage.spool.reader import Key

PIECE = 4 << 20  # bytes that a machine is asked for at once


class OtherSpools:
    """What other machines have in their spools, by the keys of archives."""

    name = "other machines"

    def __init__(self, machines: Machines, peers: Peers):
        self._machines, self._peers = machines, peers

    def has(self, spool: str | None) -> bool:
        """Tell whether another machine has a spool."""
        return self._machines.machine(spool) is not None

    def is_away(self, spool: str | None) -> bool:
        """Tell whether another machine has a spool, and is not there now."""
        machine = self._machines.machine(spool)
        return machine is not None and not machine.alive

    async def get(
        self, key: str, offset: int = 0, length: int | None = None, *, bucket: str = ""
    ) -> bytes:
        """Return a range of a recording, or what would stand beside it in an archive; raises
        ObjectNotFound without a spool, ArchiveError where its machine does not give it."""
        machine = self._machines.machine(bucket)
        if machine is None:
            raise ObjectNotFound(key)
        path = "/spool/" + key.partition("/")[2]
        try:
            if path.endswith(".json"):
                data = await self._peers.body(machine, path.removesuffix("json") + "jsonl")
                return await asyncio.to_thread(lambda: parse_index(data).archive_document())
            pieces = list[bytes]()
            while length is None or length > 0:
                asked = PIECE if length is None else min(PIECE, length)
                query = f"?offset={offset}&length={asked}"
                pieces.append(await self._peers.body(machine, path + query))
                if len(pieces[-1]) < asked:
                    break
                offset, length = offset + asked, None if length is None else length - asked
            return b"".join(pieces)
        except (Unreachable, FormatError) as error:
            raise ArchiveError(str(error)) from None

    async def settled_ms(
        self, name: Name, known: Collection[Key], from_ms: int, to_ms: int
    ) -> int | None:
        """Return from when on a stretch is being recorded elsewhere, beside what is known, or may
        be, as a machine that lives does not say; None where it is not."""
        camera = "/".join(name[1:])
        path = f"/spool/{camera}/stretch?from={from_ms}&to={to_ms}"
        fresh = list[int]()
        for machine in self._machines.others(camera):
            try:
                rows = (await self._peers.json(machine, path))["recordings"]
                keys = [(int(row["record_seq"]), int(row["start_ms"])) for row in rows]
            except (Unreachable, KeyError, TypeError):
                recent_ms = now_ms() - LONGEST_MS
                if machine.alive and to_ms > recent_ms:
                    fresh.append(max([recent_ms, *(start_ms for _, start_ms in known)]))
                continue
            fresh += [key[1] for key in keys if key not in known]
        return min(fresh, default=None)
