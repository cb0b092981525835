"""The size of the picture, read from a sequence parameter set in a session description."""

from __future__ import annotations

import binascii
from base64 import b64decode

from recorder.parameter_sets import read_sps, set_kind

_MAX_SETS = 16
_NAMES = {  # of fmtp parameters (RFC 6184, 8.1; RFC 7798, 7.1)
    "h264": ("sprop-parameter-sets",),
    "h265": ("sprop-vps", "sprop-sps", "sprop-pps"),
}


def sprop_sets(codec: str, parameters: dict[str, str]) -> list[bytes]:
    """Return the parameter sets in fmtp parameters, what is none left out."""
    found = []
    for name in _NAMES.get(codec, ()):
        for text in parameters.get(name, "").split(",")[:_MAX_SETS]:
            try:
                found.append(b64decode(text + "=" * (-len(text) % 4)))
            except (binascii.Error, ValueError):
                continue
    return [nal for nal in found if nal]


def picture_size(codec: str, parameters: dict[str, str]) -> tuple[int, int] | None:
    """Return width and height by fmtp parameters.

    None where they hold no sequence parameter set, or one that cannot be read.
    """
    for nal in sprop_sets(codec, parameters):
        if set_kind(codec, nal[0]) in (7, 33):
            try:
                sps = read_sps(codec, nal)
            except ValueError:
                continue
            if 0 < sps.width <= 1 << 16 and 0 < sps.height <= 1 << 16:
                return sps.width, sps.height
    return None
