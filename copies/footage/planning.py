"""Planning one file from the rows of recordings that follow each other in one run.

Only the two recordings at its ends are looked into: the others are taken whole, and their rows
say all that a plan needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from copies.footage.plan import CopyPlan, PlanPart, file_name
from copies.mp4 import CopyMetadata, common_bases, make_init, timescales
from storage.catalogue.cameras import Name
from storage.catalogue.rows import RecordingRow
from storage.media.fmp4 import Mp4Error, box_at, parse_moof
from storage.recording_source import HashedRange, RecordingReader
from storage.records import FormatError, Header, Index, Losses, Segment

MOOF_BYTES = 1 << 16  # the first read of a segment; a moof is about 2 kB
LATE_TRACK = 5  # segments that are looked into for a track that the first does not have

Rows = Sequence[RecordingRow]


@dataclass(frozen=True, slots=True)
class Edge:
    """Of a recording at one end of a file: its header, and the segments that are wanted."""

    header: Header
    segments: list[Segment]

    @property
    def end_90k(self) -> int:
        """End of the last segment on the run's time line."""
        return self.segments[-1].tfdt_90k + self.segments[-1].duration_90k


async def plan_file(
    reader: RecordingReader, name: Name, rows: Rows, from_ms: int, to_ms: int, zone: str
) -> CopyPlan:
    """Plan a file of the segments that touch [from_ms, to_ms); raises Unreadable."""
    edges = await asyncio.gather(
        *(_edge(reader, rows[n], from_ms, to_ms) for n in sorted({0, len(rows) - 1}))
    )
    first, last, header = edges[0], edges[-1], edges[0].header
    parts = [_part(rows[0], first.segments)]
    parts += [_whole(row, header.init_length) for row in rows[1:-1]]
    if len(rows) > 1:
        parts.append(_part(rows[-1], last.segments))
    losses = [Losses.of(edge.segments) for edge in edges]
    losses += [row.losses for row in rows[1:-1]]
    init_range = HashedRange(reader, rows[0].key, 0, header.init_length, header.init_sha256)
    init, (starts, first_cts) = await asyncio.gather(
        init_range.whole(), _first_times(reader, rows[0], first)
    )
    scales = timescales(init)
    bases = common_bases(starts, scales)
    run_start_ms = header.run_start_ms
    base_90k = bases[_video(header)]
    start_ms, end_ms = first.segments[0].start_ms, run_start_ms + last.end_90k // 90
    about = {
        **dict(zip(("election", "station", "camera"), name, strict=True)),
        "epoch": header.epoch,
        "run_no": header.run_no,
        "run_start_ms": run_start_ms,
        "start_ms": start_ms,
        "end_ms": end_ms,
        "first_segment_no": first.segments[0].segment_no,
        "segments": sum(p.segments for p in parts),
        "init_sha256": header.init_sha256,
        "tfdt": {str(track): base for track, base in bases.items()},
    }
    at = datetime.fromtimestamp(start_ms // 1000, UTC)
    metadata = CopyMetadata(
        title=f"{' / '.join(name)}, {at:%Y-%m-%d %H:%M:%S}.{start_ms % 1000:03d}Z",
        source=f"{name[1]}/{name[2]}",
        run_start_ms=run_start_ms,
        duration_90k=last.end_90k - base_90k,
        bases=bases,
        about=about,
    )
    return CopyPlan(
        *name,
        run_no=header.run_no,
        start_ms=start_ms,
        end_ms=end_ms,
        duration_90k=metadata.duration_90k,
        file_name=file_name(name, start_ms, end_ms, zone),
        init=make_init(init, metadata),
        bases=bases,
        first_90k=first.segments[0].tfdt_90k - base_90k + first_cts,
        parts=tuple(parts),
        losses=sum(losses, start=Losses()),
    )


async def _edge(reader: RecordingReader, row: RecordingRow, from_ms: int, to_ms: int) -> Edge:
    """Choose the segments of a recording that touch [from_ms, to_ms).

    Where the first of them does not start with a keyframe, those before it are taken until one
    does: without it a player shows nothing.
    """

    def choose(index: Index) -> Edge:
        if index.seal is None or index.seal.sha256 != row.sha256:
            raise FormatError("another recording, or one that is not finished")
        header, segments = index.header, index.segments
        ends = [header.run_start_ms + (s.tfdt_90k + s.duration_90k) // 90 for s in segments]
        chosen = [
            n
            for n, (s, end_ms) in enumerate(zip(segments, ends, strict=True))
            if end_ms > from_ms and s.start_ms < to_ms
        ]
        if not chosen:
            raise FormatError("no segment where the catalogue says that there is one")
        first, last = chosen[0], chosen[-1]
        while first > 0 and not segments[first].starts_with_key:
            first -= 1
        return Edge(header, segments[first : last + 1])

    return await reader.index(row.key, choose)


def _part(row: RecordingRow, segments: list[Segment]) -> PlanPart:
    first, length = segments[0], sum(s.length for s in segments)
    return PlanPart(*row.identity, first.segment_no, len(segments), first.offset, length)


def _whole(row: RecordingRow, init_length: int) -> PlanPart:
    """Return a recording without its init, which is the same in all of a run."""
    length = row.bytes - init_length
    return PlanPart(*row.identity, row.first_segment_no, row.segments, init_length, length)


def _video(header: Header) -> int:
    return next(t.id for t in header.tracks if t.kind == "video")


async def _first_times(
    reader: RecordingReader, row: RecordingRow, edge: Edge
) -> tuple[dict[int, int], int]:
    """Return the first `tfdt` of each track, and how much later the first picture is shown."""
    starts: dict[int, int] = {}
    tracks = {t.id for t in edge.header.tracks}
    first_cts = 0

    def check(data: bytes) -> None:
        nonlocal first_cts
        moof = box_at(data, 0, len(data))
        if moof is None or moof.type != b"moof":
            raise Mp4Error("a segment without a moof")
        for fragment in parse_moof(data, moof):
            if fragment.track_id in tracks and fragment.track_id not in starts:
                starts[fragment.track_id] = fragment.decode_time
                if fragment.track_id == _video(edge.header):
                    at, shown = 0, []
                    for sample in fragment.samples:
                        shown.append(at + sample.cts)
                        at += sample.duration
                    first_cts = min(shown)

    for segment in edge.segments[:LATE_TRACK]:
        length = min(segment.length, MOOF_BYTES)
        await reader.media(row.key, segment.offset, length, check)
        if tracks <= starts.keys():
            break
    return starts, first_cts
