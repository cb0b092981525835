"""Parameter sets of H.264 and H.265: is this still the stream that the run's init describes?

Samples hold NAL units with a length of 4 bytes before each (ISO/IEC 14496-15, 5.3 and 8.3).
A camera that changes its picture size sends new parameter sets in band and says nothing else.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

from recorder.bits import Bits
from storage.media.fmp4 import TrackInit, box_at, boxes

_H264_SETS = {7, 8}  # SPS, PPS (ITU-T H.264, table 7-1)
_H265_SETS = {32, 33, 34}  # VPS, SPS, PPS (ITU-T H.265, table 7-1)
MAX_SET = (1 << 16) - 1  # bytes that a sample entry can say (14496-15, 5.3.3.1)
MAX_READ = 2_048  # bytes of one; lists of scaling factors take some hundreds
MAX_SETS = 64  # of a picture; cameras send three, and each is read bit by bit
MAX_FORMS = 64  # of sets that mean the same; more are compared anew
VISUAL_ENTRY = 78  # bytes of a VisualSampleEntry before its boxes (14496-12, 12.1.3)


def _nal_ranges(sample: bytes | bytearray) -> Iterator[tuple[int, int]]:
    pos = 0
    while pos + 4 <= len(sample):
        (size,) = struct.unpack_from(">I", sample, pos)
        if size == 0 or pos + 4 + size > len(sample):
            return
        yield pos + 4, pos + 4 + size
        pos += 4 + size


def parameter_sets(codec: str, sample: bytes | bytearray) -> tuple[bytes, ...]:
    """Return the distinct parameter sets in a sample, in order; empty when it carries none.

    What is longer than any is none, nor is what comes after more than any camera sends.
    """
    kinds = _H264_SETS if codec == "h264" else _H265_SETS
    found: dict[bytes, None] = {}
    for at, end in _nal_ranges(sample):
        if set_kind(codec, sample[at]) in kinds and end - at <= MAX_SET:
            found[bytes(sample[at:end])] = None
            if len(found) == MAX_SETS:
                break
    return tuple(found)


def set_kind(codec: str, first: int) -> int:
    """Return nal_unit_type by the first byte of a NAL unit."""
    return first & 0x1F if codec == "h264" else first >> 1 & 0x3F


class ParameterSets:
    """The parameter sets that an init describes, compared by what they mean.

    A set is known by its kind and id; one that cannot be read is none. Its meaning is its bytes
    without what varies without meaning: nal_ref_idc (H.264, 7.4.1), emulation prevention, trailing
    zeros, and in an SPS the VUI, which says nothing of how pictures are decoded (H.264 and H.265,
    annex E). Nor does a VPS, where there is one layer.
    """

    def __init__(self, codec: str, nals: tuple[bytes, ...]):
        """Take whole NAL units."""
        self.nals = nals
        self._codec = codec
        self._seen: set[bytes] = set(nals)  # forms that are known to mean the same
        self._meanings = {set_id(codec, n): _meaning(codec, n) for n in nals}

    @classmethod
    def of_entry(cls, track: TrackInit) -> ParameterSets:
        """Return those in a sample entry (avcC, 14496-15, 5.3.3.1; hvcC, 8.3.3.1)."""
        return cls(track.codec, tuple(_entry_sets(track)))

    def changed_by(self, sample: bytes | bytearray) -> ParameterSets | None:
        """Return the sets that are in force after a keyframe, None where they mean the same.

        Those of the keyframe come first: it is of their size. Sets that it does not repeat stay in
        force.
        """
        sets = parameter_sets(self._codec, sample)
        if self._seen.issuperset(sets):
            return None
        after = {set_id(self._codec, n): n for n in sets}
        for n in self.nals:
            after.setdefault(set_id(self._codec, n), n)
        after.pop(None, None)
        if all(self._meanings.get(k) == _meaning(self._codec, n) for k, n in after.items()):
            self._seen = {*(self._seen if len(self._seen) < MAX_FORMS else self.nals), *sets}
            return None
        return ParameterSets(self._codec, tuple(after.values()))


def set_id(codec: str, nal: bytes) -> tuple[int, int] | None:
    """Return kind and id of a parameter set; None where it cannot be read."""
    kind = set_kind(codec, nal[0])
    with contextlib.suppress(IndexError, ValueError):
        if kind in (7, 33):
            return kind, read_sps(codec, nal).id
        if kind == 32:  # H.265, 7.3.2.1: 4 bits
            return kind, nal[2] >> 4
        number = Bits(nal[1 if codec == "h264" else 2 :][:8]).ue()
        if number <= (255 if codec == "h264" else 63):
            return kind, number
    return None


def _meaning(codec: str, nal: bytes) -> bytes:
    kind = set_kind(codec, nal[0])
    if kind == 32:
        return b""
    if kind in (7, 33):
        with contextlib.suppress(ValueError):
            return read_sps(codec, nal).meaning
    head = kind if codec == "h264" else nal[0]
    return bytes([head]) + _unescaped(nal[1:]).rstrip(b"\0")


def _unescaped(nal: bytes) -> bytes:
    """Return a NAL unit without emulation prevention (H.264 and H.265, 7.3.1.1)."""
    return nal.replace(b"\0\0\3", b"\0\0")


CHROMA_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


class Sps(NamedTuple):
    """What a sequence parameter set says; `meaning` is all of it without its VUI.

    `chroma` is chroma_format_idc, `depths` are the bits of luma and chroma beyond 8, `layers` and
    `nesting` those of H.265 (sps_max_sub_layers_minus1, sps_temporal_id_nesting_flag).
    """

    id: int
    width: int
    height: int
    chroma: int
    depths: tuple[int, int]
    meaning: bytes
    layers: int = 0
    nesting: int = 0


def read_sps(codec: str, nal: bytes) -> Sps:
    """Read a sequence parameter set; raises ValueError for one that cannot be."""
    try:
        sps = (_sps_h264 if codec == "h264" else _sps_h265)(_unescaped(nal[:MAX_READ]))
    except IndexError:
        raise ValueError("a parameter set that ends early") from None
    # H.264, 7.4.2.1.1, and H.265, 7.4.3.2.1
    if sps.id > 31 or sps.chroma > 3 or max(sps.depths) > 8:
        raise ValueError("a parameter set with values that there are not")
    return sps


def _sps_h264(nal: bytes) -> Sps:
    """H.264, 7.3.2.1.1."""
    profile, bits = nal[1], Bits(nal[4:])
    fields = [bits.ue()]
    chroma, depths = 1, (0, 0)
    if profile in CHROMA_PROFILES:
        chroma = bits.ue()
        planes, depths = bits.u(1) if chroma == 3 else 0, (bits.ue(), bits.ue())
        fields += [chroma, planes, *depths, bits.u(1)]
        if bits.u(1):
            fields += _scaling_lists(bits, 8 if chroma != 3 else 12)
    fields += [bits.ue(), order := bits.ue()]
    if order == 0:
        fields.append(bits.ue())
    elif order == 1:
        fields += [bits.u(1), bits.ue(), bits.ue()]
        fields += [bits.ue() for _ in range(min(255, bits.ue()))]
    fields += [bits.ue(), bits.u(1)]
    wide, high = bits.ue() + 1, bits.ue() + 1
    whole_frames = bits.u(1)
    fields += [wide, high, whole_frames, 0 if whole_frames else bits.u(1), bits.u(1)]
    crop = [bits.ue() for _ in range(4)] if bits.u(1) else [0] * 4
    across, down = (2 if chroma in (1, 2) else 1), (2 if chroma == 1 else 1) * (2 - whole_frames)
    return Sps(
        fields[0],
        16 * wide - across * (crop[0] + crop[1]),
        16 * high * (2 - whole_frames) - down * (crop[2] + crop[3]),
        chroma,
        depths,
        nal[1:4] + repr((fields, crop)).encode(),
    )


def _sps_h265(nal: bytes) -> Sps:
    """H.265, 7.3.2.2.1 and 7.3.3."""
    bits = Bits(nal[2:])
    bits.u(4)
    layers, nesting = bits.u(3), bits.u(1)
    bits.u(96)
    present = [(bits.u(1), bits.u(1)) for _ in range(layers)]
    bits.u(2 * (8 - layers) if layers else 0)
    for profile, level in present:
        bits.u(88 * profile + 8 * level)
    number, chroma = bits.ue(), bits.ue()
    if chroma == 3:
        bits.u(1)
    width, height = bits.ue(), bits.ue()
    crop = [bits.ue() for _ in range(4)] if bits.u(1) else [0] * 4
    across, down = (2 if chroma in (1, 2) else 1), (2 if chroma == 1 else 1)
    width -= across * (crop[0] + crop[1])
    height -= down * (crop[2] + crop[3])
    depths = bits.ue(), bits.ue()
    meaning = nal
    with contextlib.suppress(IndexError, ValueError):  # what else there is decodes all the same
        _pass_to_vui(bits, layers)
        meaning = nal[:2] + bits.passed()
    return Sps(number, width, height, chroma, depths, meaning, layers, nesting)


def _pass_to_vui(bits: Bits, layers: int) -> None:
    """Pass over what stands between the bit depths and vui_parameters_present_flag."""
    number_bits = bits.ue() + 4  # of a picture's order number
    for _ in range(1 if not bits.u(1) else layers + 1):
        bits.ue(), bits.ue(), bits.ue()
    for _ in range(6):  # sizes and depths of blocks
        bits.ue()
    if bits.u(1) and bits.u(1):
        _pass_scaling_lists(bits)
    bits.u(2)
    if bits.u(1):  # PCM
        bits.u(8)
        bits.ue(), bits.ue(), bits.u(1)
    sets = bits.ue()
    if sets > 64:
        raise ValueError("a parameter set with more reference picture sets than there are")
    deltas = 0
    for n in range(sets):
        deltas = _pass_references(bits, n, deltas)
    if bits.u(1):  # long-term references
        bits.u(bits.ue() * (number_bits + 1))
    bits.u(2)


def _pass_scaling_lists(bits: Bits) -> None:
    """H.265, 7.3.4."""
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            codes = 1 if not bits.u(1) else min(64, 16 << 2 * size) + (size > 1)
            for _ in range(codes):
                bits.ue()


def _pass_references(bits: Bits, number: int, deltas: int) -> int:
    """Pass over a reference picture set; return how many pictures it refers to (H.265, 7.3.7).

    `deltas` is how many the one before refers to.
    """
    if number and bits.u(1):
        bits.u(1), bits.ue()
        return sum(bits.u(1) or bits.u(1) for _ in range(deltas + 1))
    deltas = bits.ue() + bits.ue()
    if deltas > 32:
        raise ValueError("a parameter set with more references than there are")
    for _ in range(deltas):
        bits.ue(), bits.u(1)
    return deltas


def _scaling_lists(bits: Bits, count: int) -> list[int]:
    """Return the codes of the scaling lists (H.264, 7.3.2.1.1.1)."""
    codes = []
    for n in range(count):
        codes.append(bits.u(1))
        last = following = 8
        for _ in range((16 if n < 6 else 64) * codes[-1]):
            if following:
                codes.append(code := bits.ue())
                following = (last + (-(code // 2) if code % 2 == 0 else code // 2 + 1)) % 256
            last = following or last
    return codes


def _entry_sets(track: TrackInit) -> Iterator[bytes]:
    """Yield the parameter sets of a sample entry; of one that is malformed what can be read."""
    box = box_at(track.entry, 0, len(track.entry))
    name = b"avcC" if track.codec == "h264" else b"hvcC"
    if box is None:
        return
    for inner in boxes(track.entry, box.body + VISUAL_ENTRY, box.end):
        if inner.type != name:
            continue
        record, pos = track.entry[inner.body : inner.end], 5
        arrays: tuple[int, ...] = (0x1F, 0xFF)  # avcC: masks of the counts of SPS and PPS
        if name == b"hvcC":
            if len(record) < 23:
                return
            pos, arrays = 23, (0,) * record[22]
        try:
            for mask in arrays:
                if mask:
                    count, pos = record[pos] & mask, pos + 1
                else:
                    (count,) = struct.unpack_from(">H", record, pos + 1)
                    pos += 3
                for _ in range(count):
                    (size,) = struct.unpack_from(">H", record, pos)
                    if size:
                        yield record[pos + 2 : pos + 2 + size]
                    pos += 2 + size
        except (IndexError, struct.error):
            return


def begins(codec: str, sample: bytes | bytearray) -> bool | None:
    """Say whether a sample begins a picture, or goes on with that of the sample before; None where
    it has nothing of a picture.

    A camera that repeats its parameter sets before every slice makes ffmpeg take each for a
    picture. The first slice of a picture says so: first_mb_in_slice is 0 (H.264, 7.3.3), or
    first_slice_segment_in_pic_flag is 1 (H.265, 7.3.6.1). What H.265 sends under the name of H.264
    looks like no slice, or like a part of one (2) that never begins a picture.
    """
    for at, end in _nal_ranges(sample):
        if codec == "h264":
            kind = sample[at] & 0x1F
            if kind in (1, 2, 5) and end > at + 1:
                is_first = sample[at + 1] & 0x80 > 0
                if is_first or kind != 2:
                    return is_first
        elif sample[at] >> 1 & 0x3F < 32 and end > at + 2:
            return sample[at + 2] & 0x80 > 0
    return None
