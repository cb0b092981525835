"""What is said to people about a camera. Whole sentences in one place, for translators."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from babel.dates import format_date

from config.model import Camera, Station
from config.schedule import is_scheduled, next_change, windows
from storage.records import GapCause
from streaming.context import AppContext
from streaming.http.negotiation import mark, translate

CAUSES = {
    GapCause.CONNECTING: mark("the camera was asked, and no picture had come yet"),
    GapCause.UNREACHABLE: mark("the camera does not answer"),
    GapCause.REFUSED_PASSWORD: mark("the camera refuses the password"),
    GapCause.NO_SUCH_STREAM: mark("the camera has no such stream"),
    GapCause.NO_DATA: mark("the camera sends no picture"),
    GapCause.STREAM_BROKEN: mark("the camera's stream is broken"),
    GapCause.CLOSED_BY_CAMERA: mark("the camera ended the connection"),
    GapCause.PARAMETERS_CHANGED: mark("the camera changed its picture"),
    GapCause.CLOCK_JUMP: mark("a clock was set"),
    GapCause.DISK_FULL: mark("the recorder's disk is full"),
    GapCause.DISK_FAILED: mark("the recorder's disk fails"),
    GapCause.RECORDER_STOPPED: mark("the recorder was stopped"),
    GapCause.RECORDER_CRASHED: mark("the recorder ended unexpectedly"),
}
STATES = {
    "connecting": mark("Connecting to the camera."),
    "stalled": mark("The camera sends no picture at the moment."),
    "backoff": mark("The camera gives no picture; it is asked again shortly."),
    "unknown": mark("The recorder does not run; nothing is recorded now."),
}


def local(lang: str, ms: int, zone: str) -> str:
    """Return a moment as people of the zone write it: 14:03 UTC+5, with the day if not today."""
    at = datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    today = at.date() == datetime.now(ZoneInfo(zone)).date()
    day = "" if today else f"{day_words(lang, at.date(), 'long')}, "
    return f"{day}{at:%H:%M} {zone_words(ms, zone)}"


def day_words(lang: str, day: date, style: str) -> str:
    """Return a day as people of a language write it; in English as it is read in Kazakhstan."""
    return format_date(day, style, "en_GB" if lang == "en" else lang)


def zone_words(ms: int, zone: str) -> str:
    """Return how far a zone is from UTC at a moment: UTC+5, UTC-3:30."""
    at = datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    offset = at.strftime("%z")  # +0500
    hours = f"{offset[0]}{int(offset[1:3])}" if at.utcoffset() else ""
    return f"UTC{hours}{'' if offset.endswith('00') else ':' + offset[3:5]}"


def why_no_picture(views: AppContext, lang: str, station: Station, camera: Camera) -> str:
    """Return a sentence that says why a camera has no picture now; empty when it has one."""
    state = views.state(station, camera)
    if state == "recording":
        return ""
    now_ms = views.clock()
    schedule = windows(views.config.election, station, camera)
    if not is_scheduled(schedule, now_ms):
        begins_ms = next_change(schedule, now_ms)
        if begins_ms is None:
            return translate(lang, "Recording has ended.")
        at = local(lang, begins_ms, station.time_zone)
        return translate(lang, "Recording begins at %(at)s.", at=at)
    if gap := views.view(station.id, camera.id).open_gap():
        since = local(lang, gap.start_ms, station.time_zone)
        cause = translate(lang, CAUSES[gap.cause])
        return translate(lang, "No picture since %(since)s: %(cause)s.", since=since, cause=cause)
    return translate(lang, STATES.get(state, STATES["connecting"]))
