"""What other machines say of their cameras, brought into this one's spool.

So web processes know of every camera as they know of those of this machine: from `_status/`.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from base.clock import Clock, now_ms
from base.durable import replace_file
from storage.cluster.machines import Machines
from storage.cluster.peers import Peers, Unreachable
from storage.records import FormatError
from storage.spool.node_map import MachineEntry
from storage.spool.status import STATUS_OLD_MS
from storage.spool.status_records import PEER, PeerStates

ASK_S = 2.0
ANSWER_S = 4.0  # for all of an answer: what others say must not be old by then
AGAIN_MS = STATUS_OLD_MS // 2  # what did not change is written again after so long


class PeerStatus:
    """Asks all machines that are there how their cameras are."""

    def __init__(
        self,
        spool: Path,
        machines: Machines,
        peers: Peers,
        ask_s: float = ASK_S,
        clock: Clock = now_ms,
        answer_s: float = ANSWER_S,
    ):
        self._folder, self._machines, self._peers = spool / "_status", machines, peers
        self._ask_s, self._clock, self._answer_s = ask_s, clock, answer_s
        self._written: dict[str, tuple[int, Any]] = {}

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self.ask_all()
            await asyncio.sleep(self._ask_s)

    async def ask_all(self) -> None:
        """Ask each machine once; one that does not answer holds up no other."""
        found = self._machines.map
        there = [n for n in found.nodes if n.alive and n.spool != found.spool] if found else []
        await asyncio.gather(*(self._ask(machine) for machine in there))
        for spool in self._written.keys() - {machine.spool for machine in there}:
            del self._written[spool]
            with contextlib.suppress(OSError):
                self._path(spool).unlink(missing_ok=True)

    def _path(self, spool: str) -> Path:
        return self._folder / f"{PEER}{spool}.json"

    async def _ask(self, machine: MachineEntry) -> None:
        try:
            async with asyncio.timeout(self._answer_s):
                cameras = (await self._peers.json(machine, "/status.json"))["cameras"]
        except (Unreachable, TimeoutError, TypeError, KeyError):
            return  # what it said last is old soon
        at_ms, before = self._written.get(machine.spool, (0, None))
        if cameras == before and self._clock() - at_ms < AGAIN_MS:
            return
        try:
            said = PeerStates.of(
                {"written_ms": self._clock(), "name": machine.name, "cameras": cameras}
            ).to_json()
        except (FormatError, TypeError):  # also a number that no JSON takes
            return
        with contextlib.suppress(OSError):  # a disk that refuses is told by recorders
            await asyncio.to_thread(replace_file, self._path(machine.spool), said)
            self._written[machine.spool] = self._clock(), cameras
