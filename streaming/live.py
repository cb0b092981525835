"""Playlists and segments by HTTP. Segments and inits never change: one URL, cached for ever."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from storage.view import CameraView
from streaming.answers import not_modified
from streaming.archived import Part, archived_init, archived_segment
from streaming.hls import LIVE_MOST, Listed, live_window, playlist
from streaming.language import say
from streaming.views import VIEWS, moment

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SEGMENT_TYPE, INIT_TYPE = "video/iso.segment", "video/mp4"
IMMUTABLE = "public, max-age=31536000, immutable"
MAX_REWIND_SEGMENTS = 50_000  # about a day of one camera, 4 MB of text
CACHED_BYTES = 32 << 20
SETTLED_MS = 60_000  # after this a stretch is all written, and who watched it grow saw it end
ALL = slice(None, None, 1)  # what aiohttp says of a request without a range

log = structlog.get_logger()
routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class Text:
    """A playlist as it is sent; `mark` is what it was made from."""

    mark: tuple[Any, ...]
    body: bytes
    etag: str


@dataclass(slots=True)
class Texts:
    """Playlists by what was asked for, until there is a newer segment."""

    _texts: OrderedDict[tuple[Any, ...], Text] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: tuple[Any, ...], listed: Sequence[Listed], ended: bool) -> Text:
        """Return the playlist of these segments; `key` ends with its type."""
        (_, first), (_, last) = listed[0], listed[-1]
        mark = (first.segment_no, last.segment_no, last.sha256, len(listed), ended)
        text = self._texts.pop(key, None)
        self._bytes -= len(text.body) if text else 0
        if text is None or text.mark != mark:
            body = playlist(listed, key[-1], ended).encode()
            text = Text(mark, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
        self._texts[key] = text
        self._bytes += len(text.body)
        while self._bytes > CACHED_BYTES and len(self._texts) > 1:
            self._bytes -= len(self._texts.popitem(last=False)[1].body)
        return text


TEXTS = web.AppKey("texts", Texts)


@routes.get("/live/{station}/{camera}/index.m3u8")
async def index(request: web.Request) -> web.StreamResponse:
    """Serve the live playlist, or with `from` (and `to`) a stretch of the rewind window."""
    name, view = request.app[VIEWS].camera(request)
    if request.query.keys() & {"from", "to"}:
        return _rewind(request, name, view)
    listed = live_window(view.live(LIVE_MOST))
    if not listed:
        raise web.HTTPNotFound(
            text=say(request, "This camera has not been recorded yet; ask again."),
            headers={"Retry-After": "2"},
        )
    return _playlist(request, (*name, None), listed, False)


def _rewind(
    request: web.Request, name: tuple[str, str, str], view: CameraView
) -> web.StreamResponse:
    views = request.app[VIEWS]
    now_ms, rewind_s = views.clock(), views.config.rewind_s
    from_ms, to_ms = moment(request, "from"), moment(request, "to")
    if from_ms is None:
        text = say(request, "'from' is missing: write from=2026-11-29T09:40:00Z")
        raise web.HTTPBadRequest(text=text)
    if to_ms is not None and to_ms <= from_ms:
        raise web.HTTPBadRequest(text=say(request, "'to' is not after 'from'."))
    if from_ms > now_ms:
        raise web.HTTPNotFound(text=say(request, "'from' is in the future."))
    if from_ms < now_ms - rewind_s * 1000:
        text = say(
            request,
            "'from' is before the rewind window, which is the last %(hours)s h.",
            hours=f"{rewind_s / 3600:g}",
        )
        raise web.HTTPNotFound(text=text)
    listed = view.between(from_ms, now_ms if to_ms is None else to_ms)
    if not listed:
        raise web.HTTPNotFound(text=say(request, "Nothing was recorded in this stretch."))
    if len(listed) > MAX_REWIND_SEGMENTS:
        text = say(
            request,
            "This stretch has %(count)s segments, and a playlist at most %(most)s:"
            " ask for a shorter one with 'to'.",
            count=len(listed),
            most=MAX_REWIND_SEGMENTS,
        )
        raise web.HTTPBadRequest(text=text)
    # 6.2.1: a VOD playlist never changes and an EVENT playlist only grows. The segment that holds
    # 'to' is written some seconds after it; who watched the stretch grow sees it end as an EVENT.
    settled = to_ms is not None and to_ms < now_ms - SETTLED_MS
    ended = settled or (to_ms is not None and listed[-1][1].end_ms >= to_ms)
    key = (*name, from_ms, to_ms, "VOD" if settled else "EVENT")
    return _playlist(request, key, listed, ended)


def _playlist(
    request: web.Request, key: tuple[Any, ...], listed: Sequence[Listed], ended: bool
) -> web.StreamResponse:
    text = request.app[TEXTS].get(key, listed, ended)
    headers = {
        "Cache-Control": "public, max-age=60" if key[-1] == "VOD" else "public, max-age=1",
        "ETag": text.etag,
        "Last-Modified": formatdate(listed[-1][1].end_ms / 1000, usegmt=True),
    }
    if not_modified(request, text.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=text.body, content_type=PLAYLIST_TYPE, headers=headers)


@routes.get("/live/{station}/{camera}/{segment_no:[0-9]{1,18}}.m4s")
async def segment(request: web.Request) -> web.StreamResponse:
    """Serve one segment from the spool, or from the archive when it is no longer there."""
    name, view = request.app[VIEWS].camera(request)
    number = int(request.match_info["segment_no"])
    if found := view.find(number):
        stored, _, s = found
        part = SpoolPart(stored.media, s.offset, s.length, s.sha256)
        if answer := await _immutable(request, part, SEGMENT_TYPE):
            return answer
    return await _archived(request, await archived_segment(request, name, number), SEGMENT_TYPE)


@routes.get("/live/{station}/{camera}/init-{run_no:[0-9]{1,18}}.mp4")
async def init(request: web.Request) -> web.StreamResponse:
    """Serve the init of a run."""
    name, view = request.app[VIEWS].camera(request)
    run_no = int(request.match_info["run_no"])
    if found := view.init(run_no):
        stored, header = found
        part = SpoolPart(stored.media, 0, header.init_length, header.init_sha256)
        if answer := await _immutable(request, part, INIT_TYPE):
            return answer
    return await _archived(request, await archived_init(request, name, run_no), INIT_TYPE)


@dataclass(frozen=True, slots=True)
class SpoolPart:
    """A range of a recording in the spool."""

    media: Path
    offset: int
    length: int
    sha256: str

    async def read(self, start: int, length: int) -> bytes | None:
        """Return bytes of the part; None when the file is gone or has not all of them."""
        try:
            fd = os.open(self.media, os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = os.pread(fd, length, self.offset + start)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.error("A recording cannot be read", file=str(self.media), why=str(error))
            return None
        if len(data) != length:  # what is sent is cached for ever: never a part for the whole
            log.error("A recording is shorter than its index says", file=str(self.media))
            return None
        return data


async def _archived(request: web.Request, part: Part, content_type: str) -> web.StreamResponse:
    answer = await _immutable(request, part, content_type)
    assert answer is not None  # an archived part is read or raises
    return answer


async def _immutable(
    request: web.Request, part: SpoolPart | Part, content_type: str
) -> web.StreamResponse | None:
    """Answer with a part or the range of it that was asked for (RFC 9110, 14); None when it
    cannot be read."""
    etag = f'"{part.sha256}"'
    headers = {"Cache-Control": IMMUTABLE, "ETag": etag, "Accept-Ranges": "bytes"}
    if not_modified(request, etag):
        return web.Response(status=304, headers=headers)
    status, wanted = 200, range(part.length)
    try:
        asked = request.http_range
    except ValueError:  # another unit, or several ranges: all of it may be sent
        asked = ALL
    if asked != ALL and request.headers.get("If-Range", etag) == etag:
        status, wanted = 206, wanted[asked]
        if not wanted:
            raise web.HTTPRequestRangeNotSatisfiable(
                headers={"Content-Range": f"bytes */{part.length}"}
            )
        headers["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{part.length}"
    if (data := await part.read(wanted.start, len(wanted))) is None:
        return None
    return web.Response(status=status, body=data, content_type=content_type, headers=headers)
