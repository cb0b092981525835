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
from dataclasses import dataclass
from itertools import pairwise

from recorder.arrivals import Picture, first_line
from recorder.clock_map import ClockMap, Piece
from recorder.sound import SoundTrack
from recorder.source import Frame
from recorder.timeline import Timeline
from storage.media.fmp4 import VIDEO_TIMESCALE, Sample, TrackInit, TrackRun
from storage.records import Ending, GapCause
from storage.spool.writer import SegmentInfo

SEGMENT_S = 2.0  # what a segment lasts where keyframes allow it
LONGEST_TARGET_S = 8
ROUNDS_DOWN_S = 0.4  # RFC 8216, 4.3.3.1: EXTINF, rounded, is at most the target duration
MAX_BYTES = 32 * 1024 * 1024
MAX_FRAMES = 2_000
MAX_PIECES = 4_000  # of one picture
STILL_MS = 15_000.0  # a picture that stands longer ends the run
SET_BACK_MS = 150.0  # arrivals that go back by more: the recorder's clock was set
JOINED_MS = 1_000.0  # a run that would begin by less before the end of another begins there
NO_KEYFRAME_MS = 60_000.0
# Frames that come faster than they were taken were held back by somebody; when they no longer do,
# seen over so many ms, what comes is of now.
LIVE_RATE, LIVE_MS = 1.1, 400


