"""A recording whose recorder died, or whose index was spoilt, is made whole and sealed.

Lines that cannot be read cost nothing but themselves: their segments are found again by the boxes
of the `.mp4`. What is kept is docs/formats.md, "Index".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import structlog

from base.clock import now_ms
from base.durable import replace_file
from storage.media.fmp4 import Mp4Error, box_at, boxes, parse_moof
from storage.records import (
    SEGMENT_FLAGS,
    FormatError,
    GapCause,
    Header,
    Index,
    Seal,
    Segment,
    parse_index,
    recording_name,
    sha256_of,
    start_of,
)

PIECE = 1 << 20  # bytes of a recording that are in memory while it is compared
_OF_A_RUN = ("election", "station", "camera", "epoch", "run_no", "tracks", "transcoded")
_NAME = re.compile(r"(\d{9})Z-([1-9]\d{0,17})", re.ASCII)

log = structlog.get_logger()

Kept = list[tuple[Segment, bytes]]  # segments whose bytes are there, with their lines
Read = Callable[[int, int], bytes]  # offset and length in the .mp4; shorter at its end


@dataclass(frozen=True, slots=True)
class _Line:
    """A whole line after the header; `segment` is None where it cannot be read."""

    text: bytes
    segment: Segment | None


def finish(
    base: Path,
    reason: GapCause = GapCause.RECORDER_CRASHED,
    *,
    anew: bool = False,
    compare: bool = False,
) -> Index | None:
    """Return the sealed index of a recording; seal it first if its recorder died.

    `anew` is for a recording of which the disk refused a write or a flush: what can be read may
    then be in memory only, and counts as flushed; it is written again, to another place. With
    `compare` all bytes are read, to find lines that can be read and are spoilt all the same.

    None when it has no whole segment: then its files are removed, or set aside where its index
    cannot be read or names bytes that are there, though damaged.
    """
    media, index_path = base.with_name(base.name + ".mp4"), base.with_name(base.name + ".jsonl")
    try:
        raw = index_path.read_bytes()
        data = _with_header(base, raw)
        index, lines = _read(data)
    except FileNotFoundError:
        index = None
    except FormatError as error:
        index, text = None, "An index cannot be read; its recording is set aside"
        log.error(text, file=str(index_path), why=str(error))
    spoilt = index is not None and any(line.segment is None for line in lines)
    if index is not None:
        right = _right_header(base, index.header, lines)
        right = _as_its_run(base, right) if compare else right
        spoilt, index.header = spoilt or data is not raw or right != index.header, right
    is_well = not compare or index is None or not media.exists() or all(compared(index, media))
    if index and index.seal and is_well and not anew and not spoilt:
        return index
    if index is None or not media.exists():
        _set_aside(media, index_path)
        return None
    index.header = _with_init(media, index.header, lines)
    kept, digest, damaged = _examine(media, index, lines)
    index.segments = [segment for segment, _ in kept]
    if not kept:
        _dismiss(media, index_path, damaged)
        return None
    seal = Seal(
        sealed_ms=now_ms(),
        segments=len(kept),
        length=_end_of(index.header, kept),
        sha256=digest,
        end_ms=index.end_ms,
        end_reason=reason,
    )
    if (old := index.seal) is not None and not anew:
        as_lined = [segment for segment, _ in kept] == [line.segment for line in lines]
        if not _agree(seal, old, as_lined and media.stat().st_size == seal.length):
            log.error("A sealed recording cannot be made whole; it stays as it is", file=str(media))
            return index
        seal = replace(seal, sealed_ms=old.sealed_ms, end_reason=old.end_reason)
    index.seal = seal
    if damaged:
        _copy_aside(media, index_path, seal.length)
    _cut(media, index.seal.length, anew)
    whole = (index.header.to_line(), *(text for _, text in kept), index.seal.to_line())
    replace_file(index_path, b"".join(whole), durable=True)
    log.warning("A recording that was not finished was sealed", file=str(media), segments=len(kept))
    return index


def _dismiss(media: Path, index_path: Path, damaged: bool) -> None:
    """Remove a recording without a whole segment; what has damaged bytes is set aside."""
    if damaged:
        log.error("A recording has damaged bytes only; it is set aside", file=str(media))
        _set_aside(media, index_path)
    else:
        media.unlink()
        index_path.unlink()


def _agree(seal: Seal, old: Seal, complete: bool) -> bool:
    """Tell whether a recording is what was sealed: by its hash, or `complete`, as its lines say."""
    same = (seal.segments, seal.length) == (old.segments, old.length)
    return seal.sha256 == old.sha256 or (complete and same)


def compared(index: Index, media: Path) -> tuple[bool, bool]:
    """Return whether a sealed recording has the bytes that were sealed, and whether its lines
    describe just these; raises OSError."""
    parts = [(0, index.header.init_length, index.header.init_sha256)]
    parts += [(s.offset, s.length, s.sha256) for s in index.segments]
    whole, described, at = hashlib.sha256(), True, 0
    with media.open("rb") as file:
        for offset, length, sha256 in parts:
            digest, end = hashlib.sha256(), at + length
            while piece := file.read(min(PIECE, end - at)):
                digest.update(piece)
                whole.update(piece)
                at += len(piece)
            described &= offset == end - length and at == end and digest.hexdigest() == sha256
        while piece := file.read(PIECE):
            whole.update(piece)
            described = False
    if (seal := index.seal) is None:
        return False, described
    described &= all(_could_be(index.header, s) for s in index.segments)
    described &= all(
        (a.segment_no + 1, a.tfdt_90k + a.duration_90k) == (b.segment_no, b.tfdt_90k)
        for a, b in pairwise(index.segments)
    )
    described &= (seal.segments, seal.length, seal.end_ms) == (len(parts) - 1, at, index.end_ms)
    return whole.hexdigest() == seal.sha256, described


def _end_of(header: Header, kept: Kept) -> int:
    return kept[-1][0].offset + kept[-1][0].length if kept else header.init_length


def restore_header(base: Path) -> None:
    """Write the header of an index again, where it cannot be read and its run tells it; raises
    FormatError where nothing does, and OSError."""
    index_path = base.with_name(base.name + ".jsonl")
    data = index_path.read_bytes()
    if (made := _with_header(base, data)) != data:
        replace_file(index_path, made, durable=True)


def _with_header(base: Path, data: bytes) -> bytes:
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
            first = _read(made)[1][:1]
            begun = [s.start_ms for line in first if (s := line.segment) and _could_be(header, s)]
            if begun and base.match(recording_name(begun[0], header.record_seq)):
                text = "The header of an index cannot be read; it is that of its run"
                log.warning(text, file=str(base.with_name(base.name + ".jsonl")))
                return made
        raise


def _beside(base: Path) -> Iterator[Header]:
    """Yield headers for a recording, of those nearest to it that begin with the same init."""
    if (name := _name_of(base)) is None:
        return
    number, by_number = name[0], dict[int, Path]()
    for path in base.parent.parent.glob("????-??-??/*.jsonl"):
        if (other_name := _name_of(path.with_suffix(""))) is not None:
            by_number[other_name[0]] = path
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


def _right_header(base: Path, header: Header, lines: list[_Line]) -> Header:
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


def _as_its_run(base: Path, header: Header) -> Header:
    """Return a header with what all those nearest to it of its run say, two of them at least, or
    one that names the camera as the folder does."""
    beside = [h for h in _beside(base) if h.run_start_ms == header.run_start_ms]
    ours = {name: getattr(header, name) for name in _OF_A_RUN}
    told = [{name: getattr(h, name) for name in _OF_A_RUN} for h in beside]
    if not told or any(one != told[0] for one in told) or told[0] == ours:
        return header
    is_home = (beside[0].station, beside[0].camera) == base.parts[-4:-2]
    return replace(header, **told[0]) if len(told) > 1 or is_home else header


def _with_init(media: Path, header: Header, lines: list[_Line]) -> Header:
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


def _examine(media: Path, index: Index, lines: list[_Line]) -> tuple[Kept, str, bool]:
    """Return what is whole in a recording, its SHA-256, and whether damaged bytes follow it."""
    header = index.header
    with media.open("rb") as file:
        vouched = 0
        if index.seal and hashlib.file_digest(file, "sha256").hexdigest() == index.seal.sha256:
            vouched = file.tell()

        def read(offset: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, offset)

        digest = hashlib.sha256(read(0, header.init_length))
        kept = _whole(header, lines, read, vouched)
        for segment, _ in kept:
            digest.update(read(segment.offset, segment.length))
        damaged = _has_bytes_after(_end_of(header, kept), header, lines, read)
    return kept, digest.hexdigest(), damaged


def _copy_aside(media: Path, index_path: Path, end: int) -> None:
    """Keep what cannot be a part of the recording, and its index as it was."""
    log.error(
        "A recording has damaged bytes: it ends before them, and what follows is set aside",
        file=str(media),
        from_byte=end,
    )
    for path, rest in ((media, media.read_bytes()[end:]), (index_path, index_path.read_bytes())):
        replace_file(_aside(path), rest, durable=True)


def _cut(media: Path, length: int, anew: bool) -> None:
    """Cut a recording to its length and flush it; `anew`: by writing it to another place."""
    if anew:
        replace_file(media, media.read_bytes()[:length], durable=True)
        return
    os.truncate(media, length)
    with media.open("rb") as file:
        os.fsync(file.fileno())


def _aside(path: Path) -> Path:
    return path.with_name(path.name + ".aside")


def _set_aside(media: Path, index_path: Path) -> None:
    for path in (media, index_path):
        if path.exists():
            path.rename(_aside(path))


def _has_bytes_after(end: int, header: Header, lines: list[_Line], read: Read) -> bool:
    """Say whether after what is kept there are bytes that a line names, though damaged ones may be
    among them. What the disk never had, after a loss of power, is short or nothing but zeros."""
    parts = [
        (line.segment, read(line.segment.offset, line.segment.length))
        for line in lines
        if line.segment and _could_be(header, line.segment) and line.segment.offset >= end
    ]
    return any(len(part) == s.length and part.strip(b"\0") for s, part in parts)


def _read(data: bytes) -> tuple[Index, list[_Line]]:
    """Return an index up to its first spoilt line, with its seal, and all whole lines.

    Raises FormatError when even the header is not there.
    """
    head = data.find(b"\n") + 1
    index, lines = parse_index(data[:head]), list[_Line]()
    for text in data[head : data.rfind(b"\n") + 1].splitlines(keepends=True):
        one = Index(index.header)
        with contextlib.suppress(FormatError):
            one.feed(text)
        if one.seal is not None:
            index.seal = one.seal
            break
        lines.append(_Line(text, one.segments[0] if one.segments else None))
    for line in lines:
        if line.segment is None:
            break
        index.segments.append(line.segment)
    return index, lines


def _whole(header: Header, lines: list[_Line], read: Read, vouched: int) -> Kept:
    """Return the segments whose bytes are there, from the first on, with their lines.

    For a line that cannot be read there is the segment that the boxes at its place make. Of one
    whose hash is that of the boxes, or whose bytes the seal vouches for, the boxes tell what it
    says otherwise. The seal vouches for so many bytes as `vouched`; what follows the last line
    was shown to nobody.
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
                return kept
            segment = boxed
        elif boxed is not None and (vouched or boxed.sha256 == segment.sha256):
            segment = _as_boxed(segment, boxed)
        elif not (
            before in (None, segment.segment_no - 1)
            and _could_be(header, segment)
            and sha256_of(read(at, segment.length)) == segment.sha256
        ):
            return kept
        kept.append((segment, text if segment == line_segment else segment.to_line()))
        at += segment.length


