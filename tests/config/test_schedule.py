"""When a camera is to be recorded, against the words of docs/configuration.md."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from config.model import Camera, Election, Station
from config.schedule import Window, is_scheduled, next_change, windows

Stretch = tuple[datetime, datetime]
MINUTE = 60_000


def scheduled(
    local: list[Stretch],
    zone: str = "Asia/Almaty",
    exceptions: list[tuple[Stretch, bool]] | None = None,
    **camera: Any,
) -> tuple[Window, ...]:
    election = Election.model_validate(
        {
            "id": "e",
            "name": "E",
            "date": date(2026, 11, 29),
            "time_zone": "UTC",
            "windows": [{"from": a, "to": b} for a, b in local],
        }
    )
    changes = [{"from": a, "to": b, "record": r} for (a, b), r in exceptions or []]
    station = Station.model_validate({"id": "s", "time_zone": zone, "exceptions": changes})
    return windows(election, station, Camera(id="c", url="rtsp://h", **camera))


def utc(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000)


def local(text: str) -> datetime:
    return datetime.fromisoformat(text)


DAY = (local("2026-11-29T06:00"), local("2026-11-30T03:00"))


def test_the_window_is_in_the_time_of_the_station() -> None:
    assert scheduled([DAY]) == ((utc("2026-11-29T01:00"), utc("2026-11-29T22:00")),)
    assert scheduled([DAY], "Asia/Tokyo") == ((utc("2026-11-28T21:00"), utc("2026-11-29T18:00")),)


def test_exceptions_apply_in_their_order() -> None:
    cut = ((local("2026-11-29T10:00"), local("2026-11-29T12:00")), False)
    add = ((local("2026-11-29T11:00"), local("2026-11-29T11:30")), True)
    late = (utc("2026-11-29T07:00"), utc("2026-11-29T22:00"))
    early = (utc("2026-11-29T01:00"), utc("2026-11-29T05:00"))
    assert scheduled([DAY], exceptions=[add, cut]) == (early, late)
    between = (utc("2026-11-29T06:00"), utc("2026-11-29T06:30"))
    assert scheduled([DAY], exceptions=[cut, add]) == (early, between, late)


def test_windows_that_touch_are_one() -> None:
    middle = local("2026-11-29T12:00")
    assert scheduled([(middle, DAY[1]), (DAY[0], middle)]) == scheduled([DAY])
    assert scheduled([(DAY[0], middle)], exceptions=[((middle, DAY[1]), True)]) == scheduled([DAY])


def test_days_are_whole_and_local() -> None:
    wide = (local("2026-11-01T00:00"), local("2026-12-31T00:00"))
    day = date(2026, 11, 29)
    whole = (utc("2026-11-28T19:00"), utc("2026-11-29T19:00"))
    assert scheduled([wide], first_day=day, last_day=day) == (whole,)
    assert scheduled([DAY], first_day=date(2026, 12, 1)) == ()
    assert scheduled([DAY], last_day=date(2026, 11, 28)) == ()


@pytest.mark.parametrize(
    ("start", "end", "record", "expected"),
    [
        # Berlin, 25 October 2026: 02:00 to 03:00 comes twice, first at +2, then at +1
        ("2026-10-25T02:30", "2026-10-25T04:00", True, ("2026-10-25T00:30", "2026-10-25T03:00")),
        ("2026-10-25T01:00", "2026-10-25T02:30", True, ("2026-10-24T23:00", "2026-10-25T01:30")),
        ("2026-10-25T02:30", "2026-10-25T04:00", False, ("2026-10-25T01:30", "2026-10-25T03:00")),
        ("2026-10-25T01:00", "2026-10-25T02:30", False, ("2026-10-24T23:00", "2026-10-25T00:30")),
        ("2026-10-25T02:10", "2026-10-25T02:50", False, None),
        # Berlin, 29 March 2026: 02:00 to 03:00 does not come, +1 changes to +2
        ("2026-03-29T02:30", "2026-03-29T04:00", True, ("2026-03-29T00:30", "2026-03-29T02:00")),
        ("2026-03-29T01:00", "2026-03-29T02:30", True, ("2026-03-29T00:00", "2026-03-29T01:30")),
        ("2026-03-29T02:30", "2026-03-29T04:00", False, ("2026-03-29T01:30", "2026-03-29T02:00")),
    ],
)
def test_changes_of_the_clock(
    start: str, end: str, record: bool, expected: tuple[str, str] | None
) -> None:
    stretch = (local(start), local(end))
    if record:
        assert expected is not None
        assert scheduled([stretch], "Europe/Berlin") == (tuple(map(utc, expected)),)
        return
    whole = (stretch[0] - timedelta(days=1), stretch[1] + timedelta(days=1))
    found = scheduled([whole], "Europe/Berlin", [(stretch, False)])
    cut = [(a.end_ms, b.start_ms) for a, b in pairwise(found)]
    assert cut == ([tuple(map(utc, expected))] if expected else [])


# -- properties ------------------------------------------------------------------------------

ZONES = ("Asia/Almaty", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC")
CHANGES = ((3, 29), (10, 25), (4, 5), (3, 8), (11, 1))  # of the clock, in these zones


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A schedule whose edges are all within half a day of one another, so that they meet."""
    month, day = draw(st.sampled_from(CHANGES))
    change = datetime(2026, month, day, 2)
    near = st.integers(-24, 24).map(lambda n: change + timedelta(minutes=30 * n))
    stretches = st.tuples(near, near).filter(lambda t: t[0] < t[1])
    days = st.none() | near.map(datetime.date)
    first, last = draw(days), draw(days)
    assume(not (first and last and last < first))
    return {
        "local": draw(st.lists(stretches, min_size=1, max_size=3)),
        "zone": draw(st.sampled_from(ZONES)),
        "exceptions": draw(st.lists(st.tuples(stretches, st.booleans()), max_size=4)),
        "first_day": first,
        "last_day": last,
    }


