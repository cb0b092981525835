"""`kuager holds`: what is kept beyond its date, because a court, an order or an operator asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from base import clock
from config.model import Config
from kuager.terminal import format_utc, out, say
from storage.catalogue.catalogue import Catalogue

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
    from_ms: int | None,
    to_ms: int | None,
    until_ms: int | None,
) -> int:
    """Add a hold; `camera` is a station, station/camera, or None for all. Returns its number."""
    station, _, one = (camera or "").partition("/")
    known = {s.id: {c.id for c in s.cameras} for s in config.stations}
    if station and (station not in known or (one and one not in known[station])):
        raise ValueError(f"{camera}: no such station or camera is configured")
    return _with(
        config,
        lambda catalogue: catalogue.holds.add(
            config.election.id,
            reason,
            clock.now_ms(),
            station=station or None,
            camera=one or None,
            from_ms=from_ms,
            to_ms=to_ms,
            until_ms=until_ms,
        ),
    )


def release(config: Config, number: int) -> bool:
    """End a hold; False when none lasts under this number."""
    return _with(config, lambda catalogue: catalogue.holds.release(number, clock.now_ms()))


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
        say(f"    {row.reason} (set {format_utc(row.created_ms)})")


def _with(config: Config, work: Callable[[Catalogue], Awaitable[T]]) -> T:
    async def run() -> T:
        catalogue = await Catalogue.open(config.database_url)
        try:
            return await work(catalogue)
        finally:
            await catalogue.close()

    return asyncio.run(run())
