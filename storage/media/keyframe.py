"""The keyframe at the beginning of a segment, alone: found without reading the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from storage.media.fmp4 import (
    Mp4Error,
    Sample,
    TrackFragment,
    TrackRun,
    box_at,
    parse_moof,
    write_segment,
)

VIDEO_ID = 1  # of the track of pictures in every recording (docs/formats.md)
HEAD_BYTES = 4096  # a moof of a hundred pictures and their sound
MOST_BYTES = 32 << 20  # of one picture; a camera that claims more is not believed

Read = Callable[[int, int], bytes]  # offset in the segment, and length; shorter at its end


class KeyframePlace(NamedTuple):
    """Where the first picture is in its segment, when that begins, how long it lasts (1/90000 s),
    and how many pictures it has."""

    sample: Sample
    offset: int
    decode_time: int
    duration: int
    pictures: int


def find_keyframe(length: int, read: Read) -> KeyframePlace:
    """Return where the first picture of a segment of so many bytes is, by its `moof`; raises
    Mp4Error."""
    for fragment in _fragments(read, length):
        if fragment.track_id == VIDEO_ID and fragment.samples:
            key, at = fragment.samples[0], fragment.data_offset
            break
    else:
        raise Mp4Error("the segment has no pictures")
    if not 0 < key.size <= MOST_BYTES or not 8 < at <= length - key.size:
        raise Mp4Error(f"a keyframe of {key.size} bytes is not in its segment")
    lasts = sum(sample.duration for sample in fragment.samples)
    return KeyframePlace(key, at, fragment.decode_time, lasts, len(fragment.samples))


def keyframe_fragment(length: int, read: Read, sequence: int) -> bytes:
    """Return the keyframe of a segment as a fragment of its own, which shows as long as the whole
    segment; raises Mp4Error where it begins with none."""
    place = find_keyframe(length, read)
    if not place.sample.sync:
        raise Mp4Error("the segment begins with no keyframe")
    data = read(place.offset, place.sample.size)
    if len(data) != place.sample.size:
        raise Mp4Error("the segment is shorter than its moof says")
    sample = place.sample._replace(duration=place.duration)
    return write_segment(sequence, [TrackRun(VIDEO_ID, place.decode_time, [sample], [data])])


def _fragments(read: Read, length: int) -> list[TrackFragment]:
    head = read(0, min(length, HEAD_BYTES))
    if (size := int.from_bytes(head[:4], "big")) > len(head):
        head = read(0, min(length, size))
    moof = box_at(head, 0, len(head))
    if moof is None or moof.type != b"moof":
        raise Mp4Error("the segment does not begin with a whole moof")
    return parse_moof(head, moof)
