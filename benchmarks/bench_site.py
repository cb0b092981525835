"""How fast the public site answers at size: `make bench-site`.

Two real servers of two web processes each, one with 10,000 stations and 40,000 cameras, one with
10 stations; recorders' status files that are replaced every two seconds; a catalogue (SQLite) with
25 recordings of every camera; pictures of some. A client on the same machine asks both in turn,
two requests at a time. Nothing is behind a cache, and the client's own time is in the numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import itertools
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp

from benchmarks.bench_catalogue import load_sqlite
from benchmarks.bench_record import descendants, memory_mb, process
from benchmarks.country import ANGLES, stations, typed
from benchmarks.election_day import BEGIN_MS
from config.csvfile import COLUMNS
from config.load import load
from config.model import Config
from storage.spool.disk import claim_spool
from streaming.stations.search import Search
from streaming.stations.transliterate import slug

SHARE = 500  # cameras of one recorder process
RECORDINGS = 25  # of every camera, a minute each
PICTURED = 500  # stations whose first camera has a picture
AT_ONCE = 2
CONNECTED = 20  # requests; the system deals connections out by chance, both to one process too
KUAGER = """
election: {{id: president-2026, name: {{kk: Сайлау, ru: Выборы, en: Election}}, date: 2026-11-29,
  time_zone: Asia/Almaty, windows: [{{from: 2020-01-01T00:00, to: 2090-01-01T00:00}}]}}
