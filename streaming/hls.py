"""Playlists: RFC 8216, section numbers below are its. Pure functions, text from segments."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

from storage.index import Header, Segment

LIVE_SEGMENTS = 8  # more than the three target durations that 6.2.2 asks for, and little to read

Listed = tuple[Header, Segment]


def consecutive_tail(listed: Sequence[Listed]) -> Sequence[Listed]:
    """Return the end of the list in which segment and run numbers go on by one.

    6.2.1: a segment's number is the first one's plus its place. Numbers have a hole only where a
    spool was lost; a live playlist then starts after it.
    """
    for n, ((before, a), (after, b)) in reversed(list(enumerate(pairwise(listed), 1))):
        if b.segment_no != a.segment_no + 1 or not 0 <= after.run_no - before.run_no <= 1:
            return listed[n:]
    return listed


def playlist(listed: Sequence[Listed], kind: str | None = None, ended: bool = False) -> str:
    """Return the media playlist of at least one segment.

    `kind` is VOD, EVENT or None for live (4.3.3.5). MEDIA-SEQUENCE and DISCONTINUITY-SEQUENCE
    are the persisted numbers of the first entry (4.3.3.2, 4.3.3.3); a MAP and a DISCONTINUITY
    stand where a run begins (4.3.2.3, 4.3.2.5).
    """
    first, segment = listed[0]
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:6",  # MAP without I-FRAMES-ONLY (7)
        f"#EXT-X-TARGETDURATION:{max(h.target_duration_s for h, _ in listed)}",
        f"#EXT-X-MEDIA-SEQUENCE:{segment.segment_no}",
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{first.run_no}",
    ]
    if kind:
        lines.append(f"#EXT-X-PLAYLIST-TYPE:{kind}")
    if all(s.starts_with_key for _, s in listed):
        lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
    run_no = None
    for header, segment in listed:
        if header.run_no != run_no:
            if run_no is not None:
                lines.append("#EXT-X-DISCONTINUITY")
            lines.append(f'#EXT-X-MAP:URI="init-{header.run_no}.mp4"')
            run_no = header.run_no
        at = datetime.fromtimestamp(segment.start_ms // 1000, UTC)
        lines += [
            f"#EXT-X-PROGRAM-DATE-TIME:{at:%Y-%m-%dT%H:%M:%S}.{segment.start_ms % 1000:03d}Z",
            f"#EXTINF:{segment.duration_90k / 90_000:.5f},",
            f"{segment.segment_no}.m4s",
        ]
    if ended:
        lines.append("#EXT-X-ENDLIST")
    return "\n".join(lines) + "\n"
