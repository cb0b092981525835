"""The sound of a run: kept where it comes, beside the picture that it belongs to. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import pairwise

from recorder.source import Frame
from storage.media.fmp4 import Sample, TrackInit, TrackRun

MAX_FRAMES = 2_000
MAX_BYTES = 4 * 1024 * 1024
# By how many ms sound may come after the picture says that it was to be heard. What is beyond
# has a time of its own (a camera whose tracks do not agree), and is placed by its arrival.
EARLY_MS, LATE_MS = -150.0, 8_000.0
OWN_LATE_MS = 500.0  # by which it may come after its own line


class SoundTrack:
    """Takes sound as it comes, gives what belongs to a segment."""

    def __init__(self) -> None:
        self.camera_less_stamp_ms: float | None = None  # of pictures, whose timestamps are others
        self.lost = 0  # packets that are missing in what was taken last, or before it
        self._waiting: deque[Frame] = deque()
        self._bytes = 0
        self._own_ms: float | None = None  # UTC less timestamp, where the picture's does not fit
        self._end = 0  # of what was written, in the track's timescale
        self._step = 1024.0

    def add(self, frame: Frame) -> None:
        """Take a frame; the oldest go where nobody takes them."""
        self._waiting.append(frame)
        self._bytes += len(frame.data)
        while len(self._waiting) > MAX_FRAMES or self._bytes > MAX_BYTES:
            self._bytes -= len(self._waiting.popleft().data)

    def take(
        self, track: TrackInit, place: Callable[[float], float], origin_ms: float, end_ms: float
    ) -> TrackRun | None:
        """Return what is to be heard before `end_ms` (UTC); late sound goes with the next.

        `place` gives the UTC of a timestamp in ms by the picture's mapping; `origin_ms` is the
        UTC of the track's time 0.
        """
        scale = track.timescale
        taken: list[tuple[int, Frame]] = []
        self.lost = 0
        while self._waiting:
            frame = self._waiting[0]
            utc_ms = self._utc(frame, scale, place)
            if utc_ms >= end_ms:
                break
            self._bytes -= len(self._waiting.popleft().data)
            self.lost += frame.lost
            at = round((utc_ms - origin_ms) * scale / 1000)
            after = taken[-1][0] if taken else self._end - self._step / 2
            if at > after and at >= 0:  # else it was heard already: time that goes back repeats
                taken.append((max(at, self._end) if not taken else at, frame))
        if not taken:
            return None
        if len(taken) > 1:
            self._step = min(t[0] - s[0] for s, t in pairwise(taken))
        self._end = taken[-1][0] + max(1, round(self._step))
        starts = [at for at, _ in taken]
        samples = [
            Sample(max(1, following - at), len(f.data), True, 0)
            for (at, f), following in zip(taken, [*starts[1:], self._end], strict=True)
        ]
        return TrackRun(2, starts[0], samples, [f.data for _, f in taken])

    def _utc(self, frame: Frame, scale: int, place: Callable[[float], float]) -> float:
        stamp_ms = frame.pts * 1000 / scale
        if frame.camera_ms is None or self.camera_less_stamp_ms is None:
            utc_ms = place(stamp_ms)
        else:  # the picture of the same moment by the camera's clock
            utc_ms = place(frame.camera_ms - self.camera_less_stamp_ms)
        if EARLY_MS <= frame.arrival_ms - utc_ms <= LATE_MS:
            self._own_ms = None
            return utc_ms
        if self._own_ms is None or not (
            EARLY_MS <= frame.arrival_ms - stamp_ms - self._own_ms <= OWN_LATE_MS
        ):
            self._own_ms = frame.arrival_ms - stamp_ms
        return stamp_ms + self._own_ms
