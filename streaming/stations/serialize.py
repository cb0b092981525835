"""Stations, cameras and areas as JSON, for the API and for pages."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from base.i18n.gettext import gettext
from config.model import Camera, Station
from streaming.stations.directory import NO_NAME, Area, Directory, TallyJson
from streaming.stations.messages import stations_live


class CameraJson(TypedDict):
    """A camera, with what its recorder does now; `low`: it has a second stream."""

    id: str
    title: str
    state: str
    low: bool
    words: NotRequired[str]  # why it has no picture now
    takes: NotRequired[TakesJson]


class TakesJson(TypedDict):
    """How many bytes a camera takes, measured a minute ago or less; None where nothing tells."""

    minute: int | None  # of its video
    low_minute: int | None  # of its second stream
    picture: int | None  # one picture of `pictures.m3u8`
    low_picture: int | None


class StationJson(TypedDict):
    """A station; `live` of its cameras are recorded now."""

    id: str
    number: str
    name: str
    region: str
    district: str
    address: str
    time_zone: str
    latitude: float | None
    longitude: float | None
    cameras: list[CameraJson]
    live: int
    picture: str | None
    distance_m: NotRequired[int]  # where the nearest were asked for


class AreaJson(TallyJson):
    """A region or a district, with how much of it is live in numbers and in words."""

    id: str
    name: str
    words: str


def area_json(area: Area, lang: str) -> AreaJson:
    """Return a region or a district, with its numbers."""
    name = gettext("Without a name", lang) if area.id == NO_NAME else area.name.in_(lang)
    words = stations_live(area.tally.stations_live, area.tally.stations, lang)
    return {"id": area.id, "name": name, **area.tally.as_json(), "words": words}


def station_json(station: Station, directory: Directory, lang: str) -> StationJson:
    """Return a station, with the state of each camera and the number that are live."""
    live = [c for c in station.cameras if directory.is_live(station, c)]
    return {
        "id": station.id,
        "number": station.number,
        "name": station.name.in_(lang),
        "region": station.region.in_(lang),
        "district": station.district.in_(lang),
        "address": station.address.in_(lang),
        "time_zone": station.time_zone,
        "latitude": station.latitude,
        "longitude": station.longitude,
        "cameras": [camera_json(station, camera, directory, lang) for camera in station.cameras],
        "live": len(live),
        "picture": picture_url(station, live[0]) if live else None,
    }


def camera_json(station: Station, camera: Camera, directory: Directory, lang: str) -> CameraJson:
    """Return a camera, with what its recorder does now."""
    state = directory.state(station, camera)
    return {
        "id": camera.id,
        "title": camera.title.in_(lang),
        "state": state,
        "low": camera.low_url is not None,
    }


def picture_url(station: Station, camera: Camera) -> str:
    """Return the address of a camera's small picture, on this site."""
    return f"/live/{station.id}/{camera.id}/thumb.jpg"
