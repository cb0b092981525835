"""What /metrics says. The names are listed in docs/operations.md.

Every metric is there from the first second, for every camera, archive and process of the
configuration: an alert cannot fire on what is absent. A number that nobody has told yet is NaN,
which compares as false; one whose teller is gone stays what it was, with the time of the telling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.roles import processes
from copies.states import State
from storage.archival.backlog import Blocked
from storage.archive.port import Fault
from storage.catalogue.faults import DatabaseFault
from storage.records import GapCause
from storage.spool.disk import check_spool, refusal_of, seconds_left
from storage.spool.status_records import (
    WORK,
    ArchiveStatus,
    OrdersStatus,
    PicturesStatus,
    Status,
    UploaderStatus,
)
from streaming.context import AppContext
from streaming.ops.camera_metrics import camera_lines
from streaming.ops.http_counts import HttpCounts, is_silent

UPLOADER_NUMBERS = (
    ("removed_total", "Recordings removed from the spool since the uploader started"),
    ("retired_total", "Recordings removed from archives, their time having come"),
    ("catalogue_ok", "1 while the catalogue takes rows"),
    ("clock_ok", "1 while its clock is believed, so that archives may be cleared"),
)
PICTURE_NUMBERS = (
    ("oldest_seconds", "Age of the oldest latest picture of a camera that is recorded"),
    ("interval_seconds", "How often a picture is made of each camera"),
    ("made_total", "Pictures made since the picture process started"),
    ("failures_total", "Pictures that could not be made since then"),
    ("cpu_seconds_total", "Its CPU time since then"),
    ("left_out", "Cameras left out because a picture of theirs ended the process"),
)
SPOOL_NUMBERS = (
    ("ok", "1 while the spool is there and takes recordings"),
    ("free_bytes", "Free on the spool's disk"),
    ("left_seconds", "How long its room lasts at the current rate if nothing is removed"),
    ("waiting_bytes", "In memory, waiting for a slow disk"),
    ("slow_seconds", "The longest write since the disk began to be slow; 0 while it is not"),
)
SPOOL_CAUSES = (GapCause.DISK_FULL, GapCause.DISK_FAILED)
ARCHIVE_NUMBERS = (
    ("ok", "1 while the archive takes recordings"),
    ("backlog_recordings", "Recordings that the archive does not have, whatever the reason"),
    ("backlog_bytes", "Their bytes"),
    ("oldest_unarchived_seconds", "Age of the oldest of them; 0 for none"),
    ("archived_total", "Recordings archived and verified since the uploader started"),
    ("archived_bytes_total", "Their bytes"),
    ("failures_total", "Failures since the uploader started"),
    ("verification_failures_total", "Objects that were not there, or others, when verified"),
    ("overdue_recordings", "Recordings past their date that the last look could not remove"),
    ("clock_offset_seconds", "How far this machine's clock is ahead of the archive's"),
)
ORDERS_NUMBERS = (
    ("unhashed_files", "Files of orders whose SHA-256 is not known yet"),
    ("unhashed_bytes", "What of them is not read yet"),
    ("failed_files", "Of them, those that could not be read when they were last tried"),
    ("hash_failures_total", "Passes over files that ended early since the role started"),
    ("letters_waiting", "Letters that are neither sent nor given up"),
    ("oldest_letter_seconds", "Age of the oldest of them; 0 for none"),
    ("letters_sent_total", "Letters sent since the role started"),
    ("letter_failures_total", "Tries to send one that failed since the role started"),
    ("refunds_due", "Orders whose requester is owed money"),
    ("overdue", "Orders and quotes that should have ended an hour ago and have not"),
    ("checkouts_open", "Pages of providers on which an order can be paid"),
    ("provider_failures_total", "Questions to providers without an answer since the role started"),
)


class StatusCollector(Collector):
    """Turns what the status files say of all but cameras into metrics, when asked."""

    def __init__(self, context: AppContext):
        self._context, self._status = context, context.status

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics but those of cameras and of HTTP."""
        yield from self._processes()
        yield from self._nodes()
        yield from self._clock()
        yield from self._spool()
        catalogue = GaugeMetricFamily("kuager_catalogue_ok", "1 while it answers this web process")
        _add(catalogue, [], self._context.catalogue_outage is None)
        yield catalogue
        yield self._catalogue_cause()
        if self._context.config.pictures_s:
            yield from self._pictures()
        if self._context.config.copies is not None:
            yield from self._orders()
        yield from self._uploader()
        yield from self._archives()

    def _catalogue_cause(self) -> Metric:
        """Return why the database does not do what web process or uploader ask."""
        faults, told = set[str](), self._status.last(UploaderStatus)
        if self._context.catalogue_outage is not None:
            faults.add(self._context.catalogue_fault or DatabaseFault.OTHER)
        if told is not None and not told.catalogue_ok:
            faults.add(told.catalogue_fault or DatabaseFault.OTHER)
        cause = GaugeMetricFamily(
            "kuager_catalogue_cause", "1 for why the database refuses", labels=["cause"]
        )
        for fault in DatabaseFault:
            _add(cause, [fault], fault in faults)
        return cause

    def _processes(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("kuager_process_up", "1 while it runs", labels=["process"])
        written = GaugeMetricFamily(
            "kuager_process_told_timestamp_seconds",
            "When it last said what the metrics of it say; 0 for never",
            labels=["process"],
        )
        starts = CounterMetricFamily(
            "kuager_process_starts_total",
            "How often the supervisor has started it",
            labels=["process"],
        )
        supervised = self._status.supervised(is_alive=False)
        config, now_ms = self._context.config, self._context.clock()
        for name in processes(config):
            is_up = self._status.is_up(name)
            _add(up, [name], is_up and not is_silent(config.spool, name, now_ms))
            if not name.startswith("web-"):
                _add(written, [name], self._status.told_ms(name) / 1000)
            _add(starts, [name], supervised[name].starts if name in supervised else 0)
        yield from (up, written, starts)

    def _uploader(self) -> Iterator[Metric]:
        """Yield what the uploader says or, while none runs, what the last one said."""
        told = self._status.last(UploaderStatus)
        clock_ok = None if told is None else told.clock_doubt is None
        yield from _numbers("kuager_uploader", UPLOADER_NUMBERS, told, clock_ok=clock_ok)

    def _archives(self) -> Iterator[Metric]:
        """Yield what the uploader says of each archive: the backlog does not vanish with it."""
        uploader = self._status.last(UploaderStatus)
        names = [archive.name for archive in self._context.config.archives]
        told = {name: uploader.archives.get(name) if uploader else None for name in names}
        ages = {name: self._archive_ages(archive) for name, archive in told.items()}
        for key, text in ARCHIVE_NUMBERS:
            number = _family(f"kuager_archive_{key}", text, ["archive"])
            for name in names:
                _add(number, [name], ages[name].get(key, getattr(told[name], key, None)))
            yield number
        cause = GaugeMetricFamily(
            "kuager_archive_cause", "1 for why it takes nothing", labels=["archive", "cause"]
        )
        blocked = GaugeMetricFamily(
            "kuager_archive_blocked_recordings",
            "Of those that wait, what cannot be archived now, by reason",
            labels=["archive", "reason"],
        )
        for name, archive in told.items():
            for fault in Fault:
                _add(cause, [name, fault], archive is not None and archive.fault == fault)
            for reason in Blocked:
                _add(blocked, [name, reason], archive.blocked.get(reason, 0) if archive else 0)
        yield from (cause, blocked)

    def _archive_ages(self, archive: ArchiveStatus | None) -> dict[str, float | None]:
        """Return what is known of an archive's times, in seconds."""
        if archive is None:
            return {}
        oldest = _age_s(self._context.clock(), archive.oldest_unarchived_ms)
        if oldest is None:  # all that was recorded since it last looked may wait
            is_up, told_ms = self._status.is_up("uploader-0"), self._status.told_ms("uploader-0")
            oldest = 0 if is_up else _age_s(self._context.clock(), told_ms)
        offset_ms = archive.clock_offset_ms
        return {
            "oldest_unarchived_seconds": oldest,
            "clock_offset_seconds": None if offset_ms is None else offset_ms / 1000,
        }

    def _orders(self) -> Iterator[Metric]:
        """Yield what the role `orders` says."""
        told = self._status.last(OrdersStatus)
        states = GaugeMetricFamily("kuager_orders_state", "Orders by state", labels=["state"])
        for state in State:
            _add(states, [state], told.states.get(state, 0) if told else 0)
        yield states
        failing = GaugeMetricFamily(
            "kuager_orders_failing", "1 while a kind of work on orders fails", labels=["work"]
        )
        for work in WORK:
            _add(failing, [work], work in told.failing_work if told else None)
        yield failing
        age_s = _age_s(self._context.clock(), told.oldest_letter_ms) or 0 if told else None
        yield from _numbers("kuager_orders", ORDERS_NUMBERS, told, oldest_letter_seconds=age_s)

    def _nodes(self) -> Iterator[Metric]:
        """Yield how this machine stands among others; nothing where it is the only one. Until it
        was told of them, it knows of itself alone."""
        node, machines = self._context.config.node, self._context.machines
        if node is None or machines is None:
            return
        found = machines.map
        ok = GaugeMetricFamily("kuager_node_database_ok", "1 while PostgreSQL renews its lease")
        _add(ok, [], found.database is None if found else math.nan)
        held = GaugeMetricFamily("kuager_node_shards", "Parts of the cameras that it records")
        _add(held, [], sum(s.holder == found.spool for s in found.shards) if found else math.nan)
        there = {one.spool for one in found.nodes if one.alive} if found else set[str]()
        free = GaugeMetricFamily("kuager_shards_without_node", "Those that nobody records")
        count = sum(s.holder not in there for s in found.shards) if found else math.nan
        _add(free, [], count)
        up = GaugeMetricFamily(
            "kuager_node_up", "1 while a machine is there, and is waited for", labels=["node"]
        )
        if found is None:
            _add(up, [node.name], None)
        # a machine with a new disk is another one of the same name: it is up when both are
        alive: dict[str, bool] = {}
        for machine in found.nodes if found else ():
            if not machine.given_up and (machine.alive or not machine.leaving):
                alive[machine.name] = alive.get(machine.name, True) and machine.alive
        for name, is_alive in alive.items():
            _add(up, [name], is_alive)
        yield from (ok, held, free, up)

    def _clock(self) -> Iterator[Metric]:
        """Yield what the recorders say of their clock, or said last."""
        told = self._status.recorders(is_alive=False)
        workers = self._context.config.workers
        clocks = [said.clock for n, said in told.items() if said.clock and n < workers]
        synchronized = all(clock.synchronized for clock in clocks) if clocks else None
        believed = not any(clock.doubt for clock in clocks) if clocks else None
        text = "1 while the kernel says that the clock is synchronized"
        yield _single("kuager_clock_synchronized", text, synchronized)
        text = "1 while recorders follow the clock; 0 after it was set, until it is believed"
        yield _single("kuager_clock_believed", text, believed)

    def _pictures(self) -> Iterator[Metric]:
        told = self._status.last(PicturesStatus)
        yield from _numbers(
            "kuager_pictures",
            PICTURE_NUMBERS,
            told,
            oldest_seconds=_age_s(self._context.clock(), told.oldest_ms) or 0 if told else None,
            interval_seconds=self._context.config.pictures_s,
            left_out=len(told.left_out) if told else None,
        )

    def _spool(self) -> Iterator[Metric]:
        """Yield what is known of the spool's disk."""
        config, recorders = self._context.config, self._status.recorders().values()
        values: dict[str, float | None] = {}
        refused: GapCause | None = None
        try:
            found = check_spool(config.spool)
            reserve = config.spool_limits.reserve.of(found.total_bytes)
            left_s = seconds_left(found, reserve, sum(r.spool.bytes_per_s for r in recorders))
            values["free_bytes"] = found.free_bytes
            values["left_seconds"] = math.inf if left_s is None else left_s
            if found.free_bytes < reserve or not found.files:
                refused = GapCause.DISK_FULL
        except OSError as error:  # it is not there, or cannot be written
            refused = refusal_of(error).cause
        # a recorder pauses until there is room for a while
        pauses = {r.spool.cause for r in recorders}
        refused = refused or next((cause for cause in SPOOL_CAUSES if cause in pauses), None)
        values["ok"] = refused is None
        values["waiting_bytes"] = sum(r.spool.waiting_bytes for r in recorders)
        values["slow_seconds"] = max((r.spool.slow_s for r in recorders), default=0)
        yield from _numbers("kuager_spool", SPOOL_NUMBERS, None, **values)
        cause = GaugeMetricFamily(
            "kuager_spool_cause", "1 for why it takes no recordings", labels=["cause"]
        )
        for each in SPOOL_CAUSES:
            _add(cause, [each], refused is each)
        yield cause


Family = CounterMetricFamily | GaugeMetricFamily


def _family(name: str, text: str, labels: list[str]) -> Family:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(name, text, labels=labels)


def _numbers(
    prefix: str, keys: Iterable[tuple[str, str]], told: Status | None, **more: float | None
) -> Iterator[Family]:
    """Yield numbers of a status file, and `more`, by their keys."""
    for key, text in keys:
        yield _single(f"{prefix}_{key}", text, more.get(key, getattr(told, key, None)))


def _single(name: str, text: str, value: float | None) -> Family:
    family = _family(name, text, [])
    _add(family, [], value)
    return family


def _add(family: Family, labels: list[str], value: float | None) -> None:
    """Add a number; what is not known is NaN, or 0 where it is counted up."""
    unknown = 0.0 if isinstance(family, CounterMetricFamily) else math.nan
    family.add_metric(labels, unknown if value is None else float(value))


def _age_s(now_ms: int, at_ms: int | None) -> float | None:
    return None if at_ms is None else max(0.0, (now_ms - at_ms) / 1000)


def make_registry(context: AppContext, counts: HttpCounts | None = None) -> CollectorRegistry:
    """Return the registry that /metrics shows."""
    registry = CollectorRegistry()
    registry.register(counts or HttpCounts(context.config, clock=context.clock))
    registry.register(StatusCollector(context))
    return registry


REGISTRY = web.AppKey("registry", CollectorRegistry)


def exposition(registry: CollectorRegistry, context: AppContext) -> Iterator[bytes]:
    """Yield all metrics in the Prometheus text format, in pieces."""
    yield generate_latest(registry)
    yield from camera_lines(context)
