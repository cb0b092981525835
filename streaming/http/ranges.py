"""Sending what has a length and a strong entity tag: conditions (RFC 9110, 13) and ranges (14).

The whole or one range is sent, as slowly as the client likes, and never compressed.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate

from aiohttp import web

from base.i18n.gettext import gettext
from storage.recording_source import Unreadable
from streaming.http.negotiation import language_of

MOST_TAGS = 1000  # bytes of If-None-Match
MOST_DATE = 50  # letters of a date
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent: `read(start, stop)` yields these bytes of it in pieces.

    `etag` is strong and has its quotes. `modified_s` is the UTC of the last change in seconds,
    None for what never changes. `read` raises Unreadable where the bytes cannot be had.
    """

    media_type: str
    length: int
    etag: str
    read: Callable[[int, int], AsyncGenerator[bytes | memoryview, None]]
    modified_s: int | None = None


async def send(
    request: web.Request, content: Content, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer GET or HEAD with content; `headers` are added to those that say what it is.

    A client that goes stops the reading. Raises Unreadable where nothing was sent yet, 412 and 416;
    bytes that cannot be had later end the connection, so that no client takes a part for the
    whole.
    """
    about = dict(headers) | {"ETag": content.etag}
    if content.modified_s is not None:
        about["Last-Modified"] = formatdate(content.modified_s, usegmt=True)
    _refuse_changed(request, content)
    if not_modified(request, content.etag, content.modified_s):
        return web.Response(status=304, headers=about)
    about |= {"Accept-Ranges": "bytes", "Content-Type": content.media_type}
    status, part = _wanted(request, about, content.length)
    response = web.StreamResponse(status=status, headers=about)
    response.content_length = len(part)
    if request.method == "HEAD":
        await response.prepare(request)
        return response
    async with aclosing(content.read(part.start, part.stop)) as pieces:
        piece = await anext(pieces, b"")
        if len(piece) == len(part):
            return web.Response(status=status, body=piece, headers=about)
        try:
            await response.prepare(request)
            while piece:
                await response.write(piece)
                piece = await anext(pieces, b"")
            await response.write_eof()
        except ConnectionError:
            pass  # the client has gone, and may resume
        except Unreadable:
            if request.transport is not None:
                request.transport.abort()
    return response


def _refuse_changed(request: web.Request, content: Content) -> None:
    """Raise 412 where the client wants another state of it (RFC 9110, 13.1.1 and 13.1.4), as one
    that goes on with a file whose beginning it has."""
    tags, modified_s = request.headers.get("If-Match"), content.modified_s
    if tags is None:
        same = modified_s is None or modified_s <= _date_s(request, "If-Unmodified-Since", math.inf)
    else:
        asked = request.if_match or () if len(tags) <= MOST_TAGS else ()
        opaque = content.etag.strip('"')
        same = any(tag.value in ("*", opaque) and not tag.is_weak for tag in asked)
    if not same:
        text = gettext("This has changed since then; load it anew.", language_of(request))
        raise web.HTTPPreconditionFailed(text=text)


def not_modified(request: web.Request, etag: str, modified_s: int | None = None) -> bool:
    """Tell whether the client has what the tag names (RFC 9110, 13.1.2: weak comparison) or,
    where it names no tag, what was changed at a time (13.1.3)."""
    tags = request.headers.get("If-None-Match")
    if tags is None:
        known_s = _date_s(request, "If-Modified-Since", -math.inf)
        return modified_s is not None and modified_s <= known_s
    if len(tags) > MOST_TAGS:
        return False  # no cache of ours has so many
    opaque = etag.removeprefix("W/").strip('"')
    return any(tag.value in ("*", opaque) for tag in request.if_none_match or ())


def _date_s(request: web.Request, name: str, none: float) -> float:
    """Return the time of a header, in UTC seconds; `none` where it is none."""
    text = request.headers.get(name, "")
    try:
        parts = parsedate(text) if len(text) <= MOST_DATE else None
        return datetime(*parts[:6], tzinfo=UTC).timestamp() if parts else none
    except (ValueError, OverflowError):  # a year of so many digits
        return none


def _wanted(request: web.Request, headers: dict[str, str], length: int) -> tuple[int, range]:
    """Return the status (200 or 206) and the bytes that answer a request.

    `headers` of the answer hold ETag and, where there is one, Last-Modified; Content-Range is
    added. What is not one range of bytes, or is of another state of the file (If-Range), gives all
    of it. Raises 416 for a range in which there is nothing.
    """
    text = request.headers.get("Range", "") if request.method == "GET" else ""  # 14.2: of no other
    asked = _RANGE.fullmatch(text.strip())
    known = (headers["ETag"], headers.get("Last-Modified"))
    if asked is None or request.headers.get("If-Range", known[0]) not in known:
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
