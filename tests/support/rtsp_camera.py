"""A camera on loopback that plays a scripted dialogue over TCP and sends real H.264.

A script is asked before every answer: it sends what it likes and returns True, or returns False
for the usual answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import ffmpeg as ffmpeg_python

from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import Offer, connect

FPS = 25
GOP = 25
REALM = "scripted camera"
NONCE = "b6a1f5e04f7d4b13"


@dataclass(frozen=True)
class Request:
    method: str
    uri: str
    headers: dict[str, str]


@dataclass
class Dialogue:
    """One connection of a client; `number` counts them from 0."""

    camera: Camera
    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tracks: dict[int, int] = field(default_factory=dict)  # by track the RTP channel
    end: str = "\r\n"  # of lines
    sender: asyncio.Task[None] | None = None

    def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode() if isinstance(data, str) else data)

    def answer(self, request: Request, status: str, *headers: str, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {request.headers.get('cseq', '0')}", *headers]
        if body:
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        self.send(self.end.join([*lines, "", ""]) + body)

    def close(self) -> None:
        self.writer.close()


Script = Callable[[Dialogue, Request], Awaitable[bool]]


async def usual(dialogue: Dialogue, request: Request) -> bool:
    return False


@dataclass
class Camera:
    """What it describes and how it talks; `requests` and `connections` are what it saw."""

    sdp: str = ""
    script: Script = usual
    films: Sequence[Sequence[Sequence[bytes]]] = ()  # by track; NAL units of each access unit
    sound: bool = False  # silence in G.711 on the tracks after the films
    takes: Callable[[Camera], bool] = lambda camera: True  # a connection now, or closes it
    begins_s: float = 0.0  # after PLAY
    requests: list[Request] = field(default_factory=list)
    answers: list[Request] = field(default_factory=list)  # to what it asked: status in `uri`
    connections: list[float] = field(default_factory=list)  # when, by the loop's clock
    reports: list[tuple[int, bytes]] = field(default_factory=list)  # channel, packet
    open: int = 0  # connections now
    left_at: float = float("-inf")  # when the last one ended
    port: int = 0
    tls: ssl.SSLContext | None = None

    def url(self, path: str = "stream", login: str = "") -> str:
        scheme = "rtsps" if self.tls else "rtsp"
        return f"{scheme}://{login}{'@' if login else ''}127.0.0.1:{self.port}/{path}"

    def methods(self) -> list[str]:
        return [request.method for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        if not self.takes(self):
            writer.close()
            return
        dialogue = Dialogue(self, len(self.connections), reader, writer)
        self.connections.append(loop.time())
        self.open += 1
        try:
            while True:
                request = await self._request(reader)
                if request.method.startswith("RTSP/"):  # to what the camera has asked
                    self.answers.append(request)
                    continue
                self.requests.append(request)
                if not await self.script(dialogue, request):
                    self._usual(dialogue, request)
                await writer.drain()
        except (OSError, EOFError):
            pass
        finally:
            if dialogue.sender is not None:
                dialogue.sender.cancel()
            self.open -= 1
            self.left_at = loop.time()
            writer.close()

    async def _request(self, reader: asyncio.StreamReader) -> Request:
        while (first := await reader.readexactly(1)) == b"$":  # receiver reports
            head = await reader.readexactly(3)
            packet = await reader.readexactly(int.from_bytes(head[1:], "big"))
            self.reports.append((head[0], packet))
        start, *lines = (first + await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, uri, _ = start.split(" ", 2)
        pairs = (line.partition(":") for line in lines if line)
        return Request(method, uri, {name.lower(): value.strip() for name, _, value in pairs})

    def _usual(self, dialogue: Dialogue, request: Request) -> None:
        if request.method == "OPTIONS":
            methods = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"
            dialogue.answer(request, "200 OK", f"Public: {methods}")
        elif request.method == "DESCRIBE":
            base = f"Content-Base: {request.uri}/"
            dialogue.answer(request, "200 OK", base, body=self.sdp)
        elif request.method == "SETUP":
            track = int(request.uri.rsplit("track", 1)[1])
            found = re.search(r"interleaved=(\d+)", request.headers.get("transport", ""))
            if found is None:
                dialogue.answer(request, "461 Unsupported Transport")
                return
            channel = dialogue.tracks[track] = int(found[1])
            way = f"Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
            dialogue.answer(request, "200 OK", way, "Session: 12345678;timeout=60")
        elif request.method == "PLAY":
            dialogue.answer(request, "200 OK", "Session: 12345678")
            dialogue.sender = asyncio.ensure_future(self._play(dialogue))
        else:
            dialogue.answer(request, "200 OK", "Session: 12345678")

    async def _play(self, dialogue: Dialogue) -> None:
        """Send every second's pictures and sound in small steps, by the loop's clock."""
        loop = asyncio.get_running_loop()
        begun, sequence = loop.time() + self.begins_s, dict.fromkeys(dialogue.tracks, 0)
        with contextlib.suppress(OSError):
            for number in range(1 << 30):
                await asyncio.sleep(max(0.0, begun + number / FPS - loop.time()))
                for track, channel in dialogue.tracks.items():
                    packets: list[tuple[int, bool, int, bytes]] = []
                    if track < len(self.films):
                        unit = self.films[track][number % len(self.films[track])]
                        parts = [part for nal in unit for part in _payloads(nal)]
                        stamp, last = number * 90_000 // FPS, len(parts) - 1
                        packets = [(96, n == last, stamp, part) for n, part in enumerate(parts)]
                    elif self.sound:
                        stamps = [(2 * number + n) * 160 for n in range(2)]
                        packets = [(0, False, stamp, b"\xff" * 160) for stamp in stamps]
                    for kind, marker, stamp, payload in packets:
                        head = bytes([0x80, kind | marker << 7])
                        head += (sequence[track] & 0xFFFF).to_bytes(2, "big")
                        head += stamp.to_bytes(4, "big") + bytes([0, 0, 0, track + 1])
                        size = (len(head) + len(payload)).to_bytes(2, "big")
                        dialogue.send(b"$" + bytes([channel]) + size + head + payload)
                        sequence[track] += 1
                await dialogue.writer.drain()


def _payloads(nal: bytes, size: int = 1400) -> list[bytes]:
    """RFC 6184, 5.6 and 5.8."""
    if len(nal) <= size:
        return [nal]
    pieces = [nal[at : at + size] for at in range(1, len(nal), size)]
    return [
        bytes([nal[0] & 0xE0 | 28, nal[0] & 31 | (n == 0) << 7 | (n == len(pieces) - 1) << 6])
        + piece
        for n, piece in enumerate(pieces)
    ]


@contextlib.asynccontextmanager
async def serving(*cameras: Camera) -> AsyncIterator[None]:
    """Have cameras listen, each on a port of its own."""
    servers = []
    for camera in cameras:
        server = await asyncio.start_server(camera.serve, "127.0.0.1", 0, ssl=camera.tls)
        camera.port = server.sockets[0].getsockname()[1]
        servers.append(server)
    try:
        yield
    finally:
        for server in servers:
            server.close()
        left = [task for task in asyncio.all_tasks() if "Camera.serve" in repr(task.get_coro())]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def described(url: str, resolver: Resolver, **options: Any) -> Offer:
    """Return what a camera offers, and leave it."""
    connection, offer = await connect(url, resolver, **options)
    await connection.close()
    return offer


def encode(
    program: str, codec: str, size: tuple[int, int], options: dict[str, str], seconds: int = 1
) -> bytes:
    """Return a stream of x264 or x265, each picture one slice, with sets before each keyframe."""
    picture = f"testsrc2=size={size[0]}x{size[1]}:rate={FPS}"
    wanted = {"preset": "ultrafast", "bf": 0, "g": GOP, "b:v": "500k", "pix_fmt": "yuv420p"}
    if codec == "h264":
        wanted |= {"c:v": "libx264", "aud": 1, "x264-params": "scenecut=0:slices=1"}
    else:
        wanted |= {"c:v": "libx265", "x265-params": "log-level=none"}
    source = ffmpeg_python.input(picture, f="lavfi", t=seconds)
    raw = {"h264": "h264", "h265": "hevc"}[codec]
    command = source.output("pipe:1", f=raw, **wanted | options).compile(cmd=program)
    return subprocess.run([*command, "-v", "error"], capture_output=True, check=True).stdout


def nal_units(stream: bytes) -> list[bytes]:
    """Return the NAL units of a byte stream (ITU-T H.264, annex B)."""
    return [nal for nal in re.split(rb"\x00\x00\x00?\x01", stream) if nal]


def parameter_sets(stream: bytes, codec: str) -> list[bytes]:
    """Return the first sets of a stream: SPS and PPS of H.264, the SPS of H.265."""
    kinds = {"h264": (7, 8), "h265": (33,)}[codec]
    found: dict[int, bytes] = {}
    for nal in nal_units(stream):
        kind = nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63
        if kind in kinds:
            found.setdefault(kind, nal)
    return [found[kind] for kind in kinds]


@cache
def film(program: str, width: int = 640, height: int = 360) -> tuple[tuple[bytes, ...], ...]:
    """Return four seconds of H.264 as access units, each with its NAL units."""
    units: list[list[bytes]] = []
    for nal in nal_units(encode(program, "h264", (width, height), {}, seconds=4)):
        if nal[0] & 31 == 9:  # access unit delimiter
            units.append([])
        else:
            units[-1].append(nal)
    return tuple(tuple(unit) for unit in units)


def sprop(units: Sequence[Sequence[bytes]]) -> str:
    """Return sprop-parameter-sets of a film."""
    sets = [nal for nal in units[0] if nal[0] & 31 in (7, 8)]
    return ",".join(b64encode(nal).decode() for nal in sets)


def sdp_of(*media: str, session: str = "") -> str:
    """Return a description; each medium's lines are given without its control, added here."""
    head = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=s\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n" + session
    return head + "".join(
        f"{text.strip()}\r\na=control:track{n}\r\n" for n, text in enumerate(media)
    )


