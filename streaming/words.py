"""What is said to people about a camera. Whole sentences in one place, for translators."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

from config.model import Camera, Station
from config.schedule import is_scheduled, next_change, windows
from storage.index import GapCause
from streaming.views import Views

LANGUAGE = "en"
CAUSES = {
    GapCause.UNREACHABLE: "the camera does not answer",
    GapCause.REFUSED_PASSWORD: "the camera refuses the password",
    GapCause.NO_SUCH_STREAM: "the camera has no such stream",
    GapCause.NO_DATA: "the camera sends no picture",
    GapCause.STREAM_BROKEN: "the camera's stream is broken",
    GapCause.CLOSED_BY_CAMERA: "the camera ended the connection",
    GapCause.PARAMETERS_CHANGED: "the camera changed its picture",
    GapCause.CLOCK_JUMP: "a clock was set",
    GapCause.DISK_FULL: "the recorder's disk is full",
    GapCause.DISK_FAILED: "the recorder's disk fails",
    GapCause.RECORDER_STOPPED: "the recorder was stopped",
    GapCause.RECORDER_CRASHED: "the recorder ended unexpectedly",
}
STATES = {
    "connecting": "Connecting to the camera.",
    "stalled": "The camera sends no picture at the moment.",
    "backoff": "The camera gives no picture; it is asked again shortly.",
    "unknown": "The recorder does not run; nothing is recorded now.",
}


def local(ms: int, zone: str) -> str:
    """Return a moment as people of the zone write it: 14:03 UTC+5, with the day if not today."""
    at = datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    day = "" if at.date() == datetime.now(ZoneInfo(zone)).date() else f"{at:%Y-%m-%d} "
    offset = at.strftime("%z")  # +0500
    hours = f"{offset[0]}{int(offset[1:3])}" if at.utcoffset() else ""
    return f"{day}{at:%H:%M} UTC{hours}{'' if offset.endswith('00') else ':' + offset[3:5]}"


def why_no_picture(views: Views, station: Station, camera: Camera) -> str:
    """Return a sentence that says why a camera has no picture now; empty when it has one."""
    state = views.state(station, camera)
    if state == "recording":
        return ""
    now_ms = int(time.time() * 1000)
    schedule = windows(views.config.election, station, camera)
    if not is_scheduled(schedule, now_ms):
        begins_ms = next_change(schedule, now_ms)
        if begins_ms is None:
            return "Recording has ended."
        return f"Recording begins at {local(begins_ms, station.time_zone)}."
    if gap := views.view(station.id, camera.id).open_gap():
        return f"No picture since {local(gap.start_ms, station.time_zone)}: {CAUSES[gap.cause]}."
    return STATES.get(state, STATES["connecting"])
