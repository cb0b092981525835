"""Tracks with their sample entries, out of what a camera says of its codecs (ISO/IEC 14496-15)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

from recorder.parameter_sets import (
    CHROMA_PROFILES,
    MAX_SET,
    VISUAL_ENTRY,
    Sps,
    read_sps,
    set_id,
)
from recorder.rtsp.aac import AacConfig
from recorder.source import PICTURE_ID, SOUND_ID
from storage.media.fmp4 import VIDEO_TIMESCALE, TrackInit, box_at, boxes, make_box

_SPS = {"h264": 7, "h265": 33}
_ENTRIES = {"h264": (b"avc1", b"avcC"), "h265": (b"hvc1", b"hvcC")}
_SIZE_AT = 24  # bytes of a VisualSampleEntry before width and height (14496-12, 12.1.3)
_SAMPLE_ENTRY = bytes(6) + b"\0\1"  # reserved, data_reference_index (14496-12, 8.5.2.2)


def video_track(codec: str, sets: Sequence[bytes]) -> TrackInit | None:
    """Return the track that parameter sets (whole NAL units) describe; None: they do not suffice.

    Its timestamps are of 90 kHz (RFC 6184, 5.1; RFC 7798, 4.1).
    """
    found = _record(codec, sets)
    if found is None:
        return None
    sps, record = found
    entry, name = _ENTRIES[codec]
    size = struct.pack(">HH", sps.width, sps.height)
    resolution, frames, depth = b"\0\x48\0\0" * 2, bytes(4) + b"\0\1", b"\0\x18\xff\xff"
    visual = _SAMPLE_ENTRY + bytes(16) + size + resolution + frames + bytes(32) + depth
    box = make_box(entry, visual, make_box(name, record))
    return TrackInit(PICTURE_ID, "video", codec, VIDEO_TIMESCALE, box, sps.width, sps.height)


def with_parameter_sets(track: TrackInit, sets: Sequence[bytes]) -> TrackInit:
    """Return the track with these parameter sets in its sample entry instead of the old ones.

    The session description may be older than the stream; what comes in band is true. Without
    a complete set the track is returned as it was.
    """
    found = _record(track.codec, sets)
    if found is None:
        return track
    sps, record = found
    box = box_at(track.entry, 0, len(track.entry))
    assert box is not None
    start = box.body + VISUAL_ENTRY
    head = track.entry[box.body : start]
    head = head[:_SIZE_AT] + struct.pack(">HH", sps.width, sps.height) + head[_SIZE_AT + 4 :]
    name = _ENTRIES[track.codec][1]
    inner = [
        make_box(b.type, record if b.type == name else track.entry[b.body : b.end])
        for b in boxes(track.entry, start, box.end)
    ]
    entry = make_box(box.type, head, *inner)
    return replace(track, entry=entry, width=sps.width, height=sps.height)


def sound_track(config: AacConfig, clock_rate: int) -> TrackInit:
    """Return the track of AAC whose timestamps count `clock_rate` a second."""
    decoder = b"\x40\x15" + bytes(11) + _descriptor(5, config.data)  # AAC, audio; no bit rates
    stream = bytes(3) + _descriptor(4, decoder) + _descriptor(6, b"\2")  # 14496-1, 7.2.6.5
    esds = make_box(b"esds", bytes(4), _descriptor(3, stream))
    # channels, 16 bits a sample, Hz as 16.16 (14496-12, 12.2.3)
    rate = config.rate if config.rate < 1 << 16 else 0
    sound = _SAMPLE_ENTRY + bytes(8) + struct.pack(">HH4xI", config.channels, 16, rate << 16)
    return TrackInit(SOUND_ID, "audio", "aac", clock_rate, make_box(b"mp4a", sound, esds))


def _descriptor(tag: int, body: bytes) -> bytes:
    """14496-1, 8.3.3: the size in groups of 7 bits, as four bytes."""
    size = len(body)
    groups = bytes(0x80 | size >> shift & 0x7F for shift in (21, 14, 7))
    return bytes([tag]) + groups + bytes([size & 0x7F]) + body


def _record(codec: str, sets: Sequence[bytes]) -> tuple[Sps, bytes] | None:
    """Return the first SPS and the decoder configuration record, where sets suffice for one.

    What cannot be read is left out: a decoder would stumble over it.
    """
    kinds: dict[int, list[bytes]] = {}
    for nal in sets:
        if 0 < len(nal) <= MAX_SET and (known := set_id(codec, nal)) is not None:
            kinds.setdefault(known[0], []).append(nal)
    spses = kinds.get(_SPS[codec], [])
    if not spses or not kinds.get(_SPS[codec] + 1):  # PPS
        return None
    sps = read_sps(codec, spses[0])
    if not (0 < sps.width < 1 << 16 and 0 < sps.height < 1 << 16):
        return None
    return sps, (_avcc(kinds, sps) if codec == "h264" else _hvcc(kinds, sps))


def _avcc(kinds: dict[int, list[bytes]], sps: Sps) -> bytes:
    """AVCDecoderConfigurationRecord (14496-15, 5.3.3.1)."""
    spses, ppses = kinds[7][:31], kinds[8][:255]
    out = bytes([1]) + spses[0][1:4] + bytes([0xFF, 0xE0 | len(spses)]) + _sized(spses)
    out += bytes([len(ppses)]) + _sized(ppses)
    if spses[0][1] in CHROMA_PROFILES:
        out += bytes([0xFC | sps.chroma, *(0xF8 | depth for depth in sps.depths), 0])
    return out


def _hvcc(kinds: dict[int, list[bytes]], sps: Sps) -> bytes:
    """HEVCDecoderConfigurationRecord (14496-15, 8.3.3.1).

    It repeats the 12 bytes of general profile, tier and level, which an SPS has after its 2-byte
    header and one byte of ids (H.265, 7.3.2.2 and 7.3.3).
    """
    level = kinds[33][0].replace(b"\0\0\3", b"\0\0")[3:15]
    formats = bytes([0xFC | sps.chroma, *(0xF8 | depth for depth in sps.depths)])
    layers = sps.layers + 1 << 3 | sps.nesting << 2 | 3
    out = b"\1" + level + b"\xf0\0\xfc" + formats + bytes([0, 0, layers])
    arrays = [(kind, kinds[kind]) for kind in (32, 33, 34) if kind in kinds]
    out += bytes([len(arrays)])
    for kind, nals in arrays:
        out += bytes([0x80 | kind]) + struct.pack(">H", len(nals)) + _sized(nals)
    return out


def _sized(nals: list[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(nal)) + nal for nal in nals)
