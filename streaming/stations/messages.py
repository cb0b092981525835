"""What is said to people about a camera. Whole sentences in one place, for translators."""

from __future__ import annotations

from base.i18n.causes import describe_cause
from base.i18n.format import format_time_of_day
from base.i18n.gettext import N_, gettext
from config.model import Camera, Station
from config.schedule import is_scheduled, next_change, windows
from streaming.context import AppContext

STATES = {
    "connecting": N_("Connecting to the camera."),
    "stalled": N_("The camera sends no picture at the moment."),
    "backoff": N_("The camera gives no picture; it is asked again shortly."),
    "unknown": N_("The recorder does not run; nothing is recorded now."),
}


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
            return gettext("Recording has ended.", lang)
        at = format_time_of_day(begins_ms, station.time_zone, now_ms, lang)
        return gettext("Recording begins at %(at)s.", lang, at=at)
    if gap := views.view(station.id, camera.id).open_gap():
        since = format_time_of_day(gap.start_ms, station.time_zone, now_ms, lang)
        cause = describe_cause(gap.cause, lang)
        return gettext("No picture since %(since)s: %(cause)s.", lang, since=since, cause=cause)
    return gettext(STATES.get(state, STATES["connecting"]), lang)
