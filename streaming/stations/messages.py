"""What is said to people about stations and cameras, in whole sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from base.i18n.causes import describe_cause
from base.i18n.format import format_number, format_time_of_day
from base.i18n.gettext import N_, gettext, ngettext
from config.schedule import Window, is_scheduled, next_change
from storage.records import Gap
from streaming.stations.directory import Tally

STATES = {
    "connecting": N_("Connecting to the camera."),
    "stalled": N_("The camera sends no picture at the moment."),
    "backoff": N_("The camera gives no picture; it is asked again shortly."),
    "unknown": N_("The recorder does not run; nothing is recorded now."),
}


def why_no_picture(
    state: str,
    schedule: Sequence[Window],
    open_gap: Callable[[], Gap | None],
    now_ms: int,
    zone: str,
    lang: str,
) -> str:
    """Return a sentence that says why a camera has no picture now; empty when it has one.

    `state` is what its recorder does, `schedule` when it is to be recorded. `open_gap` returns the
    gap that lasts, if there is one, and is asked only where it matters: it reads files.
    """
    if state == "recording":
        return ""
    if not is_scheduled(schedule, now_ms):
        begins_ms = next_change(schedule, now_ms)
        if begins_ms is None:
            return gettext("Recording has ended.", lang)
        at = format_time_of_day(begins_ms, zone, now_ms, lang)
        return gettext("Recording begins at %(at)s.", lang, at=at)
    if gap := open_gap():
        since = format_time_of_day(gap.start_ms, zone, now_ms, lang)
        cause = describe_cause(gap.cause, lang)
        return gettext("No picture since %(since)s: %(cause)s.", lang, since=since, cause=cause)
    return gettext(STATES.get(state, STATES["connecting"]), lang)


def when_recorded(schedule: Sequence[Window], now_ms: int, zone: str, lang: str) -> str:
    """Return a sentence that says when recording begins or ended; empty while it goes on."""
    if is_scheduled(schedule, now_ms):
        return ""
    if (begins_ms := next_change(schedule, now_ms)) is not None:
        at = format_time_of_day(begins_ms, zone, now_ms, lang)
        return gettext("Recording begins at %(at)s.", lang, at=at)
    if not schedule:
        return gettext("Recording has ended.", lang)
    at = format_time_of_day(schedule[-1].end_ms, zone, now_ms, lang)
    return gettext("Recording ended at %(at)s.", lang, at=at)


def cameras_live(live: int, count: int, lang: str) -> str:
    """Return how many of so many cameras are live."""
    values = {"live": format_number(live, lang), "of": format_number(count, lang)}
    return ngettext(
        "%(live)s of %(of)s camera live", "%(live)s of %(of)s cameras live", count, lang, **values
    )


def stations_live(live: int, count: int, lang: str) -> str:
    """Return how many of so many stations are live."""
    values = {"live": format_number(live, lang), "of": format_number(count, lang)}
    return ngettext(
        "%(live)s of %(of)s station live", "%(live)s of %(of)s stations live", count, lang, **values
    )


def tally_live(tally: Tally, lang: str) -> str:
    """Return how much of all stations and cameras is live."""
    stations = stations_live(tally.stations_live, tally.stations, lang)
    return f"{stations}, {cameras_live(tally.cameras_live, tally.cameras, lang)}"