stations: stations.csv
spool: spool
archives: [archive]
web: {{listen: "127.0.0.1:{port}", trusted_proxies: [127.0.0.1], processes: 2}}
"""


@dataclass(slots=True)
class Site:
    """A server and what it was made from."""

    count: int
    folder: Path
    port: int
    pids: list[int]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def make(folder: Path, count: int, recordings: int = RECORDINGS) -> Site:
    """Write configuration, spool and catalogue."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder.mkdir()
    (folder / "kuager.yaml").write_text(KUAGER.format(port=port))
    with (folder / "stations.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(count))
    begun = time.perf_counter()
    config = load(folder / "kuager.yaml", {})
    took_s = time.perf_counter() - begun
    print(f"{count:,} stations: the configuration takes {took_s:.1f} s to load")
    searched(config)
    claim_spool(config.spool)
    for station in config.stations[:PICTURED]:
        directory = config.spool / station.id / station.cameras[0].id
        directory.mkdir(parents=True)
        for name, size in (("thumb.jpg", 12_000), ("picture.jpg", 90_000)):
            (directory / name).write_bytes(os.urandom(size))
    path = Path(config.database_url.removeprefix("sqlite:///"))
    asyncio.run(load_sqlite(path, config.database_url, recordings, config))
    return Site(count, folder, port, [])


def searched(config: Config) -> None:
    """Say what the search's index takes, and how long it searches for what is typed."""
    begun = time.perf_counter()
    search = Search(config.stations)
    took_s, took = time.perf_counter() - begun, []
    tracemalloc.start()
    again = Search(config.stations)
    memory = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    del again
    for query in typed(20_000):
        begun = time.perf_counter()
        search.find(query)
        took.append((time.perf_counter() - begun) * 1000)
    took.sort()
    print(
        f"{len(config.stations):,} stations: the search's index takes {took_s:.1f} s and "
        f"{memory:.0f} MB, a search {_at(took, 50):.2f} ms p50, {_at(took, 99):.1f} ms p99"
    )


def rows(count: int) -> Iterator[dict[str, str]]:
    """Yield the rows of the stations file, one per camera."""
    for n, station in enumerate(stations(count)):
        row = {"station_id": station["id"], "number": station["number"]}
        for key in ("name", "region", "district", "address"):
            row |= {f"{key}_{lang}": text for lang, text in station[key].items()}
        for m, (angle, kk, ru, en) in enumerate(ANGLES):
            titles = {"title_kk": kk, "title_ru": ru, "title_en": en}
            yield row | titles | {"camera_id": angle, "url": f"rtsp://10.0.0.1/{n}-{m}"}


def speak(sites: Sequence[Path]) -> None:
    """Replace the status files of all recorders every two seconds, until standard input ends;
    one camera in twenty is not recorded. Pictures are renewed."""
    shares: list[tuple[Path, bytes]] = []
    for folder in sites:
        names = []
        with (folder / "stations.csv").open(encoding="utf-8") as file:
            names = [f"{r['station_id']}/{r['camera_id']}" for r in csv.DictReader(file)]
        choose = random.Random(1)
        for share, n in enumerate(range(0, len(names), SHARE)):
            cameras = {}
            for name in names[n : n + SHARE]:
                state = "recording" if choose.random() < 0.95 else "backoff"
                cameras[name] = {
                    "state": state,
                    "since_ms": 1,
                    "cause": None,
                    "detail": None,
                    "segment_no": 218_000_000 + n,
                    "bytes": 123_456_789,
                    "frames": 123_456,
                    "runs": 1,
                    "retries": 0,
                    "recorded_ms": int(time.time() * 1000),
                }
            path = folder / "spool" / "_status" / f"recorder-{share}.json"
            shares.append((path, json.dumps({"cameras": cameras}).encode()[1:]))
    os.set_blocking(0, False)
    with contextlib.suppress(BlockingIOError):
        for turn in itertools.count():
            for path, rest in shares:
                new = path.with_suffix(".new")
                new.write_bytes(b'{"written_ms":%d,' % (time.time() * 1000) + rest)
                new.replace(path)
            for folder in sites if turn % 5 == 0 else ():
                for thumb in (folder / "spool").glob("*/*/*.jpg"):
                    thumb.touch()
            for _ in range(20):
                time.sleep(0.1)
                try:
                    if os.read(0, 1) == b"":
                        return
                except BlockingIOError:
                    continue


@contextlib.asynccontextmanager
async def served(site: Site) -> AsyncIterator[Site]:
    """Run the web processes of a site."""
    command = (sys.executable, "-m", "kuager", "run", "--role", "web", "--config")
    config = str(site.folder / "kuager.yaml")
    async with process(*command, config) as one, process(*command, config) as two:
        begun = time.perf_counter()
        async with aiohttp.ClientSession() as session:
            ready = 0
            while ready < 20:  # whichever process answers
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{site.base}/readyz", headers=CLOSE) as answer:
                        ready = ready + 1 if answer.status == 200 else 0
                await asyncio.sleep(0.05)
        print(f"{site.count:,} stations: serving after {time.perf_counter() - begun:.1f} s")
        site.pids = [one.pid, two.pid]
        yield site


CLOSE = {"Connection": "close"}


def questions(site: Site) -> dict[str, Callable[[], str]]:
    """Return what is asked, by name: each a function that makes the next address."""
    choose = random.Random(3)
    letters = itertools.cycle(list(typed(4000)))
    regions: list[str] = []

    def station() -> str:
        return f"s{choose.randint(1, site.count)}"

    def region() -> str:
        if not regions:
            regions.extend(slug(s["region"]["en"]) for s in stations(site.count))
        return choose.choice(regions)

    def timeline() -> str:
        from_ms = BEGIN_MS + choose.randint(0, 20) * 60_000
        return f"/api/v1/stations/{station()}/timeline?from={from_ms}&to={from_ms + 3_600_000}"

    return {
        "home": lambda: "/",
        "station page": lambda: f"/stations/{station()}",
        "/api/v1/election": lambda: "/api/v1/election",
        "/api/v1/regions/{region}": lambda: f"/api/v1/regions/{region()}",
        "search, letter by letter": lambda: f"/api/v1/stations?limit=10&q={quote(next(letters))}",
        "/api/v1/stations, 100 live": lambda: f"/api/v1/stations?live=1&region={region()}",
        "/api/v1/stations/{station}": lambda: f"/api/v1/stations/{station()}",
        "timeline, 1 h": timeline,
        "/api/v1/wall": lambda: "/api/v1/wall",
        "thumb.jpg": lambda: (
            f"/live/s{choose.randint(1, min(PICTURED, site.count))}/ballot-box/thumb.jpg"
        ),
    }


def someone() -> dict[str, str]:
    """Return who asks, as a proxy in front would say it: one of many."""
    return {"X-Forwarded-For": f"10.{random.randint(0, 255)}.{random.randint(0, 255)}.1"}


async def ask(site: Site, question: Callable[[], str], seconds: float) -> list[float]:
    """Return the milliseconds of each answer, asked for so long by two clients."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        while time.perf_counter() < until:
            async with aiohttp.ClientSession(site.base) as session:
                for _ in range(CONNECTED):
                    path = question()
                    begun = time.perf_counter()
                    async with session.get(path, headers=someone()) as answer:
                        await answer.read()
                        assert answer.status in (200, 404), (path, await answer.text())
                    took.append((time.perf_counter() - begun) * 1000)

    await asyncio.gather(*(client() for _ in range(AT_ONCE)))
    return sorted(took)


async def stall(site: Site) -> None:
    """Scrape /metrics of one process alone, and say how long another answer waited meanwhile."""
    command = (sys.executable, "-m", "kuager", "run", "--role", "web", "--config")
    async with (
        process(*command, str(site.folder / "kuager.yaml")) as one,
        aiohttp.ClientSession(site.base) as session,
    ):
        for _ in range(600):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/readyz") as answer:
                    if answer.status == 200:
                        break
            await asyncio.sleep(0.1)
        await ask(site, lambda: "/api/v1/election", 1)
        begun = time.perf_counter()
        operators = f"http://127.0.0.1:{site.port + 1}/metrics"
        scrape = asyncio.create_task(_read(session, operators))
        waited: list[float] = []
        while not scrape.done():
            at = time.perf_counter()
            await _read(session, "/healthz")
            waited.append((time.perf_counter() - at) * 1000)
        took_s, megabytes = time.perf_counter() - begun, scrape.result() / 1e6
        waited.sort()
        print(
            f"/metrics with {site.count * len(ANGLES):,} cameras: {megabytes:.1f} MB in "
            f"{took_s:.1f} s; {len(waited)} other answers then took {_at(waited, 50):.1f} ms p50, "
            f"{_at(waited, 99):.1f} ms p99, {waited[-1]:.1f} ms at most; "
            f"memory then {memory_mb(descendants(one.pid)):.0f} MB"
        )


async def _read(session: aiohttp.ClientSession, path: str) -> int:
    async with session.get(path) as answer:
        return len(await answer.read())


def _at(took: list[float], percent: int) -> float:
    return took[min(len(took) - 1, len(took) * percent // 100)]


async def run(sites: Sequence[Site], seconds: float) -> None:
    """Serve both sites at once and ask them in turn."""
    me = (sys.executable, "-m", "benchmarks.bench_site", "--speak")
    async with process(*me, *(str(site.folder) for site in sites)):
        async with served(sites[0]) as large, served(sites[1]) as small:
            head = f"{large.count:,} stations: p50 | p99 | 10 stations: p50 | p99 | p99 ratio"
            print(f"\n| what | {head} |")
            print("|---|---|---|---|---|---|")
            few = questions(small)
            for name, question in questions(large).items():
                found = []
                for site, one in ((large, question), (small, few[name])):
                    await ask(site, one, seconds / 5)  # warm
                    found.append(await ask(site, one, seconds))
                cells = [f"{_at(t, p):.1f} ms" for t in found for p in (50, 99)]
                ratio = _at(found[0], 99) / _at(found[1], 99)
                print(f"| {name} | {' | '.join(cells)} | {ratio:.1f} |", flush=True)
            print()
            for site in (large, small):
                memory = [f"{memory_mb([pid]):.0f} MB" for pid in site.pids]
                print(f"{site.count:,} stations: memory of a web process {' and '.join(memory)}")
        await stall(sites[0])


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5, help="for each row and site")
    parser.add_argument("--speak", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.speak is not None:
        speak([Path(folder) for folder in arguments.speak])
        return
    folder = Path(tempfile.mkdtemp(prefix="kuager-bench-"))
    try:
        sites = make(folder / "large", arguments.stations), make(folder / "small", 10)
        asyncio.run(run(sites, arguments.seconds))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
