"""A recording whose recorder died, or whose index was spoilt, is made whole and sealed.

What can still be read of it is found by salvage.py; here is what becomes of its files. What is
kept is docs/formats.md, "Index".
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import structlog

from base.clock import now_ms
from base.durable import replace_file
from storage.records import FormatError, GapCause, Header, Index, Seal
from storage.spool.salvage import (
    Kept,
    Line,
    Read,
    as_its_run,
    could_be,
    first_after,
    is_segment,
    read_lines,
    right_header,
    whole_segments,
    with_header,
    with_init,
)

PIECE = 1 << 20  # bytes of a recording that are in memory while it is compared
STAYS = "A sealed recording cannot be made whole; it stays as it is"

log = structlog.get_logger()


def finish(
    base: Path,
    reason: GapCause = GapCause.RECORDER_CRASHED,
    *,
    anew: bool = False,
    compare: bool = False,
    has_all_lines: bool = False,
) -> Index | None:
    """Return the sealed index of a recording; seal it first if its recorder died.

    `anew` is for a recording of which the disk refused a write or a flush: what can be read may
    then be in memory only, and counts as flushed; it is written again, to another place. With
    `compare` all bytes are read, to find lines that can be read and are spoilt all the same. With
    `has_all_lines` what follows the last one is no segment: its recorder had its line refused, and
    used its number again.

    A sealed one that cannot be made whole stays as it is, whatever is left of its bytes. None when
    another has no whole segment: then its files are removed, or set aside where its index cannot
    be read or names bytes that are there, though damaged.
    """
    media, index_path = base.with_name(base.name + ".mp4"), base.with_name(base.name + ".jsonl")
    index, lines, spoilt = _load(base, index_path, compare)
    is_well = not compare or index is None or not media.exists() or all(compared(index, media))
    if index and index.seal and is_well and not anew and not spoilt:
        return index
    if index is None or not media.exists():
        _set_aside(media, index_path)
        return None
    index.header = with_init(media, index.header, lines)
    below = 0 if has_all_lines else first_after(base)
    kept, digest, damaged = _examine(media, index, lines, below)
    if not kept and index.seal is not None and not anew:
        log.error(STAYS, file=str(media))  # what it says of bytes that are gone only it says
        return index
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
            log.error(STAYS, file=str(media))
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


def _load(base: Path, index_path: Path, compare: bool) -> tuple[Index | None, list[Line], bool]:
    """Return an index with its header put right, its lines, and whether any of it was spoilt; no
    index where none is there, or none can be read."""
    try:
        raw = index_path.read_bytes()
        data = with_header(base, raw)
        index, lines = read_lines(data)
    except FileNotFoundError:
        return None, [], False
    except FormatError as error:
        text = "An index cannot be read; its recording is set aside"
        log.error(text, file=str(index_path), why=str(error))
        return None, [], False
    right = right_header(base, index.header, lines)
    right = as_its_run(base, right) if compare else right
    spoilt = any(line.segment is None for line in lines) or data is not raw
    spoilt, index.header = spoilt or right != index.header, right
    return index, lines, spoilt


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
    described &= seal.length == at and is_consistent(index)
    return whole.hexdigest() == seal.sha256, described


def is_consistent(index: Index) -> bool:
    """Tell whether what a sealed index says of numbers and times fits together."""
    follow = (
        (a.segment_no + 1, a.tfdt_90k + a.duration_90k) == (b.segment_no, b.tfdt_90k)
        for a, b in pairwise(index.segments)
    )
    told = index.seal and (index.seal.segments, index.seal.end_ms)
    is_sealed = told == (len(index.segments), index.end_ms)
    return is_sealed and all(could_be(index.header, s) for s in index.segments) and all(follow)


def restore_header(base: Path) -> None:
    """Write the header of an index again, where it cannot be read and its run tells it; raises
    FormatError where nothing does, and OSError."""
    index_path = base.with_name(base.name + ".jsonl")
    data = index_path.read_bytes()
    if (made := with_header(base, data)) != data:
        replace_file(index_path, made, durable=True)


def _end_of(header: Header, kept: Kept) -> int:
    return kept[-1][0].offset + kept[-1][0].length if kept else header.init_length


def _examine(
    media: Path, index: Index, lines: list[Line], below: int | None
) -> tuple[Kept, str, bool]:
    """Return what is whole in a recording, its SHA-256, and whether what follows it is more than
    what was torn. Segments without a line have numbers `below` that, if it is given."""
    header = index.header
    with media.open("rb") as file:
        vouched = 0
        if index.seal and hashlib.file_digest(file, "sha256").hexdigest() == index.seal.sha256:
            vouched = file.tell()

        def read(offset: int, length: int) -> bytes:
            return os.pread(file.fileno(), length, offset)

        digest = hashlib.sha256(read(0, header.init_length))
        kept = whole_segments(header, lines, read, vouched, below)
        for segment, _ in kept:
            digest.update(read(segment.offset, segment.length))
        end = _end_of(header, kept)
        damaged = _has_bytes_after(end, header, lines, read)
        if below != 0:  # what was torn when its recorder was killed is not whole, and is the last
            damaged |= is_segment(header, read, end)
            damaged |= read(end, media.stat().st_size).find(b"moof", 8) > 0
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


def _has_bytes_after(end: int, header: Header, lines: list[Line], read: Read) -> bool:
    """Say whether after what is kept there are bytes that a line names, though damaged ones may be
    among them. What the disk never had, after a loss of power, is short or nothing but zeros."""
    parts = [
        (line.segment, read(line.segment.offset, line.segment.length))
        for line in lines
        if line.segment and could_be(header, line.segment) and line.segment.offset >= end
    ]
    return any(len(part) == s.length and part.strip(b"\0") for s, part in parts)


def had_lines(base: Path) -> bool:
    """Say whether an index that was set aside had a header, and so perhaps segments."""
    try:
        return b"\n" in base.with_name(base.name + ".jsonl.aside").read_bytes()
    except FileNotFoundError:
        return False
