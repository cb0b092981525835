"""The sound of a run: kept where it comes, beside the picture that it belongs to. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from itertools import pairwise

from recorder.source import Frame
from storage.media.fmp4 import Sample, TrackInit, TrackRun

MAX_FRAMES = 2_000
MAX_BYTES = 4 * 1024 * 1024
# By how many ms sound may come after the picture says that it was to be heard. What is beyond
# has a time of its own (a camera whose tracks do not agree), and is placed by its arrival. Some
# cameras take so long for a picture that its sound comes before it, as their clock says.
EARLY_MS, EARLY_BY_CLOCK_MS, LATE_MS = -150.0, -1_000.0, 8_000.0
OWN_LATE_MS = 500.0  # by which it may come after its own line
HELD_OFF_MS = 150.0  # by which timestamps of what was held back may be beside its length
FRAME_SAMPLES = 1_024  # of AAC, in a frame; 2,048 with SBR
RATE_SEEN, RATE_MS = 64, 1_000.0  # frames and ms that tell whether timestamps run with the sound
RATE_OFF = 0.1
JUMP_MS = 2_000.0  # from one frame to the next: timestamps count from elsewhere
PAUSE_MS = 300.0  # by which timestamps and arrivals of a pause may differ
# What belongs together by the camera's clock differs by so much from one sender report to the
# next. By more, the clock was set: the reports of each track tell of it, within so long.
STEADY_MS, REPORTS_MS = 60.0, 12_000.0
_RATE_AT = 32  # bytes of an AudioSampleEntry before its rate in Hz (14496-12, 12.2.3)


class SoundTrack:
    """Takes sound as it comes, gives what belongs to a segment.

    A frame comes when its last sample was taken: placed by its arrival, it begins by its length
    before it.
    """

    def __init__(self) -> None:
        self.camera_less_stamp_ms: float | None = None  # of pictures, whose timestamps are others
        self.lost = 0  # packets that are missing in what was taken last, or before it
        self._waiting: deque[Frame] = deque()
        self._bytes = 0
        self._own_ms: float | None = None  # UTC less timestamp, where the picture's does not fit
        # the camera's clock less timestamps, of pictures and of sound, as they were believed last
        self._clocks: tuple[float, float] | None = None
        self._other: tuple[float, float] | None = None  # than that, and when it was first so
        self._lately: deque[Frame] = deque(maxlen=RATE_SEEN)
        self._by_count = False  # timestamps say nothing
        self._begin_ms = 0.0
        self._end = 0  # of what was written, in the track's timescale
        self._step = float(FRAME_SAMPLES)

    def begin(self, offset_ms: float) -> None:
        """Leave out what is to be heard before so long after the track's time 0."""
        self._begin_ms = offset_ms

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
        rate = int.from_bytes(track.entry[_RATE_AT : _RATE_AT + 2], "big") or scale
        lasts, lasts_ms = FRAME_SAMPLES * scale / rate, FRAME_SAMPLES * 1000 / rate
        taken: list[tuple[int, Frame]] = []
        self.lost = 0
        begin = round(self._begin_ms * scale / 1000)
        self._end = max(self._end, begin)
        while self._waiting:
            frame = self._waiting[0]
            after = taken[-1][0] if taken else self._end - self._step / 2
            ended = after + lasts if taken else self._end
            stepped_ms = self._stepped_ms(frame, scale)
            jumps = abs(stepped_ms) > JUMP_MS
            by_count = not jumps and not self._runs_on(frame, lasts, scale)
            if by_count and not self._by_count:
                utc_ms = frame.arrival_ms - lasts_ms
            elif by_count or stepped_ms < 500 * lasts / scale:  # one after the other
                utc_ms = max(origin_ms + ended * 1000 / scale, frame.arrival_ms - OWN_LATE_MS)
                utc_ms = min(utc_ms, frame.arrival_ms - EARLY_MS)
            else:
                utc_ms = self._utc(frame, scale, lasts_ms, place)
            if utc_ms >= end_ms:
                break
            self._bytes -= len(self._waiting.popleft().data)
            if jumps:
                self._lately.clear()
            self._lately.append(frame)
            self._by_count = by_count
            self.lost += frame.lost
            at = round((utc_ms - origin_ms) * scale / 1000)
            if at > after and at >= begin:  # else it was heard already: time that goes back repeats
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

    def _stepped_ms(self, frame: Frame, scale: int) -> float:
        """Return by how much a frame's timestamp is after that of the one before.

        A pause is none.
        """
        if not self._lately:
            return 1000.0
        before = self._lately[-1]
        stepped_ms = (frame.pts - before.pts) * 1000 / scale
        passed_ms = frame.arrival_ms - before.arrival_ms
        is_pause = passed_ms > PAUSE_MS and abs(stepped_ms - passed_ms) <= PAUSE_MS
        return PAUSE_MS if is_pause else stepped_ms

    def _runs_on(self, frame: Frame, lasts: float, scale: int) -> bool:
        """Say whether timestamps run on as the sound does, or as long as nothing came of it.

        A frame lasts `lasts`, in the track's timescale.
        """
        if not self._lately:
            return True
        first, due_ms = self._lately[0], len(self._lately) * lasts * 1000 / scale
        stamped_ms = (frame.pts - first.pts) * 1000 / scale
        passed_ms = frame.arrival_ms - first.arrival_ms
        return (
            passed_ms < RATE_MS
            or abs(stamped_ms - due_ms) <= RATE_OFF * due_ms
            or abs(stamped_ms - passed_ms) <= PAUSE_MS
        )

    def _utc(
        self, frame: Frame, scale: int, lasts_ms: float, place: Callable[[float], float]
    ) -> float:
        stamp_ms = frame.pts * 1000 / scale
        if frame.camera_ms is None or self.camera_less_stamp_ms is None:
            utc_ms, early_ms = place(stamp_ms), EARLY_MS
        else:  # the picture of the same moment by the camera's clock
            clocks = self.camera_less_stamp_ms, frame.camera_ms - stamp_ms
            utc_ms = place(stamp_ms + self._between_ms(clocks, frame, stamp_ms, place))
            early_ms = EARLY_BY_CLOCK_MS
        if early_ms <= frame.arrival_ms - utc_ms <= LATE_MS:
            self._own_ms = None
            return utc_ms
        late_ms = frame.arrival_ms - lasts_ms - stamp_ms
        if self._own_ms is None or not EARLY_MS <= late_ms - self._own_ms <= OWN_LATE_MS:
            self._own_ms = self._least_delay_ms(scale, lasts_ms) - lasts_ms
        return stamp_ms + self._own_ms

    def _least_delay_ms(self, scale: int, lasts_ms: float) -> float:
        """Return the least arrival less timestamp of the frames that wait, each of `lasts_ms`.

        The first of them may have been held back. They count as far as they follow each other.
        """
        first, least_ms = self._waiting[0], math.inf
        for n, frame in enumerate(self._waiting):
            stamped_ms = (frame.pts - first.pts) * 1000 / scale
            if abs(stamped_ms - n * lasts_ms) > HELD_OFF_MS:
                break
            least_ms = min(least_ms, frame.arrival_ms - frame.pts * 1000 / scale)
        return least_ms

    def _between_ms(
        self,
        clocks: tuple[float, float],
        frame: Frame,
        stamp_ms: float,
        place: Callable[[float], float],
    ) -> float:
        """Return a picture's timestamp less that of its sound, as far as `clocks` are believed.

        Where the camera's clock is set, the reports of one track say so before those of the other.
        Where both say another time than before, and other times, those before were wrong.
        """
        between_ms, known, other = clocks[1] - clocks[0], self._clocks, self._other
        if known is None or abs(between_ms - (known[1] - known[0])) <= STEADY_MS:
            self._other = None
        elif any(abs(now - before) <= STEADY_MS for now, before in zip(clocks, known, strict=True)):
            known_ms = known[1] - known[0]
            if other is None or abs(between_ms - other[0]) > STEADY_MS:
                other = self._other = between_ms, frame.arrival_ms
            if frame.arrival_ms - other[1] < REPORTS_MS and (
                _fits_by_clock(frame, place(stamp_ms + known_ms))
                or not _fits_by_clock(frame, place(stamp_ms + between_ms))
            ):
                return known_ms
        self._clocks = clocks
        return between_ms


def _fits_by_clock(frame: Frame, utc_ms: float) -> bool:
    """Say whether sound that came then may have been heard at a moment (UTC)."""
    return EARLY_BY_CLOCK_MS <= frame.arrival_ms - utc_ms <= LATE_MS
