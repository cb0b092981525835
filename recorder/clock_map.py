"""Media time to UTC: which moment a frame shows, from when frames arrive (docs/time.md).

Pure: arrivals come in as numbers, nobody asks a clock. All times are in milliseconds; media
time is the camera's, from wherever it counts.

A frame cannot arrive before it was taken. So `arrival - media`, the delay of a frame plus an
unknown constant, is bounded from below by a line: its height is where media time lies in UTC,
its slope how much the camera's clock runs fast or slow. The line is an edge of the lower convex
hull of the points, the one under their mean: the line below all points that is nearest to them
in sum (Moon, Skelly, Towsley: Estimation and removal of clock skew from network delay
measurements, INFOCOM 1999). Delays, bursts and jitter only lift points; they do not move it.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass

BUCKET_MS = 500  # of media time: the least-delayed frame of each is kept
WINDOW = 600  # buckets
SLEW = 500e-6  # beyond the estimated rate
SETTLE_MS = 10_000  # an estimate that is young may be put right faster
SETTLE_SLEW = 20_000e-6
CATCH_UP_MS = 5_000  # time in which an error would be gone if no limit held it
RATE_NEEDS_MS = 8_000  # a slope over less than this says more about jitter than about a clock
# A slope is believed where it is steady: a stall of the network is a step up, what it held back
# then comes down. In the first seconds it must be wholly wrong, and show between all neighbours.
WHOLLY_WRONG, ALIKE = 0.10, 0.25
# By how much points may lie above the line of a clock, in the mean, of what its slope makes in
# all. After a step of the delay it is a quarter or more.
UNSTEADY = 0.15
# Clocks are hardly ever wrong by more. A steeper slope is a delay that grows or shrinks, as long as
# it does not make more than a network's delay in all.
CLOCK, DELAY_MS = 3_000e-6, 150.0
WANDERS_MS = 300.0  # a delay that wanders makes no more
HURRY = 20_000e-6  # to place frames after their arrival is certainly wrong


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the mapping: `utc = utc_ms + (media - media_ms) * rate`."""

    media_ms: float
    utc_ms: float
    rate: float

    def place(self, media_ms: float) -> float:
        """Return the UTC millisecond of a media time."""
        return self.utc_ms + (media_ms - self.media_ms) * self.rate


