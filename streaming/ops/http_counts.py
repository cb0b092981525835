"""What all web processes counted of their requests, told by whichever of them is asked.

They share a port, and who asks for metrics keeps his connection: he would hear of one of them
alone. So each writes what it counted into the spool's `_status`, and tells what all wrote. Of
itself, too: a number that one process tells newer than another would seem to be counted back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from base.clock import Clock, now_ms
from base.durable import replace_file
from config.model import Config
from config.roles import processes
from storage.records import FormatError
from storage.spool.status import STATUS_OLD_MS
from storage.spool.status_records import HttpStatus

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, that nobody asks for
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
WRITE_S = 2.0

_WRITING = threading.Lock()  # at a reload, this process serves by two configurations for a moment
Sample = tuple[str, dict[str, str], float]  # name, labels, value


class HttpCounts(Collector):
    """Counters of one web process, and what the others of its configuration wrote."""

    def __init__(
        self,
        config: Config,
        process: str = "web-0",
        own: Sequence[Counter | Histogram] = (REQUESTS, SECONDS),
        clock: Clock = now_ms,
    ):
        self._spool, self.process, self._own, self._clock = config.spool, process, own, clock
        self._others = [name for name in processes(config) if name.startswith("web-")]
        self._written = False  # what is counted here; else it is told as it is

    def write(self) -> None:
        """Write what was counted, where the disk takes it."""
        said = HttpStatus(
            pid=os.getpid(),
            written_ms=self._clock(),
            process=self.process,
            samples=list(self._counted()),
        )
        try:
            with _WRITING:
                replace_file(_file(self._spool, self.process), said.to_json())
            self._written = True
        except OSError:  # which recorders tell
            self._written = False

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all web processes."""
        samples: list[Sample] = []
        for name in {*self._others, self.process}:
            is_written = self._written or name != self.process
            samples += self._read(name) if is_written else self._counted()
        for one in self._own:
            for metric in one.collect():
                names = {metric.name + ending for ending in ("_total", "_bucket", "_sum", "_count")}
                metric.samples = []
                for name, labels, value in samples:
                    if name in names:
                        metric.add_sample(name, labels, value)
                yield metric

    def _counted(self) -> Iterator[Sample]:
        for one in self._own:
            for metric in one.collect():
                for sample in metric.samples:
                    if sample.labels.get("process") == self.process:
                        yield sample.name, dict(sample.labels), sample.value

    def _read(self, process: str) -> list[Sample]:
        said = _said(self._spool, process)
        return said.samples if said else []


def is_silent(spool: Path, process: str, now_ms: int) -> bool:
    """Tell whether a web process has written nothing for so long that it hangs, though it runs:
    who comes to it waits. One that cannot write is not known to."""
    said = _said(spool, process) if process.startswith("web-") else None
    return said is not None and now_ms - said.written_ms > STATUS_OLD_MS


def _said(spool: Path, process: str) -> HttpStatus | None:
    """Return what a process wrote; None where it never ran, or is of another version."""
    try:
        return HttpStatus.parse(_file(spool, process).read_bytes())
    except (OSError, FormatError):
        return None


def _file(spool: Path, process: str) -> Path:
    return spool / "_status" / f"{process}.http"


HTTP_COUNTS = web.AppKey("http_counts", HttpCounts)


@web.middleware
async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and time every request by its route."""
    begun = time.perf_counter()
    resource = request.match_info.route.resource
    route = resource.canonical if resource else "none"
    process, status = request.app[HTTP_COUNTS].process, 500
    try:
        response: web.StreamResponse = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    finally:
        counter(process, route, status)(time.perf_counter() - begun)


def counter(process: str, route: str, status: int) -> Callable[[float], None]:
    """Return what counts a request of a route that was answered so, in so many seconds."""
    requests = REQUESTS.labels(process, route, str(status))
    seconds = SECONDS.labels(process, route)

    def count(took_s: float) -> None:
        requests.inc()
        seconds.observe(took_s)

    return count


async def written(app: web.Application) -> AsyncIterator[None]:
    """Have what is counted written meanwhile."""
    counts = app[HTTP_COUNTS]

    async def write() -> None:
        while True:
            await asyncio.to_thread(counts.write)
            await asyncio.sleep(WRITE_S)

    writing = asyncio.create_task(write())
    yield
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    await asyncio.to_thread(counts.write)
