"""What a configuration will do, as tables for `kuager check`."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.console import Group
from rich.table import Table
from rich.text import Text

from base.currency import format_amount
from config.copies import Copies
from config.model import Config
from config.schedule import Window, windows

SHOWN_STATIONS = 50  # nobody reads more; the schedules are counted over all
LANGUAGE = "en"

Schedule = tuple[str, tuple[Window, ...]]  # time zone and windows


def summary(config: Config) -> Group:
    """Return tables of the settings, the schedules and the first stations, without secrets."""
    return Group(_settings(config), _schedules(config), _stations(config))


def _settings(config: Config) -> Table:
    election = config.election
    cameras = [camera for station in config.stations for camera in station.cameras]
    low = sum(camera.low_url is not None for camera in cameras)
    kept = ", archived, too" if config.archive_low else ""
    table = Table.grid(padding=(0, 2))
    for name, value in (
        ("Election", f"{election.name.in_(LANGUAGE)} ({election.id}), {election.date}"),
        ("Stations", f"{len(config.stations):,}, with {len(cameras):,} cameras"),
        *((("Second streams", f"{low:,}{kept}"),) if low else ()),
        ("Spool", f"{config.spool}, back in time {_span(config.rewind_s)}"),
        *(
            (f"Archive {a.name}", a.url + (f" at {a.endpoint}" if a.endpoint else ""))
            for a in config.archives
        ),
        ("Database", config.database_shown),
        ("Web", f"{config.web.host} port {config.web.port}, {_processes(config.web.processes)}"),
        ("Operators", f"{config.web.operators_host} port {config.web.operators_port}"),
        ("Recorders", _processes(config.workers)),
        ("Pictures", f"every {config.pictures_s} s" if config.pictures_s else "off"),
        ("Copies", _copies(config.copies)),
    ):
        table.add_row(name, Text(value, overflow="fold"))
    return table


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _span(seconds: int) -> str:
    parts = ((seconds // 3600, "h"), (seconds % 3600 // 60, "min"), (seconds % 60, "s"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)


def _copies(copies: Copies | None) -> str:
    if copies is None:
        return "none are given"
    if copies.free:
        return "free of charge"
    ways = [way for way, there in (("bank", copies.bank), ("Stripe", copies.stripe)) if there]
    price = f"{format_amount(copies.price_per_minute, copies.currency)} {copies.currency}"
    tax = f"{copies.tax / 100:g} % tax" if copies.tax else "no tax"
    mail = "e-mails" if copies.mail else "no e-mails"
    return f"{price} a minute of one camera, {tax}, paid by {' or '.join(ways)}; {mail}"


def _schedules(config: Config) -> Table:
    """Every distinct schedule with how many share it, in local time."""
    stations: defaultdict[Schedule, set[str]] = defaultdict(set)
    cameras: Counter[Schedule] = Counter()
    for station in config.stations:
        for camera in station.cameras:
            schedule = (station.time_zone, windows(config.election, station, camera))
            stations[schedule].add(station.id)
            cameras[schedule] += 1
    table = Table(title="What is recorded", title_justify="left")
    for name in ("Time zone", "From", "To"):
        table.add_column(name)
    for name in ("Hours", "Stations", "Cameras"):
        table.add_column(name, justify="right")
    for schedule, number in cameras.most_common():
        zone, found = schedule
        shared = (f"{len(stations[schedule]):,}", f"{number:,}")
        if not found:
            table.add_row(zone, "never", "", "0.00", *shared)
        for n, window in enumerate(found):
            hours = f"{(window.end_ms - window.start_ms) / 3_600_000:.2f}"
            cells = (_local(window.start_ms, zone), _local(window.end_ms, zone), hours)
            table.add_row("" if n else zone, *cells, *(("", "") if n else shared))
    return table


def _local(ms: int, zone: str) -> str:
    # with the offset, because an old time zone database shows itself only there
    return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M %z")


def _stations(config: Config) -> Table:
    table = Table(title="Stations", title_justify="left")
    for name in ("Id", "Number", "Name", "Cameras"):
        table.add_column(name)
    for station in config.stations[:SHOWN_STATIONS]:
        cameras = ", ".join(camera.id for camera in station.cameras)
        cells = (station.id, station.number, station.name.in_(LANGUAGE), cameras)
        table.add_row(*map(Text, cells))
    if (more := len(config.stations) - SHOWN_STATIONS) > 0:
        table.add_row("", "", f"and {more:,} more", "")
    return table
