"""What recording costs: `make bench-record`, or python -m benchmarks.bench_record --cameras 50 200.

In one run and of the same cameras, for each number of them: raw TCP to a file, MediaMTX where
MEDIAMTX names its binary, plain `ffmpeg -c copy -f segment` per camera, Kuager through ffmpeg, and
Kuager natively. CPU is of one core per camera, user and system, of all processes that the recorder
needs; memory is the proportional share (PSS) of them all. Of Kuager's memory what one camera more
takes is told apart from what is there once: its recorder is measured with one camera, too.

With --sound it is Kuager alone, natively: the same camera without sound, with AAC and with G.711.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import ffmpeg

from benchmarks.tally import sealed
from recorder.ffmpeg import find_ffmpeg
from tests.support.s3 import free_port

TICKS = os.sysconf("SC_CLK_TCK")
FILM = {"width": 1920, "height": 1080, "fps": 25, "bitrate": 2_000_000, "film_s": 10}
# a film has no sound: one encoder of a smaller picture for all cameras
LIVE = {"width": 854, "height": 480, "fps": 15, "bitrate": 2_000_000}
SOUNDS = {"no sound": None, "AAC": "aac", "G.711": "pcmu"}


def descendants(root: int) -> list[int]:
    """Return a process and all below it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            rest = path.read_text().rpartition(")")[2].split()
            parents[int(path.parent.name)] = int(rest[1])
    found = [root]
    for pid in found:
        found += [p for p, parent in parents.items() if parent == pid]
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """Return seconds of CPU that processes used."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mb(pids: Iterable[int]) -> float:
    """Return the proportional share of memory of processes."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return total / 1024


