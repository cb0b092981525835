"""What an RTP receiver hands on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from recorder.rtsp.rtp import (
    RtpReceiver,
)
from recorder.source import PacketCounts


@dataclass
class Taken:
    """Payloads as they were handed on: bytes, timestamp, marker, how many are missing before."""

    all: list[tuple[bytes, int, bool, int]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None:
        self.all.append((bytes(payload), pts, marker, lost))
        self.arrivals.append(arrival_ms)

    def restart(self) -> None:
        self.all.append((b"restart", 0, False, 0))

    def bodies(self) -> list[bytes]:
        return [body for body, *_ in self.all]


def receive(
    packets: Iterable[bytes], window: int = 0, arrival_ms: float = 0.0
) -> tuple[Taken, PacketCounts, RtpReceiver]:
    """Give packets that all come at one moment to a receiver."""
    taken = Taken()
    receiver = RtpReceiver(96, 90_000, taken)
    receiver.window = window
    for packet in packets:
        receiver.push(memoryview(packet), arrival_ms)
    return taken, receiver.counts, receiver


def numbers(*wanted: int) -> list[bytes]:
    """Return the bodies of packets that are their numbers."""
    return [b"%d" % number for number in wanted]
