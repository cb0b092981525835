"""The metrics of cameras, as text in pieces: there may be thousands of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from config.model import Camera, Station
from config.schedule import is_scheduled, windows
from storage.records import GapCause
from storage.spool.status_records import UNKNOWN, CameraStatus
from streaming.context import AppContext

STATES = ("idle", "connecting", "recording", "stalled", "backoff", UNKNOWN)
CAMERA_COUNTS = (
    ("bytes", "recorded_bytes_total", "Bytes recorded since the recorder started"),
    ("frames", "pictures_total", "Pictures received since the recorder started"),
    ("runs", "runs_total", "Runs begun since the recorder started"),
    ("retries", "retries_total", "Sessions that ended since the recorder started"),
    ("packets", "packets_total", "Packets received since the recorder started, read natively"),
    ("packets_lost", "packets_lost_total", "Packets that were missing when it was their turn"),
    ("packets_late", "packets_late_total", "Packets of these that came too late"),
    ("packets_doubled", "packets_doubled_total", "Packets that came twice"),
)
STATIONS_A_PIECE = 100
_NOT_KNOWN = CameraStatus(cause=UNKNOWN)

Lines = Callable[[Station, Camera, str], str]


def camera_lines(context: AppContext) -> Iterator[bytes]:
    """Yield the metrics of all cameras as text, in pieces: with thousands of cameras this is
    long, and others want answers."""
    known: dict[str, CameraStatus] = {}  # of recorders that are alive
    last: dict[str, CameraStatus] = {}  # of all, as what is counted may not fall meanwhile
    recorded_ms: dict[str, int] = {}
    for alive, cameras in context.status.cameras():
        for name, one in cameras.items():
            recorded_ms[name] = max(recorded_ms.get(name, 0), one.recorded_ms or 0)
        last |= cameras
        known |= cameras if alive else {}
        yield b""
    election, now_ms = context.config.election, context.clock()

    def scheduled(station: Station, camera: Camera, labels: str) -> str:
        return f"{{{labels}}} {is_scheduled(windows(election, station, camera), now_ms):d}\n"

    def recorded(station: Station, camera: Camera, labels: str) -> str:
        return f"{{{labels}}} {recorded_ms.get(_name(station, camera), 0) / 1000:.3f}\n"

    def cause(station: Station, camera: Camera, labels: str) -> str:
        one = known.get(_name(station, camera), _NOT_KNOWN)
        connecting = GapCause.CONNECTING if one.state == "connecting" else "none"
        return f'{{{labels},cause="{one.cause or connecting}"}} 1\n'

    yield from _lines(context, "scheduled", "1 while it is to be recorded", scheduled)
    text = "The end of its newest segment, by the recorder's clock; 0 for never"
    yield from _lines(context, "recorded_timestamp_seconds", text, recorded)
    yield from _lines(context, "cause", "1 for why it is not recorded, or none, or unknown", cause)
    yield from _lines(context, "state", "1 for what it does", partial(_states, context))
    for key, metric, text in CAMERA_COUNTS:

        def count(station: Station, camera: Camera, labels: str, key: str = key) -> str:
            one = last.get(_name(station, camera), _NOT_KNOWN)
            return f"{{{labels}}} {getattr(one, key)}\n"

        yield from _lines(context, metric, text, count)
    yield from _low_lines(context)


def _low_lines(context: AppContext) -> Iterator[bytes]:
    """Yield the metric of second streams, which are no cameras."""
    recorded_ms: dict[str, int] = {}
    for _, streams in context.status.cameras(low=True):
        for name, one in streams.items():
            recorded_ms[name] = max(recorded_ms.get(name, 0), one.recorded_ms or 0)
        yield b""

    def recorded(station: Station, camera: Camera, labels: str) -> str:
        if camera.low_url is None:
            return ""
        return f"{{{labels}}} {recorded_ms.get(_name(station, camera), 0) / 1000:.3f}\n"

    text = "The end of the newest segment of its second stream, where it has one; 0 for never"
    yield from _lines(context, "low_recorded_timestamp_seconds", text, recorded)


def _lines(context: AppContext, key: str, text: str, one: Lines) -> Iterator[bytes]:
    """Yield a metric of the cameras of this machine; `one` returns the lines of one, without its
    name.

    Ids need no escaping in labels.
    """
    name, kind = f"kuager_camera_{key}", "counter" if key.endswith("_total") else "gauge"
    yield f"# HELP {name} {text}\n# TYPE {name} {kind}\n".encode()
    stations = context.config.stations
    for start in range(0, len(stations), STATIONS_A_PIECE):
        yield "".join(
            f"{name}{line}"
            for station in stations[start : start + STATIONS_A_PIECE]
            for camera in station.cameras
            if not context.is_elsewhere(station, camera)
            for line in one(
                station, camera, f'station="{station.id}",camera="{camera.id}"'
            ).splitlines(keepends=True)
        ).encode()


def _states(context: AppContext, station: Station, camera: Camera, labels: str) -> str:
    now = context.directory.state(station, camera)
    return "".join(f'{{{labels},state="{state}"}} {now == state:d}\n' for state in STATES)


def _name(station: Station, camera: Camera) -> str:
    return f"{station.id}/{camera.id}"
