"""When a camera is to be recorded: local windows -> UTC milliseconds.

A camera's schedule is the election's windows, changed by the station's exceptions in the order
in which they stand, within the camera's first and last day, all in the station's time zone.

Where clocks are changed, a local time may come twice or not at all. Then a stretch to be recorded
is as long, and a stretch to be skipped as short, as any reading of it allows (PEP 495: both
values of `fold` are read, and a time that does not come is read with the offsets before and after
the change): rather an hour too much than evidence lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple
from zoneinfo import ZoneInfo

from base.intervals import clip, merge, subtract
from config.model import Camera, Election, LocalWindow, ScheduleException, Station


class Window(NamedTuple):
    """A stretch of UTC in milliseconds since 1970; `start_ms` is in it, `end_ms` is not."""

    start_ms: int
    end_ms: int


def windows(election: Election, station: Station, camera: Camera) -> tuple[Window, ...]:
    """Return when a camera is to be recorded: sorted, none empty, none touching another."""
    return _windows(
        election.windows, station.exceptions, camera.first_day, camera.last_day, station.time_zone
    )


def is_scheduled(windows: Sequence[Window], ms: float) -> bool:
    """Tell whether a moment is to be recorded."""
    before = bisect_right(windows, ms, key=lambda w: w.start_ms)
    return before > 0 and ms < windows[before - 1].end_ms


def next_change(windows: Sequence[Window], ms: float) -> int | None:
    """Return the next moment after `ms` at which a window begins or ends; None after the last."""
    return next((edge for window in windows for edge in window if edge > ms), None)


def offset_in_doubt(zone: str, local: Iterable[LocalWindow]) -> str | None:
    """Say where this machine's time zone database, which counts, and the one that came along have a
    zone otherwise; None where they agree, at the ends of these windows."""
    if (bundled := _bundled(zone)) is None:
        return None
    for at in (at for window in local for at in (window.start, window.end)):
        ours, theirs = (f"{at.replace(tzinfo=each):%z}" for each in (ZoneInfo(zone), bundled))
        if ours != theirs:
            of_us = f"{ours} on {at:%Y-%m-%d} by the time zone database of this machine"
            return f"{zone} is {of_us}, and {theirs} by that which came with Kuager"
    return None


@cache
def _bundled(zone: str) -> ZoneInfo | None:
    try:
        with resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).open("rb") as file:
            return ZoneInfo.from_file(file, zone)
    except OSError:  # it lacks this zone
        return None


@lru_cache(maxsize=1024)  # most cameras of an election have the same
def _windows(
    local: tuple[LocalWindow, ...],
    exceptions: tuple[ScheduleException, ...],
    first_day: date | None,
    last_day: date | None,
    time_zone: str,
) -> tuple[Window, ...]:
    zone = ZoneInfo(time_zone)
    found = merge(_longest(w.start, w.end, zone) for w in local)
    for exception in exceptions:
        if exception.record:
            found = merge([*found, _longest(exception.start, exception.end, zone)])
        else:
            found = subtract(found, [_shortest(exception.start, exception.end, zone)])
    midnight = time()
    if first_day:
        start_ms = _utc_ms(datetime.combine(first_day, midnight), zone, min)
        found = subtract(found, [(0, start_ms)])
    if last_day:
        end = datetime.combine(last_day + timedelta(days=1), midnight)
        end_ms = _utc_ms(end, zone, max)
        found = clip(found, 0, end_ms)
    return tuple(Window(*w) for w in found)


def _longest(start: datetime, end: datetime, zone: ZoneInfo) -> Window:
    return Window(_utc_ms(start, zone, min), _utc_ms(end, zone, max))


def _shortest(start: datetime, end: datetime, zone: ZoneInfo) -> Window:
    return Window(_utc_ms(start, zone, max), _utc_ms(end, zone, min))


def _utc_ms(local: datetime, zone: ZoneInfo, choose: Callable[[int, int], int]) -> int:
    first, second = (
        round(local.replace(tzinfo=zone, fold=fold).timestamp() * 1000) for fold in (0, 1)
    )
    return choose(first, second)