@contextlib.asynccontextmanager
async def process(*command: str, **more: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program while the block runs."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        **more,  # type: ignore[arg-type]
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
            await child.wait()


class Cost(NamedTuple):
    """What a recorder takes: CPU in percent of a core per camera, memory in all."""

    cpu: float
    memory_mb: float


async def measure(roots: list[int], cameras: int, warm_s: float, seconds: float) -> Cost:
    """Return what processes and all below them take."""
    await asyncio.sleep(warm_s)
    pids = [p for root in roots for p in descendants(root)]
    before, begun = cpu_s(pids), time.monotonic()
    await asyncio.sleep(seconds)
    pids = [p for root in roots for p in descendants(root)]
    used = (cpu_s(pids) - before) / (time.monotonic() - begun) / cameras * 100
    return Cost(used, memory_mb(pids))


def row(name: str, cost: Cost, memory_mb: float, once_mb: float | None = None) -> None:
    """Print a row of the table; memory per camera, and what is there once where that is known."""
    once = "" if once_mb is None else f"{once_mb:.0f} MB"
    print(f"| {name} | {cost.cpu:.2f}% | {memory_mb:.1f} MB | {once} |", flush=True)


def raw_tcp(port: int, names: list[str], folder: Path) -> None:
    """The floor: RTSP over TCP, bytes as they come to files, no parsing. In its own process."""
    ready = selectors.DefaultSelector()
    for name in names:
        s = socket.create_connection(("127.0.0.1", port))
        url = f"rtsp://127.0.0.1:{port}/{name}"
        for n, request in enumerate((f"DESCRIBE {url}", f"SETUP {url}/track0", f"PLAY {url}"), 1):
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n" if n == 2 else ""
            s.sendall(f"{request} RTSP/1.0\r\nCSeq: {n}\r\n{extra}\r\n".encode())
            s.recv(65536)
        s.setblocking(False)
        ready.register(s, selectors.EVENT_READ, (folder / name).open("wb", buffering=1 << 18))
    ready.register(sys.stdin, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.data is None:
                return  # the parent is done
            key.data.write(key.fileobj.recv(1 << 18))  # type: ignore[union-attr]


def simulated(folder: Path, names: list[str], what: Mapping[str, object] = FILM) -> str:
    """Write a configuration by which the simulator shows one camera as all; its path."""
    listed = [{"name": n, "shared": names[0]} for n in names[1:]]
    path = folder / "simulator.json"
    path.write_text(json.dumps({"cameras": [{"name": names[0]} | dict(what), *listed]}))
    return str(path)


@contextlib.asynccontextmanager
async def cameras_at(port: int, config: str) -> AsyncIterator[None]:
    """Have the simulator serve while the block runs."""
    serve = (sys.executable, "-m", "kuager.simulator", "--config", config, "--port", str(port))
    async with process(*serve):
        await listening(port)
        yield


async def run(cameras: int, seconds: float) -> None:
    """Serve the cameras and measure each recorder in turn."""
    names, peers_s = [f"cam{n}" for n in range(cameras)], min(seconds, 120.0)
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
        folder, port = Path(text), free_port()
        async with cameras_at(port, simulated(folder, names)):
            took = f"{seconds:.0f} s of Kuager each, {peers_s:.0f} s of the others"
            print(f"{cameras} cameras, 1080p25 at 2 Mbit/s, {took}\n")
            print("| recorder | CPU per camera | memory per camera | memory once |")
            print("|---|---|---|---|")
            me = (sys.executable, "-m", "benchmarks.bench_record", "--raw", str(port))
            async with process(*me, str(folder), "--cameras", str(cameras)) as child:
                raw = await measure([child.pid], cameras, 5, peers_s / 2)
            row("raw TCP to a file", raw, raw.memory_mb / cameras)
            if mediamtx := os.environ.get("MEDIAMTX"):
                (folder / "mediamtx.yml").write_text(_mediamtx(port, names, folder))
                async with process(mediamtx, str(folder / "mediamtx.yml")) as child:
                    peer = await measure([child.pid], cameras, 10, peers_s)
                row("MediaMTX", peer, peer.memory_mb / cameras)
            by_ffmpeg = await segmenting(folder, port, names, peers_s)
            row("ffmpeg -c copy -f segment", by_ffmpeg, by_ffmpeg.memory_mb / cameras)
            for source in ("ffmpeg", "native"):
                await kuager(folder / source, port, names, source, seconds)
            print(flush=True)


async def run_sounds(cameras: int, seconds: float) -> None:
    """Measure what sound adds to the cost of a camera that is read natively."""
    names = [f"cam{n}" for n in range(cameras)]
    print(f"{cameras} cameras, 854x480 at 15 pictures/s and 2 Mbit/s, {seconds:.0f} s each\n")
    print("| recorder | CPU per camera | memory per camera | memory once |\n|---|---|---|---|")
    for title, audio in SOUNDS.items():
        with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
            folder, port = Path(text), free_port()
            async with cameras_at(port, simulated(folder, names, LIVE | {"audio": audio})):
                await kuager(folder / "native", port, names, "native", seconds, title)


async def segmenting(folder: Path, port: int, names: list[str], seconds: float) -> Cost:
    """Return what a plain ffmpeg for each camera takes."""
    program = [find_ffmpeg(None), "-nostdin", "-v", "error"]
    async with contextlib.AsyncExitStack() as stack:
        roots = []
        for name in names:
            camera = ffmpeg.input(f"rtsp://127.0.0.1:{port}/{name}", rtsp_transport="tcp")
            written = str(folder / f"{name}-%d.mp4")
            copy = camera.output(written, c="copy", f="segment", segment_time=60)
            child = await stack.enter_async_context(process(*copy.compile(cmd=program)))
            roots.append(child.pid)
        return await measure(roots, len(names), 10, seconds)


async def kuager(
    folder: Path, port: int, names: list[str], source: str, seconds: float, title: str = ""
) -> None:
    """Measure a recorder of ours with one camera, then with all; say whether any missed some."""
    costs = []
    for listed, measured_s in ((names[:1], 20.0), (names, seconds)):
        at = folder / str(len(listed))
        at.mkdir(parents=True)
        kuager_config(at, port, listed, source)
        command = (sys.executable, "-m", "kuager", "run", "--role", "recorder", "--config")
        async with process(*command, str(at / "kuager.yaml")) as child:
            costs.append(await measure([child.pid], len(listed), 10, measured_s))
    one, all_ = costs
    more_mb = (all_.memory_mb - one.memory_mb) / max(1, len(names) - 1)
    row(title or f"Kuager, source: {source}", all_, more_mb, one.memory_mb - more_mb)
    print(sealed(folder / str(len(names)) / "spool", names), file=sys.stderr)


async def listening(port: int) -> None:
    """Wait until the simulator has made its film and listens."""
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        await asyncio.sleep(0.5)


def kuager_config(
    folder: Path, port: int, names: list[str], source: str = "auto", web: int | None = None
) -> None:
    """Write the configuration of the cameras, of what reads them, and of a port for the site."""
    cameras = "".join(f'      - {{id: {n}, url: "rtsp://127.0.0.1:{port}/{n}"}}\n' for n in names)
    (folder / "stations.yaml").write_text("stations:\n  - id: s\n    cameras:\n" + cameras)
    ways = f'listen: "127.0.0.1:{web}", operators: "127.0.0.1:{free_port()}"'
    (folder / "kuager.yaml").write_text(
        "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
        " windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}\n"
        f"stations: stations.yaml\nspool: spool\narchives: [archive]\nsource: {source}\n"
        + (f"web: {{{ways}}}\n" if web else "")
    )


def _mediamtx(port: int, names: list[str], folder: Path) -> str:
    out = "logLevel: error\nrtsp: no\nrtmp: no\nhls: no\nwebrtc: no\nsrt: no\nmoq: no\n"
    out += f"pathDefaults:\n  record: yes\n  recordPath: {folder}/m/%path/%Y-%m-%d_%H-%M-%S-%f\n"
    out += "  recordFormat: fmp4\n  rtspTransport: tcp\npaths:\n"
    return out + "".join(f"  {n}:\n    source: rtsp://127.0.0.1:{port}/{n}\n" for n in names)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="+", default=[50])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--sound", action="store_true", help="what sound adds, natively")
    parser.add_argument("--raw", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    for cameras in arguments.cameras:
        if arguments.raw:
            names = [f"cam{n}" for n in range(cameras)]
            raw_tcp(int(arguments.raw[0]), names, Path(arguments.raw[1]))
        elif arguments.sound:
            asyncio.run(run_sounds(cameras, arguments.seconds))
        else:
            asyncio.run(run(cameras, arguments.seconds))


if __name__ == "__main__":
    main()
