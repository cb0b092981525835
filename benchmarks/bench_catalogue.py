"""The catalogue with an election day in it: how fast it takes rows and answers.

Starts a PostgreSQL of its own on loopback, loads one day of 40,000 cameras with COPY into the
partitions that the catalogue makes, then measures the catalogue's own methods.

Run: python -m benchmarks.bench_catalogue [--rows 38000000] [--data DIR] [--sqlite]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from rich.console import Console
from rich.table import Table
from sqlalchemy import event

from benchmarks.election_day import (
    BEGIN_MS,
    CAMERAS,
    ELECTION,
    SEQ0,
    Day,
    copied,
    country,
    name,
    rows,
)
from config.model import Config
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import Archived
from storage.catalogue.schema import DAY_MS
from storage.records import Index
from tests.support.postgres_server import Server

SETTINGS = {
    "shared_buffers": "4GB",
    "effective_cache_size": "12GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "huge_pages": "off",
}
FAST_LOAD = {"fsync": "off", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}
BATCH = 200  # recordings that an uploader puts at once
PER_S = 667  # recordings of 40,000 cameras
WRITE_S = 15.0
READ_S = 8.0
console = Console(width=110)


@dataclass
class Bench:
    """What is measured, and with what."""

    catalogue: Catalogue
    url: str
    day: Day
    last: int  # recording of any camera that was put, from 0
    taken: dict[int, int] = field(default_factory=dict)  # the same by first camera of a batch
    results: list[tuple[str, str]] = field(default_factory=list)
    costs: dict[str, tuple[float, float]] = field(default_factory=dict)  # CPU s and WAL bytes a row
    row_bytes: float = 0.0  # of a recording in all tables and indexes

    def say(self, what: str, found: str) -> None:
        self.results.append((what, found))
        console.print(f"{what}: {found}")

    async def wal(self) -> int:
        """Return how many bytes of write-ahead log there were so far; 0 for SQLite."""
        if self.url.startswith("sqlite"):
            return 0
        connection = await asyncpg.connect(self.url)
        found = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        await connection.close()
        return int(found)

    def batch(self, first: int) -> list[Index]:
        """Return the next recordings of some cameras, one each."""
        k = self.taken[first] = self.taken.get(first, self.last) + 1
        return [self.day.index(camera, k) for camera in range(first, first + BATCH)]


async def load_postgres(url: str, each: int) -> None:
    """Make the schema, sync the stations and copy the day."""
    catalogue = await Catalogue.open(url)
    begun = time.monotonic()
    await catalogue.cameras.sync(country())
    console.print(f"sync_stations: {CAMERAS:,} cameras in {time.monotonic() - begun:.1f} s")
    day = await known_day(url, each)
    await catalogue.writer.put_recordings([day.index(0, 0)])  # makes the partitions
    await catalogue.close()
    begun = time.monotonic()

    async def copy(table: str, columns: Callable[[int], dict[str, Any]]) -> None:
        own = await asyncpg.connect(url)
        async with own.transaction():
            await own.execute(f"TRUNCATE {table}")
            source = copied(shown(table, map(columns, range(each)), each))
            names = list(columns(0))
            await own.copy_to_table(table, columns=names, source=source, format="binary")
        await own.close()

    connection = await asyncpg.connect(url)
    await connection.execute("TRUNCATE runs, gaps")
    await connection.copy_records_to_table("runs", records=day.runs())
    await connection.copy_records_to_table("gaps", records=day.gaps())
    await asyncio.gather(copy("recordings", day.columns), copy("archived", day.kept))
    await connection.execute("VACUUM (ANALYZE, PARALLEL 0)")  # as autovacuum does meanwhile
    await connection.execute("CHECKPOINT")
    await connection.close()
    seconds = time.monotonic() - begun
    console.print(f"loaded in {seconds:.0f} s: {2 * each * CAMERAS / seconds:,.0f} rows/s")


async def known_day(url: str, each: int) -> Day:
    """Return the day of the cameras that the catalogue has."""
    connection = await asyncpg.connect(url)
    query = "SELECT camera_pk FROM cameras ORDER BY station, camera"
    pks = [row[0] for row in await connection.fetch(query)]
    await connection.close()
    return Day(pks, each)


def shown(table: str, found: Iterator[dict[str, Any]], each: int) -> Iterator[dict[str, Any]]:
    begun = time.monotonic()
    for n, columns in enumerate(found, 1):
        yield columns
        if n % 50 == 0:
            rate = n * CAMERAS / (time.monotonic() - begun)
            console.print(f"  {table}: {n * CAMERAS:,} of {each * CAMERAS:,}, {rate:,.0f} rows/s")


async def load_sqlite(path: Path, url: str, each: int, config: Config) -> Day:
    """Make the schema, sync the stations and insert the day."""
    catalogue = await Catalogue.open(url)
    await catalogue.cameras.sync(config)
    await catalogue.close()
    with sqlite3.connect(path) as base:
        query = "SELECT camera_pk FROM cameras ORDER BY station, camera"
        day = Day([row[0] for row in base.execute(query)], each)
        for k in range(each):
            for table, columns in (("recordings", day.columns(k)), ("archived", day.kept(k))):
                marks = ",".join("?" * len(columns))
                into = f"INSERT INTO {table} ({','.join(columns)}) VALUES ({marks})"
                base.executemany(into, rows(columns))
        base.executemany("INSERT INTO runs VALUES (?,?,?,?,?,?,?,?)", plain(day.runs()))
        base.executemany("INSERT INTO gaps VALUES (?,?,?,?,?,?)", plain(day.gaps()))
        base.commit()
        base.execute("ANALYZE")
    return day


def plain(found: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Return rows without numpy's numbers."""
    return (tuple(v.item() if hasattr(v, "item") else v for v in row) for row in found)