class ClockMap:
    """The mapping of one run, made piece by piece; what was placed stays placed."""

    def __init__(self) -> None:
        self._points: deque[list[float]] = deque(maxlen=WINDOW)  # [media, arrival - media]
        self._bucket = float("-inf")
        self._piece: Piece | None = None
        self._young_since_ms = 0.0  # media time: since then the estimate is young
        self._is_sure = False  # no delay, but a clock is so wrong
        self._newest = float("-inf")
        self.rate = 1.0  # UTC per media time, as estimated

    def observe(self, media_ms: float, arrival_ms: float) -> None:
        """Take the arrival of a frame; one older than the newest bucket comes too late to count."""
        offset = arrival_ms - media_ms
        self._newest = max(self._newest, media_ms)
        if media_ms >= self._bucket + BUCKET_MS:
            self._bucket = media_ms
            self._points.append([media_ms, offset])
        elif media_ms >= self._bucket and offset < self._points[-1][1]:
            self._points[-1] = [media_ms, offset]

    def start(self, media_ms: float) -> Piece:
        """Set the mapping from what was observed so far; `media_ms` is the run's first frame."""
        height, slope = self._line(media_ms)
        self._young_since_ms, self.rate = media_ms, 1 + slope
        self._piece = Piece(media_ms, media_ms + height, 1 + slope)
        return self._piece

    def advance(self, media_ms: float, highest_rate: float = float("inf")) -> Piece:
        """Return the piece that begins at `media_ms`, where the one before it ends.

        It runs at the estimated rate, and as much faster or slower as brings it to the line,
        within the limits: no steps, no drift. Where it lies above the line, frames would be
        placed after they arrived, and it hurries. `highest_rate` keeps a segment from becoming
        longer than its playlist allows when the estimate itself moves.
        """
        assert self._piece is not None
        utc_ms = self._piece.place(media_ms)
        height, slope = self._line(media_ms)
        was_sure, self._is_sure = self._is_sure, self._is_clock(slope)
        if self._is_sure and not was_sure:  # it shows only now how wrong the clock is
            self._young_since_ms = media_ms
        settling = media_ms - self._young_since_ms < SETTLE_MS
        limit = SETTLE_SLEW if settling else SLEW
        self.rate, error_ms = 1 + slope, media_ms + height - utc_ms
        correction = min(limit, error_ms / CATCH_UP_MS)
        if error_ms < 0:
            correction = max(-HURRY, error_ms / CATCH_UP_MS)
        self._piece = Piece(media_ms, utc_ms, min(1 + slope + correction, highest_rate))
        return self._piece

    def place(self, media_ms: float) -> float:
        """Return the UTC millisecond of a media time, by the newest piece."""
        assert self._piece is not None
        return self._piece.place(media_ms)

    def media_of(self, utc_ms: float) -> float:
        """Return the media time of a UTC millisecond, by the newest piece."""
        assert self._piece is not None
        return self._piece.media_ms + (utc_ms - self._piece.utc_ms) / self._piece.rate

    def restart(self) -> None:
        """Forget all arrivals: what comes is of another line. The mapping stays until then."""
        self._points.clear()
        self._bucket = float("-inf")

    def _line(self, at_ms: float) -> tuple[float, float]:
        """Return (height at `at_ms`, slope) of the line under the points."""
        if not self._points:  # since a restart
            return (self._piece.place(at_ms) - at_ms if self._piece else 0.0), 0.0
        first, last = self._points[0], self._points[-1]
        span = last[0] - first[0]
        hull: list[list[float]] = []
        for point in self._points:
            while len(hull) >= 2 and _above(hull[-2], hull[-1], point):
                hull.pop()
            hull.append(point)
        mean = sum(p[0] for p in self._points) / len(self._points)
        slope = 0.0
        for left, right in itertools.pairwise(hull):
            if left[0] <= mean <= right[0]:
                slope = (right[1] - left[1]) / (right[0] - left[0])
                break
        if span < RATE_NEEDS_MS:
            if not self._shows_everywhere(slope):
                slope = 0.0
        elif not self._is_steady(slope, span):
            slope = 0.0
        height = min(p[1] - slope * (p[0] - at_ms) for p in self._points)
        return height, slope

    def _shows_everywhere(self, slope: float) -> bool:
        """Say whether a wholly wrong rate shows between all neighbouring points."""
        if len(self._points) < 3 or abs(slope) < WHOLLY_WRONG:
            return False
        steps = ((b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(self._points))
        return all(ALIKE < step / slope < 1 / ALIKE for step in steps)

    def _is_clock(self, slope: float) -> bool:
        """Say whether a steep slope makes more in all than a delay that wanders."""
        span = self._points[-1][0] - self._points[0][0] if self._points else 0.0
        return abs(slope) > CLOCK and abs(slope) * span > WANDERS_MS

    def _is_steady(self, slope: float, span: float) -> bool:
        """Say whether all points lie near the line, as they do by a clock, not after a step."""
        if abs(slope) > CLOCK and abs(slope) * span < DELAY_MS:
            return False
        rests = [p[1] - slope * p[0] for p in self._points]
        return sum(rests) / len(rests) - min(rests) < UNSTEADY * abs(slope) * span


def _above(left: list[float], middle: list[float], right: list[float]) -> bool:
    """Say whether `middle` lies on or above the line from `left` to `right`."""
    return (middle[1] - left[1]) * (right[0] - left[0]) >= (right[1] - left[1]) * (
        middle[0] - left[0]
    )
