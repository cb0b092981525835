"""When something moved before the cameras of a station, told by sizes of pictures alone.

A camera that gives every second the same number of bytes says nothing of it, and then nothing is
told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from aiohttp import web

from base.i18n.gettext import gettext
from config.model import Camera, Station
from storage.cluster.peers import Unreachable
from storage.spool.motion import STEP_MS
from streaming.context import CONTEXT
from streaming.http.clients import client
from streaming.http.negotiation import checked_language
from streaming.http.parameters import time_ms
from streaming.http.rate_limit import ConcurrencyLimit
from streaming.http.responses import json_response
from streaming.http.scheduler import SCHEDULER

MOST_MS = 24 * 3_600_000
QUIET = 0.3  # the share of the time that is taken for quiet
MORE = 1.6  # times the bytes of quiet time: then something moves
CACHE = "public, max-age=30"

# of requests that wait for the disk at the same time
TURNS = web.AppKey("turns", ConcurrencyLimit)
MOST_TURNS, MOST_IN_ALL = 4, 32

routes = web.RouteTableDef()


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
    every = (_of(request, station, camera, from_ms, to_ms) for camera in station.cameras)
    with request.app[TURNS].turn(client(request)):
        cameras = await asyncio.gather(*every)
    data = {"station": station.id, "from_ms": from_ms, "to_ms": to_ms, "cameras": cameras}
    return json_response(request, data, cache=CACHE)


async def _of(
    request: web.Request, station: Station, camera: Camera, from_ms: int, to_ms: int
) -> dict[str, object]:
    context = request.app[CONTEXT]
    recordings = context.reader(station, camera).recordings(from_ms, to_ms)
    steps = await context.motion.of(request.app[SCHEDULER].in_steps(request, recordings))
    name = f"{station.id}/{camera.id}"
    for machine in context.machines.others(name) if context.machines else ():
        path = f"/spool/{name}/motion?from={from_ms}&to={to_ms}"
        with suppress(Unreachable, KeyError, TypeError, ValueError):
            for step, size in (await context.peers.json(machine, path))["steps"]:
                steps[step] = max(steps.get(step, 0.0), size)  # what two recorded counts once
    found = [{"start_ms": start, "end_ms": end} for start, end in moves(steps)]
    return {"id": camera.id, "motion": found}
