"""What a spoilt recording still tells of itself: its header, its lines, its segments.

Nothing is changed here. A header that cannot be read is that of another recording of its run; a
segment whose line cannot be read is found again by the boxes of the `.mp4`. What is kept of all
this is docs/formats.md, "Index".
"""

from __future__ import annotations

import contextlib
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from storage.media.fmp4 import Mp4Error, box_at, boxes, parse_moof
from storage.records import (
    SEGMENT_FLAGS,
    FormatError,
    Header,
    Index,
    Segment,
    parse_index,
    recording_name,
    sha256_of,
    start_of,
)

_OF_A_RUN = ("election", "station", "camera", "epoch", "run_no", "tracks", "transcoded")
PAGE, TAIL = 4096, 8  # bytes
_NAME = re.compile(r"(\d{9})Z-([1-9]\d{0,17})", re.ASCII)

log = structlog.get_logger()

Kept = list[tuple[Segment, bytes]]  # segments whose bytes are there, with their lines
Read = Callable[[int, int], bytes]  # offset and length in the .mp4; shorter at its end


@dataclass(frozen=True, slots=True)
class Line:
    """A whole line after the header; `segment` is None where it cannot be read."""

    text: bytes
    segment: Segment | None


def read_lines(data: bytes) -> tuple[Index, list[Line]]:
    """Return an index up to its first spoilt line, with its seal, and all whole lines.

    Raises FormatError when even the header is not there.
    """
    head = data.find(b"\n") + 1
    index, lines = parse_index(data[:head]), list[Line]()
    for text in data[head : data.rfind(b"\n") + 1].splitlines(keepends=True):
        one = Index(index.header)
        with contextlib.suppress(FormatError):
            one.feed(text)
        if one.seal is not None:
            index.seal = one.seal
            break
        lines.append(Line(text, one.segments[0] if one.segments else None))
    for line in lines:
        if line.segment is None:
            break
        index.segments.append(line.segment)
    return index, lines


def with_header(base: Path, data: bytes) -> bytes:
    """Return an index whose header can be read. Where it cannot, that of another recording of the
    same run stands in, if there is one: whose init these bytes begin with, and whose time line
    has the first segment where the name of this recording says."""
    head = data.find(b"\n") + 1
    try:
        parse_index(data[:head])
        return data
    except FormatError:
        for header in _beside(base):
            made = header.to_line() + data[head:]
            first = read_lines(made)[1][:1]
            begun = [s.start_ms for line in first if (s := line.segment) and could_be(header, s)]
            if begun and base.match(recording_name(begun[0], header.record_seq)):
                text = "The header of an index cannot be read; it is that of its run"
                log.warning(text, file=str(base.with_name(base.name + ".jsonl")))
                return made
        raise


def _by_number(base: Path) -> dict[int, Path]:
    """Return the indexes of a recording's camera by their numbers."""
    found = {}
    for path in base.parent.parent.glob("????-??-??/*.jsonl"):
        if (name := _name_of(path.with_suffix(""))) is not None:
            found[name[0]] = path
    return found


def first_after(base: Path) -> int | None:
    """Return the number of the first segment of the recording that follows; None where none does
    that can be read."""
    by_number, name = _by_number(base), _name_of(base)
    for number in sorted(other for other in by_number if name and other > name[0]):
        with contextlib.suppress(OSError, FormatError), by_number[number].open("rb") as file:
            file.readline()
            return Segment.parse(file.readline()).segment_no
    return None


def _beside(base: Path) -> Iterator[Header]:
    """Yield headers for a recording, of those nearest to it that begin with the same init."""
    if (name := _name_of(base)) is None:
        return
    number, by_number = name[0], _by_number(base)
    for other in (-1, 1, -2, 2):
        with contextlib.suppress(OSError, FormatError, KeyError):
            data = by_number[number + other].read_bytes()
            header = parse_index(data[: data.find(b"\n") + 1]).header
            with base.with_name(base.name + ".mp4").open("rb") as file:
                init = file.read(header.init_length)
            if sha256_of(init) == header.init_sha256:
                yield replace(header, record_seq=number, gaps=(), overlaps=False)


