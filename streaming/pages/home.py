"""The home page: what this is, search, regions and districts, stations with pictures of now.

Everything that it counts is of one moment: it is rendered in one step, and its script renews it
with one answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from aiohttp import web

from base.i18n.format import format_day, format_number, format_offset
from base.i18n.gettext import gettext, ngettext
from config.model import Election, Station
from config.schedule import is_scheduled
from streaming.api.stations import Found, find_stations
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import checked_language
from streaming.pages.about import kept
from streaming.pages.cards import station_cards
from streaming.pages.render import link, page
from streaming.stations.directory import Area
from streaming.stations.featured import FEATURED
from streaming.stations.messages import tally_live, when_recorded
from streaming.stations.serialize import area_json, picture_url

FEW = 30  # stations that are listed at once, where there are no more
FEATURED_SHOWN = 12
MOST_MINE = 100  # stations of one's own
CHOICES = ("q", "region", "district", "after", "near", "faulty")

routes = web.RouteTableDef()


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """Search stations, or find them by region and district; `mine` are listed above them."""
    context, lang, asked = request.app[CONTEXT], checked_language(request), request.query
    directory, now_ms = context.directory, context.clock()
    chosen = any(asked.get(name) for name in CHOICES)
    few = len(directory.stations) <= FEW
    found = await find_stations(request) if chosen or few else None
    region = directory.regions.get(asked.get("region", ""))
    return page(
        request,
        "home.html",
        200,
        **_today(context, lang, now_ms),
        **kept(context.config, lang),
        query=asked.get("q", ""),
        title=_title(request, found, lang) if chosen and found else "",
        stations=station_cards(found.page, directory, lang, found.metres)
        if found
        else _featured(request, now_ms, lang),
        rolls=found is None,
        small=bool(found and len(found.page) > FEATURED_SHOWN),
        suggestions=station_cards(found.suggestions, directory, lang) if found else [],
        following=found and found.next_after and _following(request, found.next_after),
        mine=station_cards(_named(context, asked.get("mine", "")), directory, lang),
        trail=_trail(request, lang, region),
        districts=_districts(request, lang, region),
        regions=_areas(request, lang, directory.regions.values(), "region"),
        located=bool(directory.nearby),
        faulty=bool(asked.get("faulty")),
        watch=_toggled(request),
        words={
            "lang": lang,
            "none": gettext("Nothing was found. Press Enter for similar ones.", lang),
            "found": gettext("Stations found: {count}; the first ones are listed.", lang),
            "live": gettext("Live: {live} / {count}", lang),
            "add": gettext("Add to my stations: {title}", lang),
            "remove": gettext("Remove from my stations: {title}", lang),
            "nowhere": gettext("This device does not tell where it is.", lang),
        },
    )


def _today(context: AppContext, lang: str, now_ms: int) -> dict[str, object]:
    """Return what is so today: the day, the polling hours, how much is live, and whether."""
    election, directory = context.config.election, context.directory
    state = ""
    if directory.windows:
        state = when_recorded(directory.windows, now_ms, election.time_zone, lang)
    return {
        "day": format_day(election.date, "full", lang),
        "hours": _hours(election),
        "tally": tally_live(directory.tally, lang),
        "state": state,
        "recording": is_scheduled(directory.windows, now_ms),
    }


def _hours(election: Election) -> str | None:
    """Return when polls are open on the day of the election, if that is configured."""
    hours, day = election.polling_hours, election.date
    if hours is None:
        return None
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    zone = format_offset(round(noon.timestamp() * 1000), election.time_zone)
    return f"{hours.start:%H:%M}–{hours.end:%H:%M} {zone}"


def _named(context: AppContext, ids: str) -> list[Station]:
    """Return the stations of a list of ids with commas, in its order; what is none is left out."""
    named = dict.fromkeys(ids.split(",")[:MOST_MINE])
    return [context.stations[one] for one in named if one in context.stations]


def _title(request: web.Request, found: Found, lang: str) -> str:
    """Return what a list of stations is: how many were found, or which they are."""
    if request.query.get("faulty"):
        return gettext("Stations with problems", lang)
    if not found.total:
        return gettext("Nothing was found", lang)
    if request.query.get("near"):
        return gettext("Near you", lang)
    count = format_number(found.total, lang)
    if request.query.get("q"):
        return ngettext(
            "%(found)s station found", "%(found)s stations found", found.total, lang, found=count
        )
    return ngettext("%(found)s station", "%(found)s stations", found.total, lang, found=count)


def _featured(request: web.Request, now_ms: int, lang: str) -> list[dict[str, object]]:
    """Return cards of some stations of all regions that are live, with the picture of a camera
    that is chosen anew every ten seconds."""
    directory, cards = request.app[CONTEXT].directory, []
    for station, camera in request.app[FEATURED].shown(now_ms, FEATURED_SHOWN):
        (card,) = station_cards([station], directory, lang)
        cards.append(card | {"picture": picture_url(station, camera)})
    return cards


def _toggled(request: web.Request) -> str:
    """Return the address of this list with only those stations of which a camera is silent; of
    that list, the address of all."""
    query = {k: v for k, v in request.query.items() if k in ("q", "region", "district", "near")}
    if not request.query.get("faulty"):
        query["faulty"] = "1"
    return link(request, "/", **query)


def _following(request: web.Request, after: str) -> str:
    query = {k: v for k, v in request.query.items() if k in CHOICES and k != "after"}
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
