"""What a web process knows: the configuration, a reader per camera, catalogue and archive."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from config.model import Camera, Config, Station
from storage.archive import Archive
from storage.catalogue import Catalogue, Name
from storage.view import CameraView

STATUS_OLD_MS = 10_000  # a status file older than this was written by a process that is gone


@dataclass(slots=True)
class Views:
    """Readers, made when they are first asked for."""

    config: Config
    catalogue: Catalogue | None
    archive: Archive | None
    stations: dict[str, Station] = field(init=False)
    _views: dict[tuple[str, str], CameraView] = field(default_factory=dict)
    _status: tuple[float, dict[str, Any]] = (float("-inf"), {})

    def __post_init__(self) -> None:
        self.stations = {s.id: s for s in self.config.stations}

    def camera(self, request: web.Request) -> tuple[Name, CameraView]:
        """Return the camera that a request names; raises 404 for one that is not configured."""
        station_id, camera_id = request.match_info["station"], request.match_info["camera"]
        station = self.stations.get(station_id)
        if station is None:
            raise web.HTTPNotFound(text=f"There is no station {station_id}.\n")
        if not any(c.id == camera_id for c in station.cameras):
            raise web.HTTPNotFound(text=f"Station {station_id} has no camera {camera_id}.\n")
        name = (self.config.election.id, station_id, camera_id)
        return name, self.view(station_id, camera_id)

    def view(self, station: str, camera: str) -> CameraView:
        """Return the reader of a camera, brought up to date."""
        key = (station, camera)
        if key not in self._views:
            self._views[key] = CameraView(self.config.spool, station, camera)
        view = self._views[key]
        view.refresh()
        return view

    def status(self) -> dict[str, Any]:
        """Return `{"cameras": {...}, "uploader": {...} | None}` of processes that are alive."""
        now = time.monotonic()
        if now - self._status[0] > 1:
            cameras: dict[str, Any] = {}
            uploader = None
            folder = self.config.spool / "_status"
            for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
                try:
                    record = orjson.loads(path.read_bytes())
                except (OSError, orjson.JSONDecodeError):
                    continue
                if time.time() * 1000 - record.get("written_ms", 0) > STATUS_OLD_MS:
                    continue
                if path.name == "uploader.json":
                    uploader = record
                else:
                    cameras |= record.get("cameras", {})
            self._status = (now, {"cameras": cameras, "uploader": uploader})
        return self._status[1]

    def state(self, station: Station, camera: Camera) -> dict[str, Any]:
        """Return what a camera does now; `unknown` where no recorder is alive."""
        found = self.status()["cameras"].get(f"{station.id}/{camera.id}")
        return found or {"state": "unknown", "cause": None, "detail": "no recorder is running"}


VIEWS = web.AppKey("views", Views)
