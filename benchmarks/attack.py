"""What a viewer gets while somebody attacks the public pages: `make attack`.

A real web process with few files (`ulimit -n 1024`), 10,000 stations, two cameras with up to a day
in the spool, ten stations with a week in the catalogue, and an order. A viewer of one address asks
for the playlist and for a segment, all the time; an attacker of other addresses, in processes of
its own, does one thing after the other, then all at once for a minute. Each row stands beside the
quiet one before it. Six cameras are recorded beside it all, and in the end it is said whether they
missed anything. All of them are on one machine: the attacker is given what processor time the
others leave, as he would have a machine of his own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import os
import random
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.bench_record import kuager_config, listening, memory_mb, process, simulated
from benchmarks.bench_site import Site, make
from benchmarks.tally import sealed
from config.load import load
from storage.media.fmp4 import Sample, TrackRun, write_init, write_segment
from storage.records import ClockState
from storage.spool.numbers import Numbers
from storage.spool.status import SpoolStatus
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from tests.support.footage import VIDEO
from tests.support.s3 import free_port
from tests.support.spools import TRACKS
from tests.support.waiting import until

FILES = 1024
SEGMENT_BYTES = 500_000
SHORT, LONG = "ballot-box", "entrance"
WEEKS, WEEK_MINUTES = 10, 10_070  # stations with recordings of a week, a minute each
WEEK = f"""
INSERT INTO recordings (camera_pk, record_seq, day, epoch, run_no, first_segment_no, segments,
  start_ms, end_ms, bytes, sha256, overlaps)
WITH RECURSIVE k(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM k WHERE n + 1 < :count)
SELECT camera_pk, n + 1, (:begin + n * 60000) / 86400000, 1, 1, n * 30 + 1, 30,
  :begin + n * 60000, :begin + n * 60000 + 60000, 15000000, zeroblob(32), 0
FROM cameras, k WHERE station IN ({",".join(f"'s{n}'" for n in range(1, WEEKS + 1))})
"""
COPIES = """
copies:
  price_per_minute: 60
  bank: {beneficiary: B, bin: "123456789012", iban: KZ86125KZT5004100100, bank: B, bic: KZKOKZKX,
         beneficiary_code: "17", purpose_code: "859"}
