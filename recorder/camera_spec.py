"""What a recorder needs to know of a camera, out of the configuration."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from config.model import LOW, Camera, Config, Station
from config.schedule import Window, windows
from recorder.rtsp.connection import DEFAULT_USER_AGENT
from storage.spool.lease_file import CameraLease, Lease, shard_of


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera of one election; `url` may hold a password."""

    election: str
    station: str
    camera: str
    url: str = field(repr=False)
    source: str = "auto"  # or native, or ffmpeg
    transport: str = "auto"
    keep_audio: bool = True
    windows: tuple[Window, ...] = ()
    video_track: int | None = None  # counted from 1; None for the largest picture
    user_agent: str = DEFAULT_USER_AGENT
    lease: CameraLease | None = None  # None where this machine is not one of several

    @property
    def name(self) -> str:
        """Station and camera, as in addresses."""
        return f"{self.station}/{self.camera}"

    @property
    def first(self) -> str | None:
        """Of a second stream the name of the first; None where it is not one."""
        return self.name.removesuffix(LOW) if self.camera.endswith(LOW) else None

    def has_same_session(self, other: CameraSpec) -> bool:
        """Tell whether a session with one serves the other too: all is alike but the windows, and
        what is said of a lease beside its epoch."""
        return _session(self) == _session(other)


def _session(spec: CameraSpec) -> CameraSpec:
    lease = spec.lease and CameraLease(spec.lease.epoch, 0)
    return replace(spec, windows=(), lease=lease)


def camera_spec(
    config: Config, station: Station, camera: Camera, lease: Lease | None = None
) -> CameraSpec:
    """Return what the configuration says of a camera, and the lease of its shard."""
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
        lease=CameraLease.of(lease, f"{station.id}/{camera.id}") if lease else None,
    )


def camera_specs(
    config: Config, share: int, shares: int, leases: Mapping[int, Lease] | None = None
) -> list[CameraSpec]:
    """Return the cameras of one share, 0 <= share < shares, each with its second stream; every
    camera is in exactly one.

    Where there are `leases`, by shard, only what they are of is recorded. While two machines have a
    camera its second stream is left: it may take as many sessions at a time as the first one needs.
    """
    found = []
    for station in config.stations:
        for camera in station.cameras:
            name = f"{station.id}/{camera.id}"
            if zlib.crc32(name.encode()) % shares != share:
                continue
            lease = leases.get(shard_of(name)) if leases is not None else None
            if leases is None or lease is not None:
                streams = (camera,) if lease and lease.is_shared else camera.streams
                found += [camera_spec(config, station, one, lease) for one in streams]
    return found
