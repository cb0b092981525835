"""Media time as a simulated camera believes it, and what it reports of it (RFC 3550)."""

from __future__ import annotations

import random
import time

NTP_EPOCH_S = 2_208_988_800  # 1900 to 1970 (RFC 5905, 6)


class Track:
    """One RTP stream: its numbers, and its media time, which may run wrong."""

    def __init__(self, clock: int):
        """`clock` is the RTP clock in Hz."""
        self.clock = clock
        self._packets = self._bytes = 0
        self._sequence = random.getrandbits(16)
        self._ssrc = random.getrandbits(32).to_bytes(4, "big")
        self._base = random.getrandbits(30)
        self._from_ms = time.time() * 1000
        self._media_ms = 0.0
        self._rate = 1.0

    def change(self, *, rate: float | None = None, jump_s: float = 0.0) -> None:
        """Run at another rate from now on, or jump."""
        now_ms = time.time() * 1000
        self._media_ms += (now_ms - self._from_ms) * self._rate + jump_s * 1000
        self._from_ms = now_ms
        self._rate = self._rate if rate is None else rate

    def timestamp(self, utc_ms: float) -> bytes:
        """Return the RTP timestamp of a moment."""
        media_ms = self._media_ms + (utc_ms - self._from_ms) * self._rate
        return (self._base + round(media_ms * self.clock / 1000) & 0xFFFFFFFF).to_bytes(4, "big")

    def stamp(self, packet: bytes, utc_ms: float) -> bytes:
        """Return an RTP packet with this track's sequence number, time and source."""
        sequence = self._sequence.to_bytes(2, "big")
        self._sequence = self._sequence + 1 & 0xFFFF
        self._packets += 1
        self._bytes += len(packet) - 12
        return b"".join((packet[:2], sequence, self.timestamp(utc_ms), self._ssrc, packet[12:]))

    def report(self, ahead_s: float) -> bytes:
        """Return a sender report (6.4.1) of a camera whose clock is `ahead_s` ahead."""
        now_s = time.time()
        ntp = int((now_s + ahead_s + NTP_EPOCH_S) * 2**32)
        return b"".join(
            (
                b"\x80\xc8\x00\x06",
                self._ssrc,
                ntp.to_bytes(8, "big"),
                self.timestamp(now_s * 1000),
                (self._packets & 0xFFFFFFFF).to_bytes(4, "big"),
                (self._bytes & 0xFFFFFFFF).to_bytes(4, "big"),
            )
        )