def _as_boxed(segment: Segment, boxed: Segment) -> Segment:
    """Return a segment with all that its boxes tell; they have 32 bits of its number."""
    number = segment.segment_no & ~0xFFFFFFFF | boxed.segment_no & 0xFFFFFFFF
    return replace(
        boxed,
        segment_no=boxed.segment_no if boxed.segment_no > 0xFFFFFFFF else number,
        arrival_ms=segment.arrival_ms,
        camera_ms=segment.camera_ms,
        **{mark: getattr(segment, mark) for mark in SEGMENT_FLAGS},
    )


def _could_be(header: Header, s: Segment) -> bool:
    return s.length > 0 and s.start_ms == header.run_start_ms + s.tfdt_90k // 90


def _from_boxes(header: Header, before: int | None, read: Read, at: int) -> Segment | None:
    """Return the segment whose `moof` and `mdat` begin at an offset; None where they do not.

    `before` is the number of the segment before it; the first has that of its `mfhd` (ISO/IEC
    14496-12, 8.8.5). When it arrived was in the spoilt line alone.
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
        segment_no=number if before is None else before + 1,
        start_ms=header.run_start_ms + video.decode_time // 90,
        tfdt_90k=video.decode_time,
        duration_90k=sum(sample.duration for sample in video.samples),
        offset=at,
        length=len(moof) + len(mdat),
        sha256=sha256_of(moof + mdat),
        starts_with_key=video.samples[0].sync,
        arrival_ms=None,
    )


def _box(read: Read, at: int, kind: bytes) -> bytes | None:
    """Return the box of a kind at an offset, or None where another or none is whole there."""
    head = read(at, 8)
    if len(head) < 8 or head[4:] != kind:
        return None
    size = int.from_bytes(head[:4], "big")  # a segment is far below 4 GB: no 64-bit sizes
    data = read(at, size)
    return data if size >= 8 and len(data) == size else None


def had_lines(base: Path) -> bool:
    """Say whether an index that was set aside had a header, and so perhaps segments."""
    try:
        return b"\n" in base.with_name(base.name + ".jsonl.aside").read_bytes()
    except FileNotFoundError:
        return False
