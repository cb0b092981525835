"""`kuager holds`: what is kept beyond its date, because a court, an order or an operator asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from base import clock
from config.model import Config
from kuager.terminal import format_utc, operator, out, say
from storage.catalogue.catalogue import Catalogue
from storage.records import printable

MOST_REASON = 1000

T = TypeVar("T")


def parse_time(text: str | None) -> int | None:
    """Return UTC milliseconds of an RFC 3339 time with its zone; raises ValueError with words."""
    try:
        return None if text is None else clock.parse_time(text)
    except ValueError:
        text = f"{text}: write a time with its zone, as 2026-11-29T07:00+05:00"
        raise ValueError(text) from None


def add(
    config: Config,
    reason: str,
    camera: str | None,
    times: tuple[int | None, int | None, int | None],
    who: str | None = None,
) -> int:
    """Add a hold; `camera` is a station, station/camera, or None for all, `times` are the first
    and the last moment of what is kept, and until when. Returns its number; raises ValueError."""
    reason, (from_ms, to_ms, until_ms) = " ".join(reason.split()), times
    if not reason or not reason.isprintable() or len(reason) > MOST_REASON:
        raise ValueError(f"write a reason of at most {MOST_REASON} characters")
    if from_ms is not None and to_ms is not None and to_ms <= from_ms:
        raise ValueError("'--to' is not after '--from': such a hold would keep nothing")
    if until_ms is not None and until_ms <= clock.now_ms():
        raise ValueError("'--until' is past: such a hold would keep nothing")
    station, _, one = (camera or "").partition("/")

    async def work(catalogue: Catalogue) -> int:
        known = {(s.id, c.id) for s in config.stations for c in s.cameras}
        # also those that are configured no longer: their recordings are there
        known |= {name[1:] for name in await catalogue.cameras.names(config.election.id)}
        if camera is not None and not any(s == station and one in ("", c) for s, c in known):
            raise ValueError(f"'{camera}': no such station or camera")
        return await catalogue.holds.add(
            config.election.id,
            f"{reason} (set by {operator(who)})",
            clock.now_ms(),
            station=station or None,
            camera=one or None,
            from_ms=from_ms,
            to_ms=to_ms,
            until_ms=until_ms,
        )

    return _with(config, work)


def release(config: Config, number: int, who: str | None = None) -> bool:
    """End a hold; False when none lasts under this number. Raises ValueError for one of an order,
    which ends with it."""

    async def work(catalogue: Catalogue) -> bool:
        rows = await catalogue.holds.of(config.election.id)
        row = next((row for row in rows if row.hold_no == number), None)
        if row is None:  # also a number that no database takes
            return False
        if row.order_pk is not None and row.released_ms is None:
            text = f"hold {number} is of {row.reason}, and ends with it: kuager orders show"
            raise ValueError(f"{text} {row.reason.removeprefix('order ')}")
        return await catalogue.holds.release(number, clock.now_ms(), operator(who))

    return _with(config, work)


def show(config: Config) -> None:
    """Print all holds, also those that ended."""
    rows = _with(config, lambda catalogue: catalogue.holds.of(config.election.id))
    if not rows:
        out.print("There are no holds.")
        return
    for row in rows:  # two lines each: a table of so many times fits no terminal
        what = "/".join(filter(None, (row.station, row.camera))) or "every station"
        ends = format_utc(row.from_ms, "the first"), format_utc(row.to_ms, "the last")
        released = row.released_ms
        until = format_utc(row.until_ms, "it is released")
        lasts = f"until {until}" if released is None else f"released {format_utc(released)}"
        say(f"Hold {row.hold_no}: {what}, from {ends[0]} to {ends[1]}, {lasts}")
        say(f"    {printable(row.reason)} (on {format_utc(row.created_ms)})")


def _with(config: Config, work: Callable[[Catalogue], Awaitable[T]]) -> T:
    async def run() -> T:
        catalogue = await Catalogue.open(config.database_url)
        try:
            return await work(catalogue)
        finally:
            await catalogue.close()

    return asyncio.run(run())
