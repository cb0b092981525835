"""Boxes of fragmented MP4: pure functions over bytes, no files, no clocks.

Reading takes apart what another muxer wrote (the init and the fragments of a transport);
writing makes our own init and one `moof`+`mdat` per segment. Sources: ISO/IEC 14496-12
(boxes), 14496-15 (avc1, hvc1), 14496-14 (mp4a); section numbers below are of 14496-12:2015.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

VIDEO_TIMESCALE = 90_000
SYNC_SAMPLE = 0x0200_0000  # sample_depends_on = 2: this one depends on nothing
OTHER_SAMPLE = 0x0101_0000  # depends on others, not a sync sample

_CODEC_OF_ENTRY = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"hvc1": "h265",
    b"hev1": "h265",
    b"mp4a": "aac",
}


class Mp4Error(ValueError):
    """Bytes that are not the fragmented MP4 they should be."""


# made many times a second: a tuple is made four times faster than a frozen dataclass
class Box(NamedTuple):
    """One box: its type and the half-open ranges of its bytes and of its body."""

    type: bytes
    start: int
    body: int
    end: int


@dataclass(frozen=True, slots=True)
class TrackInit:
    """One track of an init; `entry` is its whole sample entry box, width and height in pixels."""

    id: int
    kind: str  # "video" or "audio"
    codec: str  # "h264", "h265" or "aac"
    timescale: int
    entry: bytes
    width: int = 0
    height: int = 0


class Sample(NamedTuple):
    """One sample of a fragment, times in the track's timescale."""

    duration: int
    size: int
    sync: bool
    cts: int


class TrackFragment(NamedTuple):
    """What one `traf` says: base decode time and samples in file order.

    `data_offset` counts from the first byte of the `moof`.
    """

    track_id: int
    decode_time: int
    samples: tuple[Sample, ...]
    data_offset: int


def box_at(data: bytes | bytearray | memoryview, pos: int, end: int) -> Box | None:
    """Return the box that begins at `pos`, or None while `end` is too early for all of it.

    Raises Mp4Error for a size that no box can have (4.2). A size of 0, "to the end of the
    file", is refused: a stream has no end.
    """
    if end - pos < 8:
        return None
    size, kind = struct.unpack_from(">I4s", data, pos)
    body = pos + 8
    if size == 1:
        if end - pos < 16:
            return None
        (size,) = struct.unpack_from(">Q", data, body)
        body = pos + 16
    if size < body - pos:
        raise Mp4Error(f"box {kind!r} at {pos} claims {size} bytes")
    if pos + size > end:
        return None
    return Box(kind, pos, body, pos + size)


def boxes(data: bytes | bytearray | memoryview, pos: int, end: int) -> Iterator[Box]:
    """Yield the boxes that fill [pos, end); raises Mp4Error when they do not fill it exactly."""
    while pos < end:
        box = box_at(data, pos, end)
        if box is None:
            raise Mp4Error(f"a box at {pos} goes beyond {end}")
        yield box
        pos = box.end


def child(data: bytes | memoryview, parent: Box, *path: bytes) -> Box:
    """Return the first box down `path` inside `parent`; raises Mp4Error when it is missing."""
    for kind in path:
        for box in boxes(data, parent.body, parent.end):
            if box.type == kind:
                parent = box
                break
        else:
            raise Mp4Error(f"no {kind!r} in {parent.type!r}")
    return parent


def parse_init(moov: bytes) -> list[TrackInit]:
    """Read the tracks of a `moov` (8.2) that we can carry; others are left out.

    `moov` is the whole box. Raises Mp4Error when it is malformed.
    """
    try:
        top = box_at(moov, 0, len(moov))
        if top is None or top.type != b"moov":
            raise Mp4Error("not a moov")
        found = [_parse_trak(moov, b) for b in boxes(moov, top.body, top.end) if b.type == b"trak"]
    except struct.error as error:
        raise Mp4Error(f"moov: {error}") from None
    return [t for t in found if t is not None]


