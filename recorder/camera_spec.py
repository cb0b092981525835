"""What a recorder needs to know of a camera, out of the configuration."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace

from config.model import LOW, Camera, Config, Station
from config.schedule import Window, windows
from recorder.rtsp.connection import DEFAULT_USER_AGENT


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera of one election; `url` may hold a password."""

    election: str
    station: str
    camera: str
    url: str = field(repr=False)
    source: str = "ffmpeg"  # or native, or auto
    transport: str = "auto"
    keep_audio: bool = True
    windows: tuple[Window, ...] = ()
    video_track: int | None = None  # counted from 1; None for the largest picture
    user_agent: str = DEFAULT_USER_AGENT

    @property
    def name(self) -> str:
        """Station and camera, as in addresses."""
        return f"{self.station}/{self.camera}"

    @property
    def first(self) -> str | None:
        """Of a second stream the name of the first; None where it is not one."""
        return self.name.removesuffix(LOW) if self.camera.endswith(LOW) else None

    def has_same_session(self, other: CameraSpec) -> bool:
        """Tell whether a session with one serves the other too: all but the windows is alike."""
        return replace(self, windows=()) == replace(other, windows=())


def camera_spec(config: Config, station: Station, camera: Camera) -> CameraSpec:
    """Return what the configuration says of a camera."""
    return CameraSpec(
        election=config.election.id,
        station=station.id,
        camera=camera.id,
        url=camera.url.reveal(),
        source=camera.source or config.source,
        transport=camera.transport,
        keep_audio=camera.audio == "keep",
        video_track=camera.video_track,
        user_agent=config.user_agent,
        windows=tuple(windows(config.election, station, camera)),
    )


def camera_specs(config: Config, share: int, shares: int) -> list[CameraSpec]:
    """Return the cameras of one share, 0 <= share < shares; every camera is in exactly one, with
    its second stream."""
    return [
        camera_spec(config, station, stream)
        for station in config.stations
        for camera in station.cameras
        if zlib.crc32(f"{station.id}/{camera.id}".encode()) % shares == share
        for stream in camera.streams
    ]
