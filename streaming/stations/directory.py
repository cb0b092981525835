"""Regions, their districts and stations, and how many of them are live: counted, never walked.

What is counted is made from the configuration once; how many are live is counted anew when the
status files were looked at, not when somebody asks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from base.intervals import merge
from config.model import Camera, Config, Localized, Station
from config.schedule import Window, windows
from storage.spool.status_records import UNKNOWN
from streaming.stations.nearby import Nearby
from streaming.stations.search import Search
from streaming.stations.transliterate import slug

NO_NAME = "-"  # the id of where stations are that name no region or district
STEP = 1000  # stations counted between two chances for others


class TallyJson(TypedDict):
    """A tally as JSON."""

    stations: int
    stations_live: int
    cameras: int
    cameras_live: int


@dataclass(slots=True)
class Tally:
    """Numbers of stations and cameras, and of those that are live now."""

    stations: int = 0
    stations_live: int = 0
    cameras: int = 0
    cameras_live: int = 0

    def add(self, cameras: int, live: int) -> None:
        """Count a station with so many cameras."""
        self.stations += 1
        self.stations_live += live > 0
        self.cameras += cameras
        self.cameras_live += live

    def as_json(self) -> TallyJson:
        """Return the numbers as the API says them."""
        return {
            "stations": self.stations,
            "stations_live": self.stations_live,
            "cameras": self.cameras,
            "cameras_live": self.cameras_live,
        }


@dataclass(slots=True)
class Area:
    """A region or a district; `places` are its stations' places in the stations file."""

    id: str
    name: Localized
    places: list[int] = field(default_factory=list)
    districts: dict[str, Area] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)


class Directory:
    """All stations of a configuration, by area; which cameras are live."""

    def __init__(self, config: Config):
        self.stations = config.stations
        self.place = {station.id: place for place, station in enumerate(config.stations)}
        self.search = Search(config.stations)
        self.nearby = Nearby(config.stations)
        self.regions: dict[str, Area] = {}
        self.area_of: list[tuple[Area, Area]] = []
        for place, station in enumerate(config.stations):
            region = _area(self.regions, station.region)
            district = _area(region.districts, station.district)
            self.area_of.append((region, district))
            region.places.append(place)
            district.places.append(place)
        self._names = [[f"{s.id}/{c.id}" for c in s.cameras] for s in self.stations]
        self.windows = _union(config)
        self.states: Mapping[str, str] = {}
        self.live = [0] * len(self.stations)  # cameras of each station that are live now
        self.tally = Tally()
        list(self.update({}))

    def state(self, station: Station, camera: Camera) -> str:
        """Return what a camera's recorder does now; `unknown` where none is alive."""
        return self.states.get(f"{station.id}/{camera.id}", UNKNOWN)

    def is_live(self, station: Station, camera: Camera) -> bool:
        """Tell whether a camera is being recorded."""
        return self.state(station, camera) == "recording"

    def is_whole(self, place: int) -> bool:
        """Tell whether all cameras of a station are live."""
        return self.live[place] == len(self._names[place])

    def update(self, states: Mapping[str, str]) -> Iterator[None]:
        """Take the states of cameras ("station/camera") and count what is live; yields now and
        then, as it is long."""
        live, whole = [0] * len(self.stations), Tally()
        tallies: dict[int, Tally] = {}
        for place, names in enumerate(self._names):
            live[place] = sum(states.get(name) == "recording" for name in names)
            whole.add(len(names), live[place])
            for area in self.area_of[place]:
                tallies.setdefault(id(area), Tally()).add(len(names), live[place])
            if place % STEP == STEP - 1:
                yield
        self.states, self.live, self.tally = states, live, whole
        for region in self.regions.values():
            for area in (region, *region.districts.values()):
                area.tally = tallies[id(area)]


def _area(areas: dict[str, Area], name: Localized) -> Area:
    """Return the area of a name, made where it is new."""
    text = name.en or name.ru or name.kk or ""
    unknown = f"x{hashlib.sha256(text.encode()).hexdigest()[:8]}" if text else NO_NAME
    area_id = slug(text) or unknown
    return areas.setdefault(area_id, Area(area_id, name))


def _union(config: Config) -> list[Window]:
    """Return when any camera is to be recorded: sorted, none touching another."""
    found: set[Window] = set()
    seen: set[tuple[object, ...]] = set()
    for station in config.stations:
        for camera in station.cameras:
            alike = (station.time_zone, station.exceptions, camera.first_day, camera.last_day)
            if alike not in seen:
                seen.add(alike)
                found.update(windows(config.election, station, camera))
    return [Window(*window) for window in merge(found)]
