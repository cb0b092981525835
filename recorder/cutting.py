"""Frames to segments: where to cut, and when each frame is shown (docs/time.md). Pure.

A segment ends where a keyframe begins the next one. Where none comes in time it is cut all the
same, so that buffers stay bounded. Decode times are made anew: the n-th frame of a segment is
decoded at the n-th smallest presentation time of its frames, so durations are positive, add up
to exactly the segment, and a segment starts at the moment that its first frame shows, with
B-frames too. (Composition offsets may then be negative: `trun` version 1, 14496-12, 8.8.8.)
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from recorder.placing import Piece, Placer
from recorder.source import Frame
from storage.fmp4 import VIDEO_TIMESCALE, Sample, TrackInit, TrackRun
from storage.index import GapCause

SEGMENT_S = 2.0  # what a segment lasts where keyframes allow it
LONGEST_TARGET_S = 8
ROUNDS_DOWN_S = 0.4  # RFC 8216, 4.3.3.1: EXTINF, rounded, is at most the target duration
MAX_BYTES = 32 * 1024 * 1024
MAX_FRAMES = 2_000
AUDIO_FRAMES = 2_000
JUMP_MS = 1_000.0  # media time that runs ahead of arrival, or back, by more has jumped
APART_MS = 2_000.0  # more than this could only be put right over hours: begin anew
NO_KEYFRAME_MS = 20_000.0
FIRST_FRAMES, FIRST_STEP = 6, 3  # of a session: steps this many times the usual are not believed
# Frames that come faster than they were taken were held back by somebody; when they no longer do,
# seen over so many ms, what comes is of now.
LIVE_RATE, LIVE_MS = 1.1, 400


class Broken(Exception):
    """The frames do not go on; the run ends here with a cause."""

    def __init__(self, cause: GapCause, detail: str):
        super().__init__(detail)
        self.cause, self.detail = cause, detail


@dataclass(frozen=True, slots=True)
class Cut:
    """One segment, ready to be written; times in 1/90000 s on the run's time line."""

    tfdt_90k: int
    duration_90k: int
    starts_with_key: bool
    arrival_ms: int
    camera_ms: int | None
    runs: tuple[TrackRun, ...]

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return sum(s.size for r in self.runs for s in r.samples)


