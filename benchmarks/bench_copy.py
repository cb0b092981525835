"""What a copy costs: `make bench-copy`.

Footage is made first, in a temporary directory: a short clip is encoded at 2 Mbit/s, and its
segments are written again and again by the real writers, in recordings of a minute. Then one
hour is downloaded over HTTP on loopback from a process that serves it as streaming/ does, its
recordings in a directory and in a bucket (rclone serve s3), and beside each, in the same run,
ffmpeg makes the same hour with its concat demuxer and `-c copy` (from the bucket by presigned
addresses). What is shown is the middle of all rounds. CPU is user and system of the process that
makes the bytes; memory is the most that it ever had (VmHWM). The client, which only counts, takes
its share of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import io
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import orjson
from aiohttp import web

from copies.files.sha256 import hash_copy
from copies.files.virtual import VirtualFile
from copies.footage.find import find
from copies.footage.plan import CopyPlan
from recorder.ffmpeg import find_ffmpeg
from storage.archive.directory import DirectoryArchive
from storage.archive.factory import open_archive
from storage.archive.port import Archive
from storage.media.fmp4 import (
    Sample,
    TrackRun,
    boxes,
    parse_init,
    parse_moof,
    write_init,
    write_segment,
)
from storage.recording_source import Sources
from storage.records import ClockState, GapCause, Track, parse_index
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from streaming.http.ranges import send
from streaming.media.downloads import content_of
from tests.support.s3 import BUCKET, KEY, SECRET, client_of, free_port, rclone, settings

NAME = ("bench", "s", "c")
UTC0 = 1_764_392_400_000
CLIP_S, SEGMENT_S, FPS = 20, 2, 25
PREFIX = "some/prefix"  # of tests.support.s3.settings


def clip(program: str) -> tuple[bytes, list[tuple[Sample, ...]], list[bytes]]:
    """Encode a clip; return its init and, by segment, samples and bytes."""
    command = (
        ffmpeg.input(f"testsrc2=size=1920x1080:rate={FPS}:duration={CLIP_S}", f="lavfi")
        .output(
            "pipe:1",
            **{"c:v": "libx264", "b:v": "2M", "x264-params": "nal-hrd=cbr"},
            preset="ultrafast",
            minrate="2M",
            maxrate="2M",
            bufsize="1M",
            bf=0,
            pix_fmt="yuv420p",
            g=FPS * SEGMENT_S,
            sc_threshold=0,
            video_track_timescale=90_000,
            f="mp4",
            movflags="empty_moov+default_base_moof+frag_keyframe+skip_trailer",
        )
        .compile(cmd=[program, "-v", "error"])
    )
    made = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    init, rows, parts = b"", list[tuple[Sample, ...]](), list[bytes]()
    for box in boxes(made, 0, len(made)):
        if box.type == b"moov":
            init = write_init(parse_init(made[box.start : box.end]))
        elif box.type == b"moof":
            (fragment,) = parse_moof(made, box)
            at = box.start + fragment.data_offset
            rows.append(fragment.samples)
            parts.append(made[at : at + sum(s.size for s in fragment.samples)])
    return init, rows, parts


def record(root: Path, hours: float, program: str) -> None:
    """Write a run of so many hours into a spool."""
    claim_spool(root)
    init, rows, parts = clip(program)
    spool = CameraSpool(root, *NAME, Numbers())
    run = Run(UTC0, init, (Track(1, "video", "h264", 90_000, 1920, 1080),), SEGMENT_S)
    for n in range(round(hours * 3600 / SEGMENT_S)):
        samples, data = rows[n % len(rows)], parts[n % len(rows)]
        at = n * SEGMENT_S * 90_000
        spool.append(
            run,
            write_segment(n, [TrackRun(1, at, samples, [data])]),
            SegmentInfo(
                tfdt_90k=at,
                duration_90k=SEGMENT_S * 90_000,
                starts_with_key=True,
                arrival_ms=UTC0 + n * SEGMENT_S * 1000,
                camera_ms=None,
            ),
            ClockState(True, 1),
        )
    spool.seal(GapCause.RECORDER_STOPPED)
    spool.close()


def lay_out(spool: Path, root: Path) -> list[str]:
    """Hard-link a spool's recordings as an archive has them; return the keys, in order."""
    keys = []
    for path in sorted((spool / NAME[1] / NAME[2]).glob("*/*.jsonl")):
        index = parse_index(path.read_bytes())
        key = "/".join((*NAME, path.parent.name, path.stem))
        place = root / key
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(path.with_suffix(".mp4"), f"{place}.mp4")
        Path(f"{place}.json").write_bytes(index.archive_document())
        keys.append(key)
    return keys


# -- the serving process ---------------------------------------------------------------------


def archive_of(place: str) -> Archive:
    """Return the archive at a directory, or behind a port of this machine."""
    if place.isdigit():
        return open_archive(settings(int(place), name="archive"))
    return DirectoryArchive("archive", Path(place))