def _parse_trak(moov: bytes, trak: Box) -> TrackInit | None:
    tkhd = child(moov, trak, b"tkhd")
    id_at = tkhd.body + (20 if moov[tkhd.body] == 1 else 12)
    (track_id,) = struct.unpack_from(">I", moov, id_at)
    mdhd = child(moov, trak, b"mdia", b"mdhd")
    (timescale,) = struct.unpack_from(">I", moov, mdhd.body + (20 if moov[mdhd.body] == 1 else 12))
    stsd = child(moov, trak, b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(boxes(moov, stsd.body + 8, stsd.end), None)
    if entry is None or entry.type not in _CODEC_OF_ENTRY:
        return None
    codec = _CODEC_OF_ENTRY[entry.type]
    width = height = 0
    if codec != "aac":
        width, height = struct.unpack_from(">HH", moov, entry.body + 24)
    if timescale == 0:
        raise Mp4Error("a timescale of 0")
    return TrackInit(
        track_id,
        "audio" if codec == "aac" else "video",
        codec,
        timescale,
        bytes(moov[entry.start : entry.end]),
        width,
        height,
    )


def parse_moof(data: bytes | bytearray, moof: Box) -> list[TrackFragment]:
    """Read the track fragments of a `moof` (8.8.4 to 8.8.8); raises Mp4Error when malformed."""
    try:
        return [_parse_traf(data, b) for b in boxes(data, moof.body, moof.end) if b.type == b"traf"]
    except struct.error as error:
        raise Mp4Error(f"moof: {error}") from None


def _parse_traf(data: bytes | bytearray, traf: Box) -> TrackFragment:
    track_id = decode_time = duration = size = flags = 0
    data_offset = 0
    samples: list[Sample] = []
    for box in boxes(data, traf.body, traf.end):
        at = box.body + 4
        (full,) = struct.unpack_from(">I", data, box.body)
        bits = full & 0xFFFFFF
        if box.type == b"tfhd":
            (track_id,) = struct.unpack_from(">I", data, at)
            at += 4 + (8 if bits & 0x1 else 0) + (4 if bits & 0x2 else 0)
            if bits & 0x8:
                (duration,) = struct.unpack_from(">I", data, at)
                at += 4
            if bits & 0x10:
                (size,) = struct.unpack_from(">I", data, at)
                at += 4
            if bits & 0x20:
                (flags,) = struct.unpack_from(">I", data, at)
        elif box.type == b"tfdt":
            (decode_time,) = struct.unpack_from(">Q" if full >> 24 else ">I", data, at)
        elif box.type == b"trun":
            (count,) = struct.unpack_from(">I", data, at)
            at += 4
            first_flags = flags
            if bits & 0x1:
                (data_offset,) = struct.unpack_from(">i", data, at)
                at += 4
            if bits & 0x4:
                (first_flags,) = struct.unpack_from(">I", data, at)
                at += 4
            given = [n for n in range(4) if bits >> 8 & 1 << n]
            row = struct.Struct(">" + "".join("IIIi"[n] for n in given))
            if at + count * row.size > box.end or (not given and count > 1_000_000):
                raise Mp4Error(f"a trun of {count} samples does not fit its box")
            for n in range(count):
                values = [duration, size, flags if n else first_flags, 0]
                told = row.unpack_from(data, at + n * row.size)
                for place, value in zip(given, told, strict=True):
                    values[place] = value
                d, z, f, c = values
                samples.append(Sample(d, z, not f & 0x10000, c))
    return TrackFragment(track_id, decode_time, tuple(samples), data_offset)


def make_box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box of the given type around the parts."""
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    """Return a FullBox (4.2) of the given type around the parts."""
    return make_box(kind, struct.pack(">I", version << 24 | flags), *parts)


_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_LANGUAGE_UND = 0x55C4


def write_init(tracks: Sequence[TrackInit]) -> bytes:
    """Return `ftyp`+`moov` for the tracks, without an edit list (docs/formats.md)."""
    ftyp = make_box(b"ftyp", b"iso5", struct.pack(">I", 512), b"iso5iso6mp41")
    mvhd = full_box(
        b"mvhd",
        0,
        0,
        struct.pack(">4I", 0, 0, 1000, 0),
        struct.pack(">IH10x", 0x10000, 0x100),
        _MATRIX,
        struct.pack(">24xI", max(t.id for t in tracks) + 1),
    )
    trex = b"".join(full_box(b"trex", 0, 0, struct.pack(">5I", t.id, 1, 0, 0, 0)) for t in tracks)
    return ftyp + make_box(b"moov", mvhd, *map(_write_trak, tracks), make_box(b"mvex", trex))


def _write_trak(track: TrackInit) -> bytes:
    video = track.kind == "video"
    tkhd = full_box(
        b"tkhd",
        0,
        3,
        struct.pack(">5I", 0, 0, track.id, 0, 0),
        struct.pack(">8xHHHH", 0, 0 if video else 1, 0 if video else 0x100, 0),
        _MATRIX,
        struct.pack(">II", track.width << 16, track.height << 16),
    )
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">4I2H", 0, 0, track.timescale, 0, _LANGUAGE_UND, 0))
    handler, name = (b"vide", b"video\0") if video else (b"soun", b"audio\0")
    hdlr = full_box(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, handler), name)
    head = full_box(b"vmhd", 0, 1, bytes(8)) if video else full_box(b"smhd", 0, 0, bytes(4))
    dref = full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))
    stbl = make_box(
        b"stbl",
        full_box(b"stsd", 0, 0, struct.pack(">I", 1), track.entry),
        full_box(b"stts", 0, 0, bytes(4)),
        full_box(b"stsc", 0, 0, bytes(4)),
        full_box(b"stsz", 0, 0, bytes(8)),
        full_box(b"stco", 0, 0, bytes(4)),
    )
    minf = make_box(b"minf", head, make_box(b"dinf", dref), stbl)
    return make_box(b"trak", tkhd, make_box(b"mdia", mdhd, hdlr, minf))


@dataclass(frozen=True, slots=True)
class TrackRun:
    """The samples of one track in a segment to be written, with their bytes."""

    track_id: int
    decode_time: int
    samples: Sequence[Sample]
    data: Sequence[bytes | bytearray]


def write_segment(sequence: int, runs: Sequence[TrackRun]) -> bytes:
    """Return one `moof`+`mdat` for the tracks, in the order given (docs/formats.md)."""

    # headers of moof, mfhd, and per track of traf, tfhd, tfdt and trun with its rows, then of mdat
    at = first = 8 + 16 + sum(8 + 16 + 20 + 20 + 16 * len(run.samples) for run in runs) + 8
    trafs = []
    for run in runs:
        trafs.append(_write_traf(run, at))
        at += sum(s.size for s in run.samples)
    mfhd = full_box(b"mfhd", 0, 0, struct.pack(">I", sequence & 0xFFFFFFFF))
    mdat = struct.pack(">I4s", 8 + at - first, b"mdat")
    parts = [part for run in runs for part in run.data]
    return b"".join([make_box(b"moof", mfhd, *trafs), mdat, *parts])


# of a segment as `write_segment` makes it: the headers of moof, mfhd, traf, tfhd, tfdt and trun,
# and the first row's duration and size
FIRST_SAMPLE_BYTES = 8 + 16 + 8 + 16 + 20 + 20 + 8


def first_sample_size(head: bytes) -> int:
    """Return the size of a segment's first picture, from its first FIRST_SAMPLE_BYTES; raises
    Mp4Error where these are not of a segment that `write_segment` made."""
    if len(head) < FIRST_SAMPLE_BYTES or head[4:8] != b"moof" or head[72:76] != b"trun":
        raise Mp4Error("not the beginning of a segment")
    (size,) = struct.unpack_from(">I", head, FIRST_SAMPLE_BYTES - 4)
    return int(size)


def _write_traf(run: TrackRun, data_offset: int) -> bytes:
    # trun flags: data offset, then duration, size, flags and composition offset of each sample
    rows = b"".join(
        struct.pack(">IIIi", s.duration, s.size, SYNC_SAMPLE if s.sync else OTHER_SAMPLE, s.cts)
        for s in run.samples
    )
    return make_box(
        b"traf",
        full_box(b"tfhd", 0, 0x020000, struct.pack(">I", run.track_id)),
        full_box(b"tfdt", 1, 0, struct.pack(">Q", run.decode_time)),
        full_box(b"trun", 1, 0x000F01, struct.pack(">Ii", len(run.samples), data_offset), rows),
    )
