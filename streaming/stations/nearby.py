"""Stations by how far they are from a place."""

from __future__ import annotations

from collections.abc import Sequence
from math import asin, cos, radians, sin, sqrt

from config.model import Station

EARTH_M = 6_371_009  # its mean radius


class Nearby:
    """The stations of a list that say where they are; stations are their places in the list."""

    def __init__(self, stations: Sequence[Station]):
        self._known = [
            (radians(s.latitude), radians(s.longitude), place)
            for place, s in enumerate(stations)
            if s.latitude is not None and s.longitude is not None
        ]

    def __bool__(self) -> bool:
        """Tell whether any station says where it is."""
        return bool(self._known)

    def find(self, latitude: float, longitude: float) -> dict[int, int]:
        """Return the way to each station in metres (along a great circle), the nearest first.

        May be called from any thread.
        """
        at, beside = radians(latitude), radians(longitude)
        found = []
        for there, along, place in self._known:
            # the haversine formula, which is exact for short ways, too
            half = sin((there - at) / 2) ** 2
            half += cos(at) * cos(there) * sin((along - beside) / 2) ** 2
            found.append((round(2 * EARTH_M * asin(sqrt(min(1.0, half)))), place))
        return {place: metres for metres, place in sorted(found)}
