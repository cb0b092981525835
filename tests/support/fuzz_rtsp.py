"""Whole sessions with cameras whose every answer, description and packet may be mutated.

Nothing goes over a network and nobody waits: the camera is a transport within the process, and the
clock goes to the next deadline where nothing is left to do. So each case, known by its number, is
the same every time.

python -m tests.support.fuzz_rtsp [--count N] [--first N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import re
import resource
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from recorder.native import NativeSource, why_not
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import DescribeFailed, connect
from recorder.rtsp.stream import CAPACITY
from recorder.segmenter import Discontinuity, Segmenter
from recorder.source import Frame
from storage.media.fmp4 import TrackInit
from storage.records import Ending
from tests.support.packets import PPS, SPS, fragments, packed, report, rtp, slice_nal
from tests.support.playing import AAC, film, wrapped
from tests.support.rtsp_camera import H264, PCMU, challenge, sdp_of

LONGEST_S = 600.0  # of a session, by its own clock: then it does not end
SLOWEST_S = 5.0  # of CPU for one case: then something runs away
READS = (1, 7, 100, 1460, 16_384)
GROWTH = 64 << 20  # bytes that the process may grow by, over all cases
WARM = 2_000  # cases until it has its size

H265 = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000"
BASIC = 'WWW-Authenticate: Basic realm="x"'
TOKENS = (
    *(b"\0", b"\xff", b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\t", b";", b",", b"=", b'"', b"$"),
    *(b"$\0", b"RTSP/1.0", b"RTSP/1.0 200 OK\r\n", b"0", b"-1", b"65536", b"4294967296"),
    *(b"Content-Length: ", b"Session: ", b"interleaved=", b"timeout=", b"\xc3\x28", b"\0\0\1"),
    *(b"A" * 5_000, b"\x7c\x85", b"\x7c\x45", b"\x18\0\0", b"\x80\x60", b"\x80\xc8\0\6"),
)
NUMBERS = (b"0", b"-1", b"70000", b"9" * 20)
REFUSALS = ("302 Moved", "404 x", "454 x", "455 x", "461 x", "500 x", "100 Continue")
REQUEST = re.compile(rb"([A-Z_]+) (\S+) RTSP/1\.0\r\n(.*?)\r\n\r\n", re.S)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with up to eight changes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 1, 2, 4, 16, 300)))
        match rng.randrange(7):
            case 0:
                out[at:end] = rng.randbytes(end - at)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = rng.choice(TOKENS)
            case 3:
                out[at:end] = rng.choice(TOKENS)
            case 4:
                out[at:at] = out[at:end] * rng.choice((1, 2, 100))
            case 5:
                del out[at:]
            case 6:
                if numbers := list(re.finditer(rb"\d+", out[:4096])):
                    found = rng.choice(numbers)
                    out[found.start() : found.end()] = rng.choice(NUMBERS)
    return bytes(out[: 1 << 19])


def stream(rng: random.Random) -> bytes:
    """Return interleaved packets of a camera, with habits that some have."""
    match rng.randrange(4):
        case 0:
            return film(rng.choice((2, 8, 30)))
        case 1:
            return film(4, between=rng.choice(TOKENS))
        case 2:  # any order, some missing, some twice
            packets = [b"$" + part for part in film(12).split(b"$\0") if part]
            rng.shuffle(packets)
            return b"".join(packets[: rng.randrange(len(packets))] + packets[:3])
    sets = [SPS, PPS] if rng.random() < 0.8 else [rng.randbytes(rng.randrange(1, 60))]
    out = []
    for n in range(40):
        key = slice_nal("h264", rng.randbytes(rng.randrange(3_000)), key=n % 10 == 0)
        parts = [*sets, *fragments("h264", key, 1400)]
        for k, part in enumerate(parts):
            kind = 96 | (k == len(parts) - 1) << 7
            stamp = n * 3600 if rng.random() < 0.95 else rng.getrandbits(32)
            out.append(wrapped(0, rtp(n * 10 + k, part, stamp=stamp, kind=kind)))
        out.append(wrapped(1, report(n * 3600, rng.choice((0.0, 1e12, 1.7e12)))))
        sound = packed(rng.randbytes(rng.randrange(400)), index=rng.randrange(2))
        out.append(wrapped(2, rtp(n, sound, stamp=n * 1024, kind=97 | 0x80, ssrc=5)))
    return b"".join(out)


class Camera(asyncio.Transport):
    """A camera that answers what is written to it, mutated at times."""

    def __init__(self, loop: Loop, protocol: Any, rng: random.Random):
        super().__init__()
        self._loop, self._protocol, self._rng = loop, protocol, rng
        self._closed = False
        self._asks = rng.random() < 0.1
        self._wild = rng.choice((0.0, 0.1, 0.5))  # of the answers
        self.longest = 0  # of the buffer that it is read into

    def write(self, data: Any) -> None:
        for request in REQUEST.findall(bytes(data)):
            method, uri, rest = (part.decode("latin-1") for part in request)
            self._loop.call_soon(self._answer, method, uri, rest)

    def _answer(self, method: str, uri: str, rest: str) -> None:
        rng = self._rng
        status, lines, body, after = "200 OK", [], "", b""
        if self._asks and "Authorization" not in rest:
            status = "401 Unauthorized"
            lines = [rng.choice((challenge(), challenge("SHA-256"), BASIC, "WWW-Authenticate: x"))]
        elif method == "DESCRIBE":
            media = rng.choice(((H264,), (H264, AAC), (H265, AAC), (H264, PCMU), (AAC,)))
            lines, body = [f"Content-Base: {uri}/"], sdp_of(*media)
            if rng.random() < self._wild:
                body = mutated(body.encode(), rng).decode("latin-1")
        elif method == "SETUP":
            channel = 2 * int(uri[-1]) if uri[-1:].isdigit() else 0
            way = f"Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1};ssrc= 1F"
            lines = [way, "Session: 12345678;timeout=60"]
        elif method == "PLAY":
            after = stream(rng)
        if rng.random() < self._wild / 3:
            status = rng.choice(REFUSALS)
            lines.append(f"Location: {rng.choice((uri, 'rtsp://[', 'http://x/', uri + '/x'))}")
        lines = [f"RTSP/1.0 {status}", "CSeq: 1", *lines, f"Content-Length: {len(body)}"]
        head = "\r\n".join(lines)
        data = f"{head}\r\n\r\n{body}".encode("latin-1", "replace") + after
        if rng.random() < self._wild or (after and rng.random() < 0.8):
            data = mutated(data, rng)
        self._send(data, close=method == "PLAY" or rng.random() < self._wild / 10)

    def _send(self, data: bytes, close: bool) -> None:
        step, at = self._rng.choice(READS), 0
        step = max(step, len(data) // 2_000)
        while at < len(data) and not self._closed:
            buffer = self._protocol.get_buffer(-1)
            count = min(step, len(buffer), len(data) - at)
            buffer[:count] = data[at : at + count]
            self._protocol.buffer_updated(count)
            self.longest = max(self.longest, len(self._protocol.stream.buffer()))
            self._loop.now_s += 0.001
            at += count
        if close:
            self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return "127.0.0.1", 554


class _Never(selectors.DefaultSelector):
    """A selector that never waits: the loop's clock goes to the next deadline instead."""

    loop: Loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("a session waits for nothing")
        self.loop.now_s += max(0.0, timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop that never waits, and connects to a mutated camera only."""

    def __init__(self, rng: random.Random) -> None:
        self.now_s, self._rng = 0.0, rng
        selector = _Never()
        selector.loop = self
        super().__init__(selector)
        self.cameras: list[Camera] = []
        self.set_exception_handler(self._escaped)
        self.escaped: list[object] = []

    def _escaped(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.escaped.append(context)

    def time(self) -> float:
        return self.now_s

    async def create_connection(  # type: ignore[override]
        self, factory: Callable[[], Any], *args: Any, **options: Any
    ) -> tuple[Camera, Any]:
        protocol = factory()
        camera = Camera(self, protocol, self._rng)
        self.cameras.append(camera)
        protocol.connection_made(camera)
        return camera, protocol


class Taken:
    """A sink that makes segments."""

    def __init__(self) -> None:
        self._tracks: Sequence[TrackInit] = ()
        self._segmenter: Segmenter | None = None

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        self._tracks, self._segmenter = tracks, Segmenter(tracks)

    def on_frame(self, frame: Frame) -> None:
        assert self._segmenter is not None, "a frame before any tracks"
        try:
            self._segmenter.push(frame)
        except Discontinuity:
            self._segmenter = Segmenter(self._tracks)


async def session(loop: Loop, rng: random.Random) -> Ending | None:
    resolver = Resolver()
    url = f"rtsp://{'u:p@' if rng.random() < 0.5 else ''}127.0.0.1/stream"
    try:
        connection, offer = await connect(url, resolver, clock_ms=lambda: loop.now_s * 1000)
    except DescribeFailed as failed:
        return failed.ending
    try:
        if why_not(offer) is not None:
            return None
        source = NativeSource(connection, offer, ticks_ms=lambda: loop.now_s * 1000)
        return await source.run(Taken())
    finally:
        await connection.close()
        resolver.close()


def run_case(number: int) -> str:
    """Run one case; return how it ended. Raises where something escapes, or does not end."""
    rng = random.Random(number)
    loop = Loop(rng)
    try:
        ending = loop.run_until_complete(asyncio.wait_for(session(loop, rng), LONGEST_S))
    finally:
        loop.close()
    assert not loop.escaped, loop.escaped
    assert all(camera.longest <= 8 * CAPACITY for camera in loop.cameras)
    if ending is None:
        return "left to ffmpeg"
    assert "fault of the recorder" not in ending.detail, ending.detail
    return ending.cause.value


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    ends: dict[str, int] = {}
    size = 0
    for number in range(options.first, options.first + options.count):
        begun = time.process_time()
        try:
            how = run_case(number)
        except BaseException:
            print(f"case {number}: python -m tests.support.fuzz_rtsp --count 1 --first {number}")
            raise
        took_s = time.process_time() - begun
        if took_s > SLOWEST_S:
            print(f"case {number} took {took_s:.1f} s")
            return 1
        ends[how] = ends.get(how, 0) + 1
        done = number - options.first + 1
        if done == min(WARM, options.count):
            gc.collect()
            size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if done % 10_000 == 0:
            print(f"{done:,} cases", file=sys.stderr)
    grew = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - size
    for how, count in sorted(ends.items()):
        print(f"{count:10,}  {how}")
    print(f"{options.count:10,}  cases, the process grew by {grew / 1e6:.1f} MB")
    return int(grew > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
