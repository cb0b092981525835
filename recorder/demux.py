"""What ffmpeg writes on its pipes, taken apart into frames.

Its fragments are a transport only: sizes, order, presentation times and keyframe flags are
used, durations and lengths of its time line are not (docs/time.md).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from recorder.parameter_sets import begins
from recorder.source import PICTURE_ID, SOUND_ID, Frame, Sink
from recorder.tracks import TrackTeller
from storage.media.fmp4 import Mp4Error, TrackInit, box_at, parse_init, parse_moof
from storage.records import Ending, GapCause

MAX_BOX = 64 * 1024 * 1024
NTP_EPOCH_MS = 2_208_988_800_000  # 1900 to 1970 (RFC 5905, 6)
# Frames in a row whose `prft` cannot be the moment of writing: then sender reports have come.
PROOF = 20


# What ffmpeg is told to add to presentation times (recorder/ffmpeg.py): a composition offset is
# then positive even where the camera's time jumps back, and ffmpeg has no reason to change it.
PTS_SHIFT = 1 << 30


class _Pipe:
    """Takes one pipe apart; `on_sample` gets the presentation time, keyframe or not, and data."""

    def __init__(self, kind: str, on_sample: Callable[[int, bool, bytes], None]):
        self.track: TrackInit | None = None
        self.reference_ms: float | None = None  # of the newest `prft`
        self._kind, self._on_sample = kind, on_sample
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take bytes; raises Mp4Error or struct.error for what is no fragmented MP4."""
        self._buffer += data
        pos, size = 0, len(self._buffer)
        while (box := box_at(self._buffer, pos, size)) is not None:
            if box.type == b"moov":
                tracks = parse_init(bytes(self._buffer[box.start : box.end]))
                if [t.kind for t in tracks] != [self._kind]:
                    raise Mp4Error(f"ffmpeg found no {self._kind} where the camera described it")
                self.track = tracks[0]
            elif box.type == b"prft":
                # version 1: track 4, ntp 8, media time 8 (14496-12, 8.16.5)
                (ntp,) = struct.unpack_from(">Q", self._buffer, box.body + 8)
                self.reference_ms = (ntp >> 32) * 1000 + (ntp & 0xFFFFFFFF) * 1000 / 2**32
                self.reference_ms -= NTP_EPOCH_MS
            elif box.type == b"moof":
                mdat = box_at(self._buffer, box.end, size)
                if mdat is None:
                    break  # the frame is not all here yet
                for fragment in parse_moof(self._buffer, box):
                    at, dts = box.start + fragment.data_offset, fragment.decode_time
                    for sample in fragment.samples:
                        with memoryview(self._buffer) as view:  # one copy, not two
                            frame = bytes(view[at : at + sample.size])
                        at += sample.size
                        # ffmpeg 9 writes no offsets for sound that it copies
                        pts = dts + (sample.cts & 0xFFFFFFFF) - PTS_SHIFT if sample.cts else dts
                        self._on_sample(pts, sample.sync, frame)
                        dts += sample.duration
                pos = mdat.end
                continue
            pos = box.end
        if size - pos > MAX_BOX:
            raise Mp4Error("a frame of more than 64 MiB")
        del self._buffer[:pos]


