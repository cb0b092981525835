"""Playlists: RFC 8216, section numbers below are its. Pure functions, text from segments.

What a playlist says of a recording that is whole never changes: a long one is made of such entries,
which are made once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby, pairwise

from storage.records import Header, Segment
from storage.spool.numbers import LEASE_NUMBERS, lease_of
from storage.spool.rates import Rates

LIVE_SEGMENTS = 8  # about 16 s: a player starts three back and may lose a few; little to read
LIVE_MOST = 64  # where a camera's segments are much shorter than its target duration
# hls.js walks an array as long as DISCONTINUITY-SEQUENCE at every reload, 2.5 s for 200 million
RUNS_COUNTED = 10_000
SECONDS_COUNTED = 131_072

Listed = tuple[Header, Segment]
Run = tuple[int, int, int]  # epoch, number, start: what tells it from one of another owner


def consecutive_tail(listed: Sequence[Listed]) -> Sequence[Listed]:
    """Return the end of the list in which segment and run numbers go on by one.

    6.2.1: a segment's number is the first one's plus its place. Numbers have a hole only where a
    spool was lost; a live playlist then starts after it.
    """
    for n, ((before, a), (after, b)) in reversed(list(enumerate(pairwise(listed), 1))):
        if b.segment_no != a.segment_no + 1 or after.line_no - before.line_no not in (0, 1):
            return listed[n:]
        if after.run_no == before.run_no and _run(after) != _run(before):  # of another spool
            return listed[n:]
    return listed


def _run(header: Header) -> Run:
    return header.epoch, header.run_no, header.run_start_ms


def _line(header: Header) -> tuple[object, ...]:
    """Return what tells the time line of a run from others: a second stream has the lines of the
    first, and may begin a run of its own within one, of the same tracks."""
    if not header.first_run_no:
        return _run(header)
    return header.first_run_no, header.run_start_ms, *(track.codec for track in header.tracks)


def live_window(listed: Sequence[Listed]) -> Sequence[Listed]:
    """Return what a live playlist shows of the newest segments.

    6.2.2: no segment is removed while less than three target durations would be left. A new
    segment never brings an older one back, even one so long that the target duration rises with
    it: the numbers of the first entry only rise.
    """
    listed = consecutive_tail(listed)
    targets_s = [target_duration_s([one]) for one in listed]
    first = length_90k = 0
    for end, (_, segment) in enumerate(listed, 1):  # as it was when each of them was the newest
        length_90k += segment.duration_90k
        while end - first > LIVE_SEGMENTS:
            left_90k = length_90k - listed[first][1].duration_90k
            if left_90k < 3 * 90_000 * max(targets_s[first + 1 : end]):
                break
            first, length_90k = first + 1, left_90k
    return listed[first:]


def target_duration_s(listed: Sequence[Listed]) -> int:
    """Return the target duration in whole seconds: the same for all of a camera's segments.

    But where a picture stood still, a segment is longer, and no EXTINF may exceed it (4.3.3.1).
    """
    return max(
        (max(h.target_duration_s, int(s.duration_90k / 90_000 + 0.5)) for h, s in listed),
        default=0,
    )


@dataclass(frozen=True, slots=True)
class Entries:
    """What a playlist says of segments that follow each other in one recording."""

    run: Run
    line: tuple[object, ...]
    line_no: int
    first_no: int
    last_no: int
    target_s: int
    independent: bool  # each begins with a keyframe
    pictures: bool  # only keyframes are listed
    end_ms: int
    text: bytes
    sha256: bytes

    @property
    def run_no(self) -> int:
        """The number of the run, which its init has."""
        return self.run[1]

    @property
    def count(self) -> int:
        """Number of segments."""
        return self.last_no - self.first_no + 1

    @classmethod
    def of(cls, header: Header, segments: Sequence[Segment], pictures: bool = False) -> Entries:
        """Return the entries of at least one segment, or of their keyframes (`pictures`)."""
        listed = [(header, s) for s in segments]
        text = "".join(map(_picture if pictures else _entry, segments)).encode()
        return cls(
            _run(header),
            _line(header),
            header.line_no,
            segments[0].segment_no,
            segments[-1].segment_no,
            target_duration_s(listed),
            all(s.starts_with_key for s in segments),
            pictures,
            segments[-1].end_ms,
            text,
            hashlib.sha256(text).digest(),
        )


def entries(listed: Iterable[Listed], pictures: bool = False) -> list[Entries]:
    """Return the entries of segments, or of their keyframes, those of a recording together."""
    groups = (list(group) for _, group in groupby(listed, key=lambda one: id(one[0])))
    return [Entries.of(some[0][0], [s for _, s in some], pictures) for some in groups]


def playlist(
    listed: Sequence[Entries], kind: str | None = None, ended: bool = False
) -> Iterator[bytes]:
    """Yield the media playlist of at least one segment, in pieces.

    `kind` is VOD, EVENT or None for live (4.3.3.5). MEDIA-SEQUENCE and DISCONTINUITY-SEQUENCE
    are the persisted numbers of the first entry (4.3.3.2, 4.3.3.3), the latter made smaller; a
    MAP stands where a run begins, a DISCONTINUITY where a time line does (4.3.2.3, 4.3.2.5).
    """
    first = listed[0]
    independent = all(part.independent for part in listed)
    # 7: 6 for MAP in a playlist that is not I-FRAMES-ONLY, 8 for GAP (RFC 8216bis, 8)
    version = 6 if independent or not first.pictures else 8
    yield (
        "#EXTM3U\n"
        f"#EXT-X-VERSION:{version}\n"
        f"#EXT-X-TARGETDURATION:{max(part.target_s for part in listed)}\n"
        f"#EXT-X-MEDIA-SEQUENCE:{first.first_no}\n"
        f"#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity_sequence(first.line_no)}\n"
    ).encode()
    if kind:
        yield f"#EXT-X-PLAYLIST-TYPE:{kind}\n".encode()
    if first.pictures:
        yield b"#EXT-X-I-FRAMES-ONLY\n"
    if independent:
        yield b"#EXT-X-INDEPENDENT-SEGMENTS\n"
    run = line = None
    for part in listed:
        if part.run != run:
            if line not in (None, part.line):
                yield b"#EXT-X-DISCONTINUITY\n"
            run, line = part.run, part.line
            yield f'#EXT-X-MAP:URI="init-{part.run_no}.mp4"\n'.encode()
        yield part.text
    if ended:
        yield b"#EXT-X-ENDLIST\n"


def discontinuity_sequence(run_no: int) -> int:
    """Return what is said of a run: its number, as far as players can bear it.

    Under a lease it counts on from the seconds in which it began, modulo 36 hours: so it rises when
    another machine takes a camera over, too (4.3.3.3).
    """
    if epoch := lease_of(run_no):
        return (epoch + run_no % LEASE_NUMBERS) % SECONDS_COUNTED
    return run_no % RUNS_COUNTED


def _entry(segment: Segment) -> str:
    return f"{_when(segment)}{segment.segment_no}.m4s\n"


def _picture(segment: Segment) -> str:
    """Return the entry of a segment's keyframe, which shows for as long; a segment without one has
    its entry all the same, as numbers go on by one (RFC 8216bis, 4.4.4.7)."""
    gap = "" if segment.starts_with_key else "#EXT-X-GAP\n"
    return f"{_when(segment)}{gap}{segment.segment_no}-key.m4s\n"


def _when(segment: Segment) -> str:
    seconds, ms = divmod(segment.start_ms, 1000)
    minute, second = divmod(seconds, 60)
    return (
        f"#EXT-X-PROGRAM-DATE-TIME:{_minute(minute)}{second:02d}.{ms:03d}Z\n"
        f"#EXTINF:{segment.duration_90k / 90_000:.6f},\n"
    )


def multivariant(streams: Sequence[tuple[str, Rates]]) -> bytes:
    """Return the multivariant playlist (4.3.4) of a camera's streams, each with the folder of its
    playlists, the one that players begin with first."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:6"]
    for folder, rates in streams:
        size = f"RESOLUTION={rates.width}x{rates.height}"
        lines.append(
            f"#EXT-X-STREAM-INF:BANDWIDTH={rates.peak},AVERAGE-BANDWIDTH={rates.average},{size},"
            f'FRAME-RATE={rates.frame_rate:.3f},CODECS="{",".join(rates.codecs)}"'
        )
        lines.append(f"{folder}index.m3u8")
    for folder, rates in streams:
        lines.append(
            f"#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={rates.keyframe_peak},"
            f"RESOLUTION={rates.width}x{rates.height},"
            f'CODECS="{rates.codecs[0]}",URI="{folder}pictures.m3u8"'
        )
    return "\n".join([*lines, ""]).encode()


@lru_cache(4096)
def _minute(minute: int) -> str:
    """Return the RFC 3339 text of a minute since 1970, up to its seconds."""
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:")
