"""`kuager holds`: what is kept beyond its date, because a court, an order or an operator asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from rich.console import Console

from config.model import Config
from storage.catalogue.catalogue import Catalogue

T = TypeVar("T")
out = Console()


def parse_time(text: str | None) -> int | None:
    """Return UTC milliseconds of an RFC 3339 time with its zone; raises ValueError with words."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(f"{text}: write a time with its zone, as 2026-11-29T07:00+05:00")
    return int(at.timestamp() * 1000)


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
            _now_ms(),
            station=station or None,
            camera=one or None,
            from_ms=from_ms,
            to_ms=to_ms,
            until_ms=until_ms,
        ),
    )


def release(config: Config, number: int) -> bool:
    """End a hold; False when none lasts under this number."""
    return _with(config, lambda catalogue: catalogue.holds.release(number, _now_ms()))


def show(config: Config) -> None:
    """Print all holds, also those that ended."""
    rows = _with(config, lambda catalogue: catalogue.holds.of(config.election.id))
    if not rows:
        out.print("There are no holds.")
        return
    for row in rows:  # two lines each: a table of so many times fits no terminal
        what = "/".join(filter(None, (row["station"], row["camera"]))) or "every station"
        ends = _shown(row["from_ms"], "the first"), _shown(row["to_ms"], "the last")
        released = row["released_ms"]
        until = _shown(row["until_ms"], "it is released")
        lasts = f"until {until}" if released is None else f"released {_shown(released)}"
        _line(f"Hold {row['hold_no']}: {what}, from {ends[0]} to {ends[1]}, {lasts}")
        _line(f"    {row['reason']} (set {_shown(row['created_ms'])})")


def _line(text: str) -> None:
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _with(config: Config, work: Callable[[Catalogue], Awaitable[T]]) -> T:
    async def run() -> T:
        catalogue = await Catalogue.open(config.database_url)
        try:
            return await work(catalogue)
        finally:
            await catalogue.close()

    return asyncio.run(run())


def _shown(ms: int | None, nothing: str = "") -> str:
    return nothing if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}Z"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