class Cutter:
    """Takes the frames of one run, gives its segments."""

    def __init__(self, tracks: Sequence[TrackInit], target_duration_s: int = 0):
        """`target_duration_s` of 0 is measured from the first keyframe interval."""
        self.target_duration_s = target_duration_s
        self.run_start_ms: int | None = None  # known with the first cut
        self.newest_ms = 0.0  # arrival of the newest frame
        self._video = next(t for t in tracks if t.kind == "video")
        self._audio = next((t for t in tracks if t.kind == "audio"), None)
        self._placer = Placer()
        self._open: list[Frame] = []  # the open segment, in decode order
        self._open_bytes = 0
        self._start = 0.0  # media ms where the open segment starts
        self._sound: deque[Frame] = deque(maxlen=AUDIO_FRAMES)
        self._sound_end = 0  # end of the audio written, in its timescale
        self._sound_step = 1024.0
        self._first: Frame | None = None  # of the session
        self._held_back: deque[Frame] | None = deque()  # for LIVE_MS; None: live now
        self._last: Frame | None = None
        self._in_pieces = False  # a picture came as several frames
        self._newest_pts = 0
        self._origin = 0.0  # UTC ms of tfdt 0
        self._tfdt = 0

    # -- taking frames -------------------------------------------------------------------

    def push(self, frame: Frame) -> list[Cut]:
        """Take a frame; return the segments that it finishes, mostly none.

        Raises Broken when frames do not continue the run; what came before is kept and
        `finish` returns it.
        """
        if frame.track_id != self._video.id:
            if self._audio and frame.track_id == self._audio.id:
                self._sound.append(frame)
            return []
        if frame.continues:
            self._in_pieces = True
            # of a picture whose beginning was not seen nothing can be made
            if self._open:
                if self._open_bytes + len(frame.data) > MAX_BYTES:
                    raise Broken(GapCause.STREAM_BROKEN, "a picture that does not end")
                whole = self._open[-1].data + frame.data
                self._open[-1] = self._open[-1]._replace(data=whole)
                self._open_bytes += len(frame.data)
            return []
        try:
            self._check_continuity(frame)
        except Broken:
            if self.run_start_ms is not None:
                raise
            self._forget()  # the first frames of a session are often wrong: begin with this one
        self._observe(frame)
        self._last, self.newest_ms = frame, frame.arrival_ms
        self._newest_pts = max(self._newest_pts, frame.pts)
        if self.run_start_ms is not None:
            return self._add(frame)
        return self._begin(frame)

    def finish(self) -> list[Cut]:
        """Return what is left when the run ends; the last frame lasts as long as the one before.

        Of a picture that came in pieces the last may be missing, which only the next picture would
        tell: the newest one is left out where there are such.
        """
        if self._in_pieces and self._open:
            self._open_bytes -= len(self._open.pop().data)
        if self.run_start_ms is None or not self._open:
            return []
        order = sorted(f.pts for f in self._open)
        step = order[-1] - order[-2] if len(order) > 1 else self._video.timescale // 25
        return [self._cut(min(self._ms(order[-1] + max(1, step)), self._limit()))]

    def _ms(self, pts: int) -> float:
        return pts * 1000 / self._video.timescale

    def _check_continuity(self, frame: Frame) -> None:
        if self._last is None:
            self._newest_pts = frame.pts
            return
        step_ms = self._ms(frame.pts - self._newest_pts)
        waited_ms = frame.arrival_ms - self.newest_ms
        ahead_ms = self._placer.early_by(self._ms(frame.pts), frame.arrival_ms)
        if step_ms < -JUMP_MS:
            raise Broken(GapCause.CLOCK_JUMP, f"media time jumped back by {-step_ms / 1000:.1f} s")
        if ahead_ms > JUMP_MS or step_ms > waited_ms + 10 * JUMP_MS:
            raise Broken(
                GapCause.CLOCK_JUMP,
                f"media time jumped ahead by {max(step_ms, ahead_ms) / 1000:.1f} s",
            )
        if abs(self._placer.error_ms) > APART_MS:
            text = f"media time and arrivals are {abs(self._placer.error_ms) / 1000:.1f} s apart"
            raise Broken(GapCause.CLOCK_JUMP, text)
        if step_ms > 1000 * max(SEGMENT_S, self.target_duration_s):
            raise Broken(GapCause.NO_DATA, f"no picture for {step_ms / 1000:.1f} s")

    def _observe(self, frame: Frame) -> None:
        if (held := self._held_back) is not None:
            held.append(frame)
            while len(held) > 1 and frame.arrival_ms - held[1].arrival_ms >= LIVE_MS:
                held.popleft()
            came_ms = frame.arrival_ms - held[0].arrival_ms
            if came_ms < LIVE_MS or self._ms(frame.pts - held[0].pts) > LIVE_RATE * came_ms:
                return
            self._held_back = None
        self._placer.observe(self._ms(frame.pts), frame.arrival_ms)

    def _forget(self) -> None:
        self._open, self._open_bytes, self._last = [], 0, None
        self._held_back = deque()
        self._placer = Placer()
        self._newest_pts = 0

    # -- the beginning of a run ----------------------------------------------------------

    def _begin(self, frame: Frame) -> list[Cut]:
        """Hold frames until a keyframe interval has come in real time, then set the mapping."""
        self._first = self._first or frame
        if not self._open and not frame.key:
            if frame.arrival_ms - self._first.arrival_ms > NO_KEYFRAME_MS:
                raise Broken(GapCause.STREAM_BROKEN, "no keyframe came in 20 s")
            return []
        held_ms = self._ms(frame.pts - self._open[0].pts) if self._open else 0.0
        self._open.append(frame)
        self._open_bytes += len(frame.data)
        ready = frame.key and held_ms > 0 and self._placer.span_ms >= 1000 * SEGMENT_S / 2
        if not ready and held_ms < 1000 * LONGEST_TARGET_S and self._open_bytes < MAX_BYTES:
            return []
        if self._held_back is not None:  # a camera that is always faster than it says
            self._held_back = None
            self._placer.observe(self._ms(frame.pts), frame.arrival_ms)
        held, self._open, self._open_bytes = _retimed(self._open), [], 0
        self._start = self._ms(held[0].pts)
        first = self._placer.start(self._start)
        self._origin = first.utc_ms
        self.run_start_ms = round(first.utc_ms)
        self.target_duration_s = self.target_duration_s or target_duration(
            [self._ms(f.pts) * first.rate / 1000 for f in held if f.key]
        )
        return [cut for f in held for cut in self._add(f)]

    # -- cutting -------------------------------------------------------------------------

    def _limit(self) -> float:
        """Media ms beyond which the open segment may not last."""
        return self._start + 1000 * (self.target_duration_s + ROUNDS_DOWN_S) / self._placer.rate

    def _add(self, frame: Frame) -> list[Cut]:
        cuts = []
        if self._open:
            at = self._ms(frame.pts)
            lasted_s = (at - self._start) * self._placer.rate / 1000
            enough_s = 0.6 * self.target_duration_s if self._open[0].key else 0.2
            if (
                (frame.key and lasted_s >= enough_s)
                or at >= self._limit()
                or self._open_bytes + len(frame.data) > MAX_BYTES
                or len(self._open) >= MAX_FRAMES
            ):
                cuts.append(self._cut(min(at, self._limit())))
        self._open.append(frame)
        self._open_bytes += len(frame.data)
        return cuts

    def _cut(self, end: float) -> Cut:
        """Close the open segment at media time `end`."""
        frames, self._open, self._open_bytes = self._open, [], 0
        longest_ms = 1000 * (self.target_duration_s + ROUNDS_DOWN_S)
        piece = self._placer.advance(self._start, longest_ms / max(1.0, end - self._start))
        tfdt = self._tfdt
        times: list[int] = []
        for pts in sorted(f.pts for f in frames):
            at = self._place(piece, self._ms(pts), VIDEO_TIMESCALE)
            times.append(max(at, times[-1] + 1) if times else tfdt)
        stop = max(self._place(piece, end, VIDEO_TIMESCALE), times[-1] + 1)
        samples = [
            Sample(
                duration=following - at,
                size=len(f.data),
                sync=f.key,
                cts=self._place(piece, self._ms(f.pts), VIDEO_TIMESCALE) - at,
            )
            for f, at, following in zip(frames, times, [*times[1:], stop], strict=True)
        ]
        runs = [TrackRun(1, tfdt, samples, [f.data for f in frames])]
        if sound := self._take_sound(piece, end):
            runs.append(sound)
        self._start, self._tfdt = end, stop
        first = frames[0]
        return Cut(
            tfdt_90k=tfdt,
            duration_90k=stop - tfdt,
            starts_with_key=first.key,
            arrival_ms=int(first.arrival_ms),
            camera_ms=None if first.camera_ms is None else int(first.camera_ms),
            runs=tuple(runs),
        )

    def _place(self, piece: Piece, media_ms: float, timescale: int) -> int:
        return round((piece.place(media_ms) - self._origin) * timescale / 1000)

    def _take_sound(self, piece: Piece, end: float) -> TrackRun | None:
        """Return the audio that belongs before media time `end`; late audio goes with the next."""
        if self._audio is None:
            return None
        scale = self._audio.timescale
        taken: list[tuple[int, Frame]] = []
        while self._sound and self._sound[0].pts * 1000 / scale < end:
            frame = self._sound.popleft()
            at = self._place(piece, frame.pts * 1000 / scale, scale)
            after = taken[-1][0] if taken else self._sound_end - self._sound_step / 2
            if at > after:  # else it was heard already: a camera that steps back repeats itself
                taken.append((max(at, self._sound_end) if not taken else at, frame))
        if not taken:
            return None
        if len(taken) > 1:
            self._sound_step = min(t[0] - s[0] for s, t in pairwise(taken))
        self._sound_end = taken[-1][0] + max(1, round(self._sound_step))
        starts = [at for at, _ in taken]
        samples = [
            Sample(max(1, following - at), len(f.data), True, 0)
            for (at, f), following in zip(taken, [*starts[1:], self._sound_end], strict=True)
        ]
        return TrackRun(2, starts[0], samples, [f.data for _, f in taken])


