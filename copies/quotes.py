"""A quote: what exists of what was asked for, what is missing and why, and what it costs.

It is frozen: what is ordered is exactly what was quoted, at that price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from config.copies import Copies
from config.model import Config, Station
from copies.orders import Refused


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants: cameras of a station and a stretch of UTC."""

    station: Station
    cameras: tuple[str, ...]
    from_ms: int
    to_ms: int


def ask(
    config: Config,
    settings: Copies,
    station: str,
    cameras: Sequence[str],
    from_ms: int,
    to_ms: int,
    now_ms: int,
) -> Asked:
    """Return what can be quoted; raises Refused with what is wrong with it."""
    found = next((s for s in config.stations if s.id == station), None)
    if found is None:
        raise Refused("there is no such station")
    known = [c.id for c in found.cameras]
    if any(camera not in known for camera in cameras):
        raise Refused("the station has no such camera")
    if not cameras:
        raise Refused("choose at least one camera")
    if to_ms <= from_ms:
        raise Refused("'to' is not after 'from'")
    if to_ms - from_ms > settings.longest * 1000:
        hours = f"{settings.longest / 3600:g}"
        raise Refused("the stretch is longer than %(hours)s hours: ask in parts", hours=hours)
    if from_ms >= now_ms:
        raise Refused("nothing is recorded yet of that time")
    # in the station's order, each once
    return Asked(found, tuple(c for c in known if c in cameras), from_ms, to_ms)
