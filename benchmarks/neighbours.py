"""What cameras that misbehave cost the others: `make neighbours CAMERAS=199 SECONDS=120`.

One recorder process records well-behaved cameras of 2 Mbit/s, and some that are away; after a while
these come and misbehave, each in its own way. Printed is how the others fared before and then:
whether a segment came late or not at all, and what the recorder takes. The last table says what
became of those that misbehave.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench_record import (
    cameras_at,
    cpu_s,
    descendants,
    kuager_config,
    memory_mb,
    process,
    simulated,
)
from benchmarks.density import Late, all_recorded
from benchmarks.tally import STATION, SpoolTally, sealed
from storage.spool.status_records import RecorderStatus
from tests.support.packets import PPS, SPS, fragments, rtp, slice_nal
from tests.support.playing import SDP, wrapped
from tests.support.rtsp_camera import Camera, Dialogue, Request, Script
from tests.support.s3 import free_port

LOOK_S = 1.0
PIECE = 1_300  # bytes


def _pictures(size: int, step: Callable[[int], int] = lambda n: n * 3_600) -> Iterator[bytes]:
    """Yield pictures of some bytes as interleaved packets, without end; every 50th is a key."""
    number, body = itertools.count(), bytes(range(1, 251)) * (size // 250 + 1)
    for n in itertools.count():
        nal = slice_nal("h264", body[:size], key=n % 50 == 0)
        parts = [*([SPS, PPS] if n % 50 == 0 else []), *fragments("h264", nal, PIECE)]
        yield b"".join(
            wrapped(0, rtp(next(number), part, stamp=step(n), kind=96 | (part is parts[-1]) << 7))
            for part in parts
        )


def _strays() -> Iterator[bytes]:
    """Yield a second of pictures, then packets of something else without end."""
    yield from itertools.islice(_pictures(2_000), 25)
    for n in itertools.count():
        yield b"".join(wrapped(0, rtp(n * 100 + k, b"", kind=111)) for k in range(100))


def _endless() -> Iterator[bytes]:
    """Yield one picture that does not end."""
    yield from itertools.islice(_pictures(2_000), 25)
    for n in itertools.count(1_000):
        yield wrapped(0, rtp(n, b"\x7c\x05" + bytes(PIECE), stamp=1_000_000))


def _junk() -> Iterator[bytes]:
    while True:
        yield random.randbytes(65_536)


def _answers() -> Iterator[bytes]:
    while True:
        yield b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n" * 100


def _reports() -> Iterator[bytes]:
    yield from itertools.islice(_pictures(2_000), 25)
    while True:
        yield wrapped(1, b"\x80\xc9\0\1" + bytes(4)) * 100


def _wild(n: int) -> int:
    return random.getrandbits(32)


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "floods-pictures": lambda: _pictures(500),
    "floods-bytes": lambda: _pictures(1_000_000),
    "floods-strays": _strays,
    "floods-junk": _junk,
    "floods-answers": _answers,
    "floods-reports": _reports,
    "never-ends-a-picture": _endless,
}


def floods(packets: Callable[[], Iterator[bytes]], pause_s: float = 0.0) -> Script:
    """Return a script that sends without end after PLAY, as much as is taken."""

    async def send(dialogue: Dialogue) -> None:
        with contextlib.suppress(OSError):
            for data in packets():
                dialogue.send(data)
                await dialogue.writer.drain()
                await asyncio.sleep(pause_s)

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method != "PLAY":
            return False
        dialogue.answer(request, "200 OK", "Session: 12345678")
        dialogue.sender = asyncio.ensure_future(send(dialogue))
        return True

    return script


async def mute(dialogue: Dialogue, request: Request) -> bool:
    """Answer nothing."""
    return True


async def half(dialogue: Dialogue, request: Request) -> bool:
    """Stop in the middle of the first packet."""
    if request.method != "PLAY":
        return False
    dialogue.answer(request, "200 OK", "Session: 12345678")
    dialogue.send(b"$\0\xff\xff" + rtp(1, bytes(100)))
    return True


def datagrams() -> Script:
    """Return a script that floods by UDP."""
    port = 0

    async def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.setblocking(False)
            for n in itertools.count():
                with contextlib.suppress(OSError):  # the kernel takes no more now
                    for k in range(50):
                        way.sendto(rtp(n * 50 + k, bytes(200), stamp=n), ("127.0.0.1", port))
                await asyncio.sleep(0)

    async def script(dialogue: Dialogue, request: Request) -> bool:
        nonlocal port
        transport = request.headers.get("transport", "")
        if found := re.search(r"client_port=(\d+)", transport):
            port = int(found[1])
            dialogue.answer(request, "200 OK", f"Transport: {transport}", "Session: 1")
        elif request.method == "SETUP":
            dialogue.answer(request, "461 Unsupported Transport")
        elif request.method == "PLAY":
            dialogue.answer(request, "200 OK")
            dialogue.sender = asyncio.ensure_future(send())
        else:
            return False
        return True

    return script


SCRIPTS: dict[str, Script] = {
    "never-answers": mute,
    "stops-in-a-packet": half,
    "lies-about-time": floods(lambda: _pictures(5_000, _wild), pause_s=0.04),
    **{name: floods(packets) for name, packets in FLOODS.items()},
    "floods-datagrams": datagrams(),
}


async def misbehave(ports: list[int]) -> None:
    """Be the cameras that misbehave, in a process of its own, until standard input ends."""
    cameras = [Camera(SDP, script) for script in SCRIPTS.values()]
    for camera, port in zip(cameras, ports, strict=True):
        await asyncio.start_server(camera.serve, "127.0.0.1", port)
    await asyncio.to_thread(sys.stdin.read)


@dataclass
class Phase:
    """How the others fared for some time."""

    name: str
    late: Late
    cpu: float  # of the recorder, in percent of a core
    memory_mb: float


async def watch(name: str, spool: Path, names: list[str], pid: int, seconds: float) -> Phase:
    """Look at the others and at the recorder for some time."""
    late, before = Late(), cpu_s(descendants(pid))
    for _ in range(round(seconds / LOOK_S)):
        await asyncio.sleep(LOOK_S)
        late.look(spool, names)
    used = (cpu_s(descendants(pid)) - before) / seconds * 100
    return Phase(name, late, used, memory_mb(descendants(pid)))


async def run(cameras: int, seconds: float) -> None:
    """Record, let some misbehave after a while, and tell how the others fared."""
    names = [f"cam{n}" for n in range(cameras)]
    bad = {name: free_port() for name in SCRIPTS}
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
        folder, rtsp = Path(text), free_port()
        kuager_config(folder, rtsp, names, "native")
        _add_to(folder / "stations.yaml", bad)
        config, spool = str(folder / "kuager.yaml"), folder / "spool"
        kuager = (sys.executable, "-m", "kuager", "run", "--role", "recorder", "--config", config)
        ports = json.dumps(list(bad.values()))
        me = (sys.executable, "-m", "benchmarks.neighbours", "--misbehave", ports)
        tally, phases = SpoolTally(spool, names), list[Phase]()
        async with cameras_at(rtsp, simulated(folder, names)):
            async with process(*kuager) as recorder:
                await all_recorded(spool, names)
                phases.append(await watch("away", spool, names, recorder.pid, seconds))
                async with process(*me):
                    phases.append(await watch("misbehave", spool, names, recorder.pid, seconds))
                    (path,) = (spool / "_status").glob("recorder-*.json")
                    status = RecorderStatus.parse(path.read_bytes())
            tally.read()
        _print(phases, tally, seconds)
        _print_bad(spool, list(bad), status)


def _add_to(stations: Path, cameras: dict[str, int]) -> None:
    """Add cameras to a stations file, each at a port of its own."""
    listed = [
        f'      - {{id: {name}, url: "rtsp://127.0.0.1:{port}/x"}}\n'
        for name, port in cameras.items()
    ]
    stations.write_text(stations.read_text() + "".join(listed))


def _print(phases: list[Phase], tally: SpoolTally, seconds: float) -> None:
    print(f"{len(tally.cameras)} cameras of 2 Mbit/s, {seconds:.0f} s each, one recorder process\n")
    print("| those that misbehave | late | the most behind | CPU of one core | memory |")
    print("|---|---|---|---|---|")
    for p in phases:
        late = f"{p.late.late} of {p.late.looks} looks | {p.late.worst_ms / 1000:.1f} s"
        print(f"| {p.name} | {late} | {p.cpu:.0f}% | {p.memory_mb:.0f} MB |")
    print(f"\nthe others: {tally}\n")


def _print_bad(spool: Path, names: list[str], status: RecorderStatus) -> None:
    tally = sealed(spool, names)
    print("| it | sessions | recorded | the last cause |\n|---|---|---|---|")
    for name in names:
        said, wrote = status.cameras[f"{STATION}/{name}"], tally.cameras[name]
        why = f"{said.cause or ''}: {said.detail or ''}".strip(": ") or said.state
        print(f"| {name} | {said.retries + 1} | {wrote.bytes / 1e6:.1f} MB | {why} |")


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=199)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--misbehave", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.misbehave:
        asyncio.run(misbehave(arguments.misbehave))
    else:
        asyncio.run(run(arguments.cameras, arguments.seconds))


if __name__ == "__main__":
    main()
