"""A recording whose recorder died, or whose index was spoilt, is made whole and sealed.

Lines that cannot be read cost nothing but themselves: their segments are found again by the boxes
of the `.mp4`. What is kept is docs/formats.md, "Index".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from base.clock import now_ms
from base.durable import replace_file
from storage.media.fmp4 import Mp4Error, box_at, boxes, parse_moof
from storage.records import (
    FormatError,
    GapCause,
    Header,
    Index,
    Seal,
    Segment,
    parse_index,
    sha256_of,
)

log = structlog.get_logger()

Kept = list[tuple[Segment, bytes]]  # segments whose bytes are there, with their lines
Read = Callable[[int, int], bytes]  # offset and length in the .mp4; shorter at its end


@dataclass(frozen=True, slots=True)
class _Line:
    """A whole line after the header; `segment` is None where it cannot be read."""

    text: bytes
    segment: Segment | None


def finish(
    base: Path, reason: GapCause = GapCause.RECORDER_CRASHED, *, anew: bool = False
) -> Index | None:
    """Return the sealed index of a recording; seal it first if its recorder died.

    `anew` is for a recording of which the disk refused a write or a flush: what can be read may
    then be in memory only, and counts as flushed; it is written again, to another place.

    None when it has no whole segment: then its files are removed, or set aside where its index
    cannot be read or names bytes that are there, though damaged.
    """
    media, index_path = base.with_name(base.name + ".mp4"), base.with_name(base.name + ".jsonl")
    try:
        data = index_path.read_bytes()
        index, lines = _read(data)
    except FileNotFoundError:
        index = None
    except FormatError as error:
        index, text = None, "An index cannot be read; its recording is set aside"
        log.error(text, file=str(index_path), why=str(error))
    spoilt = index is not None and any(line.segment is None for line in lines)
    if index and index.seal and not anew and not spoilt:
        return index
    if index is None or not media.exists():
        _set_aside(media, index_path)
        return None
    kept, digest, damaged = _examine(media, index.header, lines)
    index.segments = [segment for segment, _ in kept]
    if not kept:
        if damaged:
            log.error("A recording has damaged bytes only; it is set aside", file=str(media))
            _set_aside(media, index_path)
        else:
            media.unlink()
            index_path.unlink()
        return None
    seal = Seal(
        sealed_ms=now_ms(),
        segments=len(kept),
        length=_end_of(index.header, kept),
        sha256=digest,
        end_ms=index.end_ms,
        end_reason=reason,
    )
    if index.seal is not None and index.seal.sha256 != seal.sha256 and not anew:
        log.error("A sealed recording cannot be made whole; it stays as it is", file=str(media))
        return index
    if index.seal is None or index.seal.sha256 != seal.sha256:
        index.seal = seal
    if damaged:
        _copy_aside(media, index_path, seal.length)
    _cut(media, index.seal.length, anew)
    header = data[: data.find(b"\n") + 1]
    whole = (header, *(text for _, text in kept), index.seal.to_line())
    replace_file(index_path, b"".join(whole), durable=True)
    log.warning("A recording that was not finished was sealed", file=str(media), segments=len(kept))
    return index


def _end_of(header: Header, kept: Kept) -> int:
    return kept[-1][0].offset + kept[-1][0].length if kept else header.init_length


def _examine(media: Path, header: Header, lines: list[_Line]) -> tuple[Kept, str, bool]:
    """Return what is whole in a recording, its SHA-256, and whether damaged bytes follow it."""
    with media.open("rb") as file:

        def read(offset: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, offset)

        digest = hashlib.sha256(read(0, header.init_length))
        kept = _whole(header, lines, read)
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


def _whole(header: Header, lines: list[_Line], read: Read) -> Kept:
    """Return the segments whose bytes are there, from the first on, with their lines.

    For a line that cannot be read, or does not follow the one before it, there is the segment
    that the boxes at its place make. Bytes after the last line were shown to nobody.
    """
    kept: Kept = []
    told: dict[int, tuple[Segment, bytes]] = {}  # by offset
    end, unread, at = 0, False, header.init_length
    for line in lines:
        if (s := line.segment) is not None and _could_be(header, s):
            told[s.offset] = s, line.text
            end, unread = max(end, s.offset + s.length), False
        else:
            unread = True  # nobody can say of how many segments
    while True:
        before = kept[-1][0].segment_no if kept else None
        segment, text = told.get(at, (None, b""))
        if segment is None or before not in (None, segment.segment_no - 1):
            if at >= end and not unread:
                return kept
            if (segment := _from_boxes(header, before, read, at)) is None:
                return kept
            text = segment.to_line()
        part = read(at, segment.length)
        if len(part) != segment.length or sha256_of(part) != segment.sha256:
            return kept
        kept.append((segment, text))
        at += segment.length


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
