"""When something moved before the cameras of a station, told by sizes of pictures alone.

A picture that is like the one before it takes few bytes: what a segment has beside its first
picture, which is whole, grows with what moves. Nothing is decoded. A camera that gives every second
the same number of bytes says nothing of it, and then nothing is told.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from base.i18n.gettext import gettext
from storage.media.fmp4 import FIRST_SAMPLE_BYTES, Mp4Error, first_sample_size
from storage.records import Index
from storage.spool.reader import SpoolReader, SpoolRecording
from streaming.context import CONTEXT
from streaming.http.negotiation import checked_language
from streaming.http.parameters import time_ms
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


@dataclass(slots=True)
class Motion:
    """What was read of recordings that are whole."""

    _kept: OrderedDict[str, Steps] = field(default_factory=OrderedDict)

    def steps(self, stored: SpoolRecording, index: Index) -> Steps:
        """Return the steps of a recording; nothing of one whose bytes are gone or spoilt."""
        key = str(stored.base)
        if (found := self._kept.get(key)) is not None:
            return found
        try:
            found = _read(stored, index)
        except (OSError, Mp4Error):
            return {}
        if index.seal is not None:
            self._kept[key] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found


MOTION = web.AppKey("motion", Motion)


def _read(stored: SpoolRecording, index: Index) -> Steps:
    steps: Steps = {}
    file = os.open(stored.media, os.O_RDONLY)
    try:
        for segment in index.segments:
            head = os.pread(file, FIRST_SAMPLE_BYTES, segment.offset)
            rest = segment.length - first_sample_size(head)
            step = segment.start_ms // STEP_MS
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
    kept, steps = request.app[MOTION], Steps()
    async for stored, index in request.app[SCHEDULER].in_steps(
        request, reader.recordings(from_ms, to_ms)
    ):
        for step, size in kept.steps(stored, index).items():
            steps[step] = steps.get(step, 0.0) + size
    return [{"start_ms": start, "end_ms": end} for start, end in moves(steps)]
