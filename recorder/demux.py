"""What ffmpeg writes on its pipe, taken apart into frames.

Its fragments are a transport only: sizes, order, presentation times and keyframe flags are
used, durations and lengths of its time line are not (docs/time.md).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence

from recorder.parameters import continues, parameter_sets, with_parameter_sets
from recorder.source import Frame, Sink, SourceEnd
from storage.fmp4 import Mp4Error, TrackFragment, TrackInit, box_at, parse_init, parse_moof
from storage.index import GapCause

MAX_BOX = 64 * 1024 * 1024
NTP_EPOCH_MS = 2_208_988_800_000  # 1900 to 1970 (RFC 5905, 6)
# Frames in a row whose `prft` cannot be the moment of writing: then sender reports have come.
PROOF = 20


class Demuxer:
    """Feeds a sink from the bytes of the pipe.

    `latency_frames` is by how many frames of video a frame shows on the pipe after it
    arrived (docs/time.md): the arrival of a frame is when the one that many before it showed.
    """

    def __init__(self, sink: Sink, latency_frames: int, transcoded: Sequence[str], kinds: set[str]):
        self.end: SourceEnd | None = None
        self._sink = sink
        self._buffer = bytearray()
        self._tracks: dict[int, TrackInit] = {}
        self._ends: dict[int, int] = {}  # where the newest sample of a track ended
        self._told = False
        self._sets: tuple[bytes, ...] = ()
        self._transcoded = tuple(transcoded)
        self._kinds = kinds
        self._shown: deque[float] = deque(maxlen=latency_frames + 1)
        self._prft_ms: float | None = None
        self._clock = _CameraClock()

    def feed(self, data: bytes | memoryview, now_ms: float) -> None:
        """Take bytes that were read at `now_ms` (UTC); ends with `self.end` set when broken."""
        self._buffer += data
        pos, size = 0, len(self._buffer)
        try:
            while self.end is None and (box := box_at(self._buffer, pos, size)) is not None:
                if box.type == b"moov":
                    self._take_init(bytes(self._buffer[box.start : box.end]))
                elif box.type == b"prft":
                    # version 1: track 4, ntp 8, media time 8 (14496-12, 8.16.5)
                    (ntp,) = struct.unpack_from(">Q", self._buffer, box.body + 8)
                    self._prft_ms = (ntp >> 32) * 1000 + (ntp & 0xFFFFFFFF) * 1000 / 2**32
                    self._prft_ms -= NTP_EPOCH_MS
                elif box.type == b"moof":
                    mdat = box_at(self._buffer, box.end, size)
                    if mdat is None:
                        break  # the frame is not all here yet
                    self._take_fragment(box.start, parse_moof(self._buffer, box), now_ms)
                    pos = mdat.end
                    continue
                pos = box.end
            if size - pos > MAX_BOX:
                raise Mp4Error("a frame of more than 64 MiB")
        except (Mp4Error, struct.error) as error:
            self.end = SourceEnd(GapCause.STREAM_BROKEN, f"the stream cannot be read: {error}")
        del self._buffer[:pos]

    def _take_init(self, moov: bytes) -> None:
        tracks = parse_init(moov)
        self._tracks = {t.id: t for t in tracks}
        if {t.kind for t in tracks} != self._kinds:
            self.end = SourceEnd(
                GapCause.STREAM_BROKEN, "ffmpeg did not find the tracks that the camera described"
            )

    def _take_fragment(self, start: int, fragments: Sequence[TrackFragment], now_ms: float) -> None:
        for fragment in fragments:
            track = self._tracks.get(fragment.track_id)
            if track is None:
                continue
            at, dts = start + fragment.data_offset, fragment.decode_time
            for sample in fragment.samples:
                with memoryview(self._buffer) as view:  # one copy, not two
                    data = bytes(view[at : at + sample.size])
                at += sample.size
                end = dts + sample.duration
                if sample.duration == 0:  # ffmpeg did not know it yet and gives the end as start
                    dts = self._ends.get(track.id, dts)
                self._ends[track.id] = end
                self._take_sample(track, dts + sample.cts, sample.sync, data, now_ms)
                dts = end

    def _take_sample(
        self, track: TrackInit, pts: int, key: bool, data: bytes, now_ms: float
    ) -> None:
        if self.end is not None:
            return
        if track.kind == "audio":
            if self._told:
                self._sink.on_frame(Frame(track.id, pts, True, data, now_ms))
            return
        age_ms = now_ms - self._shown[-1] if self._shown else 0.0
        self._shown.append(now_ms)
        if self._prft_ms is not None:
            self._prft_ms = self._clock.check(self._prft_ms, now_ms, age_ms)
        camera_ms = self._clock.at(pts * 1000 / track.timescale, self._prft_ms)
        self._prft_ms = None
        if key and not self._check_parameters(track, data):
            return
        if self._told:
            more = continues(track.codec, data)
            self._sink.on_frame(Frame(track.id, pts, key, data, self._shown[0], camera_ms, more))

    def _check_parameters(self, track: TrackInit, data: bytes) -> bool:
        sets = parameter_sets(track.codec, data)
        if not self._told:
            if sets:
                track = self._tracks[track.id] = with_parameter_sets(track, sets)
            self._sets, self._told = sets, True
            ordered = sorted(self._tracks.values(), key=lambda t: t.kind != "video")
            self._sink.on_tracks(ordered, self._transcoded)
        elif sets and self._sets and sets != self._sets:
            self.end = SourceEnd(
                GapCause.PARAMETERS_CHANGED, "the camera changed its picture: size or encoder"
            )
            return False
        return True


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
