"""The JSON that pages and other programs use: the election, its regions, stations and pictures.

All of it is answered from memory; only a search may take long. Every address is described in
`openapi`.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from aiohttp import web

from base.i18n.gettext import gettext, ngettext
from config.model import Camera, Station
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import checked_language, language_of
from streaming.http.parameters import whole_number
from streaming.http.responses import MOST_PAGE, json_response
from streaming.http.scheduler import SCHEDULER
from streaming.stations.directory import Directory
from streaming.stations.featured import FEATURED, MOST_FEATURED
from streaming.stations.messages import tally_live
from streaming.stations.search import MOST_CHARACTERS
from streaming.stations.serialize import (
    StationJson,
    TakesJson,
    area_json,
    picture_url,
    station_json,
)

MOST_QUERY = 200  # characters
MOST_SEARCHED = 256  # answers to searches in memory: the first letters of names, typed by many
SEARCHED = web.AppKey("searched", OrderedDict[tuple[bool, str], Sequence[int]])

routes = web.RouteTableDef()


@routes.get("/api/v1/election")
async def get_election(request: web.Request) -> web.StreamResponse:
    """Describe the election, and how much of it is live, by region."""
    context, lang = request.app[CONTEXT], checked_language(request)
    election, directory = context.config.election, context.directory
    hours = election.polling_hours
    data = {
        "id": election.id,
        "name": election.name.in_(lang),
        "date": election.date.isoformat(),
        "time_zone": election.time_zone,
        "polling_hours": hours and {"from": f"{hours.start:%H:%M}", "to": f"{hours.end:%H:%M}"},
        "windows": [{"from_ms": w.start_ms, "to_ms": w.end_ms} for w in directory.windows],
        **directory.tally.as_json(),
        "words": tally_live(directory.tally, lang),
        "regions": [area_json(area, lang) for area in directory.regions.values()],
    }
    return json_response(request, data, now_ms=context.clock())


@routes.get("/api/v1/regions/{region}")
async def region(request: web.Request) -> web.StreamResponse:
    """Describe a region, and how much of it is live, by district."""
    lang = checked_language(request)
    found = request.app[CONTEXT].directory.regions.get(request.match_info["region"])
    if found is None:
        raise web.HTTPNotFound(text=gettext("There is no such region.", lang))
    districts = [area_json(area, lang) for area in found.districts.values()]
    return json_response(request, area_json(found, lang) | {"districts": districts})


@routes.get("/api/v1/stations")
async def stations(request: web.Request) -> web.StreamResponse:
    """List stations: `q` searches; `region`, `district`, `live` and `faulty` choose; those `near`
    a place come first; `after` goes on."""
    directory, lang = request.app[CONTEXT].directory, checked_language(request)
    found = await find_stations(request)
    rows = [station_json(s, directory, lang) for s in found.page]
    for row in rows if found.metres else ():
        row["distance_m"] = found.metres[row["id"]]
    data: dict[str, object] = {
        "stations": rows,
        "total": found.total,
        "next_after": found.next_after,
    }
    if found.suggestions:
        data["suggestions"] = [station_json(s, directory, lang) for s in found.suggestions]
    return json_response(request, data)


class Found:
    """A page of stations, how many there are on all pages, and what continues it.

    `suggestions` are near ones where a search finds none; `metres` says how far stations are,
    where the nearest were asked for.
    """

    def __init__(self, directory: Directory, page: Sequence[int], total: int, more: bool):
        self.page = [directory.stations[place] for place in page]
        self.total = total
        self.next_after = self.page[-1].id if more else None
        self.suggestions: list[Station] = []
        self.metres: dict[str, int] = {}


async def find_stations(request: web.Request) -> Found:
    """Return the page of stations that a request asks for; raises 400 and 404 in words."""
    directory, asked = request.app[CONTEXT].directory, request.query
    query, limit = asked.get("q", ""), whole_number(request, "limit", MOST_PAGE, 1, MOST_PAGE)
    if len(query) > MOST_QUERY:
        text = ngettext(
            "A search has at most %(count)s character.",
            "A search has at most %(count)s characters.",
            MOST_QUERY,
            language_of(request),
        )
        raise web.HTTPBadRequest(text=text)
    live, faulty = (whole_number(request, name, 0, 0, 1) for name in ("live", "faulty"))
    metres = await _nearest(request, directory)
    chosen = await search(request, query)
    if metres is not None:
        matching = set(chosen)
        chosen = [place for place in metres if place in matching]
    if area := _area(request, directory):
        inside = set(area)
        chosen = [place for place in chosen if place in inside]
    if faulty:
        chosen = [place for place in chosen if not directory.is_whole(place)]
    rest = chosen
    if after := asked.get("after"):
        try:
            rest = chosen[chosen.index(directory.place[after]) + 1 :]
        except (KeyError, ValueError):
            text = gettext("'after' is not from an answer to this search.", language_of(request))
            raise web.HTTPBadRequest(text=text) from None
    if live:
        rest = [place for place in rest if directory.live[place]]
    total = sum(directory.live[place] > 0 for place in chosen) if live else len(chosen)
    found = Found(directory, rest[:limit], total, len(rest) > limit)
    found.metres = {directory.stations[place].id: m for place, m in (metres or {}).items()}
    if not chosen and query:
        near = await search(request, query, near=True)
        found.suggestions = [directory.stations[place] for place in near]
    return found


async def _nearest(request: web.Request, directory: Directory) -> dict[int, int] | None:
    """Return the stations around the place asked for with their distances in metres, the nearest
    first; None where none is asked for. Raises 400, 429 and 503."""
    if (text := request.query.get("near")) is None:
        return None
    found = re.fullmatch(r"(-?[0-9]{1,2}(?:\.[0-9]{1,6})?),(-?[0-9]{1,3}(?:\.[0-9]{1,6})?)", text)
    if found is None or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise web.HTTPBadRequest(
            text=gettext(
                "'near' is not a place: write degrees, as 43.238,76.889.", language_of(request)
            )
        )
    work = partial(directory.nearby.find, float(found[1]), float(found[2]))
    return await request.app[SCHEDULER].in_thread(request, work)


async def search(request: web.Request, query: str, near: bool = False) -> Sequence[int]:
    """Return what a query finds, or a few near ones; raises 429 and 503.

    What many type is kept. Nonsense may take 100 ms, and is searched for in a thread.
    """
    index, known = request.app[CONTEXT].directory.search, request.app[SEARCHED]
    key = near, query[:MOST_CHARACTERS].strip()
    if not key[1]:
        return index.find("")
    if key not in known:
        find = index.suggest if near else index.find
        known[key] = await request.app[SCHEDULER].in_thread(request, partial(find, key[1]))
        while len(known) > MOST_SEARCHED:
            known.popitem(last=False)
    known.move_to_end(key)
    return known[key]


def _area(request: web.Request, directory: Directory) -> list[int]:
    """Return the stations of the region and the district asked for; none where none is."""
    region, district = request.query.get("region"), request.query.get("district")
    areas = list(directory.regions.values())
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
async def featured(request: web.Request) -> web.StreamResponse:
    """Return some live cameras of many regions with their pictures; others every ten seconds."""
    context, lang = request.app[CONTEXT], checked_language(request)
    limit = whole_number(request, "limit", 12, 1, MOST_FEATURED)
    shown = [
        {
            "station": station.id,
            "number": station.number,
            "name": station.name.in_(lang),
            "camera": camera.id,
            "title": camera.title.in_(lang),
            "picture": picture_url(station, camera),
        }
        for station, camera in request.app[FEATURED].shown(context.clock(), limit)
    ]
    return json_response(request, {"wall": shown})


@routes.get("/api/v1/stations/{station}")
async def station(request: web.Request) -> web.StreamResponse:
    """Describe one station and what its cameras do now, in words where there is no picture."""
    context, lang = request.app[CONTEXT], checked_language(request)
    found = context.station(request)
    await context.learn_rates(found, found.cameras)
    data = explained_station(context, found, lang)
    return json_response(request, data, now_ms=context.clock())


def explained_station(context: AppContext, station: Station, lang: str) -> StationJson:
    """Return a station as JSON that says of each camera why it has no picture, and what it takes,
    as it was learned."""
    data = station_json(station, context.directory, lang)
    for camera, row in zip(station.cameras, data["cameras"], strict=True):
        row["words"] = context.why_no_picture(station, camera, lang)
        row["takes"] = takes(context, station, camera)
    return data


def takes(context: AppContext, station: Station, camera: Camera) -> TakesJson:
    """Return how many bytes a camera's streams and their pictures take."""
    video = context.rates(station, camera)
    low = context.rates(station, camera.low) if camera.low else None
    return {
        "minute": video.bytes_per_minute if video else None,
        "low_minute": low.bytes_per_minute if low else None,
        "picture": video.keyframe_bytes if video else None,
        "low_picture": low.keyframe_bytes if low else None,
    }