class Demuxer:
    """Feeds a sink from the bytes of both pipes, of the picture and of the sound.

    - `latency_frames`: by how many pictures a picture shows on the pipe after it arrived
      (docs/time.md): the arrival of a picture is when the one that many before it showed.
    - `reference_ahead`: by how many pictures the `prft` before a picture is ahead of it.
    """

    def __init__(
        self, sink: Sink, latency_frames: int, reference_ahead: int, transcoded: tuple[str, ...]
    ):
        self.end: Ending | None = None
        self._sink = sink
        self._tracks = TrackTeller(sink, lambda: self._ticks_ms, transcoded)
        self._picture = _Pipe("video", self._take_picture)
        self._sound = _Pipe("audio", self._take_sound)
        self._now_ms = self._ticks_ms = 0.0
        self._shown: deque[float] = deque(maxlen=latency_frames + 1)  # in ticks
        self._references: deque[float | None] = deque([None] * reference_ahead)
        self._clock = _CameraClock()
        self._has_picture = False

    def feed(self, data: bytes | memoryview, now_ms: float, ticks_ms: float) -> None:
        """Take bytes of the picture's pipe, read at `now_ms` (UTC) and `ticks_ms` (monotonic).

        `self.end` is set when they are broken.
        """
        self._feed(self._picture, data, now_ms, ticks_ms)

    def feed_sound(self, data: bytes | memoryview, now_ms: float, ticks_ms: float) -> None:
        """Take bytes of the sound's pipe, as `feed`."""
        self._feed(self._sound, data, now_ms, ticks_ms)

    def _feed(self, pipe: _Pipe, data: bytes | memoryview, now_ms: float, ticks_ms: float) -> None:
        if self.end is not None:
            return
        self._now_ms, self._ticks_ms = now_ms, ticks_ms
        try:
            pipe.feed(data)
        except (Mp4Error, struct.error) as error:
            self.end = Ending(GapCause.STREAM_BROKEN, f"the stream cannot be read: {error}")
        except Exception as error:  # the frames before it would be read again with the next bytes
            self.end = Ending(GapCause.STREAM_BROKEN, f"a fault of the recorder: {error!r}")
            raise  # the event loop says where it is

    def _take_sound(self, pts: int, key: bool, data: bytes) -> None:
        self._tracks.sound = self._sound.track
        if self._tracks.takes_sound():
            self._sink.on_frame(Frame(SOUND_ID, pts, True, data, self._now_ms))

    def _take_picture(self, pts: int, key: bool, data: bytes) -> None:
        before_ms = self._shown[-1] if self._shown else self._ticks_ms
        self._shown.append(self._ticks_ms)
        arrival_ms = self._now_ms - (self._ticks_ms - self._shown[0])
        video = self._picture.track
        assert video is not None
        is_first = begins(video.codec, data)
        self._has_picture = self._has_picture or is_first is not None
        self._tracks.video = self._tracks.video or video
        self._tracks.takes_picture(video.codec, key, data)
        pts_ms = pts * 1000 / video.timescale
        reference_ms, self._picture.reference_ms = self._picture.reference_ms, None
        if reference_ms is not None:
            age_ms = self._ticks_ms - before_ms
            reference_ms = self._clock.check(reference_ms, self._now_ms, age_ms)
        self._references.append(reference_ms)
        camera_ms = self._clock.at(pts_ms, self._references.popleft())
        if self._has_picture:  # else it may be of another codec than the camera says
            more = is_first is False
            self._sink.on_frame(Frame(PICTURE_ID, pts, key, data, arrival_ms, camera_ms, more))


class _CameraClock:
    """Tells the camera's clock, in `prft` where sender reports came, from ffmpeg's own.

    Without a report ffmpeg stamps a fragment with the moment of writing. That is never before we
    read the fragment before it, and never after we read this one. A clock for which this fails
    many times in a row is the camera's; once a session has had a report it stays so.
    """

    def __init__(self) -> None:
        self._proofs = 0
        self._offset_ms: float | None = None  # the camera's clock less media time

    def check(self, reference_ms: float, now_ms: float, age_ms: float) -> float | None:
        """Return a `prft` read at `now_ms` where it is proved to be the camera's, else None.

        `age_ms` is how long before that the fragment before it was read, 0 when at once with it.
        """
        if self._proofs < PROOF and age_ms > 0:
            own = now_ms - age_ms - 1 < reference_ms < now_ms + 1
            self._proofs = 0 if own else self._proofs + 1
        return reference_ms if self._proofs >= PROOF else None

    def at(self, pts_ms: float, reference_ms: float | None) -> float | None:
        """Return the camera's clock at a picture; `reference_ms` is missing for some."""
        if reference_ms is not None:
            self._offset_ms = reference_ms - pts_ms
        return None if self._offset_ms is None else pts_ms + self._offset_ms
