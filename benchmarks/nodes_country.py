"""A country's machines as rows and status files, without video: `make nodes-country`.

80 nodes hold the shards of 40,000 cameras in a real PostgreSQL, each as its role `node` does, in a
few processes; what their recorders would say is made up. One web process answers as it would in
such an installation. Printed: renewals, what they cost PostgreSQL, how soon the cameras of 8 nodes
that die at once are others', and how fast pages are.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import aiohttp
import asyncpg
import psutil
import sqlalchemy as sa
import structlog
from aiohttp import web
from sqlalchemy import event

from benchmarks.election_day import country
from benchmarks.nodes_watch import folder_of
from config.model import Config, Node
from kuager import VERSION
from storage.catalogue.catalogue import Catalogue
from storage.cluster.agent import NodeAgent
from storage.spool.lease_file import shard_of
from storage.spool.node_map import read_node_map
from streaming.app import create_app, make_runner
from tests.support.postgres_server import Server
from tests.support.s3 import free_port

SETTINGS = {"shared_buffers": "256MB", "max_connections": "200"}
WINDOW_S = 10


def settings_of(config: Config, folder: Path, url: str, n: int) -> Config:
    """Return the configuration of the n-th node."""
    node = Node(name=f"n{n}", host=f"10.0.{n // 250}.{n % 250 + 1}", port=8090, cameras=600)
    spool = folder / f"spool-{n}"
    return config.model_copy(update={"node": node, "spool": spool, "database_url": url})


class Timed(NodeAgent):
    """A node that notes how long its rounds take."""

    took_ms: list[float]

    async def round(self) -> object:  # type: ignore[override]
        begun = time.perf_counter()
        view = await super().round()
        self.took_ms.append((time.perf_counter() - begun) * 1000)
        return view


async def nodes(folder: Path, url: str, first: int, last: int) -> None:
    """Be some of the nodes until told otherwise; says for each WINDOW_S since when, how long rounds
    took, and how many statements were sent."""
    to_stderr = structlog.PrintLoggerFactory(sys.stderr)  # what is printed is read as JSON
    structlog.configure(logger_factory=to_stderr)
    config, sent = country(), itertools.count()
    event.listen(sa.Engine, "before_cursor_execute", lambda *_: next(sent))
    agents = []
    for n in range(first, last):
        agent = Timed(settings_of(config, folder, url, n), VERSION, random=Random(n))
        agent.took_ms = []
        agents.append(agent)
    tasks = [asyncio.create_task(agent.run()) for agent in agents]
    loop, die = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), die.set)
    while not die.is_set():
        began_s, before = time.time(), next(sent)
        await asyncio.sleep(WINDOW_S)
        took = [ms for agent in agents for ms in agent.took_ms]
        for agent in agents:
            agent.took_ms.clear()
        print(json.dumps([began_s, took, next(sent) - before]), flush=True)
    del tasks
    os._exit(0)  # without a word, as a machine that dies


async def spawn(folder: Path, url: str, first: int, last: int) -> asyncio.subprocess.Process:
    """Start a process with some of the nodes."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.nodes_country", "--nodes", f"{first}:{last}"),
        *("--folder", str(folder), "--url", url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )


async def rounds_of(children: list[asyncio.subprocess.Process]) -> tuple[list[float], float]:
    """Return how long rounds took, in ms, in the next window of each, and the statements that all
    sent in a second of it."""
    since_s = time.time()

    async def of(child: asyncio.subprocess.Process) -> tuple[list[float], int]:
        assert child.stdout is not None
        began_s = 0.0
        while began_s < since_s:  # what it said before waits in its pipe
            began_s, took, sent = json.loads(await child.stdout.readline())
        return took, sent

    said = await asyncio.gather(*map(of, children))
    return [ms for took, _ in said for ms in took], sum(sent for _, sent in said) / WINDOW_S


async def until(what: Callable[[], Awaitable[bool]], within_s: float) -> float:
    """Wait for something; return how long it took, in seconds."""
    begun = time.monotonic()
    while not await what():
        if time.monotonic() - begun > within_s:
            raise TimeoutError(f"not within {within_s} s")
        await asyncio.sleep(0.2)
    return time.monotonic() - begun


async def cost(server: Server, url: str, seconds: float) -> tuple[float, float]:
    """Return PostgreSQL's CPU in percent of a core, and its transactions a second."""
    connection = await asyncpg.connect(url)
    asked = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"

    def used() -> float:
        total = 0.0
        for process in server.processes():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    before, begun, commits = used(), time.monotonic(), await connection.fetchval(asked)
    await asyncio.sleep(seconds)
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    took_s = time.monotonic() - begun
    found = (used() - before) / took_s * 100, (await connection.fetchval(asked) - commits) / took_s
    await connection.close()
    return found


