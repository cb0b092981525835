"""What is said to people about stations and cameras, in whole sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from base.i18n.causes import describe_cause
from base.i18n.format import format_number, format_tenths, format_time_of_day
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
        since = format_time_of_day(gap.start_ms, zone, now_ms, lang, seconds=True)
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
    """Return how many of so many cameras are live, as a sentence."""
    return gettext("Live: %(what)s", lang, what=_of_cameras(live, count, lang))


def stations_live(live: int, count: int, lang: str) -> str:
    """Return how many of so many stations are live, as a sentence."""
    return gettext("Live: %(what)s", lang, what=_of_stations(live, count, lang))


def tally_live(tally: Tally, lang: str) -> str:
    """Return how much of all stations and cameras is live, as a sentence."""
    return gettext(
        "Live: %(stations)s, %(cameras)s",
        lang,
        stations=_of_stations(tally.stations_live, tally.stations, lang),
        cameras=_of_cameras(tally.cameras_live, tally.cameras, lang),
    )


def no_picture_from(titles: Sequence[str], lang: str) -> str:
    """Return which cameras give no picture, as a sentence; empty where all do."""
    if not titles:
        return ""
    return gettext("No picture: %(titles)s", lang, titles=", ".join(titles))


def format_distance(metres: int, lang: str) -> str:
    """Return how far a station is: 850 m, 1.2 km."""
    if metres < 950:
        return gettext("%(n)s m", lang, n=format_number(round(metres, -1), lang))
    return gettext("%(n)s km", lang, n=format_tenths(metres / 1000, lang))


def _of_cameras(live: int, count: int, lang: str) -> str:
    """Return "2 of 3 cameras": whole in itself, so that a sentence has it behind a colon."""
    values = {"live": format_number(live, lang), "of": format_number(count, lang)}
    return ngettext(
        "%(live)s of %(of)s camera", "%(live)s of %(of)s cameras", count, lang, **values
    )


def _of_stations(live: int, count: int, lang: str) -> str:
    values = {"live": format_number(live, lang), "of": format_number(count, lang)}
    return ngettext(
        "%(live)s of %(of)s station", "%(live)s of %(of)s stations", count, lang, **values
    )
