"""What one core serves: `make bench-http` (needs wrk and nginx, and two cores).

Live playlists and segments, by four servers in one run, each with a core of its own while wrk has
the other: Kuager's web process, with a segment written every two seconds; aiohttp with a handler
that does nothing but answer; nginx with the same bytes as files; and Kuager behind the nginx of
deploy/, in plain HTTP. First as fast as 64 connections can ask, then 2,000 viewers who ask about
once a second each.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.bench_record import process
from storage.records import ClockState
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from streaming.media.live import PLAYLIST_TYPE, SEGMENT_TYPE
from tests.support.programs import need
from tests.support.s3 import free_port
from tests.support.spools import TRACKS

ROOT = Path(__file__).parent.parent
SERVERS, CLIENTS = "0", "1"  # cores
SIZES = {"small": 64 << 10, "large": 500_000}  # of a segment, by camera
SEGMENT_S, WRITTEN = 2, 10
PLAYLIST = "/live/s/small/index.m3u8"
SEGMENTS = tuple(f"/live/s/{name}/5.m4s" for name in SIZES)
SERVED = {
    "kuager": "Kuager",
    "aiohttp": "bare aiohttp",
    "nginx": "nginx",
    "front": "Kuager behind nginx",
}
SAID = ("Requests/sec", "Transfer/sec", r"\s50%", r"\s99%")
KUAGER = """
election: {{id: e, name: E, date: 2026-11-29, time_zone: Asia/Almaty,
  windows: [{{from: 2020-01-01T00:00, to: 2090-01-01T00:00}}]}}
stations: stations.yaml
spool: spool
archives: [archive]
web: {{listen: "127.0.0.1:{port}", trusted_proxies: [127.0.0.1]}}
"""
STATIONS = """
stations:
  - id: s
    number: "1"
    cameras: [{id: small, url: "rtsp://10.0.0.1/1"}, {id: large, url: "rtsp://10.0.0.1/2"}]
"""
NGINX = """
worker_processes 1;
daemon off;
pid {folder}/{name}.pid;
error_log {folder}/{name}.log;
events {{ worker_connections 8192; }}
http {{
    sendfile on;
    tcp_nopush on;
    access_log off;
    {temporary}
    {servers}
}}
"""
FILES = """
    types {{ application/vnd.apple.mpegurl m3u8; video/iso.segment m4s; }}
    open_file_cache max=1000;
    server {{ listen 127.0.0.1:{port}; root {folder}/files; }}
"""
VIEWER = """
math.randomseed(1)
function delay() return math.random(0, 2000) end
"""


class Spoken(NamedTuple):
    """What wrk says."""

    per_s: float
    mb_per_s: float
    p50: str
    p99: str


class Cameras:
    """Two cameras, of whose segments one more is written when it is time."""

    def __init__(self, spool: Path):
        claim_spool(spool)
        begun = int(time.time() * 1000) - WRITTEN * SEGMENT_S * 1000
        self._run = Run(begun, os.urandom(700), TRACKS, SEGMENT_S)
        self._spools = {name: CameraSpool(spool, "e", "s", name, Numbers()) for name in SIZES}
        self._count = 0
        for _ in range(WRITTEN):
            self.write()

    def write(self) -> None:
        """Write a segment of each."""
        for name, spool in self._spools.items():
            spool.append(
                self._run,
                os.urandom(SIZES[name]),
                SegmentInfo(
                    tfdt_90k=self._count * SEGMENT_S * 90_000,
                    duration_90k=SEGMENT_S * 90_000,
                    starts_with_key=True,
                    arrival_ms=self._run.run_start_ms + self._count * SEGMENT_S * 1000,
                    camera_ms=None,
                ),
                ClockState(True, 2),
            )
        self._count += 1

    async def live(self) -> None:
        """Write segments for ever."""
        while True:
            await asyncio.sleep(SEGMENT_S)
            self.write()


@contextlib.asynccontextmanager
async def pinned(*command: str) -> AsyncIterator[None]:
    """Run a server on its core."""
    async with process("taskset", "-c", SERVERS, *command):
        yield


def bare(port: int, files: Path) -> None:
    """Serve files from memory by aiohttp alone, until the process is ended."""
    found = {f"/{path.relative_to(files)}": path.read_bytes() for path in files.rglob("*.*")}
    kinds = {".m3u8": PLAYLIST_TYPE, ".m4s": SEGMENT_TYPE}

    async def answer(request: web.Request) -> web.Response:
        path = request.path
        return web.Response(body=found[path], content_type=kinds[Path(path).suffix])

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


def nginx(folder: Path, name: str, servers: str) -> tuple[str, ...]:
    """Write a configuration of nginx; returns the command that runs it."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {folder}/{name}-{kind};\n" for kind in kinds)
    path = folder / f"{name}.conf"
    path.write_text(NGINX.format(folder=folder, name=name, temporary=temporary, servers=servers))
    program = need("nginx", "apt-get install nginx-light", path="/usr/sbin:/usr/bin")
    return program, "-e", f"{folder}/{name}.log", "-c", str(path)


