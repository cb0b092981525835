"""The home page: what happens today, search, regions and districts, pictures of now."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web

from base.i18n.format import format_day, format_number, format_offset
from base.i18n.gettext import gettext, ngettext
from config.model import Election
from streaming.api.stations import find_stations
from streaming.context import CONTEXT
from streaming.http.negotiation import checked_language
from streaming.pages.render import link, page
from streaming.stations.directory import Area
from streaming.stations.featured import FEATURED
from streaming.stations.messages import tally_live, when_recorded
from streaming.stations.serialize import area_json, picture_url, station_json

FEW = 30  # stations that are listed at once, where there are no more
FEATURED_SHOWN = 12

routes = web.RouteTableDef()


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """Search stations, or find them by region and district."""
    context, lang = request.app[CONTEXT], checked_language(request)
    election, directory, asked = context.config.election, context.directory, request.query
    now_ms = context.clock()
    chosen = [name for name in ("q", "region", "district", "after") if asked.get(name)]
    found = await find_stations(request) if chosen or len(directory.stations) <= FEW else None
    region = directory.regions.get(asked.get("region", ""))
    return page(
        request,
        "home.html",
        day=format_day(election.date, "full", lang),
        hours=_hours(election),
        recorded=tally_live(directory.tally, lang),
        state=when_recorded(directory.windows, now_ms, election.time_zone, lang)
        if directory.windows
        else "",
        words=_words(lang) | {"region": region.id if region else None},
        query=asked.get("q", ""),
        results_only=bool(chosen),
        results=None if found is None else [station_json(s, directory, lang) for s in found.page],
        results_title=_title(lang, found.total if found else 0, asked.get("q")),
        suggestions=[station_json(s, directory, lang) for s in found.suggestions] if found else [],
        following=found and found.next_after and _following(request, found.next_after),
        trail=_trail(request, lang, region),
        districts=_districts(request, lang, region),
        regions=_areas(request, lang, directory.regions.values(), "region"),
        featured=[
            {
                "station": station.id,
                "number": station.number,
                "camera": camera.id,
                "title": f"{station.name.in_(lang)} · {camera.title.in_(lang)}",
                "picture": picture_url(station, camera),
            }
            for station, camera in request.app[FEATURED].shown(now_ms, FEATURED_SHOWN)
        ],
    )


def _hours(election: Election) -> str | None:
    """Return when polls are open on the day of the election, if that is configured."""
    hours, day = election.polling_hours, election.date
    if hours is None:
        return None
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    zone = format_offset(round(noon.timestamp() * 1000), election.time_zone)
    return f"{hours.start:%H:%M}–{hours.end:%H:%M} {zone}"


def _title(lang: str, total: int, query: str | None) -> str:
    count = format_number(total, lang)
    if query:
        return ngettext(
            "%(found)s station found", "%(found)s stations found", total, lang, found=count
        )
    return ngettext("%(found)s station", "%(found)s stations", total, lang, found=count)


def _following(request: web.Request, after: str) -> str:
    query = {k: v for k, v in request.query.items() if k in ("q", "region", "district")}
    return link(request, "/", **query, after=after)


def _trail(request: web.Request, lang: str, region: Area | None) -> list[tuple[str, str | None]]:
    """Return the names of where one is with their addresses; none for the last."""
    if region is None:
        return []
    district = region.districts.get(request.query.get("district", ""))
    name = area_json(region, lang)["name"]
    if district is None:
        return [(name, None)]
    return [
        (name, link(request, "/", region=region.id)),
        (area_json(district, lang)["name"], None),
    ]


def _districts(request: web.Request, lang: str, region: Area | None) -> list[dict[str, object]]:
    """Return the districts of a region to choose from: none where there is no choice."""
    if region is None or request.query.get("district") or request.query.get("q"):
        return []
    if len(region.districts) < 2:
        return []
    return _areas(request, lang, region.districts.values(), "district", region=region.id)


def _areas(
    request: web.Request, lang: str, areas: Iterable[Area], kind: str, **more: str
) -> list[dict[str, object]]:
    return [
        area_json(area, lang) | {"href": link(request, "/", **more, **{kind: area.id})}
        for area in areas
    ]


def _words(lang: str) -> dict[str, object]:
    """Return what the script says."""
    return {
        "lang": lang,
        "none": gettext("No station found. Press Enter for near ones.", lang),
        "found": gettext("{count} stations found, the first ones are listed.", lang),
        "live": gettext("{live} of {count} live", lang),
        "hold": gettext("Hold the pictures still", lang),
    }
