"""A bare RTSP client over TCP that keeps every packet, to see what is really on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

NTP_EPOCH_S = 2_208_988_800


class Refused(Exception):
    """The server answered something else than 200; args[0] is the status."""


@dataclass(frozen=True)
class Packet:
    """An RTP (RFC 3550, 5.1) or RTCP packet and when (UTC seconds) it came; channel 0 is video."""

    arrival_s: float
    channel: int
    data: bytes

    @property
    def sequence(self) -> int:
        return int.from_bytes(self.data[2:4], "big")

    @property
    def stamp(self) -> int:
        return int.from_bytes(self.data[4:8], "big")

    def nals(self) -> list[tuple[int, bytes, bool]]:
        """Return (type, bytes, is it the first piece) of the H.264 in it (RFC 6184, 5.2)."""
        body = self.data[12:]
        if body[0] & 31 == 24:  # STAP-A
            found, at = [], 1
            while at < len(body):
                size = int.from_bytes(body[at : at + 2], "big")
                nal = body[at + 2 : at + 2 + size]
                found.append((nal[0] & 31, nal, True))
                at += 2 + size
            return found
        if body[0] & 31 == 28:  # FU-A
            first = bool(body[1] & 0x80)
            head = bytes([body[0] & 0xE0 | body[1] & 31]) if first else b""
            return [(body[1] & 31, head + body[2:], first)]
        return [(body[0] & 31, body, True)]


@dataclass(frozen=True)
class Report:
    """A sender report: the camera's clock (UTC seconds) at an RTP timestamp."""

    arrival_s: float
    camera_s: float
    stamp: int


@dataclass
class Wire:
    """A playing session; `packets` grows until it is closed, by either side."""

    sdp: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    packets: list[Packet] = field(default_factory=list)
    closed: bool = False
    _task: asyncio.Task[None] | None = None

    def media(self, channel: int = 0, after_s: float = 0.0) -> list[Packet]:
        return [p for p in self.packets if p.channel == channel and p.arrival_s > after_s]

    def pictures(self, after_s: float = 0.0) -> list[tuple[int, list[Packet]]]:
        """Return (RTP timestamp, packets) of each picture, as they came."""
        grouped = itertools.groupby(self.media(after_s=after_s), key=lambda p: p.stamp)
        return [(stamp, list(packets)) for stamp, packets in grouped]

    def reports(self, channel: int = 1, after_s: float = 0.0) -> list[Report]:
        out = []
        for p in self.media(channel, after_s):
            assert p.data[1] == 200
            ntp = int.from_bytes(p.data[8:16], "big") / 2**32 - NTP_EPOCH_S
            out.append(Report(p.arrival_s, ntp, int.from_bytes(p.data[16:20], "big")))
        return out

    def taken_s(self, channel: int = 0, clock: int = 90_000) -> list[float]:
        """Return when (UTC seconds) what is in a track's packets was taken, by its first report."""
        first = self.reports(channel + 1)[0]
        ticks = ((p.stamp - first.stamp + 2**31) % 2**32 - 2**31 for p in self.media(channel))
        return [first.camera_s + count / clock for count in ticks]

    async def close(self) -> None:
        self.writer.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = await self.reader.readexactly(4)
                data = await self.reader.readexactly(int.from_bytes(head[2:], "big"))
                self.packets.append(Packet(time.time(), head[1], data))
        self.closed = True


async def play(url: str) -> Wire:
    """Describe, set up and play every track; raises Refused, OSError or EOFError."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    numbers = itertools.count(1)

    async def ask(method: str, path: str = "", fields: str = "") -> str:
        request = f"{method} {url}{path} RTSP/1.0\r\nCSeq: {next(numbers)}\r\n{fields}\r\n"
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if " 200 " not in head.split("\r\n")[0]:
            raise Refused(int(head.split(" ")[1]))
        _, _, length = head.partition("Content-Length: ")
        return (await reader.readexactly(int(length.split("\r")[0] or 0))).decode()

    try:
        await ask("OPTIONS")
        sdp = await ask("DESCRIBE")
        for n in range(sdp.count("m=")):
            way = f"Transport: RTP/AVP/TCP;unicast;interleaved={2 * n}-{2 * n + 1}\r\n"
            await ask("SETUP", f"/track{n}", way)
        await ask("PLAY")
    except BaseException:
        writer.close()
        raise
    wire = Wire(sdp, reader, writer)
    wire._task = asyncio.create_task(wire._read())
    return wire
