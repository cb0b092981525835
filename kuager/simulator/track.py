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
        self._picture_ms, self._pictures = 0.0, 0  # the newest, and how many there were
        self._tick_ms = 0.0
        self._from_zero = False  # from the next picture on
        self._wild: tuple[float, int] = 0.0, 0  # by how many seconds, and every how manieth
        self._same: tuple[int, float] | None = None  # number and media time of the first
        self._jump: tuple[float, float] | None = None  # from when on (UTC ms), by how many seconds

    def change(self, *, rate: float | None = None, jump_s: float = 0.0) -> None:
        """Run at another rate from now on, or jump."""
        now_ms = time.time() * 1000
        self._media_ms += (now_ms - self._from_ms) * self._rate + jump_s * 1000
        self._from_ms = now_ms
        self._rate = self._rate if rate is None else rate

    def jump_at(self, utc_ms: float, jump_s: float) -> None:
        """Jump with what is of this moment or later, whenever it comes from the encoder."""
        self._jump = utc_ms, jump_s

    def _jump_if_due(self, utc_ms: float) -> None:
        if self._jump is not None and utc_ms >= self._jump[0]:
            (_, jump_s), self._jump = self._jump, None
            self.change(jump_s=jump_s)

    def from_zero(self) -> None:
        """Stamp the next picture 0, and count on from there."""
        self._from_zero = True

    def wild(self, off_s: float, every: int) -> None:
        """Stamp every so manieth picture so many seconds off, the next one first; 1 is once."""
        self._wild, self._pictures = (off_s, every), 0

    def same_time(self, tick: float | None) -> None:
        """Stamp all pictures from now on so many ticks apart; None: as time passes."""
        now_ms = self._media_ms + (time.time() * 1000 - self._from_ms) * self._rate
        self._same = None if tick is None else (self._pictures, now_ms)
        self._tick_ms = 1000 * (tick or 0.0) / self.clock

    def _stamp_of(self, utc_ms: float) -> bytes:
        """Return the RTP timestamp of a packet of a picture."""
        self._jump_if_due(utc_ms)
        if utc_ms != self._picture_ms:
            self._picture_ms, self._pictures = utc_ms, self._pictures + 1
            if self._from_zero:
                self._from_zero = False
                self._base, self._media_ms, self._from_ms = 0, 0.0, utc_ms
        if self._same is not None:
            first, media_ms = self._same
            return self._ticks(media_ms + (self._pictures - first) * self._tick_ms)
        off_s, every = self._wild
        wild = self._pictures == 1 if every == 1 else every and self._pictures % every == 1
        return self.timestamp(utc_ms, off_s * 1000 if wild else 0.0)

    def timestamp(self, utc_ms: float, off_ms: float = 0.0) -> bytes:
        """Return the RTP timestamp of a moment."""
        return self._ticks(self._media_ms + (utc_ms - self._from_ms) * self._rate + off_ms)

    def _ticks(self, media_ms: float) -> bytes:
        return (self._base + round(media_ms * self.clock / 1000) & 0xFFFFFFFF).to_bytes(4, "big")

    def stamp(self, packet: bytes, utc_ms: float) -> bytes:
        """Return an RTP packet with this track's sequence number, time and source."""
        sequence = self._sequence.to_bytes(2, "big")
        self._sequence = self._sequence + 1 & 0xFFFF
        self._packets += 1
        self._bytes += len(packet) - 12
        return b"".join((packet[:2], sequence, self._stamp_of(utc_ms), self._ssrc, packet[12:]))

    def report(self, ahead_s: float) -> bytes:
        """Return a sender report (6.4.1) of a camera whose clock is `ahead_s` ahead."""
        now_s = time.time()
        self._jump_if_due(now_s * 1000)
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
