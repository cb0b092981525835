"""The last picture of a run, where the camera or ffmpeg gives pictures in pieces."""

from __future__ import annotations

from recorder.segmenter import Segmenter
from recorder.source import Frame
from tests.support.frames import UTC0, VIDEO, check


def test_the_last_picture_is_whole_where_the_next_one_has_come() -> None:
    """So it is where the picture changes its size, or the clock is set: none is missing."""
    segmenter, drafts = Segmenter([VIDEO]), []
    for n in range(100):
        frame = Frame(1, n * 3_600, n % 50 == 0, n.to_bytes(2, "big"), UTC0 + n * 40.0)
        for piece in (frame, frame._replace(data=b"w", continues=True)):
            drafts += segmenter.push(piece)
    segmenter.next_has_come()
    drafts += segmenter.finish(UTC0 + 4_000)
    check(segmenter, drafts)
    written = [data for draft in drafts for data in draft.runs[0].data]
    assert written == [n.to_bytes(2, "big") + b"w" for n in range(100)]