def edges(found: tuple[Window, ...]) -> list[int]:
    return [edge for window in found for edge in window]


@pytest.mark.slow
@settings(max_examples=300)
@given(cases())
def test_every_moment_is_as_the_words_say(case: dict[str, Any]) -> None:
    found = scheduled(**case)
    assert edges(found) == sorted(set(edges(found)))  # sorted, and none touches another
    first, last = case["first_day"], case["last_day"]
    stretches = case["local"] + [stretch for stretch, _ in case["exceptions"]]
    zone = ZoneInfo(case["zone"])
    for edge in (edge for stretch in stretches for edge in stretch):
        at_edge = round(edge.replace(tzinfo=zone).timestamp() * 1000)
        for at in (at_edge, at_edge - 1, at_edge + 20 * MINUTE, at_edge - 20 * MINUTE):
            wall = datetime.fromtimestamp(at / 1000, zone).replace(tzinfo=None)
            expected = any(a <= wall < b for a, b in case["local"])
            for (a, b), record in case["exceptions"]:
                expected = record if a <= wall < b else expected
            expected &= first is None or first <= wall.date()
            expected &= last is None or wall.date() <= last
            if _offset_is_steady(at, case["zone"]):
                assert is_scheduled(found, at) == expected
            elif expected:
                assert is_scheduled(found, at)  # where in doubt, recorded


def _offset_is_steady(ms: int, zone: str) -> bool:
    hours = range(-3, 4)
    found = (datetime.fromtimestamp(ms / 1000 + 3600 * h, ZoneInfo(zone)) for h in hours)
    return len({t.utcoffset() for t in found}) == 1


disjoint = st.lists(st.integers(0, 1000), unique=True, max_size=10).map(
    lambda e: tuple(Window(a, b) for a, b in zip(sorted(e)[::2], sorted(e)[1::2], strict=False))
)


@given(disjoint, st.integers(-10, 1010))
def test_changes(found: tuple[Window, ...], start: int) -> None:
    change = next_change(found, start)
    until = 1010 if change is None else change
    assert len({is_scheduled(found, ms) for ms in range(start, until)} or {True}) == 1
    if change is not None:
        assert change > start
        assert is_scheduled(found, change) != is_scheduled(found, change - 1)
