"""The boxes of a copy: pure functions over bytes (docs/copies.md).

A copy is the init with what was recorded, where and when put into it, a `sidx`, the recorded
segments with their `tfdt` moved, and room for a proof. Sections are of ISO/IEC 14496-12:2015,
and of the ONVIF Export File Format Specification 26.06 where that is said.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from storage.media.fmp4 import Box, Mp4Error, box_at, boxes, child, full_box, make_box, parse_init

ABOUT_FORMAT = "copy/1"
ABOUT = UUID("6a0b1bd5-3d0c-4b8e-9d0e-6b7561676572")  # what the copy is of, and its tfdt bases
PROOF = UUID("9c5f2c1e-70f1-4a57-8b2a-6b7561676572")  # room at the end
ABOUT_BYTES = 1024
MAX_REFERENCES = 0xFFFF  # of a sidx: reference_count has 16 bits
SIDX_HEAD, SIDX_ROW = 32, 12
_1904_S = 2_082_844_800  # from 1904-01-01, where this format's time begins, to 1970-01-01
_1601_MS = 11_644_473_600_000
_TFDT = 1 << 64


class Reference(NamedTuple):
    """One segment of a copy, as its `sidx` tells it."""

    length: int
    duration_90k: int
    starts_with_key: bool


class CopyMetadata(NamedTuple):
    """What is written into a copy beside its pictures. `bases` is by track id, in its timescale:
    what was taken from each `tfdt` of the track."""

    title: str
    source: str
    run_start_ms: int
    duration_90k: int
    bases: Mapping[int, int]
    about: Mapping[str, Any]


def make_init(init: bytes, metadata: CopyMetadata) -> bytes:
    """Return everything before the `sidx`: `ftyp`, `meta`, `moov` and the `uuid` of the copy.

    The length depends on the title, the source and the init alone. Raises Mp4Error for an init
    that is not `ftyp`+`moov`.
    """
    found = {b.type: b for b in boxes(init, 0, len(init))}
    if set(found) != {b"ftyp", b"moov"}:
        raise Mp4Error(f"an init of {sorted(found)}")
    ftyp, moov = found[b"ftyp"], found[b"moov"]
    return b"".join(
        (
            init[ftyp.start : ftyp.end],
            _meta(init[moov.start : moov.end], metadata),
            _moov(init, moov, metadata),
            _about(metadata.about),
        )
    )


def _meta(moov: bytes, metadata: CopyMetadata) -> bytes:
    """Return the file-level `meta` of ONVIF's 5.2 and 5.3: source, and UTC of the time line's 0."""
    name, nothing = metadata.source.encode() + b"\0", b"\0"
    tracks = parse_init(moov)
    sources = b"".join(struct.pack(">H", t.id) + name + nothing * 3 for t in tracks)
    # the time of the export is left 0: the same stretch is the same file whenever it is ordered
    unit = b"Kuager\0" + nothing * 2 + bytes(8) + nothing
    suep = full_box(b"suep", 1, 0, unit, struct.pack(">I", len(tracks)), sources)
    run_start = (metadata.run_start_ms + _1601_MS) * 10_000  # 100 ns
    starts = b"".join(
        struct.pack(">IQ", t.id, run_start + metadata.bases[t.id] * 10_000_000 // t.timescale)
        for t in tracks
    )
    cstb = make_box(b"cstb", struct.pack(">I", len(tracks)), starts)
    return full_box(b"meta", 0, 0, _handler(b"null"), suep, cstb)


def _moov(init: bytes, moov: Box, metadata: CopyMetadata) -> bytes:
    """Return the `moov` with time of creation (8.2.2), whole duration (8.8.2) and a title."""
    parts = []
    for box in boxes(init, moov.body, moov.end):
        if box.type == b"mvhd":
            (scale,) = struct.unpack_from(
                ">I", init, box.body + (20 if init[box.body] == 1 else 12)
            )
            rest = init[box.end - 80 : box.end]  # rate, volume, matrix, next_track_ID
            base_90k = metadata.bases[min(metadata.bases)]
            created = (metadata.run_start_ms + base_90k // 90) // 1000 + _1904_S
            parts.append(
                full_box(b"mvhd", 1, 0, struct.pack(">QQIQ", created, created, scale, 0), rest)
            )
        elif box.type == b"mvex":
            duration = -(-metadata.duration_90k * scale // 90_000)
            mehd = full_box(b"mehd", 1, 0, struct.pack(">Q", duration))
            parts.append(make_box(b"mvex", mehd, init[box.body : box.end]))
        elif box.type != b"udta":
            parts.append(init[box.start : box.end])
    data = make_box(b"data", struct.pack(">II", 1, 0), metadata.title.encode())
    name = make_box(b"ilst", make_box(b"\xa9nam", data))
    udta = make_box(b"udta", full_box(b"meta", 0, 0, _handler(b"mdir", b"appl"), name))
    return make_box(b"moov", *parts, udta)


def _about(about: Mapping[str, Any]) -> bytes:
    text = orjson.dumps({"kuager": ABOUT_FORMAT, **about})
    if len(text) > ABOUT_BYTES:
        raise Mp4Error(f"{len(text)} bytes about a copy")
    return make_box(b"uuid", ABOUT.bytes, text.ljust(ABOUT_BYTES))


def read_about(data: bytes) -> dict[str, Any]:
    """Return what the `uuid` of a copy tells; `data` begins with the copy's first byte and has
    all of what is before its `sidx`. Raises Mp4Error where there is none."""
    pos = 0
    while (box := box_at(data, pos, len(data))) is not None:
        if box.type == b"uuid" and data[box.body : box.body + 16] == ABOUT.bytes:
            about: dict[str, Any] = orjson.loads(data[box.body + 16 : box.end])
            return about
        pos = box.end
    raise Mp4Error("nothing is said about this copy")


def make_sidx(references: Sequence[Reference] | Iterable[Reference], first_90k: int) -> bytes:
    """Return the `sidx` (8.16.3), one reference a segment; `first_90k` is the time of the first
    picture. Raises Mp4Error for more references than it can have."""
    rows = [
        struct.pack(">III", r.length, r.duration_90k, r.starts_with_key << 31 | 1 << 28)
        for r in references
    ]
    if len(rows) > MAX_REFERENCES:
        raise Mp4Error(f"{len(rows)} segments in one copy")
    head = struct.pack(">IIIIHH", 1, 90_000, first_90k, 0, 0, len(rows))
    return full_box(b"sidx", 0, 0, head, *rows)


def sidx_length(segments: int) -> int:
    """Return the length of the `sidx` of so many segments."""
    return SIDX_HEAD + SIDX_ROW * segments


def make_proof_room(length: int) -> bytes:
    """Return the `uuid` box of `length` bytes in all at the end of a copy: zeros, for a proof."""
    return make_box(b"uuid", PROOF.bytes, bytes(length - 24))


def rebase(data: bytes | memoryview, bases: Mapping[int, int]) -> bytes:
    """Return the `moof` that a segment begins with, with the bases taken from each `tfdt`.

    With the bases negated it is put back. Numbers wrap at 64 bits, so that nothing is lost.
    Raises Mp4Error where there is no moof.
    """
    moof = box_at(data, 0, len(data))
    if moof is None or moof.type != b"moof":
        raise Mp4Error("a segment without a moof")
    out = bytearray(data[: moof.end])
    for traf in boxes(out, moof.body, moof.end):
        if traf.type == b"traf":
            track, at, form = _tfdt(out, traf)
            (time,) = struct.unpack_from(form, out, at)
            wrap = _TFDT if form == ">Q" else 1 << 32
            struct.pack_into(form, out, at, (time - bases.get(track, 0)) % wrap)
    return bytes(out)


def _tfdt(data: bytearray, traf: Box) -> tuple[int, int, str]:
    """Return the track, and where and how its base decode time is written (8.8.12)."""
    track = at = 0
    form = ""
    for box in boxes(data, traf.body, traf.end):
        if box.type == b"tfhd":
            (track,) = struct.unpack_from(">I", data, box.body + 4)
        elif box.type == b"tfdt":
            at, form = box.body + 4, ">Q" if data[box.body] else ">I"
    if not (track and form):
        raise Mp4Error("a traf without tfhd or tfdt")
    return track, at, form


def timescales(init: bytes) -> dict[int, int]:
    """Return the timescale of each track of an init, by its id; raises Mp4Error."""
    for box in boxes(init, 0, len(init)):
        if box.type == b"moov":
            child(init, box, b"mvhd")
            return {t.id: t.timescale for t in parse_init(init[box.start : box.end])}
    raise Mp4Error("an init without a moov")


def common_bases(starts: Mapping[int, int], scales: Mapping[int, int]) -> dict[int, int]:
    """Return one instant in each track's timescale: the earliest of the tracks' first `tfdt`.

    `starts` may lack a track. Rounded down, so that no track begins before 0.
    """
    at_90k = min(start * 90_000 // scales[track] for track, start in starts.items())
    return {track: at_90k * scale // 90_000 for track, scale in scales.items()}


def _handler(kind: bytes, maker: bytes = bytes(4)) -> bytes:
    return full_box(b"hdlr", 0, 0, bytes(4), kind, maker, bytes(9))
