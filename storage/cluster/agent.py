"""The role `node`: holds the leases of this machine's shards, and tells recorders what to record.

It speaks with PostgreSQL in rounds (storage/catalogue/nodes.py), and with the others of this
machine through the spool alone. While PostgreSQL does not answer, what it said last goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import structlog

from base.clock import Clock, now_ms
from base.hostclock import elapsed_ms
from base.outage import Outage
from config.model import Config
from config.schedule import is_scheduled, windows
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.leases import (
    Contact,
    Decision,
    Handover,
    Node,
    Own,
    View,
    decide,
    forgotten,
    leases,
)
from storage.catalogue.nodes import SpoolTaken
from storage.spool.disk import claim_spool
from storage.spool.lease_file import SHARDS, Lease, Leases, read_leases, shard_of, write_leases
from storage.spool.node_map import MachineEntry, NodeMap, ShardEntry, write_node_map
from storage.spool.status import SpoolStatus

REFUSED_MS = 10_000  # for which a spool may take no recordings before others are to record
MOST_LOST = 3  # answers in a row, before what is held is handed over to nobody
CORE = 45  # cameras that a core is reckoned to carry (docs/install.md), where nobody says how many

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long the agent waits, in seconds."""

    renew_s: float = 1.5  # between two rounds
    moving_s: float = 0.5  # the same at the start, after a failure, while a shard is on its way
    spread: float = 0.25  # of each pause, so that many nodes do not ask at once
    answer_s: float = 2.5  # for an answer: two may be missing within a lease
    first_s: float = 5.0  # for the first one, before what was recorded last is recorded again
    leave_s: float = 25.0  # to hand over what is held, when the process is to end