def _name_of(base: Path) -> tuple[int, int] | None:
    """Return the number and the start (UTC ms) that a recording's name says; None for others."""
    found = _NAME.fullmatch(base.name)
    with contextlib.suppress(ValueError):
        return found and (int(found[2]), start_of(base.parent.name, found[1]))
    return None


def right_header(base: Path, header: Header, lines: list[Line]) -> Header:
    """Return a header with the number of the recording's name, and with the start of the run that
    most lines tell, where the name bears them out."""
    if (name := _name_of(base)) is None:
        return header
    number, named = name
    told = [(s.start_ms - s.tfdt_90k // 90, s) for line in lines if (s := line.segment)]
    begun = Counter(begun_ms for begun_ms, _ in told).most_common(1)
    run_start_ms = header.run_start_ms
    if begun and any((begun[0][0], s.start_ms) == (at_ms, named) for at_ms, s in told):
        run_start_ms = begun[0][0]
    return replace(header, record_seq=number, run_start_ms=run_start_ms)


def as_its_run(base: Path, header: Header) -> Header:
    """Return a header with what all those nearest to it of its run say, two of them at least, or
    one that names the camera as the folder does."""
    beside = [h for h in _beside(base) if h.run_start_ms == header.run_start_ms]
    ours = {name: getattr(header, name) for name in _OF_A_RUN}
    told = [{name: getattr(h, name) for name in _OF_A_RUN} for h in beside]
    if not told or any(one != told[0] for one in told) or told[0] == ours:
        return header
    is_home = (beside[0].station, beside[0].camera) == base.parts[-4:-2]
    return replace(header, **told[0]) if len(told) > 1 or is_home else header


def with_init(media: Path, header: Header, lines: list[Line]) -> Header:
    """Return the header with what it says of the init put right: its length, where the first line
    says another and that has the hash; else its hash, where the first line says the same length."""
    first = next((line.segment for line in lines), None)
    if first is None:
        return header
    with media.open("rb") as file:
        init = file.read(first.offset)
    sha256, length = sha256_of(init), len(init)
    if sha256 == header.init_sha256 or length == header.init_length:
        return replace(header, init_length=length, init_sha256=sha256)
    return header


def whole_segments(
    header: Header, lines: list[Line], read: Read, vouched: int, below: int | None
) -> Kept:
    """Return the segments whose bytes are there, from the first on, with their lines.

    For a line that cannot be read there is the segment that the boxes at its place make. Of one
    whose hash is that of the boxes, or whose bytes the seal vouches for, the boxes tell what it
    says otherwise. The seal vouches for so many bytes as `vouched`. Segments whose lines were lost
    have numbers `below` that one, if it is given: it was used again.
    """
    kept: Kept = []
    told: dict[int, tuple[Segment, bytes]] = {}  # by offset
    end, unread, at = vouched, False, header.init_length
    for line in lines:
        if (s := line.segment) is not None and s.length > 0:
            told[s.offset] = s, line.text
            end, unread = max(end, s.offset + s.length), False
        else:
            unread = True  # nobody can say of how many segments
    while True:
        before = kept[-1][0].segment_no if kept else None
        line_segment, text = told.get(at, (None, b""))
        segment, boxed = line_segment, _from_boxes(header, before, read, at)
        if segment is None:
            if boxed is None or (at >= end and not unread):
                return kept + _without_lines(header, kept, read, at, below)
            segment = boxed
        elif boxed is not None and (vouched or boxed.sha256 == segment.sha256):
            segment = _as_boxed(segment, boxed)
        elif not (
            before in (None, segment.segment_no - 1)
            and could_be(header, segment)
            and sha256_of(read(at, segment.length)) == segment.sha256
        ):
            return kept
        kept.append((segment, text if segment == line_segment else segment.to_line()))
        at += segment.length


def _without_lines(header: Header, kept: Kept, read: Read, at: int, below: int | None) -> Kept:
    """Return the whole segments that go on where the last line ends: a recorder was killed before
    it wrote the line of one, or the power went, and lines with it. What the disk never had of a
    file is pages of zeros, the last of them to its end; no picture ends so (H.264, 7.4.1)."""
    found: Kept = []
    last = kept[-1][0] if kept else None
    while boxed := _from_boxes(header, last.segment_no if last else None, read, at):
        follows = last is None or boxed.tfdt_90k == last.tfdt_90k + last.duration_90k
        is_free = below is None or boxed.segment_no < below
        data = read(at, boxed.length)
        if not (follows and is_free) or bytes(PAGE) in data or data.endswith(bytes(TAIL)):
            break
        found.append((boxed, boxed.to_line()))
        at, last = at + boxed.length, boxed
    return found


def _as_boxed(segment: Segment, boxed: Segment) -> Segment:
    """Return a segment with all that its boxes tell."""
    return replace(
        boxed,
        arrival_ms=segment.arrival_ms,
        camera_ms=segment.camera_ms,
        **{mark: getattr(segment, mark) for mark in SEGMENT_FLAGS},
    )


def could_be(header: Header, s: Segment) -> bool:
    """Tell whether a segment has bytes, and starts when its run says."""
    return s.length > 0 and s.start_ms == header.run_start_ms + s.tfdt_90k // 90


def _nearest(low: int, to: int) -> int:
    """Return the number nearest to another that has these low 32 bits."""
    near = to & ~0xFFFFFFFF | low
    return min((near - (1 << 32), near, near + (1 << 32)), key=lambda number: abs(number - to))


def _from_boxes(header: Header, before: int | None, read: Read, at: int) -> Segment | None:
    """Return the segment whose `moof` and `mdat` begin at an offset; None where they do not.

    `before` is the number of the segment before it; the first has that of its `mfhd` (ISO/IEC
    14496-12, 8.8.5), of which 32 bits are there: no number of a segment is further than half of
    that from its recording's. When it arrived was in the spoilt line alone.
    """
    try:
        moof = _box(read, at, b"moof")
        if moof is None or (mdat := _box(read, at + len(moof), b"mdat")) is None:
            return None
        top = box_at(moof, 0, len(moof))
        assert top is not None
        mfhd = next(b for b in boxes(moof, top.body, top.end) if b.type == b"mfhd")
        (number,) = struct.unpack_from(">I", moof, mfhd.body + 4)
        video = next(t for t in parse_moof(moof, top) if t.track_id == 1)
    except (Mp4Error, StopIteration, struct.error):
        return None
    if not video.samples or (before is not None and number != (before + 1) & 0xFFFFFFFF):
        return None
    return Segment(
        segment_no=_nearest(number, header.record_seq) if before is None else before + 1,
        start_ms=header.run_start_ms + video.decode_time // 90,
        tfdt_90k=video.decode_time,
        duration_90k=sum(sample.duration for sample in video.samples),
        offset=at,
        length=len(moof) + len(mdat),
        sha256=sha256_of(moof + mdat),
        starts_with_key=video.samples[0].sync,
        arrival_ms=None,
    )


def is_segment(header: Header, read: Read, at: int) -> bool:
    """Tell whether a whole segment begins at an offset."""
    return _from_boxes(header, None, read, at) is not None


def _box(read: Read, at: int, kind: bytes) -> bytes | None:
    """Return the box of a kind at an offset, or None where another or none is whole there."""
    head = read(at, 8)
    if len(head) < 8 or head[4:] != kind:
        return None
    size = int.from_bytes(head[:4], "big")  # a segment is far below 4 GB: no 64-bit sizes
    data = read(at, size)
    return data if size >= 8 and len(data) == size else None
