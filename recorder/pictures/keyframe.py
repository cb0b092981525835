"""The newest keyframe of a camera in the spool, alone, as an MP4 of one picture.

What is read is docs/formats.md: camera.json, the index of the current recording, the init and the
keyframe's bytes; no lock is taken and nothing else of the segment is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from storage.media.fmp4 import TrackRun, write_segment
from storage.media.keyframe import VIDEO_ID, find_keyframe
from storage.records import Header, Segment, parse_index


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
    fd = os.open(found.media, os.O_RDONLY | os.O_CLOEXEC)
    try:
        init = os.pread(fd, header.init_length, 0)
        place = find_keyframe(
            segment.length, lambda at, length: os.pread(fd, length, segment.offset + at)
        )
        data = os.pread(fd, place.sample.size, segment.offset + place.offset)
    finally:
        os.close(fd)
    if len(init) != header.init_length or len(data) != place.sample.size:
        raise ValueError("the recording is shorter than its index says")
    return init + write_segment(1, [TrackRun(VIDEO_ID, 0, [place.sample], [data])])