class Discontinuity(Exception):
    """The frames do not go on; the run ends here, and `ending` says why."""

    def __init__(self, cause: GapCause, detail: str):
        super().__init__(detail)
        self.ending = Ending(cause, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentDraft(SegmentInfo):
    """One segment, ready to be written."""

    runs: tuple[TrackRun, ...]

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return sum(s.size for r in self.runs for s in r.samples)


class Segmenter:
    """Takes the frames of one run, gives its segments."""

    def __init__(
        self,
        tracks: Sequence[TrackInit],
        target_duration_s: int = 0,
        needs_key: bool = True,
        before_ms: float = -math.inf,
        origin_ms: int | None = None,
    ):
        """`target_duration_s` of 0 is measured from the first keyframe interval. A run that goes on
        with the pictures of another need not begin with a keyframe. None begins before `before_ms`
        (UTC), the end of the run before it, but by more than JOINED_MS: then the recorder's clock
        was set back, or the camera sends again what it had sent. Media time counts from `origin_ms`
        (UTC); where that is None, from where the run begins."""
        self._origin_ms, self._before_ms = origin_ms, before_ms
        self.target_duration_s = target_duration_s
        self.run_start_ms: int | None = None  # known with the first segment
        self.newest_ms = float("-inf")  # arrival of the newest picture
        self._needs_key = needs_key
        self._clock_map = ClockMap()
        self._timeline = Timeline(self._clock_map)
        self._sound = SoundTrack()
        self._waiting: list[Picture] = []  # until the mapping is set
        self.set_tracks(tracks)
        self._lately: deque[Picture] = deque()  # of those that wait, for LIVE_MS
        self._look_ms = -math.inf  # at these again
        self._live_from: int | None = None  # the first of those that wait that was not held back
        self._first_ms: float | None = None  # arrival of the first picture
        self._open: list[Picture] = []  # the open segment, in decode order
        self._next: list[Picture] = []  # a keyframe that ends it, and what came later, shows before
        self._piece: Piece | None = None  # of the open segment, once that keyframe came
        self._bytes = 0  # of all pictures in hand
        self._newest: Picture | None = None
        self._in_pieces = False  # a picture came as several frames
        # where the open segment starts (media ms, 1/90000 s), and the picture before it (media ms)
        self._start, self._tfdt, self._shown_ms = 0.0, 0, 0.0

    @property
    def end_ms(self) -> float:
        """UTC end of the last segment; where there is none, of the run before."""
        if self.run_start_ms is None:
            return self._before_ms
        return self.run_start_ms + self._tfdt * 1000 / VIDEO_TIMESCALE

    def set_tracks(self, tracks: Sequence[TrackInit]) -> bool:
        """Take the tracks; False where the run has begun, or pictures wait that are of others."""
        video = next(t for t in tracks if t.kind == "video")
        if self.run_start_ms is not None or (self._waiting and video != self._video):
            return False
        self._video: TrackInit = video
        self._audio = next((t for t in tracks if t.kind == "audio"), None)
        return True

    # -- taking frames -------------------------------------------------------------------

    def push(self, frame: Frame) -> list[SegmentDraft]:
        """Take a frame; return the segments that it finishes, mostly none.

        Raises Discontinuity when frames do not continue the run; what came before is kept and
        `finish` returns it.
        """
        if frame.track_id != self._video.id:
            self._sound.add(frame)
            return []
        if frame.continues:
            self._add_piece(frame)
            return []
        self._check_arrival(frame)
        stamp_ms = frame.pts * 1000 / self._video.timescale
        picture = Picture(frame, stamp_ms, len(frame.data), lost=frame.lost, damaged=frame.damaged)
        self.newest_ms = frame.arrival_ms
        if self.run_start_ms is None:
            return self._wait(picture)
        self._newest = picture
        self._bytes += picture.size
        drafts = [draft for settled in self._timeline.push(picture) for draft in self._add(settled)]
        if self._bytes > MAX_BYTES:
            drafts += [draft for settled in self._timeline.flush() for draft in self._add(settled)]
        return drafts

    def next_has_come(self) -> None:
        """Note that the newest picture is whole: the next one is of another run."""
        self._in_pieces = False

    def finish(self, until_ms: float = math.inf) -> list[SegmentDraft]:
        """Return what is left when the run ends; the last frame lasts as long as the one before.

        It does not last beyond `until_ms` (UTC): the next picture has arrived, or the session ends.
        Of a picture that came in pieces the last may be missing, which only the next picture would
        tell: the newest one is left out where there are such, unless `next_has_come`.
        """
        until_ms = max(until_ms, self.newest_ms)  # the recorder's clock may have been set back
        if self._in_pieces and self._newest is not None:
            self._drop(self._newest)
        drafts = self._begin() if self._waiting else []
        if self.run_start_ms is None:
            return []
        settled = [picture for picture in self._timeline.flush() if picture.size]
        drafts += [draft for picture in settled for draft in self._add(picture)]
        drafts += self._cut_before_next()
        if self._open:
            times = sorted(p.media_ms for p in self._open)
            step = times[-1] - (times[-2] if len(times) > 1 else self._shown_ms)
            step = min(max(0.1, step), 1000 * self.target_duration_s)
            end = max(times[-1] + step, self._start + 0.1)
            drafts.append(self._cut(min(end, max(self._limit(), times[-1] + 0.1)), until_ms))
        return drafts

    def _drop(self, newest: Picture) -> None:
        for pictures in (self._waiting, self._open, self._next):
            if pictures and pictures[-1] is newest:
                pictures.pop()
        newest.size = 0  # where the time line holds it

    def _add_piece(self, frame: Frame) -> None:
        """Take more of the newest picture; of one whose beginning was not seen nothing is made."""
        self._in_pieces, data = True, frame.data
        if (picture := self._newest) is None:
            return
        if len(picture.pieces) >= MAX_PIECES or self._bytes + len(data) > MAX_BYTES:
            raise Discontinuity(GapCause.STREAM_BROKEN, "a picture that does not end")
        picture.pieces.append(data)
        picture.size += len(data)
        picture.lost += frame.lost
        picture.damaged = picture.damaged or frame.damaged
        self._bytes += len(data)

    def _check_arrival(self, frame: Frame) -> None:
        waited_ms = frame.arrival_ms - self.newest_ms
        if -math.inf < -waited_ms > SET_BACK_MS:
            text = f"the recorder's clock was set back by {-waited_ms / 1000:.1f} s"
            raise Discontinuity(GapCause.CLOCK_JUMP, text)
        if STILL_MS < waited_ms < math.inf:
            raise Discontinuity(GapCause.NO_DATA, f"no picture for {waited_ms / 1000:.1f} s")

    # -- the beginning of a run ----------------------------------------------------------

    def _wait(self, picture: Picture) -> list[SegmentDraft]:
        """Hold pictures until a keyframe interval has come in real time, then set the mapping."""
        frame, waiting = picture.frame, self._waiting
        self._first_ms = self._first_ms or frame.arrival_ms
        if not waiting and not frame.key and self._needs_key:
            if frame.arrival_ms - self._first_ms > NO_KEYFRAME_MS:
                text = f"pictures come, but no keyframe in {NO_KEYFRAME_MS / 1000:.0f} s"
                raise Discontinuity(GapCause.STREAM_BROKEN, text)
            return []
        self._newest = picture
        waiting.append(picture)
        self._bytes += picture.size
        live = self._is_live(picture)
        if live and self._live_from is None:
            self._live_from = len(waiting) - 1
        waited_ms = frame.arrival_ms - waiting[0].arrival_ms
        live_ms = frame.arrival_ms - waiting[self._live_from or 0].arrival_ms if live else 0.0
        is_due = frame.key and len(waiting) > 1 and live_ms >= 1000 * SEGMENT_S / 2
        if (
            (is_due and self._has_line(picture))
            or waited_ms >= 1000 * LONGEST_TARGET_S
            or self._bytes >= MAX_BYTES
            or len(waiting) >= MAX_FRAMES
        ):
            return self._begin()
        return []

    def _has_line(self, picture: Picture) -> bool:
        """Say whether the pictures that wait tell a line; not looked at with each of many keys."""
        if picture.arrival_ms < self._look_ms:
            return False
        self._look_ms = picture.arrival_ms + LIVE_MS
        return first_line(self._waiting[self._live_from :]) is not None

    def _is_live(self, picture: Picture) -> bool:
        lately = self._lately
        lately.append(picture)
        while len(lately) > 1 and picture.arrival_ms - lately[1].arrival_ms >= LIVE_MS:
            lately.popleft()
        came_ms = picture.arrival_ms - lately[0].arrival_ms
        return came_ms >= LIVE_MS and picture.stamp_ms - lately[0].stamp_ms <= LIVE_RATE * came_ms

    def _begin(self) -> list[SegmentDraft]:
        """Set the mapping by the pictures that wait, and go on with them."""
        held, self._waiting = self._waiting, []
        settled = self._timeline.begin(held, self._live_from or 0)
        self._start = min(p.media_ms for p in settled)
        self._shown_ms = self._start - 40.0
        start_ms = min(self._clock_map.place(self._start), held[0].arrival_ms)
        if 0 < self._before_ms - start_ms < JOINED_MS:
            start_ms = min(self._before_ms, held[0].arrival_ms)
        self.run_start_ms = math.floor(start_ms) if self._origin_ms is None else self._origin_ms
        self._tfdt = 0 if self._origin_ms is None else max(0, self._ticks(start_ms))
        self._sound.begin(self._tfdt * 1000 / VIDEO_TIMESCALE)
        self.target_duration_s = self.target_duration_s or target_duration(
            [self._clock_map.place(p.media_ms) / 1000 for p in settled if p.frame.key]
        )
        self._bytes = sum(p.size for p in held)
        return [draft for picture in settled for draft in self._add(picture)]

    # -- cutting -------------------------------------------------------------------------

    def _limit(self) -> float:
        """Media ms beyond which the open segment may not last."""
        return self._start + 1000 * (self.target_duration_s + ROUNDS_DOWN_S) / self._clock_map.rate

    def _add(self, picture: Picture) -> list[SegmentDraft]:
        if self._next and picture.media_ms < self._next[0].media_ms and not picture.frame.key:
            self._next.append(picture)  # few: the time line knows no B-frames that show long before
            return []
        drafts = self._cut_before_next()
        if opened := self._open:
            at = picture.media_ms
            lasted_s = (at - self._start) * self._clock_map.rate / 1000
            enough_s = 0.6 * self.target_duration_s if opened[0].frame.key else 0.2
            limit = self._limit()
            is_due = picture.frame.key and lasted_s >= enough_s and at <= limit
            if is_due and self._timeline.reorders:
                self._next, self._piece = [picture], self._advance(at)
                return drafts
            if is_due or self._bytes > MAX_BYTES or len(opened) >= MAX_FRAMES:
                drafts.append(self._cut(at, picture.arrival_ms))
            elif at > limit:
                drafts += self._cut_at_limit(picture)
        self._open.append(picture)
        return drafts

    def _cut_before_next(self) -> list[SegmentDraft]:
        """Cut before a keyframe, where B-frames that came after it and show before it begin."""
        if not (following := self._next):
            return []
        end = max(p.media_ms for p in self._open) + 0.1
        end = max(end, min(p.media_ms for p in following))
        draft = self._cut(end, following[0].arrival_ms, self._piece)
        self._open, self._next = following, []
        return [draft]

    def _cut_at_limit(self, picture: Picture) -> list[SegmentDraft]:
        """Cut where no keyframe came in time, before `picture`, which shows beyond the limit.

        A picture shows until the next one does, and no longer or shorter: where the last one would
        have to end early, the next segment begins with it.
        """
        opened, drafts = self._open, []
        last = opened[-1]
        if len(opened) > 1 and last.media_ms >= max(p.media_ms for p in opened):
            self._open = opened[:-1]
            drafts.append(self._cut(min(last.media_ms, self._limit()), last.arrival_ms))
            self._open.append(last)
        if picture.media_ms > self._limit() or picture.frame.key:
            drafts.append(self._cut(picture.media_ms, picture.arrival_ms))
        return drafts

    def _advance(self, end: float) -> Piece:
        """Return the mapping of the open segment, which ends at about the media time `end`."""
        longest_ms = 1000 * (self.target_duration_s + ROUNDS_DOWN_S)
        highest = math.inf if end > self._limit() + 1 else longest_ms / max(1.0, end - self._start)
        return self._clock_map.advance(self._start, highest)

    def _cut(self, end: float, until_ms: float, piece: Piece | None = None) -> SegmentDraft:
        """Close the open segment at media time `end`, and not after `until_ms` (UTC)."""
        assert self.run_start_ms is not None
        pictures, self._open = self._open, []
        self._bytes -= sum(p.size for p in pictures)
        tfdt = self._tfdt
        times, stop = self._times(piece or self._advance(end), pictures, end, until_ms)
        # a picture that stood still makes a segment long, and the playlists say so
        lasted_s = (stop - tfdt) / VIDEO_TIMESCALE
        self.target_duration_s = max(self.target_duration_s, int(lasted_s + 0.5))
        order = sorted(range(len(pictures)), key=lambda n: pictures[n].media_ms)
        shown = dict(zip(order, times, strict=True))
        samples = [
            Sample(following_at - at, p.size, p.frame.key, shown[n] - at)
            for n, (p, at, following_at) in enumerate(
                zip(pictures, times, [*times[1:], stop], strict=True)
            )
        ]
        data = [b"".join((p.frame.data, *p.pieces)) if p.pieces else p.frame.data for p in pictures]
        for p in pictures:  # the time line looks at some for long; their bytes are the draft's now
            p.frame, p.pieces = p.frame._replace(data=b""), []
        runs, lost = [TrackRun(1, tfdt, samples, data)], sum(p.lost for p in pictures)
        if self._audio is not None:
            end_ms = self.run_start_ms + stop * 1000 / VIDEO_TIMESCALE
            clocks = [p.frame.camera_ms - p.stamp_ms for p in pictures if p.frame.camera_ms]
            self._sound.camera_less_stamp_ms = clocks[-1] if clocks else None
            sound = self._sound.take(self._audio, self._utc_of, self.run_start_ms, end_ms)
            runs += [sound] if sound else []
            lost += self._sound.lost
        self._start, self._tfdt, self._shown_ms = end, stop, pictures[order[-1]].media_ms
        first = pictures[0].frame
        moved_ms: float = max((p.moved_ms for p in pictures), key=abs)
        return SegmentDraft(
            tfdt_90k=tfdt,
            duration_90k=stop - tfdt,
            starts_with_key=first.key,
            arrival_ms=int(first.arrival_ms),
            camera_ms=None if first.camera_ms is None else int(first.camera_ms),
            runs=tuple(runs),
            moved_ms=round(moved_ms),
            by_arrival=any(p.by_arrival for p in pictures),
            lost=lost,
            damaged=sum(p.damaged for p in pictures),
            restarted=any(p.frame.restarted for p in pictures),
        )

    def _times(
        self, piece: Piece, pictures: list[Picture], end: float, until_ms: float
    ) -> tuple[list[int], int]:
        """Return when pictures show, ascending, and when the next segment begins (tfdt).

        None shows after it arrived, and none at the time of another.
        """
        order = sorted(pictures, key=lambda p: p.media_ms)
        times = [self._ticks(piece.place(p.media_ms)) for p in order]
        stop = self._ticks(min(piece.place(end), until_ms))
        latest = stop = max(stop, self._tfdt + len(order))
        for n in range(len(order) - 1, -1, -1):
            arrived = self._ticks(order[n].arrival_ms)
            latest = times[n] = min(times[n], arrived, latest - 1)
        times[0] = earliest = self._tfdt
        for n in range(1, len(order)):
            earliest = times[n] = max(times[n], earliest + 1)
        return times, stop

    def _ticks(self, utc_ms: float) -> int:
        assert self.run_start_ms is not None
        return math.floor((utc_ms - self.run_start_ms) * VIDEO_TIMESCALE / 1000 + 1e-3)

    def _utc_of(self, stamp_ms: float) -> float:
        return self._clock_map.place(self._timeline.media_ms(stamp_ms))


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
