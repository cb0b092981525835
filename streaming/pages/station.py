"""The page of a station, and the player that other sites embed."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web
from babel.dates import get_month_names

from base.i18n.format import format_hours, format_time_of_day
from base.i18n.gettext import gettext
from config.model import Camera, Station
from config.schedule import windows
from streaming.api.stations import explained_station, search, takes
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import checked_language, language_of
from streaming.http.parameters import time_ms
from streaming.http.site import base_url
from streaming.pages.player_messages import player_messages
from streaming.pages.render import link, page
from streaming.stations.messages import when_recorded
from streaming.stations.serialize import StationJson, picture_url, station_json

NEAR = 5  # stations that are suggested for one that is not there

routes = web.RouteTableDef()


@routes.get("/stations/{station}")
async def station(request: web.Request) -> web.StreamResponse:
    """Show a station with all its angles, live or at the moment `t`."""
    context, lang = request.app[CONTEXT], checked_language(request)
    found = context.stations.get(request.match_info["station"])
    if found is None:
        return await _missing(request)
    status, notice, at_ms = _start(request, context, found)
    angle = request.query.get("angle")
    cameras = [camera.id for camera in found.cameras]
    if angle and angle not in cameras:
        status, notice = (
            404,
            gettext("This station has no such angle; here are all it has.", lang),
        )
    described = explained_station(context, found, lang)
    return page(
        request,
        "station.html",
        status,
        station=described,
        notice=notice,
        state=_state(lang, context, found, described),
        keys=_keys(lang),
        lead=angle if angle in cameras else next(iter(cameras), None),
        oembed=_oembed(request, found),
        script_data=_script_data(request, found, found.cameras, at_ms, angle),
    )


@routes.get("/embed/{station}/{camera}")
async def embed(request: web.Request) -> web.StreamResponse:
    """Show one camera, for an iframe of any site."""
    context, lang = request.app[CONTEXT], checked_language(request)
    found, camera = context.station_and_camera(request)
    return page(
        request,
        "embed.html",
        station=station_json(found, context.directory, lang),
        title=camera.title.in_(lang),
        picture=picture_url(found, camera).replace("thumb", "picture"),
        href=link(request, f"/stations/{found.id}", angle=camera.id),
        script_data=_script_data(request, found, (camera,), None, camera.id),
    )


def _oembed(request: web.Request, found: Station) -> str:
    base = base_url(request)
    return f"{base}/api/v1/oembed?{urlencode({'url': f'{base}/stations/{found.id}'})}"


async def _missing(request: web.Request) -> web.Response:
    directory, lang = request.app[CONTEXT].directory, checked_language(request)
    asked = request.match_info["station"]
    try:
        near = (await search(request, asked))[:NEAR] or await search(request, asked, near=True)
    except (web.HTTPTooManyRequests, web.HTTPServiceUnavailable):
        near = ()
    stations = [station_json(directory.stations[place], directory, lang) for place in near]
    return page(request, "missing.html", 404, suggestions=stations)


def _start(
    request: web.Request, context: AppContext, found: Station
) -> tuple[int, str, int | None]:
    """Return the status, what is wrong in words, and the moment to begin with; None for live."""
    try:
        at_ms = time_ms(request, "t")
    except web.HTTPBadRequest as error:
        return 400, error.text or "", None
    if at_ms is None:
        return 200, "", None
    now_ms, rewind_s, lang = context.clock(), context.config.rewind_s, language_of(request)
    schedules = [windows(context.config.election, found, camera) for camera in found.cameras]
    begins_ms = min((w.start_ms for schedule in schedules for w in schedule), default=now_ms)
    if at_ms > now_ms:
        text = gettext("This moment has not come yet. This is what is so now.", lang)
    elif at_ms < begins_ms:
        at = format_time_of_day(begins_ms, found.time_zone, now_ms, lang)
        text = gettext("Nothing was recorded then: recording began at %(at)s.", lang, at=at)
    elif at_ms < now_ms - rewind_s * 1000:
        text = gettext(
            "This moment is further back than the %(hours)s h that can be watched here.",
            lang,
            hours=format_hours(rewind_s),
        )
    else:
        return 200, "", at_ms
    return 404, text, None


def _state(lang: str, context: AppContext, found: Station, described: StationJson) -> str:
    """Return a sentence where no camera of a station is live: before, after, or all out."""
    if not found.cameras:
        return gettext("No camera is configured in this station.", lang)
    if described["live"]:
        return ""
    schedule = windows(context.config.election, found, found.cameras[0])
    return when_recorded(schedule, context.clock(), found.time_zone, lang) or gettext(
        "No camera of this station gives a picture now. What was recorded is on the timeline.",
        lang,
    )


def _keys(lang: str) -> list[tuple[tuple[str, ...], str]]:
    """Return the keys of the player with what each does."""
    return [
        ((gettext("Space", lang),), gettext("play, or pause", lang)),
        (("←", "→"), gettext("5 seconds back or on; with Shift, 1 minute", lang)),
        (("Page Up", "Page Down"), gettext("1 hour back or on", lang)),
        ((",", "."), gettext("one picture back or on, while paused", lang)),
        (("L",), gettext("go to live", lang)),
        (("1", "–", "9"), gettext("this angle large", lang)),
        (("F",), gettext("full screen", lang)),
        (("M",), gettext("sound on or off", lang)),
        (("?",), gettext("this list", lang)),
    ]


def _script_data(
    request: web.Request,
    found: Station,
    cameras: tuple[Camera, ...],
    at_ms: int | None,
    angle: str | None,
) -> dict[str, object]:
    """Return what the scripts need to know."""
    context, lang = request.app[CONTEXT], checked_language(request)
    schedules = [windows(context.config.election, found, camera) for camera in cameras]
    return {
        "station": found.id,
        "number": found.number,
        "zone": found.time_zone,
        "lang": lang,
        "chosen": "lang" in request.query,
        "months": list(get_month_names("wide", locale=lang).values()),
        "now_ms": context.clock(),
        "rewind_ms": context.config.rewind_s * 1000,
        "windows": sorted({(w.start_ms, w.end_ms) for s in schedules for w in s}),
        "cameras": [
            {
                "id": camera.id,
                "title": camera.title.in_(lang),
                "picture": picture_url(found, camera),
                "low": camera.low_url is not None,
                "takes": takes(context, found, camera),
            }
            for camera in cameras
        ],
        "words": player_messages(lang),
        "t_ms": at_ms,
        "angle": angle,
    }
