"""Featured cameras: some that are live and have a picture, from as many regions as there are.

The choice depends on the time and on what is live only, so all web processes make the same one,
and caches may keep it for the seconds for which it holds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from aiohttp import web

from config.model import Camera, Station
from streaming.stations.directory import Directory

HOLDS_S = 10
MOST_FEATURED = 48
TRIES = 4  # stations looked at for each picture that is shown


class Featured:
    """What is shown until the next choice."""

    def __init__(self, directory: Directory, has_picture: Callable[[Station, Camera], bool]):
        self._directory, self._has_picture = directory, has_picture
        self._slot = -1
        self._shown: list[tuple[Station, Camera]] = []

    def shown(self, now_ms: int, limit: int) -> list[tuple[Station, Camera]]:
        """Return so many cameras, one of a station, or as many as there are."""
        slot = now_ms // 1000 // HOLDS_S
        if slot != self._slot:
            self._slot, self._shown = slot, list(self._choose(slot))
        return self._shown[:limit]

    def _choose(self, slot: int) -> Iterator[tuple[Station, Camera]]:
        """Yield cameras of one station after the other, a region at a time."""
        choose, directory, found = random.Random(slot), self._directory, 0
        left = []
        for region in directory.regions.values():
            live = [place for place in region.places if directory.live[place]]
            left.append(choose.sample(live, min(len(live), MOST_FEATURED)))
        choose.shuffle(left)
        for _ in range(TRIES * MOST_FEATURED):
            left = [region for region in left if region]
            if not left or found == MOST_FEATURED:
                return
            station = directory.stations[left[0].pop()]
            left.append(left.pop(0))
            cameras = [c for c in station.cameras if directory.is_live(station, c)]
            camera = choose.choice(cameras) if cameras else None
            if camera and self._has_picture(station, camera):
                found += 1
                yield station, camera


FEATURED = web.AppKey("featured", Featured)