async def serve(place: str, plans: bytes, port: int) -> None:
    """Serve the copies of plans: /{n}, with its head where there is one; /digest/{n}, /peak."""
    sources = Sources(None, [archive_of(place)])
    ready = [CopyPlan.from_dict(p) for p in orjson.loads(plans)]
    heads: dict[int, bytes] = {}

    async def copy(request: web.Request) -> web.StreamResponse:
        n = int(request.match_info["n"])
        file = VirtualFile(ready[n], sources, heads.get(n))
        return await send(request, content_of(file, file.read), {})

    async def one_pass(request: web.Request) -> web.StreamResponse:
        n = int(request.match_info["n"])
        found = await hash_copy(VirtualFile(ready[n], sources))
        heads[n] = found.head
        return web.Response(text=found.sha256)

    async def peak(request: web.Request) -> web.StreamResponse:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return web.json_response(
            {"mb": used.ru_maxrss / 1024, "cpu_s": used.ru_utime + used.ru_stime}
        )

    app = web.Application()
    app.add_routes(
        [web.get("/peak", peak), web.get("/digest/{n}", one_pass), web.get("/{n}", copy)]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


class Server:
    """A serving process of its own, for a clean count of CPU and memory."""

    def __init__(self, place: str, plans: Path):
        self.port = free_port()
        own = [sys.executable, "-m", "benchmarks.bench_copy", "--serve", place]
        self._child = subprocess.Popen([*own, "--plans", str(plans), "--port", str(self.port)])

    def __enter__(self) -> Server:
        for _ in range(200):
            try:
                self.get("/peak")
                return self
            except OSError:
                time.sleep(0.05)
        raise SystemExit("the serving process does not answer")

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        self._child.wait()

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", path)
        return connection.getresponse().read()

    def used(self) -> tuple[float, float]:
        """Return CPU seconds and peak MB so far."""
        said = orjson.loads(self.get("/peak"))
        return said["cpu_s"], said["mb"]

    def read(self, n: int, start: int = 0, most: int | None = None) -> Iterator[bytes]:
        """Yield a copy from `start` on; ends after about `most` bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", f"/{n}", headers={"Range": f"bytes={start}-"} if start else {})
        answer, got = connection.getresponse(), 0
        buffer = bytearray(1 << 20)
        while count := answer.readinto(buffer):
            yield bytes(memoryview(buffer)[:count]) if most is not None else b""
            got += count
            if most is not None and got >= most:
                break
        connection.close()


@dataclass(frozen=True)
class Cost:
    """What one making cost: seconds to the first byte, to the first byte of a segment and in all,
    CPU seconds, peak MB."""

    first_s: float
    media_s: float
    total_s: float
    cpu_s: float
    peak_mb: float


def download(server: Server, n: int, head: int) -> Cost:
    """Download a copy and count."""
    before, _ = server.used()
    begun, first, media = time.monotonic(), 0.0, 0.0
    got, buffer = 0, bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(f"GET /{n} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        said = b""
        while b"\r\n\r\n" not in said:
            said += client.recv(1 << 16)
        headers, _, rest = said.partition(b"\r\n\r\n")
        length = int(headers.split(b"Content-Length: ")[1].split(b"\r")[0])
        count = len(rest)
        while True:
            got += count
            first = first or (time.monotonic() - begun if got else 0.0)
            media = media or (time.monotonic() - begun if got > head else 0.0)
            if not (count := client.recv_into(buffer)):
                break
    total = time.monotonic() - begun
    if got != length:
        raise SystemExit(f"{got} of {length} bytes came")
    after, peak = server.used()
    return Cost(first, media, total, after - before, peak)


def by_ffmpeg(program: str, inputs: list[str], folder: Path) -> Cost:
    """Make the same with ffmpeg, into a pipe that somebody reads and counts."""
    listing = folder / "list.txt"
    listing.write_text("ffconcat version 1.0\n" + "".join(f"file '{i}'\n" for i in inputs))
    command = (
        ffmpeg.input(str(listing), f="concat", safe=0, protocol_whitelist="file,http,tcp,pipe")
        .output("pipe:1", c="copy", f="mp4", movflags="frag_keyframe+empty_moov+default_base_moof")
        .compile(cmd=[program, "-v", "error", "-y"])
    )
    begun, first, got = time.monotonic(), 0.0, 0
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert isinstance(child.stdout, io.BufferedReader)
    buffer = bytearray(1 << 20)
    while count := child.stdout.readinto(buffer):
        first = first or time.monotonic() - begun
        got += count
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit("ffmpeg failed")
    total = time.monotonic() - begun
    return Cost(first, first, total, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def middle(costs: list[Cost]) -> Cost:
    """Return the median of each."""
    values = zip(
        *((c.first_s, c.media_s, c.total_s, c.cpu_s, c.peak_mb) for c in costs), strict=True
    )
    return Cost(*map(statistics.median, values))


# -- what is shown ---------------------------------------------------------------------------


def many(server: Server, n: int, length: int, sha256: str, clients: int) -> None:
    """Download a copy `clients` times at once, each broken off and resumed at random."""

    def one(seed: int) -> int:
        chance, whole, at, resumes = random.Random(seed), hashlib.sha256(), 0, -1
        while at < length:
            for piece in server.read(n, at, chance.randrange(1, length)):
                whole.update(piece)
                at += len(piece)
            resumes += 1
        if at != length or whole.hexdigest() != sha256:
            raise SystemExit("a download is not bit-identical")
        return resumes

    begun = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        resumes = sum(pool.map(one, range(clients)))
    seconds, (_, peak) = time.monotonic() - begun, server.used()
    print(
        f"{clients} downloads at once, {resumes} times broken off and resumed: all bit-identical, "
        f"{clients * length / seconds / 1e6:.0f} MB/s together, peak memory {peak:.0f} MB"
    )


def compare(rounds: int, hours: int, clients: int) -> None:
    """Make footage, measure, and print."""
    program = find_ffmpeg(None)
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
        folder = Path(text)
        print(f"Making {hours} h of footage ...", flush=True)
        record(folder / "spool", hours, program)
        directory, bucket = folder / "archive", folder / "s3" / BUCKET / PREFIX
        keys = lay_out(folder / "spool", directory)
        shutil.copytree(directory, bucket, copy_function=os.link)
        minutes = [1, 60, hours * 60]
        found = [
            asyncio.run(
                find(None, [], folder / "spool", NAME, UTC0, UTC0 + m * 60_000, zone="UTC")
            ).files[0]
            for m in minutes
        ]
        plans = folder / "plans.json"
        plans.write_bytes(orjson.dumps([p.to_dict() for p in found]))
        hour = len(found[1].parts)
        print(f"An hour: {found[1].length / 1e6:.0f} MB in {hour} recordings\n", flush=True)
        port = free_port()
        with rclone(folder / "s3", port):
            client = client_of(f"http://127.0.0.1:{port}", KEY, SECRET)
            signed = [
                client.generate_presigned_url(
                    "get_object", Params={"Bucket": BUCKET, "Key": f"{PREFIX}/{k}.mp4"}
                )
                for k in keys[:hour]
            ]
            files = [f"{directory}/{k}.mp4" for k in keys[:hour]]
            print("| from | maker | first byte | first segment | total | CPU | peak memory |")
            print("|---|---|---|---|---|---|---|")
            for where, place, inputs in (
                ("directory", str(directory), files),
                ("bucket", str(port), signed),
            ):
                measure(where, place, inputs, plans, program, folder, rounds, found[1].head_length)
            print()
            for where, place in (("directory", str(directory)), ("bucket", str(port))):
                for n, m in enumerate(minutes):
                    with Server(place, plans) as server:
                        cost = download(server, n, found[n].head_length)
                    print(
                        f"{where}, {m} min: first byte {cost.first_s * 1000:.0f} ms, first segment "
                        f"{cost.media_s * 1000:.0f} ms, peak memory "
                        f"{cost.peak_mb:.0f} MB",
                        flush=True,
                    )
            print()
            with Server(str(directory), plans) as server:
                begun = time.monotonic()
                sha256 = server.get("/digest/1").decode()
                print(f"One pass over an hour from a directory: {time.monotonic() - begun:.2f} s")
                many(server, 1, found[1].length, sha256, clients)


def measure(
    where: str,
    place: str,
    inputs: list[str],
    plans: Path,
    program: str,
    folder: Path,
    rounds: int,
    head: int,
) -> None:
    """Print the rows of the table for one place."""
    ours, known, theirs = list[Cost](), list[Cost](), list[Cost]()
    for _ in range(rounds):
        with Server(place, plans) as server:
            ours.append(download(server, 1, head))
            server.get("/digest/1")
            known.append(download(server, 1, head))
        theirs.append(by_ffmpeg(program, inputs, folder))
    peer = middle(theirs)
    for name, cost in (
        ("Kuager", middle(ours)),
        ("Kuager, after its pass", middle(known)),
        ("ffmpeg", peer),
    ):
        print(
            f"| {where} | {name} | {cost.first_s * 1000:.0f} ms | {cost.media_s * 1000:.0f} ms "
            f"| {cost.total_s:.2f} s "
            f"({cost.total_s / peer.total_s:.2f}) | {cost.cpu_s:.2f} s "
            f"({cost.cpu_s / peer.cpu_s:.2f}) | {cost.peak_mb:.0f} MB |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hours", type=int, default=12, help="the longest copy")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--serve", help=argparse.SUPPRESS)  # the process that is measured
    parser.add_argument("--plans", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        import uvloop

        uvloop.run(serve(given.serve, given.plans.read_bytes(), given.port))
    else:
        compare(given.rounds, given.hours, given.clients)