def deployed(folder: Path, port: int, kuager: int) -> str:
    """Return the site of deploy/nginx.conf, in plain HTTP."""
    text = (ROOT / "deploy/nginx.conf").read_text()
    text = re.sub(r"server \{\s+listen 80;.*?\n\}\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\n +(listen \[|ssl_|add_header Strict).*", "", text)
    text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port};")
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{kuager}")
    return text.replace("/var/cache/nginx-kuager", f"{folder}/cache")


async def wrk(url: str, seconds: float, connections: int, script: Path | None = None) -> Spoken:
    """Ask for an address as fast as it is answered, or as a script says."""
    program = need("wrk", "apt-get install wrk")
    command = ["taskset", "-c", CLIENTS, program, "-t1", f"-c{connections}", "--latency"]
    command += ["-d", f"{seconds:g}s", "--timeout", "10s", *(["-s", str(script)] if script else [])]
    child = await asyncio.create_subprocess_exec(*command, url, stdout=asyncio.subprocess.PIPE)
    said = (await child.communicate())[0].decode()
    if child.returncode or "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"wrk of {url}:\n{said}")
    found = [re.search(rf"{name}:?\s+([0-9.]+)(\w*)", said) for name in SAID]
    per_s, moved, p50, p99 = (one.groups() if one else ("nan", "") for one in found)
    factor = {"KB": 1e-3, "MB": 1, "GB": 1e3}[moved[1]] * 1.048576  # wrk's MB has 2^20 bytes
    return Spoken(float(per_s[0]), float(moved[0]) * factor, " ".join(p50), " ".join(p99))


async def answers(url: str) -> bytes:
    """Return what is answered, once it is."""
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return await answer.read()
            await asyncio.sleep(0.1)
    raise SystemExit(f"{url} is not answered")


async def measure(name: str, port: int, seconds: float, viewers: int, script: Path) -> None:
    """Print what a server does."""
    base, cells = f"http://127.0.0.1:{port}", list[str]()
    for path in (PLAYLIST, *SEGMENTS):
        await answers(base + path)
        spoken = await wrk(base + path, seconds, 64)
        cells.append(
            f"{spoken.per_s:,.0f}/s" if path == PLAYLIST else f"{spoken.mb_per_s:,.0f} MB/s"
        )
    for path in (PLAYLIST, SEGMENTS[0]):
        spoken = await wrk(base + path, max(seconds, 2), viewers, script)
        cells.append(f"{spoken.p50}, {spoken.p99}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


async def run(folder: Path, seconds: float, viewers: int, names: list[str]) -> None:
    """Measure the servers in turn."""
    ports = {name: free_port() for name in ("kuager", "aiohttp", "nginx", "front")}
    (folder / "kuager.yaml").write_text(KUAGER.format(port=ports["kuager"]))
    (folder / "stations.yaml").write_text(STATIONS)
    (folder / "viewer.lua").write_text(VIEWER)
    cameras, files = Cameras(folder / "spool"), folder / "files"
    kuager = (sys.executable, "-m", "kuager", "run", "--role", "web", "--config")
    me = (sys.executable, "-m", "benchmarks.bench_http", "--bare")
    servers = {
        "aiohttp": (*me, str(ports["aiohttp"]), str(files)),
        "nginx": nginx(folder, "nginx", FILES.format(port=ports["nginx"], folder=folder)),
        "front": nginx(folder, "front", deployed(folder, ports["front"], ports["kuager"])),
    }
    head = "playlist | segment of 64 kB | of 500 kB"
    head += f" | {viewers:,} viewers: playlist p50, p99 | segment of 64 kB p50, p99"
    print(f"| server | {head} |\n|---|---|---|---|---|---|")
    live = asyncio.create_task(cameras.live())
    async with pinned(*kuager, str(folder / "kuager.yaml")):
        for path in (PLAYLIST, *SEGMENTS):
            there = files / path[1:]
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(await answers(f"http://127.0.0.1:{ports['kuager']}{path}"))
        for name, text in SERVED.items():
            if names and name not in names:
                continue
            async with pinned(*servers[name]) if name in servers else contextlib.nullcontext():
                await measure(text, ports[name], seconds, viewers, folder / "viewer.lua")
    live.cancel()


def main() -> None:
    """Parse the command line; measure, or be the server that does nothing else."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10, help="for each number")
    parser.add_argument("--viewers", type=int, default=2000)
    parser.add_argument("names", nargs="*", help=f"of servers: {', '.join(SERVED)}; all without")
    parser.add_argument("--bare", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        bare(int(arguments.bare[0]), Path(arguments.bare[1]))
        return
    folder = Path(tempfile.mkdtemp(prefix="kuager-bench-"))
    folder.chmod(0o755)  # nginx's workers are another user where it is started by root
    try:
        asyncio.run(run(folder, arguments.seconds, arguments.viewers, arguments.names))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
