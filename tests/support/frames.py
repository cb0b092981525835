"""Frames of a camera that does not exist, and what holds of segments made of them."""

from __future__ import annotations

from recorder.segmenter import (
    MAX_FRAMES,
    SegmentDraft,
    Segmenter,
)
from storage.media.fmp4 import TrackInit, boxes, make_box, parse_moof, write_segment

AVC1 = make_box(b"avc1", bytes(78), make_box(b"avcC", b"\1B\0\x1e"))
VIDEO = TrackInit(1, "video", "h264", 90_000, AVC1, 854, 480)
UTC0 = 1_764_392_400_000.0


def check(segmenter: Segmenter, drafts: list[SegmentDraft]) -> None:
    """What holds for any input."""
    end = drafts[0].tfdt_90k if drafts else 0
    for draft in drafts:
        assert draft.tfdt_90k == end and draft.duration_90k > 0
        end += draft.duration_90k
        # RFC 8216, 4.3.3.1: rounded to whole seconds, at most the target duration
        assert int(draft.duration_90k / 90_000 + 0.5) <= segmenter.target_duration_s
        video = draft.runs[0]
        assert video.decode_time == draft.tfdt_90k
        assert sum(s.duration for s in video.samples) == draft.duration_90k
        assert all(s.duration > 0 for s in video.samples)
        assert len(video.samples) <= MAX_FRAMES
        assert video.samples[0].sync == draft.starts_with_key
        data = write_segment(1, draft.runs)
        moof, _ = boxes(data, 0, len(data))
        assert [f.samples for f in parse_moof(data, moof)] == [tuple(r.samples) for r in draft.runs]
