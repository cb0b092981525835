"""Plain pages, and the JSON that they use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web

from config.model import Station
from storage.index import Gap, GapCause
from streaming.views import VIEWS, Views

HERE = Path(__file__).parent
HLS_JS = HERE / "node_modules" / "hls.js" / "dist" / "hls.light.min.mjs"
PAGE = 100
CAUSES = {
    GapCause.UNREACHABLE: "the camera does not answer",
    GapCause.REFUSED_PASSWORD: "the camera refuses the password",
    GapCause.NO_SUCH_STREAM: "the camera has no such stream",
    GapCause.NO_DATA: "the camera sends no picture",
    GapCause.STREAM_BROKEN: "the camera's stream is broken",
    GapCause.CLOSED_BY_CAMERA: "the camera ended the connection",
    GapCause.PARAMETERS_CHANGED: "the camera changed its picture",
    GapCause.CLOCK_JUMP: "a clock was set",
    GapCause.DISK_FULL: "the recorder's disk is full or refuses",
    GapCause.RECORDER_STOPPED: "the recorder was stopped",
    GapCause.RECORDER_CRASHED: "the recorder ended unexpectedly",
}

routes = web.RouteTableDef()
_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True
)


def _page(name: str, status: int = 200, **values: object) -> web.Response:
    text = _templates.get_template(name).render(**values)
    return web.Response(text=text, content_type="text/html", status=status)


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """List the stations."""
    views = request.app[VIEWS]
    stations = [_station(views, s) for s in views.config.stations]
    return _page("home.html", election=views.config.election, stations=stations)


@routes.get("/stations/{station}")
async def station(request: web.Request) -> web.StreamResponse:
    """Show one station with all its angles playing."""
    views = request.app[VIEWS]
    found = views.stations.get(request.match_info["station"])
    if found is None:
        return _page("missing.html", 404, election=views.config.election)
    return _page("station.html", election=views.config.election, station=_station(views, found))


@routes.get("/api/v1/stations")
async def stations(request: web.Request) -> web.StreamResponse:
    """List stations as JSON: `q` searches, `after` (a station id) and `limit` page."""
    views = request.app[VIEWS]
    query = request.query.get("q", "").casefold()
    try:
        limit = min(PAGE, max(1, int(request.query.get("limit", PAGE))))
    except ValueError:
        return problem(400, "limit is not a whole number")
    found = [s for s in views.config.stations if query in _searched(s)]
    after = request.query.get("after")
    if after is not None:
        at = next((n for n, s in enumerate(found, 1) if s.id == after), None)
        if at is None:
            return problem(400, "after is not a station of this list")
        found = found[at:]
    page = found[:limit]
    following = page[-1].id if len(found) > limit else None
    return web.json_response(
        {"stations": [_station(views, s) for s in page], "next_after": following}
    )


@routes.get("/api/v1/stations/{station}/timeline")
async def timeline(request: web.Request) -> web.StreamResponse:
    """Return recordings and gaps of a station's cameras between `from` and `to` (UTC ms)."""
    views = request.app[VIEWS]
    found = views.stations.get(request.match_info["station"])
    if found is None:
        return problem(404, "There is no such station")
    now_ms = int(time.time() * 1000)
    try:
        to_ms = int(request.query.get("to", now_ms))
        from_ms = int(request.query.get("from", to_ms - 3_600_000))
    except ValueError:
        return problem(400, "from and to are milliseconds of UTC")
    if from_ms >= to_ms:
        return problem(400, "to is not after from")
    cameras = []
    for camera in found.cameras:
        view = views.view(found.id, camera.id)
        rows: dict[int, dict[str, Any]] = {}
        gaps: dict[int, dict[str, Any]] = {}
        if views.catalogue is not None:
            name = (views.config.election.id, found.id, camera.id)
            for row in await views.catalogue.recordings_between(name, from_ms, to_ms):
                rows[row["record_seq"]] = {k: row[k] for k in ("record_seq", "start_ms", "end_ms")}
            for row in await views.catalogue.gaps_between(name, from_ms, to_ms):
                gaps[row["gap_no"]] = _gap(Gap.from_dict(row))
        for _, index in view.recordings():
            if index.segments and index.end_ms > from_ms and index.start_ms < to_ms:
                seq = index.header.record_seq
                rows[seq] = {"record_seq": seq, "start_ms": index.start_ms, "end_ms": index.end_ms}
        for gap in view.gaps(from_ms, to_ms):
            if gap.start_ms < to_ms and (gap.end_ms is None or gap.end_ms > from_ms):
                gaps[gap.gap_no] = _gap(gap)
        cameras.append(
            {
                "id": camera.id,
                "title": camera.title.in_("en"),
                **_state(views, found, camera.id),
                "recordings": [rows[n] for n in sorted(rows)],
                "gaps": [gaps[n] for n in sorted(gaps)],
            }
        )
    return web.json_response({"station": found.id, "now_ms": now_ms, "cameras": cameras})


def problem(status: int, detail: str) -> web.Response:
    """Return an error as RFC 9457 says."""
    return web.json_response(
        {"status": status, "title": detail},
        status=status,
        content_type="application/problem+json",
    )


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "gap_no": gap.gap_no,
        "start_ms": gap.start_ms,
        "end_ms": gap.end_ms,
        "cause": gap.cause,
        "words": CAUSES[gap.cause],
    }


def _state(views: Views, station: Station, camera: str) -> dict[str, Any]:
    """Return `state`, and `cause` and `words` where there is no picture."""
    found = next(c for c in station.cameras if c.id == camera)
    state = views.state(station, found)
    cause = state["cause"]
    words = CAUSES[GapCause(cause)] if cause else None
    if state["state"] == "unknown":
        words = "nobody records now"
    return {"state": state["state"], "cause": cause, "words": words}


def _station(views: Views, station: Station) -> dict[str, Any]:
    cameras = [
        {"id": c.id, "title": c.title.in_("en"), **_state(views, station, c.id)}
        for c in station.cameras
    ]
    return {
        "id": station.id,
        "number": station.number,
        "name": station.name.in_("en"),
        "region": station.region.in_("en"),
        "district": station.district.in_("en"),
        "address": station.address.in_("en"),
        "time_zone": station.time_zone,
        "cameras": cameras,
        "live": sum(c["state"] == "recording" for c in cameras),
    }


def _searched(station: Station) -> str:
    texts = [station.id, station.number]
    for text in (station.name, station.region, station.district, station.address):
        texts += [t for t in (text.kk, text.ru, text.en) if t]
    return " ".join(texts).casefold()