H264 = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1"
PCMU = "m=audio 0 RTP/AVP 0"
G722 = "m=audio 0 RTP/AVP 9"


def h264(units: Sequence[Sequence[bytes]]) -> str:
    """Return the media lines of a film."""
    return f"{H264};sprop-parameter-sets={sprop(units)}"


def digest_fields(header: str) -> dict[str, str]:
    """Return the fields of an Authorization header."""
    pairs = re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))', header)
    return {name: quoted or token for name, quoted, token in pairs}


def proves(request: Request, user: str, password: str, name: str, nonce: str = NONCE) -> bool:
    """Whether a request has the right Digest answer with qop=auth, by hashlib's `name`."""
    header = request.headers.get("authorization", "")
    given = digest_fields(header)
    if not header.startswith("Digest ") or given.get("nonce") != nonce:
        return False

    def digest(text: str) -> str:
        return hashlib.new(name, text.encode()).hexdigest()

    secret = digest(f"{user}:{REALM}:{password}")
    asked = digest(f"{request.method}:{given['uri']}")
    middle = [nonce]
    if "qop" in given:
        middle += [given["nc"], given["cnonce"], given["qop"]]
    return given["response"] == digest(":".join([secret, *middle, asked]))


def challenge(algorithm: str = "", nonce: str = NONCE, more: str = "") -> str:
    """Return a WWW-Authenticate line."""
    named = f", algorithm={algorithm}" if algorithm else ""
    return f'WWW-Authenticate: Digest realm="{REALM}", nonce="{nonce}"{named}{more}'
