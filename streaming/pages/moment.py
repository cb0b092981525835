"""The moment that a link names: whether it can be shown and, where not, why and what to do; a
minute of video of a moment where no script runs.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from aiohttp import web

from base.i18n.causes import describe_cause
from base.i18n.format import format_hours, format_time_of_day
from base.i18n.gettext import gettext
from config.model import Camera, Station
from config.schedule import windows
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import language_of
from streaming.http.parameters import time_ms
from streaming.media.clip import BEFORE_MS, one_run
from streaming.pages.render import link

COPIED_MS = 600_000  # that the form of a copy is filled with, from the moment on


class Moment(NamedTuple):
    """What a page shows: `live`, the moment (`shown`), or why not, in words.

    `status` is that of the answer; `copy` is where a copy of the moment can be ordered.
    """

    state: Literal["live", "shown", "too_old", "future", "malformed"]
    at_ms: int | None = None
    status: int = 200
    words: str = ""
    copy: str = ""


def asked_moment(request: web.Request, station: Station, cameras: tuple[Camera, ...]) -> Moment:
    """Return the moment `t` that a request names of cameras of a station."""
    context, lang = request.app[CONTEXT], language_of(request)
    try:
        at_ms = time_ms(request, "t")
    except web.HTTPBadRequest:
        text = gettext("The time in this link cannot be read.", lang)
        return Moment("malformed", None, 400, text)
    if at_ms is None:
        return Moment("live")
    now_ms, rewind_s = context.clock(), context.config.rewind_s
    schedules = [windows(context.config.election, station, camera) for camera in cameras]
    begins_ms = min((w.start_ms for schedule in schedules for w in schedule), default=now_ms)
    if at_ms > now_ms:
        text = gettext("This moment has not come yet.", lang)
        return Moment("future", at_ms, 404, text)
    if at_ms < begins_ms:
        at = format_time_of_day(begins_ms, station.time_zone, now_ms, lang)
        text = gettext("Nothing was recorded then: recording began at %(at)s.", lang, at=at)
        return Moment("too_old", at_ms, 404, text)
    if at_ms < now_ms - rewind_s * 1000:
        hours = format_hours(rewind_s)
        text = gettext(
            "This moment is further back than the %(hours)s h that can be watched here.",
            lang,
            hours=hours,
        )
        return Moment("too_old", at_ms, 404, text, _copy(request, station, cameras, at_ms))
    return Moment("shown", at_ms)


def _copy(request: web.Request, station: Station, cameras: tuple[Camera, ...], at_ms: int) -> str:
    """Return the address where a copy of a moment can be ordered; empty where there are none."""
    if request.app[CONTEXT].config.copies is None:
        return ""
    times = {"from": str(at_ms), "to": str(at_ms + COPIED_MS)}
    named = ",".join(camera.id for camera in cameras)
    return link(request, "/copies/new", station=station.id, cameras=named, **times)


def clip_at(context: AppContext, station: Station, camera: Camera, at_ms: int) -> str:
    """Return the address of a minute of video that shows a moment first; empty where that is not
    here, or cannot be watched any more.

    The file begins with a keyframe; what comes before the moment is skipped by a temporal fragment
    (W3C Media Fragments 1.0, 4.2.1).
    """
    if at_ms < context.clock() - context.config.rewind_s * 1000:
        return ""
    stretch = context.reader(station, camera).stretch(at_ms - BEFORE_MS, at_ms + 1)
    if not (found := one_run(stretch, at_ms)):
        return ""
    skipped_s = (at_ms - found[0][2].start_ms) / 1000
    return f"/live/{station.id}/{camera.id}/moment.mp4?t={at_ms}#t={skipped_s:.3f}"


def why_not_shown(
    context: AppContext, station: Station, camera: Camera, at_ms: int, lang: str
) -> str:
    """Return why a camera has nothing at a moment of which nothing is here."""
    for gap in context.reader(station, camera).gaps(at_ms, at_ms + 1):
        cause = describe_cause(gap.cause, lang)
        return gettext("No picture at this moment: %(cause)s.", lang, cause=cause)
    return gettext("There is no recording of this moment here.", lang)
