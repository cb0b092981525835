"""What /metrics says. The names are listed in docs/operations.md."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.model import Camera, Station
from storage.disk import examine, seconds_left
from streaming.views import Views

# Several processes share the port and any of them answers /metrics: each has its own series.
REQUESTS = Counter(
    "kuager_http_requests",
    "Requests answered by a web process",
    ["process", "route", "status"],
    registry=None,
)
SECONDS = Histogram(
    "kuager_http_seconds",
    "Time to answer by a web process",
    ["process", "route"],
    registry=None,
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
)
STATES = ("idle", "connecting", "recording", "stalled", "backoff", "unknown")
CAMERA_NUMBERS = (
    ("segment_no", "segment_no", "Number of the newest segment"),
    ("bytes", "recorded_bytes", "Bytes recorded since the recorder started"),
    ("frames", "pictures", "Pictures received since the recorder started"),
    ("runs", "runs", "Runs begun since the recorder started"),
    ("retries", "retries", "Sessions that ended since the recorder started"),
    ("last_arrival_ms", "silence_seconds", "Since the last picture arrived"),
)
STATIONS_A_PIECE = 100
_NOTHING = (None,) * len(CAMERA_NUMBERS)
UPLOADER_NUMBERS = (
    ("removed_total", "Recordings removed from the spool since the uploader started"),
    ("retired_total", "Recordings removed from archives, their time having come"),
    ("catalogue_ok", "1 while the catalogue takes rows"),
    ("clock_ok", "1 while its clock is believed, so that archives may be cleared"),
)
PICTURE_NUMBERS = (
    ("oldest_seconds", "Age of the oldest latest picture of a camera that is recorded"),
    ("made_total", "Pictures made since the picture process started"),
    ("failures_total", "Pictures that could not be made since then"),
    ("cpu_seconds_total", "Its CPU time since then"),
    ("left_out", "Cameras left out because a picture of theirs ended the process"),
)
SPOOL_NUMBERS = (
    ("ok", "1 while the spool is there and takes recordings"),
    ("free_bytes", "Free on the spool's disk"),
    ("hours_left", "How long its room lasts at the current rate if nothing is removed"),
    ("waiting_bytes", "In memory, waiting for a slow disk"),
    ("slow_seconds", "The longest write since the disk began to be slow; 0 while it is not"),
)
ARCHIVE_NUMBERS = (
    ("ok", "1 while the archive takes recordings"),
    ("backlog_recordings", "Recordings that the archive does not have, whatever the reason"),
    ("backlog_bytes", "Their bytes"),
    ("oldest_unarchived_seconds", "Age of the oldest of them; 0 for none"),
    ("archived_total", "Recordings archived and verified since the uploader started"),
    ("archived_bytes_total", "Their bytes"),
    ("failures_total", "Failures since the uploader started"),
    ("verification_failures_total", "Objects that were not there, or others, when verified"),
    ("clock_offset_seconds", "How far this machine's clock is ahead of the archive's"),
)
ORDERS_NUMBERS = (
    ("unhashed_files", "Files of orders whose SHA-256 is not known yet"),
    ("unhashed_bytes", "What of them is not read yet"),
    ("hash_failures_total", "Passes over files that ended early since the role started"),
    ("letters_waiting", "Letters that are neither sent nor given up"),
    ("letters_sent_total", "Letters sent since the role started"),
    ("letter_failures_total", "Tries to send one that failed since the role started"),
    ("refunds_due", "Orders whose requester is owed money"),
    ("checkouts_open", "Pages of providers on which an order can be paid"),
    ("provider_failures_total", "Questions to providers without an answer since the role started"),
)


class StatusCollector(Collector):
    """Turns what the status files say of all but cameras into metrics, when asked."""

    def __init__(self, views: Views):
        self._views = views

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of spool, uploader and archives."""
        yield from self._clock()
        yield from self._spool()
        yield from self._pictures()
        yield from self._orders()
        yield from self._uploader()

    def _uploader(self) -> Iterator[Metric]:
        """Yield what the uploader says or, while none runs, what the last one said: the backlog
        does not vanish with it."""
        up = GaugeMetricFamily("kuager_uploader_up", "1 while an uploader is running")
        up.add_metric([], float(self._views.status.uploader() is not None))
        yield up
        if (uploader := self._views.status.last_uploader()) is not None:
            uploader = uploader | {"clock_ok": uploader.get("clock_doubt") is None}
            silent_s = _age_s(self._views.clock(), uploader.get("written_ms"))
            age = GaugeMetricFamily("kuager_uploader_silence_seconds", "Since it last said this")
            _add(age, [], silent_s)
            yield age
            for key, text in UPLOADER_NUMBERS:
                number = _family(f"kuager_uploader_{key}", text, [])
                _add(number, [], uploader.get(key))
                yield number
            archives = uploader.get("archives") or {}
            for key, text in ARCHIVE_NUMBERS:
                number = _family(f"kuager_archive_{key}", text, ["archive"])
                for name, said in archives.items():
                    oldest = _age_s(self._views.clock(), said.get("oldest_unarchived_ms"))
                    if oldest is None:  # all that was recorded since it last looked may wait
                        oldest = 0 if self._views.status.uploader() else silent_s
                    more = {
                        "oldest_unarchived_seconds": oldest,
                        "clock_offset_seconds": _seconds(said.get("clock_offset_ms")),
                    }
                    _add(number, [name], (said | more).get(key))
                yield number
            blocked = GaugeMetricFamily(
                "kuager_archive_blocked_recordings",
                "Of those that wait, what cannot be archived now, by reason",
                labels=["archive", "reason"],
            )
            for name, said in archives.items():
                for reason, count in (said.get("blocked") or {}).items():
                    _add(blocked, [name, reason], count)
            yield blocked

    def _orders(self) -> Iterator[Metric]:
        """Yield what the role `orders` says; nothing where copies are off."""
        if self._views.config.copies is None:
            return
        said = self._views.status.orders()
        up = GaugeMetricFamily("kuager_orders_up", "1 while the role orders runs")
        up.add_metric([], float(said is not None))
        yield up
        if said is not None:
            states = GaugeMetricFamily("kuager_orders_state", "Orders by state", labels=["state"])
            for state, count in said["states"].items():
                states.add_metric([state], float(count))
            yield states
            for key, text in ORDERS_NUMBERS:
                number = _family(f"kuager_orders_{key}", text, [])
                _add(number, [], said.get(key))
                yield number

    def _clock(self) -> Iterator[Metric]:
        """Yield what the recorders say of their clock; nothing where none runs."""
        said = self._views.status.clocks()
        for key, text, values in (
            (
                "synchronized",
                "1 while the kernel says that the clock is synchronized",
                [c.get("synchronized") for c in said],
            ),
            (
                "believed",
                "1 while recorders follow the clock; 0 after it was set, until it is believed",
                [not c.get("doubt") for c in said],
            ),
        ):
            number = GaugeMetricFamily(f"kuager_clock_{key}", text)
            if said:
                number.add_metric([], float(all(values)))
            yield number

    def _pictures(self) -> Iterator[Metric]:
        said = self._views.status.pictures()
        up = GaugeMetricFamily("kuager_pictures_up", "1 while a picture process is running")
        up.add_metric([], float(said is not None))
        yield up
        if said is not None:
            left_out = said.get("left_out")
            said = said | {
                "oldest_seconds": _age_s(self._views.clock(), said.get("oldest_ms")),
                "left_out": len(left_out) if isinstance(left_out, list) else None,
            }
            for key, text in PICTURE_NUMBERS:
                number = _family(f"kuager_pictures_{key}", text, [])
                _add(number, [], said.get(key))
                yield number

    def _spool(self) -> Iterator[Metric]:
        """Yield what is known of the spool's disk; what is not known has no value."""
        config, said = self._views.config, self._views.status.recorders().values()
        values: dict[str, float | None] = {"ok": 0.0}
        try:
            found = examine(config.spool)
            reserve = config.spool_limits.reserve.of(found.total_bytes)
            left_s = seconds_left(found, reserve, sum(s["bytes_per_s"] for s in said))
            values["free_bytes"] = found.free_bytes
            values["hours_left"] = None if left_s is None else left_s / 3600
            values["ok"] = float(found.free_bytes >= reserve and found.files)
        except OSError:
            pass  # it is not there, or cannot be written: not ok
        values["waiting_bytes"] = sum(s["waiting_bytes"] for s in said)
        values["slow_seconds"] = max((s["slow_s"] for s in said), default=0)
        for key, text in SPOOL_NUMBERS:
            number = GaugeMetricFamily(f"kuager_spool_{key}", text)
            _add(number, [], values.get(key))
            yield number


