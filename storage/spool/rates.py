"""What a stream takes and shows, measured on a recording: bit rates, keyframes, codecs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from storage.media.codecs import codec_name
from storage.media.fmp4 import Mp4Error, parse_init
from storage.media.keyframe import VIDEO_ID, Read, find_keyframe
from storage.records import Index, Segment
from storage.spool.reader import SpoolRecording


@dataclass(frozen=True, slots=True)
class Rates:
    """Bit rates in bit/s. `keyframe_bytes` is the median; `keyframe_peak` is the peak bit rate for
    who fetches keyframes alone. `codecs`: names of the tracks' codecs, the picture's first."""

    average: int
    peak: int
    keyframe_bytes: int
    keyframe_peak: int
    frame_rate: float
    width: int
    height: int
    codecs: tuple[str, ...]

    @property
    def bytes_per_minute(self) -> int:
        """What a minute of it takes."""
        return self.average * 60 // 8


def measure(stored: SpoolRecording, index: Index) -> Rates | None:
    """Return the rates of a recording; None where no segment begins with a keyframe.

    Raises OSError, and ValueError where its bytes are no recording's.
    """
    header, segments = index.header, index.segments
    keys = [segment for segment in segments if segment.starts_with_key]
    if not keys:
        return None
    fd = os.open(stored.media, os.O_RDONLY | os.O_CLOEXEC)
    try:
        init = os.pread(fd, header.init_length, 0)
        found = [find_keyframe(s.length, _reads(fd, s.offset)) for s in keys]
    finally:
        os.close(fd)
    moov = init[int.from_bytes(init[:4], "big") :]  # after the `ftyp`
    tracks = {track.id: track for track in parse_init(moov)}
    if (video := tracks.get(VIDEO_ID)) is None:
        raise Mp4Error("the init has no pictures")
    sizes = [place.sample.size for place in found]
    lasted_90k = sum(s.duration_90k for s in keys)
    return Rates(
        average=_bits(sum(s.length for s in segments), sum(s.duration_90k for s in segments)),
        peak=_peak(segments, [s.length for s in segments], header.target_duration_s),
        keyframe_bytes=int(median(sizes)),
        keyframe_peak=_peak(keys, sizes, header.target_duration_s),
        frame_rate=round(sum(place.pictures for place in found) * 90_000 / lasted_90k, 3),
        width=video.width,
        height=video.height,
        codecs=tuple(codec_name(tracks[number]) for number in sorted(tracks)),
    )


def _reads(fd: int, offset: int) -> Read:
    """Return what reads a segment that begins there."""
    return lambda at, length: os.pread(fd, length, offset + at)


def _bits(count: int, duration_90k: int) -> int:
    """Return the bit rate of so many bytes in so much time."""
    return count * 8 * 90_000 // max(1, duration_90k)


def _peak(segments: Sequence[Segment], sizes: Sequence[int], target_s: int) -> int:
    """Return the largest bit rate of segments in a row that last half the target duration or more
    (RFC 8216, 4.1: peak segment bit rate)."""
    peak = first = count = lasted = 0
    for segment, size in zip(segments, sizes, strict=True):
        count, lasted = count + size, lasted + segment.duration_90k
        while lasted - segments[first].duration_90k >= target_s * 45_000:
            count, lasted = count - sizes[first], lasted - segments[first].duration_90k
            first += 1
        if lasted >= target_s * 45_000:
            peak = max(peak, _bits(count, lasted))
    return peak or _bits(sum(sizes), sum(s.duration_90k for s in segments))
