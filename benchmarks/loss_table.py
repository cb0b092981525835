"""What becomes of packets that a network loses, delays and doubles: `make loss-table`.

One camera for each kind of line sends the same film by UDP, and knows what it did to which packet.
All are recorded natively at once. Segments that are marked (`lost`, `damaged`) are compared with
those that were hit, and ffmpeg decodes each of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import random
import re
import socket
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ffmpeg as ffmpeg_python

from config.schedule import Window
from recorder.camera_spec import CameraSpec
from recorder.ffmpeg import find_ffmpeg
from recorder.worker import Worker
from storage.records import Segment
from tests.support.packets import fragments, rtp
from tests.support.rtsp_camera import (
    FPS,
    Camera,
    Dialogue,
    Request,
    encode,
    h264,
    nal_units,
    sdp_of,
    serving,
)
from tests.support.stack import Recording, recordings

GOP = 50  # pictures: a segment of 2 s
FILM_S = 20
TICKS = 90_000 // FPS
PACKET = 1_200  # bytes of a NAL unit in a packet
WELL_S = 4.0  # in the beginning the line is well
SLICES = "scenecut=0:slices=4"


@dataclass
class Line:
    """What a line does to packets after the first seconds, each in a share of them."""

    name: str
    lose: float = 0.0
    double: float = 0.0
    reorder: float = 0.0
    later: int = 0  # packets that overtake one, at the most
    sent: int = 0
    doubled: int = 0
    hit: Counter[int] = field(default_factory=Counter)  # lost packets, by the number of the picture
    late: Counter[int] = field(default_factory=Counter)  # those that others overtook
    whole: Counter[int] = field(default_factory=Counter)  # packets of each picture
    number: int = 0  # of the picture that is sent
    _held: list[tuple[int, bytes]] = field(default_factory=list)  # after how many more packets

    def pass_on(self, packet: bytes, begun: bool) -> list[bytes]:
        """Return what comes out of the line where a packet goes in."""
        self.sent += 1
        self.whole[self.number] += 1
        held = [(left - 1, one) for left, one in self._held]
        out = [one for left, one in held if left <= 0]
        self._held = [(left, one) for left, one in held if left > 0]
        if begun and random.random() < self.lose:
            self.hit[self.number] += 1
        elif begun and random.random() < self.reorder:
            self._held.append((random.randint(1, self.later), packet))
            self.late[self.number] += 1
        else:
            twice = begun and random.random() < self.double
            self.doubled += twice
            out = [packet, *[packet] * twice, *out]
        return out


LINES = [
    Line("well"),
    Line("0.1% lost", lose=0.001),
    Line("1% lost", lose=0.01),
    Line("5% lost", lose=0.05),
    Line("5% later by 1 to 10 packets", reorder=0.05, later=10),
    Line("5% later by 1 to 50 packets", reorder=0.05, later=50),
    Line("5% doubled", double=0.05),
    Line("1% lost, 1% later by 1 to 10, 1% doubled", 0.01, 0.01, 0.01, 10),
]


def film(program: str) -> list[list[bytes]]:
    """Return the packets' payloads of each picture: several slices, sets with each keyframe."""
    options = {"b:v": "2M", "g": str(GOP), "x264-params": SLICES}
    made = encode(program, "h264", (1280, 720), options, seconds=FILM_S)
    units: list[list[bytes]] = []
    for nal in nal_units(made):
        if nal[0] & 31 == 9:  # access unit delimiter
            units.append([])
        else:
            units[-1].append(nal)
    return units


def payloads(unit: list[bytes]) -> list[bytes]:
    """Return the payloads of a picture's packets (RFC 6184)."""
    return [
        part
        for nal in unit
        for part in ([nal] if len(nal) <= PACKET else fragments("h264", nal, PACKET))
    ]


class UdpCamera(Camera):
    """A camera that sends a film by UDP over a line."""

    def __init__(self, units: list[list[bytes]], line: Line):
        super().__init__(sdp_of(h264(units)), self._udp)
        self._shots, self._line = [payloads(unit) for unit in units], line
        self._to = 0

    async def _udp(self, dialogue: Dialogue, request: Request) -> bool:
        transport = request.headers.get("transport", "")
        if found := re.search(r"client_port=(\d+)", transport):
            self._to = int(found[1])
            dialogue.answer(request, "200 OK", f"Transport: {transport}", "Session: 1")
        elif request.method == "PLAY":
            dialogue.answer(request, "200 OK", "Session: 1")
            dialogue.sender = asyncio.ensure_future(self._send())
        else:
            return False
        return True

    async def _send(self) -> None:
        loop, line, number = asyncio.get_running_loop(), self._line, 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way, contextlib.suppress(OSError):
            begun = loop.time()
            for n in range(1 << 30):
                await asyncio.sleep(max(0.0, begun + n / FPS - loop.time()))
                line.number, shot = n, self._shots[n % len(self._shots)]
                for k, payload in enumerate(shot):
                    kind = 96 | (k == len(shot) - 1) << 7
                    packet = rtp(number, payload, stamp=n * TICKS, kind=kind)
                    number += 1
                    for out in line.pass_on(packet, begun=n >= WELL_S * FPS):
                        way.sendto(out, ("127.0.0.1", self._to))


