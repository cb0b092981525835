"""RTP and RTCP packets, and pictures and sound in every way that cameras pack them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from recorder.rtsp.nal_units import H264Pictures, H265Pictures
from recorder.rtsp.packets import NTP_EPOCH_S
from recorder.source import Frame

SSRC = 0x1234ABCD
EPOCH_MS = 1_764_000_000_000
SPS = bytes.fromhex("6742c01eda0280bfe5c044000003000400000300f03c58ba80")
PPS = bytes.fromhex("68ce3c80")
AUD, FILLER = b"\x09\x10", b"\x0c\xff\xff\xff\x80"
SEI = b"\x06\x05\x04user\x80"


def rtp(
    number: int,
    body: bytes | None = None,
    *,
    stamp: int = 1000,
    ssrc: int = SSRC,
    kind: int = 96,
    head: int = 0x80,
) -> bytes:
    """Return a packet; its body is its number where none is given."""
    body = b"%d" % number if body is None else body
    return struct.pack(">BBHII", head, kind, number & 0xFFFF, stamp & 0xFFFFFFFF, ssrc) + body


def report(stamp: int, utc_ms: float, ssrc: int = SSRC) -> bytes:
    """Return a sender report with one report block and a description after it, as is usual."""
    ntp = round((utc_ms / 1000 + NTP_EPOCH_S) * 2**32) & 0xFFFFFFFFFFFFFFFF
    sender = struct.pack(">BBHIQIII", 0x81, 200, 12, ssrc, ntp, stamp & 0xFFFFFFFF, 1, 2)
    return sender + bytes(24) + struct.pack(">BBHI", 0x81, 202, 2, ssrc) + b"\x01\x00\x00\x00"


def packed(*frames: bytes, whole: int = 0, index: int = 0) -> bytes:
    """Return AU headers of 13 and 3 bits and the frames; `whole` is the size of a fragment's."""
    heads = b"".join(struct.pack(">H", (whole or len(f)) << 3 | index) for f in frames)
    return struct.pack(">H", 8 * len(heads)) + heads + b"".join(frames)


class Payload(NamedTuple):
    data: bytes
    pts: int
    marker: bool
    lost: int = 0
    arrival_ms: float = 0.0


def slice_nal(codec: str, body: bytes, key: bool = False, first: bool = True) -> bytes:
    """Return a slice whose content, after its first bit, is `body`."""
    header = (b"\x65" if key else b"\x41") if codec == "h264" else (b"\x26\1" if key else b"\x02\1")
    return header + (b"\x88" if first else b"\x08") + body


def fragments(codec: str, nal: bytes, size: int) -> list[bytes]:
    """Return FU-A or FU of `size` bytes, at least one even for a whole NAL unit."""
    header = 1 if codec == "h264" else 2
    body = nal[header:]
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    out = []
    for n, part in enumerate(parts):
        flags = (n == 0) << 7 | (n == len(parts) - 1) << 6
        if codec == "h264":
            head = bytes([nal[0] & 0xE0 | 28, flags | nal[0] & 31])
        else:
            head = bytes([nal[0] & 0x81 | 49 << 1, nal[1], flags | nal[0] >> 1 & 63])
        out.append(head + part)
    return out


def aggregate(codec: str, nals: Iterable[bytes]) -> bytes:
    """Return a STAP-A or an AP."""
    head = b"\x18" if codec == "h264" else bytes([48 << 1, 1])
    return head + b"".join(struct.pack(">H", len(nal)) + nal for nal in nals)


def sample(*nals: bytes) -> bytes:
    """Return NAL units as a sample has them (ISO/IEC 14496-15, 5.3)."""
    return b"".join(struct.pack(">I", len(nal)) + nal for nal in nals)


def marked(payloads: Sequence[bytes], pts: int, arrival_ms: float = 0.0) -> list[Payload]:
    """Return the payloads of a picture, the last one marked."""
    last = len(payloads) - 1
    return [Payload(p, pts, n == last, 0, arrival_ms) for n, p in enumerate(payloads)]


def pictures(codec: str) -> tuple[H264Pictures | H265Pictures, list[Frame]]:
    frames: list[Frame] = []
    kind = H264Pictures if codec == "h264" else H265Pictures
    return kind(frames.append), frames


def frames_of(codec: str, payloads: Iterable[Payload]) -> list[Frame]:
    """Return the frames that end within the payloads."""
    taker, frames = pictures(codec)
    for p in payloads:
        taker.push(memoryview(p.data), p.pts, p.marker, p.lost, p.arrival_ms)
    return frames
