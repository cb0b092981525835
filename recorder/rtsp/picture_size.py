"""The size of the picture, read from a sequence parameter set in a session description."""

from __future__ import annotations

import binascii
import contextlib
import re
from base64 import b64decode

from recorder.parameter_sets import MAX_SETS, read_sps, set_kind

_NO_LETTERS = re.compile(r"[^A-Za-z0-9+/]")  # of base 64
_NAMES = {  # of fmtp parameters (RFC 6184, 8.1; RFC 7798, 7.1)
    "h264": ("sprop-parameter-sets",),
    "h265": ("sprop-vps", "sprop-sps", "sprop-pps"),
}


def sprop_sets(codec: str, parameters: dict[str, str]) -> list[bytes]:
    """Return the parameter sets in fmtp parameters, what is none left out.

    Some cameras put quotes or blanks around them, leave out what fills them up, or have start codes
    before them, all in one.
    """
    found: list[bytes] = []
    for name in _NAMES.get(codec, ()):
        for text in parameters.get(name, "").split(",")[:MAX_SETS]:
            letters = _NO_LETTERS.sub("", text)
            with contextlib.suppress(binascii.Error):
                found += b64decode(letters + "=" * (-len(letters) % 4)).split(b"\0\0\1")
    return [nal for part in found if (nal := part.rstrip(b"\0"))][:MAX_SETS]


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