"""
ORDER = "KUAGER_ATTACK_ORDER"  # the address of an order, for who attacks its invoice
VIEWER, ATTACKER = "127.9.9.9", "127.9.9.8"
AT_ONCE = 16
ALL, ALL_S = "all of these", 60.0
SILENT = (  # what `make attack-silent` does
    "1,100 that say nothing, of one address",
    "20,000 that say nothing",
    "half a head",
    "half a body",
    "800 slow readers",
    "800 slow readers, of one address",
)
RECORDED = [f"recorded{n}" for n in range(6)]
FILM = {"width": 640, "height": 360, "fps": 15, "bitrate": 500_000, "film_s": 10}

choose = random.Random(5)


def letters(count: int) -> str:
    return "".join(choose.choice("aeinrskmb") for _ in range(count))


def somebody() -> tuple[str, int]:
    """Return one of 60,000 addresses of this machine."""
    return f"127.{choose.randint(1, 8)}.{choose.randint(1, 254)}.{choose.randint(1, 30)}", 0


Attack = Callable[[int], Coroutine[Any, Any, None]]  # of a port, until the process is ended


def held(count: int, said: Callable[[], bytes], own: bool = False) -> Attack:
    """Return an attack that keeps so many connections, each with what was said once."""

    async def attack(port: int) -> None:
        writers: list[asyncio.StreamWriter] = []
        while True:
            writers = [w for w in writers if not w.transport.is_closing()]
            for _ in range(min(200, count - len(writers))):
                with contextlib.suppress(OSError):
                    address = (ATTACKER, 0) if own else somebody()
                    where = ("127.0.0.1", port)
                    _, writer = await asyncio.open_connection(*where, local_addr=address)
                    writer.transport.pause_reading()  # type: ignore[attr-defined]
                    writer.write(said())
                    writers.append(writer)
            await asyncio.sleep(0.05)

    return attack


def asked(method: str, path: Callable[[], str], data: bytes | None = None, **more: str) -> Attack:
    """Return an attack that asks as fast as it can."""

    async def attack(port: int) -> None:
        async def one() -> None:
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                while True:
                    headers = {"X-Forwarded-For": f"10.0.{choose.randint(0, 255)}.1"} | more
                    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                        async with session.request(
                            method, path(), data=data, headers=headers
                        ) as answer:
                            await answer.read()

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    return attack


def repeated(said: bytes) -> Attack:
    """Return an attack that says the same to a new connection, again and again."""

    async def attack(port: int) -> None:
        async def one() -> None:
            while True:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(said)
                    while await reader.read(1 << 16):
                        pass
                    writer.close()

        await asyncio.gather(*(one() for _ in range(AT_ONCE)))

    return attack


def _head(path: str, *more: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *more, "", ""]).encode()


def _before_ms(shortest_s: int, longest_s: int) -> int:
    return int(time.time() * 1000) - choose.randint(shortest_s * 1000, longest_s * 1000)


def _since(shortest_s: int, longest_s: int) -> Callable[[], str]:
    return lambda: f"/live/s1/{LONG}/index.m3u8?from={_before_ms(shortest_s, longest_s)}"


def _week() -> str:
    station = choose.randint(1, WEEKS)
    return f"/api/v1/stations/s{station}/timeline?from={_before_ms(600_000, 604_000)}"


ATTACKS: dict[str, Attack] = {
    "1,100 that say nothing, of one address": held(1100, bytes, own=True),
    "20,000 that say nothing": held(10_000, bytes),
    "half a head": held(1100, lambda: _head("/")[:-3]),
    "half a body": held(
        1100, lambda: _head("/copies/quotes", "Content-Length: 99", method="POST") + b"a"
    ),
    "800 slow readers": held(800, lambda: _head(f"/live/s1/{SHORT}/1.m4s") * 3),
    "800 slow readers, of one address": held(
        800, lambda: _head(f"/live/s1/{SHORT}/1.m4s") * 3, own=True
    ),
    "bodies that unpack to 64 MB": asked(
        "POST",
        lambda: "/copies/quotes",
        data=gzip.compress(bytes(1 << 26)),
        **{"Content-Encoding": "gzip"},
    ),
    "searches of nonsense": asked(
        "GET", lambda: "/api/v1/stations?q=" + "+".join(letters(8) for _ in range(8))
    ),
    "stations that are not there": asked("GET", lambda: f"/stations/{letters(30)}"),
    "playlists of an hour": asked("GET", _since(1800, 3500)),
    "playlists of a day": asked("GET", _since(43_200, 86_000)),
    "timelines of 7 days": asked("GET", _week),
    "invoices": asked("GET", lambda: f"{os.environ[ORDER]}/invoice.pdf"),
    "segments that are not there": asked(
        "GET", lambda: f"/live/s1/{SHORT}/{choose.randint(10**6, 10**9)}.m4s"
    ),
    "links that are not there": asked("GET", lambda: f"/copies/{choose.randint(0, 10**9):032}"),
    "requests in advance": repeated(_head(f"/live/s1/{SHORT}/index.m3u8") * 90 + b"\0\r\n\r\n"),
    "bodies of pieces of one byte": repeated(
        _head("/copies/quotes", "Transfer-Encoding: chunked", method="POST")
        + b"1\r\na\r\n" * 40_000
    ),
    "an address of 14,000 parameters": repeated(
        _head("/stations/s1?" + "t=1&" * 14_000, "Connection: close")
    ),
    "metrics": asked("GET", lambda: "/metrics"),
    "what is not HTTP": held(200, lambda: b"\0\1\2\r\n\r\n"),
}


async def everything(port: int) -> None:
    """Do all of it."""
    await asyncio.gather(*(attack(port) for attack in ATTACKS.values()))


def prepare(folder: Path, count: int, minutes: int) -> Site:
    """Write a site whose station s1 has a camera with large segments and one with many."""
    site = make(folder, count, recordings=1)
    text = (folder / "kuager.yaml").read_text()
    public = f'processes: 1, public_url: "{site.base}"}}'
    (folder / "kuager.yaml").write_text(text.replace("processes: 2}", public) + COPIES)
    config = load(folder / "kuager.yaml", {})
    now = int(time.time() * 1000)
    with sqlite3.connect(config.database_url.removeprefix("sqlite:///")) as base:
        base.execute(WEEK, {"begin": now - WEEK_MINUTES * 60_000, "count": WEEK_MINUTES})
    for camera, segments, size in ((SHORT, 8, SEGMENT_BYTES), (LONG, minutes * 30, 400)):
        spool = CameraSpool(config.spool, config.election.id, "s1", camera, Numbers())
        run = Run(now - segments * 2000, write_init([VIDEO]), TRACKS, 2)
        for n in range(segments):
            picture = [Sample(180_000, size, True, 0)], [os.urandom(size)]
            spool.append(
                run,
                write_segment(spool.next_segment_no, [TrackRun(1, n * 180_000, *picture)]),
                SegmentInfo(
                    tfdt_90k=n * 180_000,
                    duration_90k=180_000,
                    starts_with_key=True,
                    arrival_ms=run.run_start_ms + 2000 * n,
                    camera_ms=None,
                ),
                ClockState(True, 2),
            )
        spool.seal(None)
        spool.close()
    return site


async def view(port: int, seconds: float) -> tuple[dict[str, list[float]], int]:
    """Return the ms that playlist and segment took, and how often there was none."""
    took: dict[str, list[float]] = {"playlist": [], "segment": []}
    paths = {"playlist": f"/live/s1/{SHORT}/index.m3u8", "segment": f"/live/s1/{SHORT}/2.m4s"}
    refused, until = 0, time.time() + seconds
    while time.time() < until:
        # a new visitor each time: what is open already says nothing of who comes
        connector = aiohttp.TCPConnector(local_addr=(VIEWER, 0))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as one:
            for name, path in paths.items():
                begun = time.perf_counter()
                try:
                    async with one.get(path, timeout=aiohttp.ClientTimeout(30)) as answer:
                        await answer.read()
                        answer.raise_for_status()
                    took[name].append((time.perf_counter() - begun) * 1000)
                except (aiohttp.ClientError, TimeoutError):
                    refused += 1
        await asyncio.sleep(0.02)
    return {name: sorted(ms) for name, ms in took.items()}, refused


async def measure(site: Site, seconds: float, names: Sequence[str]) -> None:
    """Attack in turn, and print a row for each."""
    me = (sys.executable, "-m", "benchmarks.attack", "--port", str(site.port))
    web = f"ulimit -n {FILES}; exec {sys.executable} -m kuager run --role web --config"
    async with process("sh", "-c", f"{web} {site.folder}/kuager.yaml") as server:
        await _answers(site)
        os.environ[ORDER] = await _order(site)
        await view(site.port, 1)
        print("| attack | playlist p50, p99 | segment p99 | times quiet | none | memory | files |")
        print("|---|---|---|---|---|---|---|")
        for name in names or [*ATTACKS, ALL]:
            row_s = max(seconds, ALL_S) if name == ALL else seconds
            quiet, _ = await view(site.port, seconds)
            count = 2 if name.startswith("20,000") else 1  # one may not open so many files
            async with contextlib.AsyncExitStack() as stack:
                for n in range(count):
                    begun = site.folder / f"{name}-{n}"
                    one = process(*me, "--as", name, "--begun", str(begun))
                    await stack.enter_async_context(one)
                    while not begun.exists():  # noqa: ASYNC110 another process makes it
                        await asyncio.sleep(0.05)
                await asyncio.sleep(1)
                found, refused = await view(site.port, row_s)
                files = len(os.listdir(f"/proc/{server.pid}/fd"))  # noqa: PTH208
                memory = memory_mb([server.pid])
            worst = max(_p(found[k], 99) / _p(quiet[k], 99) for k in found)
            cells = [f"{_p(found['playlist'], 50):.1f}, {_p(found['playlist'], 99):.1f} ms"]
            cells += [f"{_p(found['segment'], 99):.1f} ms", f"{worst:.1f}", str(refused)]
            print(f"| {name} | {' | '.join(cells)} | {memory:.0f} MB | {files} |", flush=True)


def _p(took: list[float], percent: int) -> float:
    return took[min(len(took) - 1, len(took) * percent // 100)] if took else float("nan")


@contextlib.asynccontextmanager
async def recording(folder: Path) -> AsyncIterator[None]:
    """Record cameras meanwhile; then say what they missed."""
    port, me = free_port(), sys.executable
    serve = (me, "-m", "kuager.simulator", "--config", simulated(folder, RECORDED, FILM))
    async with process(*serve, "--port", str(port)):
        await listening(port)
        kuager_config(folder, port, RECORDED)
        record = (me, "-m", "kuager", "run", "--role", "recorder", "--config")
        async with process(*record, str(folder / "kuager.yaml")):
            status = SpoolStatus(folder / "spool")

            def are_recorded() -> bool:
                list(status.refresh())
                states = list(status.states.values())
                return states == ["recording"] * len(RECORDED)

            await until(are_recorded)
            yield
    print(f"recorded meanwhile: {sealed(folder / 'spool', RECORDED)}")


async def _answers(site: Site) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(1200):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{site.base}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.1)
    raise SystemExit("the web process is not ready")


async def beside(folder: Path, work: Coroutine[Any, Any, None]) -> None:
    """Record cameras while something else is done."""
    async with recording(folder):
        await work


async def _order(site: Site) -> str:
    """Order a minute of footage; returns the order's address on the site."""
    to_ms = int(time.time() * 1000) - 300_000
    wanted = {"station": "s1", "cameras": [LONG], "from": to_ms - 60_000, "to": to_ms}
    async with aiohttp.ClientSession(site.base, raise_for_status=True) as session:
        async with session.post("/api/v1/copies/quotes", json=wanted) as answer:
            place = answer.headers["Location"]
        async with session.post(f"{place}/order") as answer:
            return str((await answer.json())["invoice"]).removesuffix("/invoice.pdf")


def main() -> None:
    """Parse the command line; measure, or be an attacker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stations", type=int, default=10_000)
    parser.add_argument("--minutes", type=int, default=1439, help="of the long camera")
    parser.add_argument("--seconds", type=float, default=10, help="for each row")
    parser.add_argument("--silent", action="store_true", help="those that say or take little")
    parser.add_argument("names", nargs="*", help="of attacks; all where none is named")
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--begun", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--as", dest="name", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.name:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        arguments.begun.touch()
        asyncio.run(ATTACKS.get(arguments.name, everything)(arguments.port))
        return
    folder = Path(tempfile.mkdtemp(prefix="kuager-attack-"))
    try:
        site = prepare(folder / "site", arguments.stations, arguments.minutes)
        names = [*SILENT, *arguments.names] if arguments.silent else arguments.names
        (folder / "recorded").mkdir()
        asyncio.run(beside(folder / "recorded", measure(site, arguments.seconds, names)))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
