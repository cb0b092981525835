"""The newest keyframe of a camera in the spool, alone, as an MP4 of one picture.

What is read is docs/formats.md: camera.json, the index of the current recording, the init and the
keyframe's bytes; no lock is taken and nothing else of the segment is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from storage.media.fmp4 import Mp4Error, TrackRun, box_at, parse_moof, write_segment
from storage.records import Header, Segment, parse_index

HEAD_BYTES = 16_384  # a moof of hundreds of pictures
MOST_BYTES = 32 << 20  # of one picture; a camera that claims more is not believed


@dataclass(frozen=True, slots=True)
class Keyframe:
    """Where the newest segment that starts with a keyframe is."""

    media: Path
    header: Header
    segment: Segment


def newest_keyframe(directory: Path) -> Keyframe | None:
    """Return the newest segment of a camera's current recording that starts with a keyframe.

    None where there is none yet. Raises OSError or ValueError where it cannot be read.
    """
    try:
        state = orjson.loads((directory / "camera.json").read_bytes())
        base = directory / str(state["recording"])
        index = parse_index(base.with_name(base.name + ".jsonl").read_bytes())
    except FileNotFoundError:  # not recorded yet, or its files come after its name
        return None
    except (TypeError, KeyError) as error:
        raise ValueError(f"camera.json of {directory.name} is not one: {error!r}") from None
    for segment in reversed(index.segments):
        if segment.starts_with_key:
            return Keyframe(base.with_name(base.name + ".mp4"), index.header, segment)
    return None


def still(found: Keyframe) -> bytes:
    """Return an MP4 that holds one picture, the keyframe; raises OSError or ValueError."""
    header, segment = found.header, found.segment
    video = next((t for t in header.tracks if t.kind == "video"), None)
    if video is None:
        raise ValueError("the recording has no pictures")
    fd = os.open(found.media, os.O_RDONLY | os.O_CLOEXEC)
    try:
        init = os.pread(fd, header.init_length, 0)
        head = os.pread(fd, min(segment.length, HEAD_BYTES), segment.offset)
        if (size := int.from_bytes(head[:4], "big")) > len(head):
            head = os.pread(fd, min(segment.length, size), segment.offset)
        moof = box_at(head, 0, len(head))
        if moof is None or moof.type != b"moof":
            raise Mp4Error("the segment does not begin with a whole moof")
        for track in parse_moof(head, moof):
            if track.track_id == video.id and track.samples:
                key, at = track.samples[0], track.data_offset
                break
        else:
            raise Mp4Error("the segment has no pictures")
        if not 0 < key.size <= MOST_BYTES or not moof.end <= at <= segment.length - key.size:
            raise Mp4Error(f"a keyframe of {key.size} bytes is not in its segment")
        data = os.pread(fd, key.size, segment.offset + at)
    finally:
        os.close(fd)
    if len(init) != header.init_length or len(data) != key.size:
        raise ValueError("the recording is shorter than its index says")
    return init + write_segment(1, [TrackRun(video.id, 0, [key], [data])])