class NodeAgent:
    """Holds leases for as long as it runs; when it is cancelled it gives them away."""

    def __init__(
        self,
        config: Config,
        version: str,
        *,
        pauses: Pauses = Pauses(),
        clock: Clock = now_ms,
        elapsed: Callable[[], float] = elapsed_ms,
        random: Random | None = None,
    ):
        """`config` has `node`; `version` is told to operators."""
        assert config.node is not None
        self._spool, self._url, self._pauses = config.spool, config.database_url, pauses
        self._clock, self._elapsed, self._random = clock, elapsed, random or Random()
        self._catalogue: Catalogue | None = None
        settings, weight = config.node, CORE * (os.cpu_count() or 1)
        self._weight = weight if settings.cameras is None else settings.cameras
        self._me = Node(
            spool="",
            name=settings.name,
            address=settings.address,
            weight=self._weight,
            most=settings.cameras,
            version=version,
        )
        self._known: dict[int, Lease] = {}
        self._is_told = False  # whether the database gave these to this process
        self._written: dict[int, Lease] | None = None
        self._map = NodeMap(os.getpid(), 0, "", settings.name, "it was not asked yet")
        self._contact = Contact()
        self._moves = False  # whether a shard is on its way to this machine or from it
        self._refused_ms: float | None = None  # since when the spool takes no recordings
        self._begun_ms = elapsed()
        self._status = SpoolStatus(config.spool, clock)
        self._outage = Outage(
            "PostgreSQL does not answer; this machine goes on recording what it records",
            "PostgreSQL answers again",
        )
        self._copied = Outage(
            "Another machine has a spool of this one's id: one is a copy of the other. This "
            "machine records nothing meanwhile: empty its spool, or stop the other machine",
            "No other machine has this spool's id any more",
        )
        self._forgotten = Outage(
            "The database no longer knows what this machine records: that is entered again, and "
            "recording goes on",
            "The database knows again what this machine records",
        )
        self._twin = Outage(
            "Another machine calls itself by this node's name: give each its own",
            "No other machine has this node's name any more",
        )
        self.change(config)

    def change(self, config: Config) -> None:
        """Take over which cameras there are."""
        self._config = config
        self._names: list[list[Name]] = [[] for _ in range(SHARDS)]
        self._cameras: list[list[str]] = [[] for _ in range(SHARDS)]
        for station in config.stations:
            for camera in station.cameras:
                name = f"{station.id}/{camera.id}"
                shard = shard_of(name)
                self._names[shard].append((config.election.id, station.id, camera.id))
                self._cameras[shard].append(name)

    async def run(self) -> None:
        """Hold leases until cancelled; then what is held is handed over."""
        await self.begin()
        opening = asyncio.create_task(self._open())
        try:
            while True:
                await self.round()
                await self._pause()
        except asyncio.CancelledError:
            # in a task of its own: in one that was cancelled, Python before 3.11.4 ends all of it
            # where an answer does not come in time
            await asyncio.create_task(self.leave())
            raise
        finally:
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await opening
            if self._catalogue is not None:
                await self._catalogue.close()

    async def begin(self, catalogue: Catalogue | None = None) -> None:
        """Take up what this machine recorded last; `catalogue` is one that is open already."""
        self._catalogue = catalogue
        self._me = replace(self._me, spool=await self._claim())
        if (found := read_leases(self._spool)) is not None:
            self._known = found.by_shard
        log.info("Node started", node=self._me.name, shards=len(self._known))

    async def _claim(self) -> str:
        """Return the id of the spool, marked if it is new; waits while its disk is away."""
        told = ""
        while True:
            try:
                return await asyncio.to_thread(
                    claim_spool, self._spool, self._config.spool_limits.mount
                )
            except OSError as error:
                if str(error) != told:
                    told = str(error)
                    log.error("The spool cannot be used yet; trying again", why=told)
            await asyncio.sleep(1)

    async def _open(self) -> None:
        catalogue = await Catalogue.open_patiently(self._url)
        with contextlib.suppress(CatalogueError):
            await catalogue.nodes.forget_viewers()
        self._catalogue = catalogue

    async def _pause(self) -> None:
        moves = self._moves or self._outage.why is not None or self._written is None
        pause_s = self._pauses.moving_s if moves else self._pauses.renew_s
        spread = self._random.uniform(1 - self._pauses.spread, 1 + self._pauses.spread)
        await asyncio.sleep(pause_s * spread)

    # -- a round -----------------------------------------------------------------------------

    async def round(self) -> View | None:
        """Renew, and tell recorders and web processes how it stands; None where the database
        does not answer."""
        self._me = replace(self._me, weight=0 if self._is_refused() else self._weight)
        try:
            if self._catalogue is None:
                raise CatalogueError("it is being opened")
            async with asyncio.timeout(self._pauses.answer_s):
                view = await self._catalogue.nodes.round(self._me, self._decide)
        except (CatalogueError, TimeoutError) as error:
            await self._go_on(str(error) or f"no answer within {self._pauses.answer_s:g} s")
            return None
        except SpoolTaken as error:  # both would use the same epochs, and the same numbers
            self._contact.failed()
            self._copied.begin(f"it is at {error}")
            self._known = {}
            await self._write_leases()
            return None
        self._outage.end()
        self._copied.end()
        self._look_for_twin(view)
        self._moves = any(s.handover and view.me in (s.holder, s.before) for s in view.shards)
        found = leases(view, self._known.values(), self._is_told)
        await self._account(found, view.now_ms)
        self._known, self._is_told = found, True
        self._map = _map_of(view, self._map)
        await self._write()
        return view

    async def _go_on(self, why: str) -> None:
        """Have what was recorded last go on without the database. After a start it may be another
        machine's by now: then the first answer is waited for, for a moment."""
        self._contact.failed()
        if self._catalogue is not None:
            self._outage.begin(why)
        self._map = replace(self._map, database=why)
        waited_ms = self._elapsed() - self._begun_ms
        if self._written is not None or waited_ms >= self._pauses.first_s * 1000:
            await self._write()

    def _decide(self, view: View) -> Decision:
        """Return what is to be changed; called within a round."""
        kept = forgotten(view, self._known.values(), self._is_told)
        # who has no shards has nothing to enter again: machines that only show are forgotten
        holders = {shard.holder for shard in self._map.shards}
        gone = {node.spool for node in self._map.nodes} & holders - view.nodes.keys()
        is_whole = not (kept or gone)
        self._contact.renewed(view.now_ms, self._elapsed(), view.server, is_whole=is_whole)
        if kept:
            self._forgotten.begin(f"{len(kept)} shards of this machine are not in it")
        else:
            self._forgotten.end()
        recorded, stopped = self._progress(view)
        cameras = [len(names) for names in self._cameras]
        settled, waited = self._contact.is_settled, self._contact.has_waited
        own = Own(cameras, recorded, stopped, settled, tuple(kept.values()), waited)
        return decide(view, own, self._random)

    def _progress(self, view: View) -> tuple[frozenset[int], frozenset[int]]:
        """Return which shards on their way are recorded here, and which no longer are."""
        moving = [s for s in view.shards if s.handover and view.me in (s.holder, s.before)]
        if not moving:
            return frozenset(), frozenset()
        now: dict[str, tuple[str, int]] = {}
        for alive, cameras in self._status.cameras():
            if alive:
                now |= {n: (c.state, c.recorded_ms or 0) for n, c in cameras.items()}
        due = self._scheduled({name for s in moving for name in self._cameras[s.shard]})
        recorded, stopped = set(), set()
        for s in moving:
            names = self._cameras[s.shard]
            if not any(name in now for name in names):
                stopped.add(s.shard)
            told = [now.get(name, ("", 0)) for name in names if name in due]
            if all(state == "recording" and ms > (s.taken_ms or 0) for state, ms in told):
                recorded.add(s.shard)
        return frozenset(recorded), frozenset(stopped)

    def _scheduled(self, names: set[str]) -> set[str]:
        """Return those cameras that are to be recorded now."""
        at_ms = self._clock()
        return {
            name
            for station in self._config.stations
            for camera in station.cameras
            if (name := f"{station.id}/{camera.id}") in names
            and is_scheduled(windows(self._config.election, station, camera), at_ms)
        }

    async def _account(self, found: dict[int, Lease], at_ms: int) -> None:
        """Add to new leases what is known of the time before them, where nobody recorded then.
        Where the database does not say so, gaps are told from when the machine was last alive."""
        asked: dict[int, list[Lease]] = {}  # by when that was
        for shard, lease in found.items():
            known = self._known.get(shard)
            if known is not None and known.epoch == lease.epoch:
                found[shard] = replace(lease, accounted=known.accounted)
            elif lease.lost_ms is not None:
                asked.setdefault(lease.lost_ms or at_ms, []).append(lease)
        assert self._catalogue is not None
        with contextlib.suppress(CatalogueError, TimeoutError):
            async with asyncio.timeout(self._pauses.answer_s):
                for lost_ms, new in asked.items():
                    names = [name for lease in new for name in self._names[lease.shard]]
                    until_ms = await self._catalogue.nodes.accounted_ms(names, lost_ms)
                    for lease in new:
                        there = [name for name in self._names[lease.shard] if name in until_ms]
                        accounted = {f"{name[1]}/{name[2]}": until_ms[name] for name in there}
                        found[lease.shard] = replace(lease, accounted=accounted)

    def _is_refused(self) -> bool:
        """Tell whether the spool has taken no recordings for a while: then others record."""
        list(self._status.refresh())
        refuses = any(said.spool.cause for said in self._status.recorders().values())
        if not (refuses or self._written is None):
            self._refused_ms = None
            return False
        if self._refused_ms is None:
            self._refused_ms = self._elapsed()
        return self._elapsed() - self._refused_ms >= REFUSED_MS

    def _look_for_twin(self, view: View) -> None:
        twins = [
            node.address
            for node in view.nodes.values()
            if node.name == self._me.name and node.spool != view.me and view.is_alive(node.spool)
        ]
        if twins:
            self._twin.begin(f"it is at {twins[0]}")
        else:
            self._twin.end()

    # -- the spool ---------------------------------------------------------------------------

    async def _write(self) -> None:
        """Write both files."""
        await self._write_leases()
        self._map = replace(self._map, written_ms=self._clock(), spool=self._me.spool)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(write_node_map, self._spool, self._map)

    async def _write_leases(self) -> None:
        """Tell recorders what to record; a disk that refuses is told by them."""
        changed = self._known != self._written
        found = Leases(self._clock(), tuple(self._known[shard] for shard in sorted(self._known)))
        try:
            await asyncio.to_thread(write_leases, self._spool, found, durable=changed)
            self._written = dict(self._known)
        except OSError:
            self._written = None

    # -- the end -----------------------------------------------------------------------------

    async def leave(self) -> None:
        """Hand over what is held, as far as others take it, and end the lease.

        What nobody takes is recorded again when this machine comes back, or by who comes first.
        """
        self._me, lost = replace(self._me, leaving=True), 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pauses.leave_s):
                while self._known:
                    view = await self.round()
                    lost = lost + 1 if view is None else 0
                    if lost == MOST_LOST or (view is not None and not view.takers):
                        break
                    await asyncio.sleep(self._pauses.moving_s)
        left = len(self._known)
        if self._catalogue is not None:
            with contextlib.suppress(CatalogueError, TimeoutError):
                async with asyncio.timeout(self._pauses.answer_s):
                    await self._catalogue.nodes.leave(self._me)
        log.info("Node stopped", node=self._me.name, shards_that_nobody_took=left)


def _map_of(view: View, before: NodeMap) -> NodeMap:
    """Return what web processes are to know."""
    return replace(
        before,
        database=None,
        nodes=tuple(
            MachineEntry(
                node.spool,
                node.name,
                node.address,
                view.is_alive(node.spool),
                node.leaving,
                node.drained,
                node.given_up_ms is not None,
            )
            for node in sorted(view.nodes.values(), key=lambda node: node.name)
        ),
        shards=tuple(
            ShardEntry(s.epoch, s.holder, s.before, s.handover is Handover.BOTH)
            for s in view.shards
        ),
    )
