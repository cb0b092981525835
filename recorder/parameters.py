"""Parameter sets of H.264 and H.265: is this still the stream that the run's init describes?

Samples hold NAL units with a length of 4 bytes before each (ISO/IEC 14496-15, 5.3 and 8.3).
A camera that changes its picture size sends new parameter sets in band and says nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from storage.fmp4 import TrackInit, box_at, boxes, make_box

_H264_SETS = {7, 8}  # SPS, PPS (ITU-T H.264, table 7-1)
_H265_SETS = {32, 33, 34}  # VPS, SPS, PPS (ITU-T H.265, table 7-1)
_VISUAL_ENTRY = 78  # bytes of a VisualSampleEntry before its boxes (14496-12, 12.1.3)


def nal_units(sample: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a sample; stops at a length that does not fit."""
    for at, end in _nal_ranges(sample):
        yield sample[at:end]


def _nal_ranges(sample: bytes) -> Iterator[tuple[int, int]]:
    pos = 0
    while pos + 4 <= len(sample):
        (size,) = struct.unpack_from(">I", sample, pos)
        if size == 0 or pos + 4 + size > len(sample):
            return
        yield pos + 4, pos + 4 + size
        pos += 4 + size


def parameter_sets(codec: str, sample: bytes) -> tuple[bytes, ...]:
    """Return the distinct parameter sets in a sample, in order; empty when it carries none."""
    found: dict[bytes, None] = {}
    for nal in nal_units(sample):
        kind = nal[0] & 0x1F if codec == "h264" else nal[0] >> 1 & 0x3F
        if kind in (_H264_SETS if codec == "h264" else _H265_SETS):
            found[nal] = None
    return tuple(found)


def continues(codec: str, sample: bytes) -> bool:
    """Say whether a sample goes on with the picture of the sample before.

    A camera that repeats its parameter sets before every slice makes ffmpeg take each for a
    picture. The first slice of a picture says so: first_mb_in_slice is 0 (H.264, 7.3.3), or
    first_slice_segment_in_pic_flag is 1 (H.265, 7.3.6.1).
    """
    for at, end in _nal_ranges(sample):
        if codec == "h264":
            if sample[at] & 0x1F in (1, 2, 5) and end > at + 1:
                return not sample[at + 1] & 0x80
        elif sample[at] >> 1 & 0x3F < 32 and end > at + 2:
            return not sample[at + 2] & 0x80
    return False


def with_parameter_sets(track: TrackInit, sets: tuple[bytes, ...]) -> TrackInit:
    """Return the track with these parameter sets in its sample entry instead of the old ones.

    The session description may be older than the stream; what comes in band is true. Without
    a complete set the track is returned as it was.
    """
    box = box_at(track.entry, 0, len(track.entry))
    assert box is not None
    name, build = (b"avcC", _avcc) if track.codec == "h264" else (b"hvcC", _hvcc)
    start = box.body + _VISUAL_ENTRY
    parts = [track.entry[box.body : start]]
    for inner in boxes(track.entry, start, box.end):
        old = track.entry[inner.body : inner.end]
        new = build(sets, old) if inner.type == name else old
        if new is None:
            return track
        parts.append(make_box(inner.type, new))
    return TrackInit(
        track.id,
        track.kind,
        track.codec,
        track.timescale,
        make_box(box.type, *parts),
        track.width,
        track.height,
    )


def _avcc(sets: tuple[bytes, ...], old: bytes) -> bytes | None:
    """AVCDecoderConfigurationRecord (14496-15, 5.3.3.1); the tail of high profiles is kept."""
    sps = [s for s in sets if s[0] & 0x1F == 7 and len(s) >= 4]
    pps = [s for s in sets if s[0] & 0x1F == 8]
    if not sps or not pps:
        return None
    out = bytes([1]) + sps[0][1:4] + bytes([0xFF, 0xE0 | len(sps)])
    out += b"".join(struct.pack(">H", len(s)) + s for s in sps)
    out += bytes([len(pps)]) + b"".join(struct.pack(">H", len(s)) + s for s in pps)
    return out + _avcc_tail(old)


def _avcc_tail(old: bytes) -> bytes:
    pos = 5
    try:
        for mask in (0x1F, 0xFF):
            count, pos = old[pos] & mask, pos + 1
            for _ in range(count):
                pos += 2 + struct.unpack_from(">H", old, pos)[0]
    except (IndexError, struct.error):
        return b""
    return old[pos:]


def _hvcc(sets: tuple[bytes, ...], old: bytes) -> bytes | None:
    """HEVCDecoderConfigurationRecord (14496-15, 8.3.3.1): general profile, tier and level anew."""
    kinds = {kind: [s for s in sets if s[0] >> 1 & 0x3F == kind] for kind in (32, 33, 34)}
    if not all(kinds.values()) or len(old) < 23:
        return None
    # The SPS has, after its 2-byte header and one byte of ids, the 12 bytes of general
    # profile_tier_level that the record repeats (ITU-T H.265, 7.3.2.2 and 7.3.3).
    sps = kinds[33][0].replace(b"\0\0\3", b"\0\0")
    out = old[:1] + sps[3:15] + old[13:22] + bytes([3])
    for kind, nals in kinds.items():
        out += bytes([0x80 | kind]) + struct.pack(">H", len(nals))
        out += b"".join(struct.pack(">H", len(n)) + n for n in nals)
    return out
