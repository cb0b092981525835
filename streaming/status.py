"""/healthz, /readyz and /metrics. Metric names are listed in docs/operations.md."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from streaming.views import VIEWS, Views

routes = web.RouteTableDef()
REQUESTS = Counter(
    "kuager_http_requests",
    "Requests answered by this web process",
    ["route", "status"],
    registry=None,
)
SECONDS = Histogram(
    "kuager_http_seconds", "Time to answer by this web process", ["route"], registry=None
)
STATES = ("idle", "connecting", "recording", "stalled", "backoff", "unknown")


class StatusCollector:
    """Turns the status files of recorders and uploader into metrics, when asked."""

    def __init__(self, views: Views):
        self._views = views

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of cameras and uploader."""
        labels = ["station", "camera"]
        state = GaugeMetricFamily(
            "kuager_camera_state", "1 for what it does", labels=[*labels, "state"]
        )
        families = {
            key: GaugeMetricFamily(f"kuager_camera_{name}", text, labels=labels)
            for key, name, text in (
                ("segment_no", "segment_no", "Number of the newest segment"),
                ("bytes", "recorded_bytes", "Bytes recorded since the recorder started"),
                ("frames", "pictures", "Pictures received since the recorder started"),
                ("runs", "runs", "Runs begun since the recorder started"),
                ("retries", "retries", "Sessions that ended since the recorder started"),
                ("silence", "silence_seconds", "Since the last picture arrived"),
            )
        }
        for station in self._views.config.stations:
            for camera in station.cameras:
                names = [station.id, camera.id]
                found: dict[str, Any] = self._views.state(station, camera)
                for one in STATES:
                    state.add_metric([*names, one], float(found["state"] == one))
                for key, family in families.items():
                    value = found.get(key)
                    if key == "silence" and (last := found.get("last_arrival_ms")):
                        value = max(0.0, time.time() - last / 1000)
                    if value is not None:
                        family.add_metric(names, float(value))
        yield state
        yield from families.values()
        uploader = self._views.status()["uploader"]
        up = GaugeMetricFamily("kuager_uploader_up", "1 while an uploader is running")
        up.add_metric([], float(uploader is not None))
        yield up
        for key, text in (
            ("backlog_recordings", "Sealed recordings that wait for the archive"),
            ("backlog_bytes", "Their bytes"),
            ("archived_total", "Recordings archived and verified since the uploader started"),
            ("removed_total", "Recordings removed from the spool since the uploader started"),
            ("failures_total", "Failures since the uploader started"),
            ("archive_ok", "1 while the archive takes recordings"),
            ("catalogue_ok", "1 while the catalogue takes rows"),
        ):
            if uploader is not None:
                family = GaugeMetricFamily(f"kuager_uploader_{key}", text)
                family.add_metric([], float(uploader[key]))
                yield family


def make_registry(views: Views) -> CollectorRegistry:
    """Return the registry that /metrics shows."""
    registry = CollectorRegistry()
    registry.register(REQUESTS)
    registry.register(SECONDS)
    registry.register(StatusCollector(views))
    return registry


REGISTRY = web.AppKey("registry", CollectorRegistry)


@web.middleware
async def measure(request: web.Request, handler: Any) -> web.StreamResponse:
    """Count and time every request by its route."""
    begun = time.perf_counter()
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "none"
    status = 500
    try:
        response: web.StreamResponse = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    finally:
        REQUESTS.labels(route, str(status)).inc()
        SECONDS.labels(route).observe(time.perf_counter() - begun)


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.StreamResponse:
    """This process answers."""
    return web.Response(text="ok\n")


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.StreamResponse:
    """Spool and catalogue can be read; 503 with words where not."""
    views = request.app[VIEWS]
    wrong = []
    if not views.config.spool.is_dir():
        wrong.append(f"the spool {views.config.spool.name} is not there")
    if views.catalogue is not None:
        try:
            await views.catalogue.ping()
        except Exception:
            wrong.append("the catalogue does not answer")
    return web.Response(status=503 if wrong else 200, text="\n".join(wrong or ["ready"]) + "\n")


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.StreamResponse:
    """All metrics in the Prometheus text format."""
    body = generate_latest(request.app[REGISTRY])
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4"})
