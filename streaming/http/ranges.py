"""Conditions (RFC 9110, 13) and ranges (14) of what has a length and a strong entity tag."""

from __future__ import annotations

import re

from aiohttp import web

from streaming.http.responses import not_modified

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)


def wanted_part(request: web.Request, headers: dict[str, str], length: int) -> tuple[int, range]:
    """Return the status (200, 206 or 304) and the bytes that answer a request.

    `headers` of the answer hold ETag and, where there is one, Last-Modified; Content-Range is
    added. What is not one range of bytes, or is of another state of the file (If-Range), gives all
    of it. Raises 416 for a range in which there is nothing.
    """
    etag = headers["ETag"]
    if not_modified(request, etag):
        return 304, range(0)
    headers["Accept-Ranges"] = "bytes"
    asked = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    known = (etag, headers.get("Last-Modified", etag))
    if asked is None or request.headers.get("If-Range", etag) not in known:
        return 200, range(length)
    first, last = asked.groups()
    if (not first and not last) or (first and last and int(first) > int(last)):
        return 200, range(length)  # no range: 14.1.1
    if first:
        part = range(int(first), min(int(last) + 1, length) if last else length)
    else:
        part = range(max(0, length - int(last)), length)
    if not part:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{length}"})
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{length}"
    return 206, part