# -- writing -----------------------------------------------------------------------------------


async def writing(bench: Bench, callers: int, cost: Callable[[], float]) -> None:
    """Put batches, mark each recording archived, then removed, one by one."""
    put: list[Index] = []
    queue = iter([n * BATCH for n in range(CAMERAS // BATCH)] * 50)

    async def put_next() -> None:
        found = bench.batch(next(queue))
        await bench.catalogue.writer.put_recordings(found)
        put.extend(found)

    await measured(bench, f"put_recordings, {BATCH} at once", put_next, callers, cost, BATCH)
    singles = (index for first in queue for index in bench.batch(first))

    async def put_one() -> None:
        await bench.catalogue.writer.put_recordings([next(singles)])

    await measured(bench, "put_recordings, 1 at once", put_one, callers, cost)
    waiting = iter(put)

    async def mark_next() -> None:
        index = next(waiting)
        kept = Archived("far", "election-2026-1", index.end_ms, "SHA-256 by the server", "ab" * 16)
        assert await bench.catalogue.writer.mark_archived(index, kept)

    await measured(bench, "mark_archived", mark_next, callers, cost)
    leaving = iter(put)

    async def remove_next() -> None:
        index = next(leaving)
        await bench.catalogue.writer.mark_removed(index.name, index.identity, index.end_ms)

    await measured(bench, "mark_removed", remove_next, callers, cost)


async def measured(
    bench: Bench,
    what: str,
    call: Callable[[], Awaitable[None]],
    callers: int,
    cost: Callable[[], float],
    rows_each: int = 1,
) -> None:
    """Have some callers call again and again for a while; says rows a second and CPU."""
    times: list[float] = []
    end = 0.0

    async def caller() -> None:
        while time.monotonic() < end:
            begun = time.monotonic()
            try:
                await call()
            except RuntimeError as error:  # nothing is left
                if isinstance(error.__cause__, StopIteration):
                    return
                raise
            times.append(time.monotonic() - begun)

    wal, cpu, own, begun = await bench.wal(), cost(), time.process_time(), time.monotonic()
    end = begun + WRITE_S
    await asyncio.gather(*(caller() for _ in range(callers)))
    seconds, count = time.monotonic() - begun, len(times) * rows_each
    server, client = (cost() - cpu) / count, (time.process_time() - own) / count
    wal_bytes = (await bench.wal() - wal) / count
    bench.costs[what] = server, wal_bytes
    bench.say(
        f"{what}, {callers} callers",
        f"{count / seconds:,.0f} rows/s, a call p50 {quantile(times, 0.5)} p99 "
        f"{quantile(times, 0.99)}; CPU a row {server * 1e6:.0f} µs server, "
        f"{client * 1e6:.0f} µs client; log a row {wal_bytes:,.0f} bytes",
    )


# -- reading -----------------------------------------------------------------------------------


def questions(bench: Bench) -> dict[str, Callable[[], Awaitable[Any]]]:
    """Return what readers ask, each time of another camera and another time."""
    c, day = bench.catalogue, bench.day

    def camera() -> tuple[str, str, str]:
        return name(random.randrange(CAMERAS))

    def begin(hours: int) -> int:
        return random.randint(BEGIN_MS, max(BEGIN_MS, day.end_ms - hours * 3_600_000))

    async def timeline(hours: int) -> None:
        station, from_ms = random.randrange(CAMERAS // 4), begin(hours)
        cameras = [name(station * 4 + n) for n in range(4)]
        found = await c.timelines(cameras, from_ms, from_ms + hours * 3_600_000)
        assert all(rows for rows, _ in found.values())

    async def segment() -> None:
        number = SEQ0 + random.randrange(day.each * 30)
        assert await c.recording_with_segment(camera(), number)

    async def run() -> None:
        assert await c.recording_of_run(camera(), SEQ0 + random.randrange(4))

    before_ms = (BEGIN_MS // DAY_MS + 30) * DAY_MS
    return {
        "timeline of a station (4 cameras), 1 h": lambda: timeline(1),
        "timeline of a station (4 cameras), 24 h": lambda: timeline(24),
        "recordings_between, 1 h": lambda: c.recordings_between(
            camera(), (at := begin(1)), at + 3_600_000
        ),
        "recordings_between, 24 h": lambda: c.recordings_between(
            camera(), BEGIN_MS, BEGIN_MS + DAY_MS
        ),
        "gaps_between, 24 h": lambda: c.gaps_between(camera(), BEGIN_MS, BEGIN_MS + DAY_MS),
        "recording_with_segment": segment,
        "recording_of_run": run,
        f"names (all {CAMERAS:,} cameras)": lambda: c.cameras.names(ELECTION),
        "in_spool (a camera)": lambda: c.in_spool(*camera()[1:], ""),
        "due (a camera)": lambda: c.holds.due(camera(), "far", before_ms, before_ms * 2),
    }


async def reading(bench: Bench) -> None:
    """Measure every question, one after another."""
    for what, ask in questions(bench).items():
        times: list[float] = []
        end = time.monotonic() + READ_S
        while time.monotonic() < end and len(times) < 3000:
            begun = time.monotonic()
            await ask()
            times.append(time.monotonic() - begun)
        p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
        bench.say(what, f"p50 {p50}, p99 {p99} ({len(times)} asked)")


async def explained(bench: Bench, url: str) -> None:
    """Check that no question reads a whole table of recordings."""
    asked: dict[str, Any] = {}

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.setdefault(statement, parameters)

    engine = bench.catalogue.pool.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    for ask in questions(bench).values():
        await ask()
    event.remove(engine, "before_cursor_execute", note)
    scans: list[str] = []
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as base:
            for statement, parameters in asked.items():
                plan = base.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
                scans += [row[3] for row in plan if row[3].startswith("SCAN ")]
    else:
        connection = await asyncpg.connect(url)
        for statement, parameters in asked.items():
            answer = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
            scans += _scans(json.loads(answer)[0]["Plan"])
        await connection.close()
    bad = [s for s in scans if "recordings" in s or "archived" in s]
    others = ", ".join(sorted(set(scans))) or "none"
    bench.say("EXPLAIN", f"{len(asked)} statements; whole tables read: {others}")
    if bad:
        raise SystemExit(f"a whole table of recordings is read: {bad}")


def _scans(plan: dict[str, Any]) -> list[str]:
    own = [plan["Relation Name"]] if plan["Node Type"] == "Seq Scan" else []
    return own + [s for child in plan.get("Plans", []) for s in _scans(child)]


# -- telling -----------------------------------------------------------------------------------


def whole_country(bench: Bench) -> None:
    """Say what 667 recordings a second take of a server: extrapolated, not measured."""
    for put in (f"put_recordings, {BATCH} at once", "put_recordings, 1 at once"):
        parts = [bench.costs[what] for what in (put, "mark_archived", "mark_removed")]
        cpu, wal = (PER_S * sum(column) for column in zip(*parts, strict=True))
        found = f"{cpu:.2f} cores of the server, {wal / 1e6:.1f} MB/s of log"
        bench.say(f"extrapolated to {PER_S}/s, {put}", found)
    space = bench.row_bytes * PER_S * 86_400 / 1e9
    bench.say(f"extrapolated to {PER_S}/s, a day", f"{space:.0f} GB of tables and indexes")


async def sizes(bench: Bench, url: str, count: int) -> None:
    """Say what the tables take on disk."""
    connection = await asyncpg.connect(url)
    query = (
        "SELECT coalesce(sum(pg_table_size(inhrelid)), 0),"
        " coalesce(sum(pg_indexes_size(inhrelid)), 0)"
        " FROM pg_inherits WHERE inhparent = $1::text::regclass"
    )
    for table in ("recordings", "archived"):
        rows_bytes, index_bytes = (int(n) for n in await connection.fetchrow(query, table))
        bench.row_bytes += (rows_bytes + index_bytes) / count
        each = f"{rows_bytes / count:.0f} + {index_bytes / count:.0f} bytes a row"
        total = f"{rows_bytes / 1e9:.2f} GB + indexes {index_bytes / 1e9:.2f} GB"
        bench.say(f"size of {table}", f"{total}: {each}")
    await connection.close()


def quantile(times: list[float], q: float) -> str:
    """Return a quantile in ms."""
    return f"{sorted(times)[int(q * (len(times) - 1))] * 1000:.1f} ms"


def cpu_of(server: Server) -> Callable[[], float]:
    """Return a clock of the CPU seconds that a server and its processes have used."""

    def seconds() -> float:
        total = 0.0
        for process in server.processes():
            with suppress(psutil.NoSuchProcess):  # ended meanwhile: counted with its parent's
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    return seconds


async def measure(url: str, day: Day, cost: Callable[[], float], callers: tuple[int, ...]) -> Bench:
    catalogue = await Catalogue.open(url)
    newest = max(r.record_seq for r in await catalogue.recordings_of(name(0)))
    bench = Bench(catalogue, url, day, newest - SEQ0)
    try:
        if url.startswith("postgresql"):
            await sizes(bench, url, day.each * CAMERAS)
        await reading(bench)
        await explained(bench, url)
        for n in callers:
            await writing(bench, n, cost)
        if url.startswith("postgresql"):
            whole_country(bench)
            used = ", ".join(f"{key} {value}" for key, value in SETTINGS.items())
            bench.say("settings", used)
    finally:
        await bench.catalogue.close()
    return bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=38_000_000)
    parser.add_argument("--data", type=Path, help="keep the database here, and use it again")
    parser.add_argument("--sqlite", action="store_true", help="SQLite instead of PostgreSQL")
    options = parser.parse_args()
    each = max(1, options.rows // CAMERAS)
    folder = options.data or Path(tempfile.mkdtemp(prefix="kuager-bench-"))
    try:
        if options.sqlite:
            path = folder / "catalogue.db"
            url = f"sqlite:///{path}"
            day = asyncio.run(load_sqlite(path, url, each, country()))
            bench = asyncio.run(measure(url, day, lambda: 0.0, (4,)))
            bench.say("size", f"{path.stat().st_size / 1e9:.2f} GB")
        else:
            bench = _postgres(folder, each)
    finally:
        if not options.data:
            shutil.rmtree(folder)
    table = Table("what", "found", title=f"{each * CAMERAS:,} recordings, {CAMERAS:,} cameras")
    for row in bench.results:
        table.add_row(*row)
    console.print(table)


def _postgres(folder: Path, each: int) -> Bench:
    loaded = folder / f"loaded-{each}"
    server = Server(folder / "pg", SETTINGS | FAST_LOAD)
    server.start()
    try:
        if not loaded.exists():
            asyncio.run(load_postgres(server.url(), each))
            loaded.touch()
        day = asyncio.run(known_day(server.url(), each))
        server.stop()
        server.settings = SETTINGS
        server.start()
        return asyncio.run(measure(server.url(), day, cpu_of(server), (1, 8)))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
