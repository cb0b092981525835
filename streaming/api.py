"""The JSON that pages and other programs use; errors are problems as RFC 9457 says."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

from aiohttp import web

from config.model import Camera, Station
from storage.catalogue import CatalogueError
from storage.index import Gap
from streaming.language import language, translate
from streaming.views import VIEWS, Views, moment
from streaming.words import CAUSES, why_no_picture

PAGE = 100
MAX_QUERY = 100
MAX_TIMELINE_MS = 7 * 86_400_000
LATEST_MS = 253_402_300_800_000  # the year 10000
CACHE = {"Cache-Control": "public, max-age=2"}

routes = web.RouteTableDef()


@routes.get("/api/v1/stations")
async def stations(request: web.Request) -> web.StreamResponse:
    """List stations: `q` searches, `after` (a station id) and `limit` page."""
    views = request.app[VIEWS]
    page, following = find_stations(request)
    found = [described(views, language(request), s) for s in page]
    return web.json_response({"stations": found, "next_after": following}, headers=CACHE)


def find_stations(request: web.Request) -> tuple[list[Station], str | None]:
    """Return the page of stations that `q`, `after` and `limit` ask for, and the next `after`.

    Raises 400 in words.
    """
    query = request.query.get("q", "").strip()[:MAX_QUERY].casefold()
    try:
        limit = min(PAGE, max(1, int(request.query.get("limit", PAGE))))
    except ValueError:
        raise web.HTTPBadRequest(text="'limit' is not a whole number.\n") from None
    found: list[Station] = list(request.app[VIEWS].config.stations)
    after = request.query.get("after")
    if after is not None:
        at = next((n for n, s in enumerate(found, 1) if s.id == after), None)
        if at is None:
            raise web.HTTPBadRequest(text="'after' is not the id of a station.\n")
        found = found[at:]
    page: list[Station] = []
    for station in found:
        if not query or query in _searched(station):
            if len(page) == limit:
                return page, page[-1].id
            page.append(station)
    return page, None


@routes.get("/api/v1/stations/{station}")
async def station(request: web.Request) -> web.StreamResponse:
    """Describe one station and what its cameras do now, in words where there is no picture."""
    views = request.app[VIEWS]
    return web.json_response(
        with_words(views, language(request), views.station(request)), headers=CACHE
    )


@routes.get("/api/v1/stations/{station}/timeline")
async def timeline(request: web.Request) -> web.StreamResponse:
    """Return recordings and gaps of a station's cameras between `from` and `to`."""
    views, lang = request.app[VIEWS], language(request)
    found = views.station(request)
    now_ms = int(time.time() * 1000)
    to_ms = moment(request, "to")
    to_ms = now_ms if to_ms is None else min(to_ms, LATEST_MS)
    from_ms = moment(request, "from")
    from_ms = to_ms - 3_600_000 if from_ms is None else from_ms
    if from_ms >= to_ms:
        raise web.HTTPBadRequest(text="'to' is not after 'from'.\n")
    if to_ms - from_ms > MAX_TIMELINE_MS:
        raise web.HTTPBadRequest(text="The stretch is longer than 7 days: ask in parts.\n")
    cameras, complete = [], True
    for camera in found.cameras:
        try:
            rows, gaps = await _catalogued(views, lang, found, camera, from_ms, to_ms)
        except CatalogueError:  # what the spool has is still true
            rows, gaps, complete = {}, {}, False
        view = views.view(found.id, camera.id)
        for _, index in view.recordings(from_ms, to_ms):
            if index.segments and index.start_ms < to_ms:
                seq = index.header.record_seq
                rows[seq] = {"record_seq": seq, "start_ms": index.start_ms, "end_ms": index.end_ms}
        gaps |= {g.gap_no: _gap(lang, g) for g in view.gaps(from_ms, to_ms)}
        cameras.append(
            _camera(views, lang, found, camera)
            | {"words": why_no_picture(views, lang, found, camera)}
            | {"recordings": [rows[n] for n in sorted(rows)]}
            | {"gaps": [gaps[n] for n in sorted(gaps)]}
        )
    answer = {"station": found.id, "now_ms": now_ms, "from_ms": from_ms, "to_ms": to_ms}
    return web.json_response(answer | {"complete": complete, "cameras": cameras}, headers=CACHE)


async def _catalogued(
    views: Views, lang: str, station: Station, camera: Camera, from_ms: int, to_ms: int
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
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


def described(views: Views, lang: str, station: Station) -> dict[str, Any]:
    """Return a station as JSON, with the state of each camera and the number that are live."""
    cameras = [_camera(views, lang, station, c) for c in station.cameras]
    return {
        "id": station.id,
        "number": station.number,
        "name": station.name.in_(lang),
        "region": station.region.in_(lang),
        "district": station.district.in_(lang),
        "address": station.address.in_(lang),
        "time_zone": station.time_zone,
        "cameras": cameras,
        "live": sum(c["state"] == "recording" for c in cameras),
    }


def with_words(views: Views, lang: str, station: Station) -> dict[str, Any]:
    """Return a station as JSON, saying of each camera why it has no picture."""
    answer = described(views, lang, station)
    for camera, row in zip(station.cameras, answer["cameras"], strict=True):
        row["words"] = why_no_picture(views, lang, station, camera)
    return answer


def _camera(views: Views, lang: str, station: Station, camera: Camera) -> dict[str, Any]:
    state = views.state(station, camera)
    return {"id": camera.id, "title": camera.title.in_(lang), "state": state}


def _gap(lang: str, gap: Gap) -> dict[str, Any]:
    shown = {k: getattr(gap, k) for k in ("gap_no", "start_ms", "end_ms", "cause")}
    return shown | {"words": translate(lang, CAUSES[gap.cause])}


def _searched(station: Station) -> str:
    texts = [station.id, station.number]
    for text in (station.name, station.region, station.district, station.address):
        texts += [t for t in (text.kk, text.ru, text.en) if t]
    return "\n".join(texts).casefold()


def problem(status: int, detail: str) -> web.Response:
    """Return an error as RFC 9457 says."""
    return web.json_response(
        {"title": HTTPStatus(status).phrase, "status": status, "detail": detail.strip()},
        status=status,
        content_type="application/problem+json",
    )
