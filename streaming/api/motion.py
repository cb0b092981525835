"""When something moved before the cameras of a station, told by sizes of pictures alone.

A picture that is like the one before it takes few bytes: what a segment has beside its first
picture, which is whole, grows with what moves. Nothing is decoded. A camera that gives every second
the same number of bytes says nothing of it, and then nothing is told.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from aiohttp import web

from base.i18n.gettext import gettext
from storage.media.fmp4 import FIRST_SAMPLE_BYTES, Mp4Error, first_sample_size
from storage.records import Index
from storage.spool.reader import SpoolReader, SpoolRecording
from streaming.context import CONTEXT
from streaming.http.clients import client
from streaming.http.negotiation import checked_language
from streaming.http.parameters import time_ms
from streaming.http.rate_limit import ConcurrencyLimit
from streaming.http.responses import json_response
from streaming.http.scheduler import SCHEDULER

STEP_MS = 10_000
MOST_MS = 24 * 3_600_000
QUIET = 0.3  # the share of the time that is taken for quiet
MORE = 1.6  # times the bytes of quiet time: then something moves
KEPT = 16_384  # recordings whose steps are in memory, about 0.5 kB each
CACHE = "public, max-age=30"

routes = web.RouteTableDef()
Steps = dict[int, float]  # bytes beside the first pictures, by number of STEP_MS since 1970


@dataclass(frozen=True, slots=True)
class Whole:
    """What is read of a recording that is whole: where its segments begin, and their lengths."""

    media: Path
    parts: Sequence[tuple[int, int, int]]  # start in UTC ms, offset, length

    @classmethod
    def of(cls, stored: SpoolRecording, index: Index) -> Self:
        """Return that of a recording."""
        return cls(stored.media, [(s.start_ms, s.offset, s.length) for s in index.segments])


@dataclass(slots=True)
class Motion:
    """What was read of recordings that are whole."""

    read: Callable[[Whole], Steps]
    # one at a time: a disk that is asked for many places at once has none for live video
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    turns: ConcurrencyLimit = field(default_factory=lambda: ConcurrencyLimit(4, 32))
    _kept: OrderedDict[str, Steps] = field(default_factory=OrderedDict)

    def known(self, stored: SpoolRecording) -> Steps | None:
        """Return the steps of a recording that was read."""
        return self._kept.get(str(stored.base))

    async def steps(self, whole: Whole, sealed: bool) -> Steps:
        """Read the steps of a recording, in a thread: its bytes may have to come from the disk.
        Return nothing of one whose bytes are gone or spoilt."""
        try:
            async with self.reading:
                found = await asyncio.to_thread(self.read, whole)
        except (OSError, Mp4Error):
            return {}
        if sealed:
            self._kept[str(whole.media.with_suffix(""))] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found


MOTION = web.AppKey("motion", Motion)


def read_steps(whole: Whole) -> Steps:
    """Return the steps of a recording; blocks on the disk, raises OSError and Mp4Error."""
    steps: Steps = {}
    file = os.open(whole.media, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start_ms, offset, length in whole.parts:
            rest = length - first_sample_size(os.pread(file, FIRST_SAMPLE_BYTES, offset))
            step = start_ms // STEP_MS
            steps[step] = steps.get(step, 0.0) + rest
    finally:
        os.close(file)
    return steps


def moves(steps: Mapping[int, float]) -> list[tuple[int, int]]:
    """Return the stretches in which something moves, in UTC ms, oldest first."""
    if not steps:
        return []
    quiet = sorted(steps.values())[int(len(steps) * QUIET)]
    found: list[tuple[int, int]] = []
    for step in sorted(n for n, size in steps.items() if size > quiet * MORE):
        start_ms = step * STEP_MS
        if found and found[-1][1] == start_ms:
            found[-1] = found[-1][0], start_ms + STEP_MS
        else:
            found.append((start_ms, start_ms + STEP_MS))
    return found


@routes.get("/api/v1/stations/{station}/motion")
async def motion(request: web.Request) -> web.StreamResponse:
    """Return when something moved before a station's cameras, of what can still be watched."""
    context, lang = request.app[CONTEXT], checked_language(request)
    station, now_ms = context.station(request), context.clock()
    from_ms, to_ms = time_ms(request, "from"), time_ms(request, "to")
    to_ms = now_ms if to_ms is None else min(to_ms, now_ms)
    oldest_ms = now_ms - min(context.config.rewind_s * 1000, MOST_MS)
    from_ms = oldest_ms if from_ms is None else max(from_ms, oldest_ms)
    if from_ms >= to_ms:
        raise web.HTTPBadRequest(text=gettext("'to' is not after 'from'.", lang))
    request.app[SCHEDULER].check(request)
    with request.app[MOTION].turns.turn(client(request)):
        cameras = [
            {
                "id": camera.id,
                "motion": await _of(request, context.reader(station, camera), from_ms, to_ms),
            }
            for camera in station.cameras
        ]
    data = {"station": station.id, "from_ms": from_ms, "to_ms": to_ms, "cameras": cameras}
    return json_response(request, data, cache=CACHE)


async def _of(
    request: web.Request, reader: SpoolReader, from_ms: int, to_ms: int
) -> list[dict[str, int]]:
    kept, found, unread = request.app[MOTION], list[Steps](), list[tuple[Whole, bool]]()
    async for stored, index in request.app[SCHEDULER].in_steps(
        request, reader.recordings(from_ms, to_ms)
    ):
        if (known := kept.known(stored)) is not None:
            found.append(known)
        else:
            unread.append((Whole.of(stored, index), index.seal is not None))
    found += [await kept.steps(*one) for one in unread]
    steps = Steps()
    for step, size in (one for steps_of_one in found for one in steps_of_one.items()):
        steps[step] = steps.get(step, 0.0) + size
    return [{"start_ms": start, "end_ms": end} for start, end in moves(steps)]
