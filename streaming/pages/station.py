"""The page of a station, and the player that other sites embed."""

from __future__ import annotations

from urllib.parse import urlencode

from aiohttp import web
from babel.dates import get_month_names

from base.currency import decimals
from base.i18n.format import format_hours
from base.i18n.gettext import gettext
from config.copies import Copies
from config.model import Camera, Station
from config.schedule import windows
from streaming.api.stations import explained_station, search, takes
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import checked_language
from streaming.http.site import base_url
from streaming.pages.cards import station_cards
from streaming.pages.moment import Moment, asked_moment, clip_at, why_not_shown
from streaming.pages.player_messages import player_messages
from streaming.pages.render import link, page
from streaming.stations.messages import when_recorded
from streaming.stations.serialize import StationJson, picture_url, station_json

NEAR = 5  # stations that are suggested for one that is not there

routes = web.RouteTableDef()


@routes.get("/stations/{station}")
async def station(request: web.Request) -> web.StreamResponse:
    """Show a station with all its angles, live or at the moment `t`; one that cannot be shown is
    said, with what to do."""
    context, lang = request.app[CONTEXT], checked_language(request)
    found = context.stations.get(request.match_info["station"])
    if found is None:
        return await _missing(request)
    angle = request.query.get("angle")
    cameras = [camera.id for camera in found.cameras]
    lead = tuple(camera for camera in found.cameras if camera.id == angle)
    moment = asked_moment(request, found, lead or found.cameras)
    status, notice = moment.status, moment.words
    if angle and angle not in cameras:
        status = 404
        notice = gettext("This station has no such angle; here are all it has.", lang)
    await context.learn_rates(found, found.cameras)
    described = explained_station(context, found, lang)
    return page(
        request,
        "station.html",
        status,
        station=described,
        notice=notice,
        moment=moment,
        clips=_clips(context, found, found.cameras, moment, lang),
        live=link(request, f"/stations/{found.id}", **({"angle": angle} if lead and angle else {})),
        state=_state(lang, context, found, described),
        keys=_keys(lang),
        hours=format_hours(context.config.rewind_s),
        lead=angle if angle in cameras else next(iter(cameras), None),
        chosen="lang" in request.query,
        oembed=_oembed(request, found),
        script_data=_script_data(request, found, found.cameras, moment, angle),
    )


@routes.get("/embed/{station}/{camera}")
async def embed(request: web.Request) -> web.StreamResponse:
    """Show one camera, live or at the moment `t`, for an iframe of any site."""
    context, lang = request.app[CONTEXT], checked_language(request)
    found, camera = context.station_and_camera(request)
    await context.learn_rates(found, (camera,))
    moment = asked_moment(request, found, (camera,))
    shown = {"t": str(moment.at_ms)} if moment.state in ("shown", "too_old") else {}
    said = "" if context.directory.is_live(found, camera) else f"?lang={lang}"  # of its slate
    return page(
        request,
        "embed.html",
        moment.status,
        moment=moment,
        clips=_clips(context, found, (camera,), moment, lang),
        live=link(request, f"/embed/{found.id}/{camera.id}"),
        station=station_json(found, context.directory, lang),
        title=camera.title.in_(lang),
        picture=picture_url(found, camera).replace("thumb", "picture") + said,
        href=link(request, f"/stations/{found.id}", angle=camera.id, **shown),
        script_data=_script_data(request, found, (camera,), moment, camera.id),
    )


def _oembed(request: web.Request, found: Station) -> str:
    """Return the address of what describes how to embed this page, with its angle and moment."""
    base = base_url(request)
    kept = {key: request.query[key] for key in ("angle", "t") if key in request.query}
    url = f"{base}/stations/{found.id}{'?' if kept else ''}{urlencode(kept)}"
    return f"{base}/api/v1/oembed?{urlencode({'url': url})}"


def _clips(
    context: AppContext, found: Station, cameras: tuple[Camera, ...], moment: Moment, lang: str
) -> dict[str, tuple[str, str]]:
    """Return what is shown of the moment where no script runs: the address of a video of each
    camera, or why it has none."""
    at_ms = moment.at_ms
    if moment.state != "shown" or at_ms is None:
        return {}
    clips = {c: clip_at(context, found, c, at_ms) for c in cameras}
    return {
        c.id: (clip, "" if clip else why_not_shown(context, found, c, at_ms, lang))
        for c, clip in clips.items()
    }


async def _missing(request: web.Request) -> web.Response:
    directory, lang = request.app[CONTEXT].directory, checked_language(request)
    asked = request.match_info["station"]
    try:
        near = (await search(request, asked))[:NEAR] or await search(request, asked, near=True)
    except (web.HTTPTooManyRequests, web.HTTPServiceUnavailable):
        near = ()
    stations = station_cards((directory.stations[place] for place in near), directory, lang)
    return page(request, "missing.html", 404, suggestions=stations)


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
        ((gettext("Space", lang), "K"), gettext("play, or pause", lang)),
        (("←", "→"), gettext("5 seconds back or on; with Shift, 1 minute", lang)),
        (("Page Up", "Page Down"), gettext("1 hour back or on", lang)),
        ((",", "."), gettext("one picture back or on; with Shift, slower or faster", lang)),
        (("L",), gettext("go to live", lang)),
        (("[", "]"), gettext("previous or next gap", lang)),
        (("T",), gettext("jump to a time", lang)),
        (("1", "–", "9"), gettext("this camera large", lang)),
        (("G",), gettext("cameras side by side", lang)),
        (("F",), gettext("full screen", lang)),
        (("M",), gettext("sound on or off", lang)),
        (("S",), gettext("share this moment", lang)),
        (("I", "O"), gettext("beginning and end of a copy", lang)),
        (("?",), gettext("this list", lang)),
    ]


def _script_data(
    request: web.Request,
    found: Station,
    cameras: tuple[Camera, ...],
    moment: Moment,
    angle: str | None,
) -> dict[str, object]:
    """Return what the scripts need to know."""
    context, lang = request.app[CONTEXT], checked_language(request)
    schedules = [windows(context.config.election, found, camera) for camera in cameras]
    return {
        "station": found.id,
        "number": found.number,
        "name": found.name.in_(lang),
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
                "picture_zone": camera.picture_zone,
                "low": camera.low_url is not None,
                "takes": takes(context, found, camera),
            }
            for camera in cameras
        ],
        "prices": _prices(context.config.copies),
        "words": player_messages(lang),
        "angle": angle,
    }


def _prices(settings: Copies | None) -> dict[str, object] | None:
    """Return what copies cost, for who marks a stretch; None where they are not sold, or free."""
    if settings is None or settings.free:
        return None
    return {
        "currency": settings.currency,
        "decimals": decimals(settings.currency),
        "per_minute": settings.price_per_minute,
        "minimum": settings.minimum,
        "tax": settings.tax,
    }