def _retimed(frames: list[Frame]) -> list[Frame]:
    """Return the first frames of a session with their times put right.

    The very first often lie seconds before the ones that follow without a break, or on top of
    each other: they are set one usual step apart, backwards from the first that is regular.
    """
    order = sorted(range(len(frames)), key=lambda n: frames[n].pts)
    times = [frames[n].pts for n in order]
    steps = [b - a for a, b in pairwise(times)]
    if len(steps) < 2 * FIRST_FRAMES:
        return frames
    usual = sorted(steps)[len(steps) // 2]
    wrong = [
        n
        for n, step in enumerate(steps[:FIRST_FRAMES])
        if not usual / FIRST_STEP < step < usual * FIRST_STEP
    ]
    if wrong:
        good = wrong[-1] + 1
        for n in range(good):
            times[n] = times[good] - (good - n) * usual
    right = dict(zip(order, times, strict=True))
    return [f._replace(pts=right[n]) for n, f in enumerate(frames)]


def output_tracks(tracks: Sequence[TrackInit]) -> list[TrackInit]:
    """Return the tracks as a recording has them: video 1 in 1/90000 s, then audio 2."""
    video = next(t for t in tracks if t.kind == "video")
    audio = [replace(t, id=2) for t in tracks if t.kind == "audio"][:1]
    return [replace(video, id=1, timescale=VIDEO_TIMESCALE), *audio]


def target_duration(keys_s: Sequence[float]) -> int:
    """Return the EXT-X-TARGETDURATION, in seconds, that suits keyframes at these times.

    A segment is as many whole keyframe intervals as make about two seconds.
    """
    steps = sorted(b - a for a, b in pairwise(keys_s) if b > a)
    if not steps:
        return LONGEST_TARGET_S
    interval = steps[len(steps) // 2]
    whole = math.ceil((SEGMENT_S - 0.25) / interval) * interval
    return min(LONGEST_TARGET_S, max(int(SEGMENT_S), math.ceil(whole - 0.2)))
