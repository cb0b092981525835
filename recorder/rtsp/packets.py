"""Packets of RTP and RTCP as they are on the wire (RFC 3550). Pure."""

from __future__ import annotations

import struct

VERSION = 2
SENDER_REPORT, RECEIVER_REPORT, DESCRIPTION, BYE = 200, 201, 202, 203  # RFC 3550, 12.1
RTCP_KINDS = range(192, 224)  # second bytes of RTCP where it shares a way with RTP (RFC 5761, 4)
NTP_EPOCH_S = 2_208_988_800  # 1900 to 1970 (RFC 5905, 6)

HEADER = struct.Struct(">BBHII").unpack_from
HEADER_BYTES = 12
PLAIN = 0x80  # first byte of version 2 without padding, extension and sources
RTCP_HEADER = struct.Struct(">BBH").unpack_from
REPORT = struct.Struct(">IIII").unpack_from  # SSRC, NTP seconds and fraction, timestamp
# of a receiver report: SSRC, fraction and number of lost packets, highest number, jitter, the last
# sender report and how long ago it came (RFC 3550, 6.4.1)
REPORT_BLOCK = struct.Struct(">IIIIII").pack
MOST_LOST = (1 << 23) - 1  # that it can say


def signed(value: int, bits: int) -> int:
    """Return the number that `value`, a difference modulo 2**bits, is nearest to."""
    half = 1 << bits - 1
    return (value + half & (1 << bits) - 1) - half


def utc_ms_of(seconds: int, fraction: int) -> float:
    """Return the UTC in ms of an NTP time."""
    era = 0 if seconds >> 31 else 1 << 32  # from 7 February 2036 on (RFC 5905, 6)
    return (era + seconds - NTP_EPOCH_S) * 1000 + fraction * 1000 / 2**32


def is_plausible_rtcp(head: memoryview) -> bool:
    """Say whether an RTCP packet can begin with these bytes."""
    return len(head) >= 8 and head[0] >> 6 == VERSION and head[1] in RTCP_KINDS


def payload_of(packet: memoryview, head: int) -> memoryview | None:
    """Return the payload behind sources and extension, before padding; None: malformed."""
    at, end = HEADER_BYTES + 4 * (head & 15), len(packet)
    if head & 0x10:
        if at + 4 > end:
            return None
        at += 4 + 4 * (packet[at + 2] << 8 | packet[at + 3])
    if head & 0x20:
        if not 0 < packet[-1] <= end - at:
            return None
        end -= packet[-1]
    return packet[at:end] if at <= end else None


def receiver_report(own_ssrc: int, name: bytes, block: bytes) -> bytes:
    """Return a compound packet with a report block or none (b""), and who we are: `name` is the
    CNAME (RFC 3550, 6.4.2, 6.5)."""
    words = 1 + len(block) // 4
    head = struct.pack(">BBHI", VERSION << 6 | bool(block), RECEIVER_REPORT, words, own_ssrc)
    item = bytes([1, len(name)]) + name
    item += bytes(4 - len(item) % 4)  # it ends with at least one zero
    words = 1 + len(item) // 4
    return head + block + struct.pack(">BBHI", 0x81, DESCRIPTION, words, own_ssrc) + item
