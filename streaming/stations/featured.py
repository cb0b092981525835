"""The changing wall: cameras that are live and have a picture, from as many regions as there are.

The choice depends on the time and on what is live only, so all web processes make the same one,
and caches may keep it for the seconds for which it holds.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from aiohttp import web

from config.model import Camera, Station
from streaming.context import AppContext
from streaming.media.pictures import has_picture

HOLDS_S = 10
MOST_WALL = 48
TRIES = 4  # stations looked at for each picture that is shown


class Featured:
    """What is shown until the next choice."""

    def __init__(self) -> None:
        self._slot = -1
        self._shown: list[tuple[Station, Camera]] = []

    def shown(self, views: AppContext, limit: int) -> list[tuple[Station, Camera]]:
        """Return so many cameras, one of a station, or as many as there are."""
        slot = views.clock() // 1000 // HOLDS_S
        if slot != self._slot:
            self._slot, self._shown = slot, list(_choose(views, slot))
        return self._shown[:limit]


FEATURED = web.AppKey("wall", Featured)


def _choose(views: AppContext, slot: int) -> Iterator[tuple[Station, Camera]]:
    """Yield cameras of one station after the other, a region at a time."""
    choose = random.Random(slot)
    places, found = views.places, 0
    left = []
    for region in places.regions.values():
        live = [place for place in region.places if places.live[place]]
        left.append(choose.sample(live, min(len(live), MOST_WALL)))
    choose.shuffle(left)
    for _ in range(TRIES * MOST_WALL):
        left = [region for region in left if region]
        if not left or found == MOST_WALL:
            return
        station = places.stations[left[0].pop()]
        left.append(left.pop(0))
        cameras = [c for c in station.cameras if views.state(station, c) == "recording"]
        camera = choose.choice(cameras) if cameras else None
        if camera and has_picture(views, station, camera):
            found += 1
            yield station, camera
