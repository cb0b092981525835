"""Playlists: RFC 8216, section numbers below are its. Pure functions, text from segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise

from storage.index import Header, Segment

LIVE_SEGMENTS = 8  # about 16 s: a player starts three back and may lose a few; little to read
LIVE_MOST = 64  # where a camera's segments are much shorter than its target duration
# hls.js walks an array as long as DISCONTINUITY-SEQUENCE at every reload, 2.5 s for 200 million
RUNS_COUNTED = 10_000

Listed = tuple[Header, Segment]


def consecutive_tail(listed: Sequence[Listed]) -> Sequence[Listed]:
    """Return the end of the list in which segment and run numbers go on by one.

    6.2.1: a segment's number is the first one's plus its place. Numbers have a hole only where a
    spool was lost; a live playlist then starts after it.
    """
    for n, ((before, a), (after, b)) in reversed(list(enumerate(pairwise(listed), 1))):
        if b.segment_no != a.segment_no + 1 or after.run_no - before.run_no not in (0, 1):
            return listed[n:]
        if after.run_no == before.run_no and _run(after) != _run(before):  # of another spool
            return listed[n:]
    return listed


def _run(header: Header) -> tuple[int, int, int]:
    """Return what tells a run from one of another owner of the camera that has its number."""
    return header.epoch, header.run_no, header.run_start_ms


def live_window(listed: Sequence[Listed]) -> Sequence[Listed]:
    """Return what a live playlist shows of the newest segments.

    6.2.2: no segment is removed while less than three target durations would be left. A new
    segment never brings an older one back: the numbers of the first entry only rise.
    """
    listed = consecutive_tail(listed)
    target_90k = 3 * 90_000 * target_duration_s(listed)
    length_90k = 0
    for count, (_, segment) in enumerate(reversed(listed), 1):
        length_90k += segment.duration_90k
        if count >= LIVE_SEGMENTS and length_90k >= target_90k:
            return listed[-count:]
    return listed


def target_duration_s(listed: Sequence[Listed]) -> int:
    """Return the target duration in whole seconds: the same for all of a camera's segments.

    But where a picture stood still, a segment is longer, and no EXTINF may exceed it (4.3.3.1).
    """
    return max(
        (max(h.target_duration_s, int(s.duration_90k / 90_000 + 0.5)) for h, s in listed),
        default=0,
    )


def playlist(
    listed: Sequence[Listed], kind: str | None = None, ended: bool = False
) -> Iterator[str]:
    """Yield the media playlist of at least one segment, line by line; each ends with a newline.

    `kind` is VOD, EVENT or None for live (4.3.3.5). MEDIA-SEQUENCE and DISCONTINUITY-SEQUENCE
    are the persisted numbers of the first entry (4.3.3.2, 4.3.3.3), the latter modulo 10,000; a
    MAP and a DISCONTINUITY stand where a run begins (4.3.2.3, 4.3.2.5).
    """
    first, segment = listed[0]
    yield (
        "#EXTM3U\n"
        "#EXT-X-VERSION:6\n"  # 7: MAP in a playlist that is not I-FRAMES-ONLY
        f"#EXT-X-TARGETDURATION:{target_duration_s(listed)}\n"
        f"#EXT-X-MEDIA-SEQUENCE:{segment.segment_no}\n"
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{first.run_no % RUNS_COUNTED}\n"
    )
    if kind:
        yield f"#EXT-X-PLAYLIST-TYPE:{kind}\n"
    if all(s.starts_with_key for _, s in listed):
        yield "#EXT-X-INDEPENDENT-SEGMENTS\n"
    run = None
    for header, segment in listed:
        if _run(header) != run:
            if run is not None:
                yield "#EXT-X-DISCONTINUITY\n"
            yield f'#EXT-X-MAP:URI="init-{header.run_no}.mp4"\n'
            run = _run(header)
        seconds, ms = divmod(segment.start_ms, 1000)
        minute, second = divmod(seconds, 60)
        yield (
            f"#EXT-X-PROGRAM-DATE-TIME:{_minute(minute)}{second:02d}.{ms:03d}Z\n"
            f"#EXTINF:{segment.duration_90k / 90_000:.6f},\n"
            f"{segment.segment_no}.m4s\n"
        )
    if ended:
        yield "#EXT-X-ENDLIST\n"


@lru_cache(4096)
def _minute(minute: int) -> str:
    """Return the RFC 3339 text of a minute since 1970, up to its seconds."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")
