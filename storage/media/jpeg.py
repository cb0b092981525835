"""The moment that a JPEG shows, in a comment (ITU-T T.81, B.2.4.5) at its beginning."""

from __future__ import annotations

import re

_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"
_TOLD = re.compile(rb"\xff\xd8\xff\xfe..utc_ms=([0-9]{1,15})", re.DOTALL)


def with_time(jpeg: bytes, utc_ms: int) -> bytes:
    """Return a JPEG that says which moment it shows; raises ValueError for what is none."""
    if not jpeg.startswith(_START):
        raise ValueError("not a JPEG")
    text = b"utc_ms=%d" % utc_ms
    return _START + _COMMENT + (len(text) + 2).to_bytes(2, "big") + text + jpeg[len(_START) :]


def time_of(jpeg: bytes) -> int | None:
    """Return the moment (UTC ms) that a JPEG says it shows; None where it says none."""
    found = _TOLD.match(jpeg)
    return int(found[1]) if found else None
