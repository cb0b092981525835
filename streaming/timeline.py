"""Recordings and gaps of a station's cameras in a stretch of time, as JSON."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiohttp import web

from config.model import Camera, Station
from storage.catalogue import CatalogueError
from storage.index import Gap
from streaming.answers import answer
from streaming.api import camera_dict
from streaming.language import language, say, translate
from streaming.views import VIEWS, Views, moment
from streaming.words import CAUSES, why_no_picture

MOST_MS = 7 * 86_400_000
LATEST_MS = 253_402_300_800_000  # the year 10000

routes = web.RouteTableDef()
Rows = dict[int, dict[str, Any]]


@routes.get("/api/v1/stations/{station}/timeline")
async def timeline(request: web.Request) -> web.StreamResponse:
    """Return recordings and gaps of a station's cameras between `from` and `to`."""
    views, lang = request.app[VIEWS], language(request)
    station = views.station(request)
    now_ms = int(time.time() * 1000)
    from_ms, to_ms = _stretch(request, now_ms)
    found = await asyncio.gather(
        *(_camera(views, lang, station, c, from_ms, to_ms) for c in station.cameras)
    )
    data = {
        "station": station.id,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "complete": all(complete for _, complete in found),
        "cameras": [camera for camera, _ in found],
    }
    return answer(request, data, now_ms=now_ms)


def _stretch(request: web.Request, now_ms: int) -> tuple[int, int]:
    """Return the stretch asked for, the last hour where none is; raises 400 in words."""
    to_ms, from_ms = moment(request, "to"), moment(request, "from")
    if to_ms is None and from_ms is not None and from_ms >= now_ms:
        raise web.HTTPBadRequest(text=say(request, "'from' is in the future."))
    to_ms = now_ms if to_ms is None else min(to_ms, LATEST_MS)
    from_ms = to_ms - 3_600_000 if from_ms is None else from_ms
    if from_ms >= to_ms:
        raise web.HTTPBadRequest(text=say(request, "'to' is not after 'from'."))
    if to_ms - from_ms > MOST_MS:
        text = say(request, "The stretch is longer than 7 days: ask in parts.")
        raise web.HTTPBadRequest(text=text)
    return from_ms, to_ms


async def _camera(
    views: Views, lang: str, station: Station, camera: Camera, from_ms: int, to_ms: int
) -> tuple[dict[str, Any], bool]:
    """Return a camera's recordings and gaps, and whether that is all of them."""
    complete = True
    try:
        rows, gaps = await _catalogued(views, lang, station, camera, from_ms, to_ms)
    except CatalogueError:  # what the spool has is still true
        rows, gaps, complete = {}, {}, False
    view = views.view(station.id, camera.id)
    for _, index in view.recordings(from_ms, to_ms):
        if index.segments and index.start_ms < to_ms:
            seq = index.header.record_seq
            rows[seq] = {"record_seq": seq, "start_ms": index.start_ms, "end_ms": index.end_ms}
    gaps |= {g.gap_no: _gap(lang, g) for g in view.gaps(from_ms, to_ms)}
    data = camera_dict(views, lang, station, camera)
    return data | {
        "words": why_no_picture(views, lang, station, camera),
        "recordings": [rows[n] for n in sorted(rows)],
        "gaps": [gaps[n] for n in sorted(gaps)],
    }, complete


async def _catalogued(
    views: Views, lang: str, station: Station, camera: Camera, from_ms: int, to_ms: int
) -> tuple[Rows, Rows]:
    name = views.name(station, camera.id)
    rows = await views.ask(lambda c: c.timeline(name, from_ms, to_ms)) or []
    gaps = await views.ask(lambda c: c.gaps_between(name, from_ms, to_ms)) or []
    return (
        {r["record_seq"]: _recording(r) for r in rows},
        {g["gap_no"]: _gap(lang, Gap.from_dict(g)) for g in gaps},
    )


def _recording(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as JSON; with when and why it was removed where no archive has it any more."""
    told = {k: row[k] for k in ("record_seq", "start_ms", "end_ms")}
    if row["archives"] and all(a["removed_ms"] is not None for a in row["archives"]):
        last = max(row["archives"], key=lambda a: a["removed_ms"])
        told |= {"removed_ms": last["removed_ms"], "removed_reason": last["removed_reason"]}
    return told


def _gap(lang: str, gap: Gap) -> dict[str, Any]:
    shown = {k: getattr(gap, k) for k in ("gap_no", "start_ms", "end_ms", "cause")}
    return shown | {"words": translate(lang, CAUSES[gap.cause])}