def _family(name: str, text: str, labels: list[str]) -> Metric:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(name, text, labels=labels)


def _add(family: Any, labels: list[str], value: object) -> None:
    if isinstance(value, int | float):
        family.add_metric(labels, float(value))


def _age_s(now_ms: int, at_ms: object) -> float | None:
    return max(0.0, (now_ms - at_ms) / 1000) if isinstance(at_ms, int | float) else None


def _seconds(ms: object) -> float | None:
    return ms / 1000 if isinstance(ms, int | float) else None


def make_registry(views: Views) -> CollectorRegistry:
    """Return the registry that /metrics shows."""
    registry = CollectorRegistry()
    for collector in (REQUESTS, SECONDS, StatusCollector(views)):
        registry.register(collector)
    return registry


REGISTRY = web.AppKey("registry", CollectorRegistry)


def camera_lines(views: Views) -> Iterator[bytes]:
    """Yield the metrics of all cameras as text, in pieces: with thousands of cameras this is
    long, and others want answers. Ids need no escaping in labels."""
    said: dict[str, tuple[object, ...]] = {}
    causes: dict[str, object] = {}
    for cameras in views.status.cameras():
        for name, one in cameras.items():
            causes[name] = one.get("cause")
            silence_s = _age_s(views.clock(), one.get("last_arrival_ms"))
            said[name] = (*(one.get(key) for key, _, _ in CAMERA_NUMBERS[:-1]), silence_s)
        yield b""
    stations = views.config.stations
    groups = [stations[n : n + STATIONS_A_PIECE] for n in range(0, len(stations), STATIONS_A_PIECE)]
    yield _head("kuager_camera_state", "1 for what it does")
    for group in groups:
        yield "".join(
            f'kuager_camera_state{{{_labels(s, c)},state="{state}"}} {now == state:d}\n'
            for s in group
            for c in s.cameras
            for now in (views.state(s, c),)
            for state in STATES
        ).encode()
    yield _head("kuager_camera_cause", "1 for why it is not recorded; none while it is")
    for group in groups:
        yield "".join(
            f'kuager_camera_cause{{{_labels(s, c)},cause="{cause}"}} 1\n'
            for s in group
            for c in s.cameras
            if (cause := causes.get(f"{s.id}/{c.id}")) is not None
        ).encode()
    for n, (_, key, text) in enumerate(CAMERA_NUMBERS):
        yield _head(f"kuager_camera_{key}", text)
        for group in groups:
            yield "".join(
                f"kuager_camera_{key}{{{_labels(s, c)}}} {value}\n"
                for s in group
                for c in s.cameras
                for value in (said.get(f"{s.id}/{c.id}", _NOTHING)[n],)
                if isinstance(value, int | float)
            ).encode()


def _labels(station: Station, camera: Camera) -> str:
    return f'station="{station.id}",camera="{camera.id}"'


def _head(name: str, text: str) -> bytes:
    return f"# HELP {name} {text}\n# TYPE {name} gauge\n".encode()


def exposition(registry: CollectorRegistry, views: Views) -> Iterator[bytes]:
    """Yield all metrics in the Prometheus text format, in pieces."""
    yield generate_latest(registry)
    yield from camera_lines(views)


@web.middleware
async def measure(request: web.Request, handler: Any) -> web.StreamResponse:
    """Count and time every request by its route."""
    begun = time.perf_counter()
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "none"
    process, status = str(os.getpid()), 500
    try:
        response: web.StreamResponse = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    finally:
        REQUESTS.labels(process, route, str(status)).inc()
        SECONDS.labels(process, route).observe(time.perf_counter() - begun)
