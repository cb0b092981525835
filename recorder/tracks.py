"""What a source tells its sink of its tracks: when they become known, and when they change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from recorder.parameter_sets import ParameterSets, parameter_sets
from recorder.sample_entry import video_track, with_parameter_sets
from recorder.source import PICTURE_ID, SOUND_ID, Sink
from storage.media.fmp4 import VIDEO_TIMESCALE, TrackInit

SILENT_MS = 10_000.0  # without sound: the next run is without


class TrackTeller:
    """Tells a sink the tracks where they are not what it was told: at keyframes only.

    `video` and `sound` are the tracks as far as they are known; the sets that come in band are
    newer than those.
    """

    def __init__(self, sink: Sink, ticks_ms: Callable[[], float], transcoded: Sequence[str] = ()):
        """`ticks_ms` is a clock that is never set."""
        self.sound: TrackInit | None = None
        self.video: TrackInit | None = None
        self._sink, self._ticks_ms, self._transcoded = sink, ticks_ms, tuple(transcoded)
        self._sets: ParameterSets | None = None  # of the video's sample entry
        self._told: list[TrackInit] = []
        self._heard_ms: float | None = None

    def takes_sound(self) -> bool:
        """Note that sound comes; say whether the sink can take it yet."""
        self._heard_ms = self._ticks_ms()
        return bool(self._told)

    def takes_picture(self, codec: str, key: bool, data: bytes | bytearray) -> bool:
        """Tell the tracks before a picture, where they are new; False where they are unknown."""
        if key or not self._told:
            self._learn(codec, key, data)
            if self.video is not None:
                self._tell(self.video)
        return bool(self._told)

    def _learn(self, codec: str, key: bool, data: bytes | bytearray) -> None:
        if self.video is None:
            self.video = video_track(codec, parameter_sets(codec, data))
        if self.video is not None and self._sets is None:
            self.video = replace(self.video, id=PICTURE_ID)
            self._sets = ParameterSets.of_entry(self.video)
        if key and self.video is not None and self._sets is not None:
            changed = self._sets.changed_by(data)
            if changed is not None:
                self.video, self._sets = with_parameter_sets(self.video, changed.nals), changed

    def _tell(self, video: TrackInit) -> None:
        tracks = [video]
        if self._heard_ms is not None and self._ticks_ms() - self._heard_ms < SILENT_MS:
            assert self.sound is not None
            tracks.append(replace(self.sound, id=SOUND_ID))
        if tracks != self._told:
            self._told = tracks
            self._sink.on_tracks(tracks, self._transcoded)


def output_tracks(tracks: Sequence[TrackInit]) -> list[TrackInit]:
    """Return the tracks as a recording has them: video 1 in 1/90000 s, then audio 2."""
    video = next(t for t in tracks if t.kind == "video")
    audio = [replace(t, id=2) for t in tracks if t.kind == "audio"][:1]
    return [replace(video, id=1, timescale=VIDEO_TIMESCALE), *audio]
