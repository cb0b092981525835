"""The camera's clock, as sender reports of one track tell it (RFC 3550, 6.4.1)."""

from __future__ import annotations

from recorder.rtsp import packets
from recorder.rtsp.packets import signed

NEAR_S = 60  # by which a report's timestamp may be away from the newest packet's
YEAR_S = 366 * 86_400
# Fractions of a second (2**-32) below which all of a camera's are that counts whole seconds, or
# writes microseconds there: its reports differ by up to a second.
COARSE = 1_000_000


class SenderClock:
    """The clock of the camera by the sender reports of one track."""

    def __init__(self, clock_rate: int):
        """`clock_rate` is that of timestamps, per second."""
        self._clock_rate = clock_rate
        self.tells_seconds = True  # no report has come that says more
        self.report_ms: float | None = None  # arrival of the newest less its own time
        self._reference: tuple[int, float] | None = None  # timestamp, the camera's clock (UTC ms)
        self._ssrc: int | None = None  # of the newest
        self._newest: tuple[int, float] | None = None  # middle of its NTP time, arrival

    def begin(self, ssrc: int, stamp: int, pts: int) -> None:
        """Another stream begins with this packet; a report may have come before it."""
        self._newest = None
        if self._ssrc != ssrc:
            self._reference = self.report_ms = None
        if self._reference is not None:
            self._refer(*self._reference, stamp, pts)

    def restart(self) -> None:
        """The camera counts timestamps anew."""
        self._reference = None

    def take(
        self, packet: memoryview, at: int, arrival_ms: float, ssrc: int | None, stamp: int, pts: int
    ) -> None:
        """Take the report at `at` of a packet that arrived at `arrival_ms` (UTC).

        `ssrc`, `stamp` and `pts` are of the newest packet of the track: None, where none came yet.
        A camera that knows no time of day sends 0 or how long it runs.
        """
        reported, seconds, fraction, reported_stamp = packets.REPORT(packet, at)
        if reported == ssrc:
            self._newest = (seconds & 0xFFFF) << 16 | fraction >> 16, arrival_ms
        if not seconds or ssrc not in (None, reported):
            return
        utc_ms = packets.utc_ms_of(seconds, fraction)
        self.tells_seconds = self.tells_seconds and fraction < COARSE
        self.report_ms = None if self.tells_seconds else arrival_ms - utc_ms
        self._ssrc = reported
        if seconds < YEAR_S and abs(utc_ms - arrival_ms) > YEAR_S * 1000:
            return
        if ssrc is None:
            self._reference = reported_stamp, utc_ms
        else:
            self._refer(reported_stamp, utc_ms, stamp, pts)

    def _refer(self, reported_stamp: int, utc_ms: float, stamp: int, pts: int) -> None:
        """Take the camera's clock at a timestamp; one that is far from now says nothing."""
        ahead = signed(reported_stamp - stamp, 32)
        is_near = abs(ahead) <= NEAR_S * self._clock_rate
        self._reference = (pts + ahead, utc_ms) if is_near else None

    def camera_ms(self, pts: int) -> float | None:
        """Return the camera's clock (UTC ms) at a timestamp; None where it did not report it."""
        if self._reference is None:
            return None
        reported, utc_ms = self._reference
        return utc_ms + (pts - reported) * 1000 / self._clock_rate

    def newest(self, now_ms: float) -> tuple[int, int]:
        """Return the middle of the newest report's NTP time, and how long ago it came, in 1/65536
        s by the clock of arrivals; zeros where none came (RFC 3550, 6.4.1: LSR and DLSR)."""
        if self._newest is None:
            return 0, 0
        middle, came_ms = self._newest
        return middle, min(0xFFFFFFFF, max(0, int((now_ms - came_ms) * 65.536)))
