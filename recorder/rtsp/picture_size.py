"""The size of the picture, read from a sequence parameter set in a session description."""

from __future__ import annotations

import binascii
from base64 import b64decode

_MAX_SETS = 16
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}


def picture_size(codec: str, parameters: dict[str, str]) -> tuple[int, int] | None:
    """Return width and height by the fmtp parameters of H.264 (RFC 6184) or H.265 (RFC 7798).

    None where they hold no sequence parameter set, or one that cannot be read.
    """
    name, read = {
        "h264": ("sprop-parameter-sets", _h264_size),
        "h265": ("sprop-sps", _h265_size),
    }.get(codec, ("", None))
    for text in parameters.get(name, "").split(",")[:_MAX_SETS]:
        try:
            nal = b64decode(text + "=" * (-len(text) % 4))
            if read is not None and nal and (codec == "h265" or nal[0] & 0x1F == 7):
                width, height = read(_Bits(nal))
                if 0 < width <= 1 << 16 and 0 < height <= 1 << 16:
                    return width, height
        except (binascii.Error, ValueError):
            continue
    return None


class _Bits:
    """Bits of a NAL unit, without its emulation prevention bytes; raises ValueError at the end."""

    def __init__(self, nal: bytes):
        payload = nal.replace(b"\0\0\3", b"\0\0")
        self._bits = "".join(f"{byte:08b}" for byte in payload[:1024])
        self._at = 0

    def u(self, count: int) -> int:
        """Return an unsigned number of `count` bits."""
        self._at += count
        if self._at > len(self._bits):
            raise ValueError("the parameter set ends too early")
        return int(self._bits[self._at - count : self._at] or "0", 2)

    def ue(self) -> int:
        """Return an Exp-Golomb number (ITU-T H.264, 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        """Return a signed Exp-Golomb number (ITU-T H.264, 9.1.1)."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _h264_size(bits: _Bits) -> tuple[int, int]:
    """ITU-T H.264, 7.3.2.1.1 and 7.4.2.1.1."""
    bits.u(8)
    profile = bits.u(8)
    bits.u(16)
    bits.ue()
    chroma = 1
    if profile in _HIGH_PROFILES:
        chroma = bits.ue()
        if chroma == 3:
            bits.u(1)
        bits.ue(), bits.ue(), bits.u(1)
        if bits.u(1):
            for n in range(12 if chroma == 3 else 8):
                if bits.u(1):
                    _skip_scaling_list(bits, 16 if n < 6 else 64)
    bits.ue()
    order = bits.ue()
    if order == 0:
        bits.ue()
    elif order == 1:
        bits.u(1), bits.se(), bits.se()
        for _ in range(min(bits.ue(), 255)):
            bits.se()
    bits.ue(), bits.u(1)
    width, map_units = (bits.ue() + 1) * 16, bits.ue() + 1
    frames_only = bits.u(1)
    height = map_units * 16 * (2 - frames_only)
    if not frames_only:
        bits.u(1)
    bits.u(1)
    if bits.u(1):
        unit_x = 2 if chroma in (1, 2) else 1
        unit_y = (2 if chroma == 1 else 1) * (2 - frames_only)
        width -= (bits.ue() + bits.ue()) * unit_x
        height -= (bits.ue() + bits.ue()) * unit_y
    return width, height


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _h265_size(bits: _Bits) -> tuple[int, int]:
    """ITU-T H.265, 7.3.2.2.1, 7.3.3 and 7.4.3.2.1."""
    bits.u(16 + 4)
    sub_layers = bits.u(3)
    bits.u(1)
    bits.u(88), bits.u(8)
    present = [(bits.u(1), bits.u(1)) for _ in range(sub_layers)]
    if sub_layers:
        bits.u(2 * (8 - sub_layers))
    for profile, level in present:
        bits.u(88 * profile), bits.u(8 * level)
    bits.ue()
    chroma = bits.ue()
    if chroma == 3:
        bits.u(1)
    width, height = bits.ue(), bits.ue()
    if bits.u(1):
        width -= (bits.ue() + bits.ue()) * (2 if chroma in (1, 2) else 1)
        height -= (bits.ue() + bits.ue()) * (2 if chroma == 1 else 1)
    return width, height
