"""The JSON that pages and other programs use: the election, its regions, stations and pictures.

All of it is answered from memory; only a search may take long. Every address is described in
`openapi`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any

from aiohttp import web

from base.i18n.gettext import gettext
from config.model import Camera, Station
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import checked_language, language_of
from streaming.http.responses import MOST_PAGE, json_response, whole_number
from streaming.http.work import WORK
from streaming.pages.render import stations_live, tally_live
from streaming.stations.directory import NO_NAME, Area, Directory
from streaming.stations.featured import FEATURED, MOST_WALL
from streaming.stations.messages import why_no_picture
from streaming.stations.search import MOST_CHARACTERS

MOST_QUERY = 200  # characters
MOST_SEARCHED = 256  # answers to searches in memory: the first letters of names, typed by many
SEARCHED = web.AppKey("searched", OrderedDict[tuple[bool, str], Sequence[int]])

routes = web.RouteTableDef()


@routes.get("/api/v1/election")
async def election(request: web.Request) -> web.StreamResponse:
    """Describe the election, and how much of it is live, by region."""
    views, lang = request.app[CONTEXT], checked_language(request)
    told, places = views.config.election, views.places
    hours = told.polling_hours
    data = {
        "id": told.id,
        "name": told.name.in_(lang),
        "date": told.date.isoformat(),
        "time_zone": told.time_zone,
        "polling_hours": hours and {"from": f"{hours.start:%H:%M}", "to": f"{hours.end:%H:%M}"},
        "windows": [{"from_ms": w.start_ms, "to_ms": w.end_ms} for w in places.windows],
        **places.tally.as_dict(),
        "words": tally_live(lang, places.tally),
        "regions": [area_dict(lang, area) for area in places.regions.values()],
    }
    return json_response(request, data, now_ms=views.clock())


@routes.get("/api/v1/regions/{region}")
async def region(request: web.Request) -> web.StreamResponse:
    """Describe a region, and how much of it is live, by district."""
    lang = checked_language(request)
    found = request.app[CONTEXT].places.regions.get(request.match_info["region"])
    if found is None:
        raise web.HTTPNotFound(text=gettext("There is no such region.", language_of(request)))
    districts = [area_dict(lang, area) for area in found.districts.values()]
    return json_response(request, area_dict(lang, found) | {"districts": districts})


def area_dict(lang: str, area: Area) -> dict[str, Any]:
    """Return a region or a district as JSON, with its numbers."""
    name = gettext("Without a name", lang) if area.id == NO_NAME else area.name.in_(lang)
    words = stations_live(lang, area.tally.stations_live, area.tally.stations)
    return {"id": area.id, "name": name, **area.tally.as_dict(), "words": words}


@routes.get("/api/v1/stations")
async def stations(request: web.Request) -> web.StreamResponse:
    """List stations: `q` searches; `region`, `district` and `live` choose; `after` goes on."""
    views, lang = request.app[CONTEXT], checked_language(request)
    found = await find_stations(request)
    data: dict[str, Any] = {
        "stations": [described(views, lang, s) for s in found.page],
        "total": found.total,
        "next_after": found.next_after,
    }
    if found.suggestions:
        data["suggestions"] = [described(views, lang, s) for s in found.suggestions]
    return json_response(request, data)


class Found:
    """A page of stations, how many there are on all pages, and what continues it.

    `suggestions` are near ones where a search finds none.
    """

    def __init__(self, places: Directory, page: Sequence[int], total: int, more: bool):
        self.page = [places.stations[place] for place in page]
        self.total = total
        self.next_after = self.page[-1].id if more else None
        self.suggestions: list[Station] = []


async def find_stations(request: web.Request) -> Found:
    """Return the page of stations that a request asks for; raises 400 and 404 in words."""
    views, asked = request.app[CONTEXT], request.query
    places = views.places
    query, limit = asked.get("q", ""), whole_number(request, "limit", MOST_PAGE, 1, MOST_PAGE)
    if len(query) > MOST_QUERY:
        text = gettext(
            "A search has at most %(most)s characters.", language_of(request), most=MOST_QUERY
        )
        raise web.HTTPBadRequest(text=text)
    live = whole_number(request, "live", 0, 0, 1)
    chosen = await search(request, query)
    if area := _area(request, places):
        inside = set(area)
        chosen = [place for place in chosen if place in inside]
    rest = chosen
    if after := asked.get("after"):
        try:
            rest = chosen[chosen.index(places.place[after]) + 1 :]
        except (KeyError, ValueError):
            text = gettext("'after' is not from an answer to this search.", language_of(request))
            raise web.HTTPBadRequest(text=text) from None
    if live:
        rest = [place for place in rest if places.live[place]]
    total = sum(places.live[place] > 0 for place in chosen) if live else len(chosen)
    found = Found(places, rest[:limit], total, len(rest) > limit)
    if not chosen and query:
        near = await search(request, query, near=True)
        found.suggestions = [places.stations[place] for place in near]
    return found


async def search(request: web.Request, query: str, near: bool = False) -> Sequence[int]:
    """Return what a query finds, or a few near ones; raises 429 and 503.

    What many type is kept. Nonsense may take 100 ms, and is searched for in a thread.
    """
    index, known = request.app[CONTEXT].places.search, request.app[SEARCHED]
    key = near, query[:MOST_CHARACTERS].strip()
    if not key[1]:
        return index.find("")
    if key not in known:
        find = index.suggest if near else index.find
        known[key] = await request.app[WORK].in_thread(request, partial(find, key[1]))
        while len(known) > MOST_SEARCHED:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def _area(request: web.Request, places: Directory) -> list[int]:
    """Return the stations of the region and the district asked for; none where none is."""
    region, district = request.query.get("region"), request.query.get("district")
    areas = list(places.regions.values())
    if region is not None:
        areas = [area for area in areas if area.id == region]
    if district is not None:
        areas = [area for r in areas for area in r.districts.values() if area.id == district]
    elif region is None:
        return []
    if not areas:
        raise web.HTTPNotFound(
            text=gettext("There is no such region or district.", language_of(request))
        )
    return [place for area in areas for place in area.places]


@routes.get("/api/v1/wall")
async def wall(request: web.Request) -> web.StreamResponse:
    """Return some live cameras of many regions with their pictures; others every ten seconds."""
    views, lang = request.app[CONTEXT], checked_language(request)
    limit = whole_number(request, "limit", 12, 1, MOST_WALL)
    shown = [
        {
            "station": station.id,
            "number": station.number,
            "name": station.name.in_(lang),
            "camera": camera.id,
            "title": camera.title.in_(lang),
            "picture": picture_url(station, camera),
        }
        for station, camera in request.app[FEATURED].shown(views, limit)
    ]
    return json_response(request, {"wall": shown})


@routes.get("/api/v1/stations/{station}")
async def station(request: web.Request) -> web.StreamResponse:
    """Describe one station and what its cameras do now, in words where there is no picture."""
    views, lang = request.app[CONTEXT], checked_language(request)
    return json_response(request, with_words(views, lang, views.station(request)))


def described(views: AppContext, lang: str, station: Station) -> dict[str, Any]:
    """Return a station as JSON, with the state of each camera and the number that are live."""
    cameras = [camera_dict(views, lang, station, c) for c in station.cameras]
    live = [c for c, row in zip(station.cameras, cameras, strict=True) if is_live(row)]
    return {
        "id": station.id,
        "number": station.number,
        "name": station.name.in_(lang),
        "region": station.region.in_(lang),
        "district": station.district.in_(lang),
        "address": station.address.in_(lang),
        "time_zone": station.time_zone,
        "latitude": station.latitude,
        "longitude": station.longitude,
        "cameras": cameras,
        "live": len(live),
        "picture": picture_url(station, live[0]) if live else None,
    }


def with_words(views: AppContext, lang: str, station: Station) -> dict[str, Any]:
    """Return a station as JSON, saying of each camera why it has no picture."""
    data = described(views, lang, station)
    for camera, row in zip(station.cameras, data["cameras"], strict=True):
        row["words"] = why_no_picture(views, lang, station, camera)
    return data


def camera_dict(views: AppContext, lang: str, station: Station, camera: Camera) -> dict[str, Any]:
    """Return a camera as JSON, with what its recorder does now."""
    state = views.state(station, camera)
    return {"id": camera.id, "title": camera.title.in_(lang), "state": state}


def is_live(camera: dict[str, Any]) -> bool:
    """Tell whether a camera, as JSON, is being recorded."""
    return bool(camera["state"] == "recording")


def picture_url(station: Station, camera: Camera) -> str:
    """Return the address of a camera's small picture, on this site."""
    return f"/live/{station.id}/{camera.id}/thumb.jpg"