@dataclass
class Result:
    """What became of one line's segments."""

    segments: int = 0
    hit: int = 0
    marked: int = 0
    untold: int = 0  # hit and not marked
    wrong: int = 0  # marked and not hit
    errors: int = 0  # not marked, and ffmpeg complains of them
    runs: int = 0


def judged(line: Line, found: list[Recording], program: str) -> Result:
    """Compare what is marked with what was hit; the last segment is left out."""
    segments = [(s, r) for r in found for s in r.index.segments]
    begins = [_number(s) for s, _ in segments]
    hit = _by_segment(line, line.hit, begins)
    late = _by_segment(line, line.late, begins)
    result = Result(runs=len({r.index.header.run_no for r in found}))
    for n, (s, r) in enumerate(segments[:-1]):
        marked = s.lost > 0 or s.damaged > 0
        result.segments += 1
        result.hit += n in hit
        result.marked += marked
        result.untold += n in hit and not marked
        result.wrong += marked and n not in hit | late
        if not marked and s.starts_with_key:
            data = r.path.read_bytes()
            alone = data[: r.index.header.init_length] + data[s.offset : s.offset + s.length]
            result.errors += _complains(alone, program)
    return result


def _number(s: Segment) -> int:
    """Return the number of the picture that a segment begins with: keyframes have every 50th."""
    number = s.tfdt_90k / TICKS
    return round(number / GOP) * GOP if s.starts_with_key else round(number)


def _by_segment(line: Line, hits: Counter[int], begins: list[int]) -> set[int]:
    """Return the segments of pictures of which packets are missing. What is missing of a picture of
    which nothing came is told with the next one."""
    found = set()
    for number in hits:
        while line.hit[number] >= line.whole[number] > 0:
            number += 1
        found.add(bisect.bisect_right(begins, number) - 1)
    return found


def _complains(data: bytes, program: str) -> bool:
    command = ffmpeg_python.input("pipe:0").output("pipe:1", f="null").compile(cmd=program)
    done = subprocess.run([*command, "-v", "error"], input=data, capture_output=True, check=False)
    return done.returncode != 0 or done.stderr != b""


async def run(seconds: float) -> None:
    """Record all lines at once and print the table."""
    program = find_ffmpeg(None)
    units = await asyncio.to_thread(film, program)
    cameras = [UdpCamera(units, line) for line in LINES]
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
        spool, begin = Path(text), int(time.time() * 1000)
        windows = (Window(begin, begin + 86_400_000),)
        async with serving(*cameras):
            specs = [
                CameraSpec("e", "s", f"c{n}", camera.url(), "native", "udp", windows=windows)
                for n, camera in enumerate(cameras)
            ]
            worker = Worker(specs, spool, program)
            task = asyncio.create_task(worker.run())
            await asyncio.sleep(seconds)
            task.cancel()
            await asyncio.wait({task})
            statuses = {c.spec.camera: c.status for c in worker.cameras}
        print(f"{seconds:.0f} s, 1280x720 at 25 pictures/s and 2 Mbit/s, UDP, `source: native`\n")
        print(
            "| line | packets | of these lost, late, doubled | told: lost, late, doubled "
            "| segments | hit | marked | hit and not marked | marked and not hit "
            "| others that do not decode | runs |"
        )
        print("|" + "---|" * 11)
        for n, line in enumerate(LINES):
            found = recordings(spool, f"c{n}")
            r = await asyncio.to_thread(judged, line, found, program)
            told = statuses[f"c{n}"]
            did = f"{line.hit.total()}, {line.late.total()}, {line.doubled}"
            said = f"{told.packets_lost}, {told.packets_late}, {told.packets_doubled}"
            print(
                f"| {line.name} | {line.sent:,} | {did} | {said} | {r.segments} | {r.hit} "
                f"| {r.marked} | {r.untold} | {r.wrong} | {r.errors} | {r.runs} |",
                flush=True,
            )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    asyncio.run(run(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