def p(values: list[float], share: float) -> float:
    """Return a quantile."""
    return statistics.quantiles(values, n=1000)[int(share * 1000) - 1] if len(values) > 1 else 0.0


async def pages(config: Config, url: str, count: int) -> None:
    """Print how fast a web process answers that knows of all machines."""
    catalogue = await Catalogue.open(url)
    await catalogue.cameras.sync(config)
    found = read_node_map(config.spool)
    assert found is not None
    told: dict[str, dict[str, dict[str, object]]] = {}
    for station in config.stations:
        for camera in station.cameras:
            name = f"{station.id}/{camera.id}"
            holder = found.shards[shard_of(name)].holder or ""
            told.setdefault(holder, {})[name] = {"state": "recording", "since_ms": 1}
    now_ms = int(time.time() * 1000)
    for spool, cameras in told.items():
        said = {"written_ms": now_ms + 3_600_000, "cameras": cameras}
        (config.spool / "_status" / f"peer-{spool}.json").write_text(json.dumps(said))
    clock = lambda: now_ms + 3_600_000  # noqa: E731 what was said stays of now
    runner, port = make_runner(create_app(config, catalogue, [], clock)), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    stations = [station.id for station in config.stations]
    choose = Random(1)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for what, path in {
            "home page": "/",
            "counts": "/api/v1/election",
            "wall": "/api/v1/wall",
            "search": "/api/v1/stations?q=тау",
            "timeline of an hour": "/api/v1/stations/{}/timeline",
            "station": "/stations/{}",
        }.items():
            took = []
            for _ in range(count):
                begun = time.perf_counter()
                async with session.get(path.format(choose.choice(stations))) as answer:
                    await answer.read()
                    assert answer.status == 200, (path, answer.status)
                took.append((time.perf_counter() - begun) * 1000)
            print(f"| {what} | {p(took, 0.5):.1f} ms | {p(took, 0.99):.1f} ms |", flush=True)
    await runner.cleanup()
    await catalogue.close()


async def measure(options: argparse.Namespace) -> None:
    """Print the table."""
    folder = folder_of("country")
    folder.chmod(0o755)
    server = Server(folder / "postgres", SETTINGS)
    await asyncio.to_thread(server.start)
    url, count = server.url(), options.count
    config = country()
    watched = settings_of(config, folder, url, 0)
    try:
        await (await Catalogue.open(url)).close()
        dying = 8
        parts = [(0, (count - dying) // 2), ((count - dying) // 2, count - dying)]
        children = [await spawn(folder, url, *part) for part in (*parts, (count - dying, count))]
        catalogue = await Catalogue.open(url)

        async def held(nodes: int, most: int) -> bool:
            view = await catalogue.nodes.view()
            counts = [sum(s.holder == n for s in view.shards) for n in view.nodes]
            alive = [view.is_alive(n) for n in view.nodes]
            settled = not any(s.handover or s.offered for s in view.shards)
            there = all(view.is_alive(s.holder) for s in view.shards)
            return sum(alive) == nodes and there and settled and max(counts) <= most

        took_s = await until(lambda: held(count, -(-512 // count)), 900)
        print(f"| {count} nodes start at once; each has its part after | {took_s:.0f} s |")
        (cpu, commits), (rounds, statements) = await asyncio.gather(
            cost(server, url, 2 * WINDOW_S), rounds_of(children)
        )
        print(f"| rounds: median, p99 | {p(rounds, 0.5):.1f} ms, {p(rounds, 0.99):.1f} ms |")
        text = f"{commits:.0f} transactions/s, {statements:.0f} statements/s"
        print(f"| PostgreSQL | {cpu:.0f} % of a core, {text} |", flush=True)
        children[2].kill()
        view = await catalogue.nodes.view()
        dead = _last(view.nodes, count, dying)
        lost = sum(s.holder in dead for s in view.shards)

        async def taken() -> bool:  # a lease that is not over yet says nothing of who is alive
            view = await catalogue.nodes.view()
            return all(view.is_alive(s.holder) and s.holder not in dead for s in view.shards)

        print(
            f"| {dying} nodes die with {lost} shards; taken after | "
            f"{await until(taken, 120):.1f} s |",
            flush=True,
        )
        await pages(watched, url, options.requests)
        await catalogue.close()
        for child in children[:2]:
            child.kill()
            await child.wait()
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _last(nodes: object, count: int, dying: int) -> set[str]:
    names = {f"n{n}" for n in range(count - dying, count)}
    return {spool for spool, node in nodes.items() if node.name in names}  # type: ignore[attr-defined]


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--nodes", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.nodes:
        first, last = map(int, options.nodes.split(":"))
        asyncio.run(nodes(options.folder, options.url, first, last))
    else:
        asyncio.run(measure(options))


if __name__ == "__main__":
    main()
