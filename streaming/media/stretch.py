"""A stretch of a camera that several machines may have recorded, as entries of one playlist.

What of it is not in this spool is found by the machines that may have the newest, and by the
catalogue; its indexes come from the machine that has a recording, or from an archive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Protocol

from aiohttp import web

from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.cluster.peers import Unreachable
from storage.recording_source import RecordingReader, Unreadable
from storage.records import FormatError, Index, Segment, parse_index, recording_name
from storage.shown import Shown
from storage.spool.node_map import MachineEntry
from storage.spool.numbers import lease_of
from storage.spool.reader import Key, SpoolReader
from streaming.context import CONTEXT
from streaming.http.scheduler import SCHEDULER
from streaming.media.playlist import Entries

PIECE_MS = 6 * 3_600_000  # that the catalogue is asked for at once
AT_ONCE = 16  # indexes that are fetched side by side

Stretch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Remote:
    """A recording that is not in this spool. `machine` has it, or `archives` do, with their
    buckets; `sha256` is that of its seal, None while it is being recorded."""

    key: Key
    end_ms: int
    sha256: str | None
    machine: MachineEntry | None = None
    archives: Mapping[str, str] | None = None

    @property
    def recorded(self) -> tuple[int, int, int]:
        """Epoch, start and end."""
        return lease_of(self.key[0]), self.key[1], self.end_ms


class Made(Protocol):
    """Makes entries of recordings, or of their keyframes alone (`pictures`), and keeps those of
    whole ones."""

    def known(
        self, name: Name, record_seq: int, sha256: str | None, pictures: bool
    ) -> Entries | None:
        """Return those of a whole recording, where they are kept."""

    def entries(self, index: Index, segments: list[Segment], pictures: bool) -> Entries:
        """Return those of segments of a recording."""


async def shown_entries(
    request: web.Request,
    name: Name,
    reader: SpoolReader,
    stretch: Stretch,
    made: Made,
    pictures: bool,
) -> AsyncIterator[Entries]:
    """Yield the entries of what is shown of a stretch, by time."""
    steps = request.app[SCHEDULER].in_steps
    own = [one async for one in steps(request, reader.stretch(*stretch))]
    parts = await find_remote(request, name, stretch)
    for index, _ in own:
        parts.pop((index.header.record_seq, index.start_ms), None)
    there = [(lease_of(i.header.record_seq), i.start_ms, i.end_ms) for i, _ in own]
    shown = Shown([*there, *(part.recorded for part in parts.values())])
    room = asyncio.Semaphore(AT_ONCE)

    async def fetched(part: Remote) -> list[tuple[int, Entries]]:
        _, start_ms, end_ms = part.recorded
        pieces = shown.parts(*part.recorded)
        is_whole = stretch[0] <= start_ms and end_ms <= stretch[1]
        kept = made.known(name, part.key[0], part.sha256, pictures) if is_whole else None
        if kept is not None and pieces == [(start_ms, end_ms)]:
            return [(start_ms, kept)]
        async with room:
            index = await _index(request, name, part) if pieces else None
        return entries_of(index, index.segments, pieces) if index else []

    def entries_of(
        index: Index, segments: list[Segment], pieces: Sequence[Stretch]
    ) -> list[tuple[int, Entries]]:
        every = _chosen(segments, stretch, pieces)
        return [(some[0].start_ms, made.entries(index, some, pictures)) for some in every]

    found = list(chain(*await asyncio.gather(*map(fetched, parts.values()))))
    async for (index, segments), recorded in steps(request, zip(own, there, strict=True)):
        found += entries_of(index, segments, shown.parts(*recorded))
    for _, entries in sorted(found, key=lambda one: one[0]):
        yield entries


def _chosen(
    segments: list[Segment], stretch: Stretch, pieces: Sequence[Stretch]
) -> list[list[Segment]]:
    """Return the segments of each piece that is shown: between two of them another recording is.
    The list itself where that is all."""
    left = [s for s in segments if s.end_ms > stretch[0] and s.start_ms < stretch[1]]
    every = list[list[Segment]]()
    for start, end in pieces:
        every.append([s for s in left if s.end_ms > start and s.start_ms < end])
        left = [s for s in left if s.start_ms >= end]
    found = [some for some in every if some]
    return [segments] if found and len(found[0]) == len(segments) else found


async def find_remote(request: web.Request, name: Name, stretch: Stretch) -> dict[Key, Remote]:
    """Return the recordings of a stretch that other machines or archives have, as far as who can
    tell answers."""
    context, camera = request.app[CONTEXT], "/".join(name[1:])
    found: dict[Key, Remote] = {}
    for begin_ms in range(stretch[0], stretch[1], PIECE_MS):
        end_ms = min(begin_ms + PIECE_MS, stretch[1])
        try:
            rows = await context.ask(
                partial(Catalogue.recordings_between, name=name, from_ms=begin_ms, to_ms=end_ms)
            )
        except CatalogueError:
            break
        async for row in request.app[SCHEDULER].in_steps(request, rows):
            machine = context.only_on(row.spool) if row.removed_ms is None else None
            if row.there or (machine and machine.alive):  # what nobody has now hides nothing
                found[row.key] = Remote(row.key, row.end_ms, row.sha256, machine, row.buckets)
    machines = context.machines.others(camera) if context.machines else []
    for machine in reversed(machines):  # who records it now knows best
        listed = await _listed(request, machine, camera, stretch)
        async for told in request.app[SCHEDULER].in_steps(request, listed):
            key = (told["record_seq"], told["start_ms"])
            archives = found[key].archives if key in found else None
            found[key] = Remote(key, told["end_ms"], told["sha256"], machine, archives)
    return found


async def _listed(
    request: web.Request, machine: MachineEntry, camera: str, stretch: Stretch
) -> list[dict[str, Any]]:
    path = f"/spool/{camera}/stretch?from={stretch[0]}&to={stretch[1]}"
    try:
        said = await request.app[CONTEXT].peers.json(machine, path)
        return list(said["recordings"])
    except (Unreachable, KeyError, TypeError):
        return []


async def _index(request: web.Request, name: Name, part: Remote) -> Index | None:
    """Return the index of a recording, from its machine or an archive; None where none gives it."""
    context = request.app[CONTEXT]
    if part.machine is not None:
        path = f"/spool/{name[1]}/{name[2]}/{recording_name(part.key[1], part.key[0])}.jsonl"
        with suppress(Unreachable, FormatError):
            data = await context.peers.body(part.machine, path)
            return await asyncio.to_thread(parse_index, data)
    if part.archives:
        reader = RecordingReader(context.sources, name, buckets={part.key: part.archives})
        with suppress(Unreadable):
            return await reader.index(part.key, lambda index: index)
    return None
