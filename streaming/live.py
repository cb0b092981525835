"""Playlists and segments by HTTP. Segments and inits never change: one URL, cached for ever."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from storage.view import CameraView
from streaming.answers import not_modified
from streaming.archived import Part, archived_init, archived_segment, refuse_old
from streaming.hls import LIVE_MOST, Listed, live_window, playlist
from streaming.language import say
from streaming.ranges import wanted_part
from streaming.views import VIEWS, moment
from streaming.work import WORK, in_steps

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SEGMENT_TYPE, INIT_TYPE = "video/iso.segment", "video/mp4"
IMMUTABLE = "public, max-age=31536000, immutable"
SHORT_MS = 3_600_000  # of a stretch that is listed at once, without waiting for others
SEGMENTS_A_TOKEN = 5_000  # see `work`
MAX_REWIND_SEGMENTS = 50_000  # about a day of one camera, 4 MB of text
CACHED_BYTES = 32 << 20
SETTLED_MS = 60_000  # after this a stretch is all written, and who watched it grow saw it end
PIECE = 256 << 10  # bytes of a segment that are in memory for one client

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

    async def get(self, key: tuple[Any, ...], listed: Sequence[Listed], ended: bool) -> Text:
        """Return the playlist of these segments; `key` ends with its type."""
        (_, first), (_, last) = listed[0], listed[-1]
        mark = (first.segment_no, last.segment_no, last.sha256, len(listed), ended)
        text = self._texts.get(key)
        if text is None or text.mark != mark:
            lines = [line async for line in in_steps(playlist(listed, key[-1], ended))]
            body = "".join(lines).encode()
            text = Text(mark, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            self._bytes += len(body)
        replaced = self._texts.pop(key, None)
        if replaced is not None and replaced is not text:
            self._bytes -= len(replaced.body)
        self._texts[key] = text
        while self._bytes > CACHED_BYTES and len(self._texts) > 1:
            self._bytes -= len(self._texts.popitem(last=False)[1].body)
        return text


TEXTS = web.AppKey("texts", Texts)


@routes.get("/live/{station}/{camera}/index.m3u8")
async def index(request: web.Request) -> web.StreamResponse:
    """Serve the live playlist, or with `from` (and `to`) a stretch of the rewind window."""
    name, view = request.app[VIEWS].camera(request)
    if request.query.keys() & {"from", "to"}:
        return await _rewind(request, name, view)
    listed = live_window(view.live(LIVE_MOST))
    if not listed:
        raise web.HTTPNotFound(
            text=say(request, "This camera has not been recorded yet; ask again."),
            headers={"Retry-After": "2"},
        )
    return await _playlist(request, (*name, None), listed, False)


async def _rewind(
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
    end_ms = now_ms if to_ms is None else min(to_ms, now_ms + rewind_s * 1000)
    work = request.app[WORK]
    work.check(request)
    async with work.turn(request) if end_ms - from_ms > SHORT_MS else nullcontext():
        listed = await _listed(request, view, from_ms, end_ms)
        return await _stretch(request, name, listed, from_ms, to_ms, now_ms)


async def _listed(request: web.Request, view: CameraView, from_ms: int, to_ms: int) -> list[Listed]:
    """Return the segments of a stretch; raises 400 and 404."""
    listed: list[Listed] = []
    async for some in in_steps(view.stretch(from_ms, to_ms)):
        listed += some
        if len(listed) > MAX_REWIND_SEGMENTS:
            break
    request.app[WORK].count(request, len(listed) / SEGMENTS_A_TOKEN)
    if not listed:
        raise web.HTTPNotFound(text=say(request, "Nothing was recorded in this stretch."))
    if len(listed) > MAX_REWIND_SEGMENTS:
        text = say(
            request,
            "This stretch has more segments than a playlist may have, which is %(most)s:"
            " ask for a shorter one with 'to'.",
            most=MAX_REWIND_SEGMENTS,
        )
        raise web.HTTPBadRequest(text=text)
    return listed


async def _stretch(
    request: web.Request,
    name: tuple[str, str, str],
    listed: list[Listed],
    from_ms: int,
    to_ms: int | None,
    now_ms: int,
) -> web.StreamResponse:
    """Answer with the playlist of a stretch, whose key is what is in it: whoever asks for a
    moment of the same segment is given the same text."""
    # 6.2.1: a VOD playlist never changes and an EVENT playlist only grows. The segment that holds
    # 'to' is written some seconds after it; who watched the stretch grow sees it end as an EVENT.
    settled = to_ms is not None and to_ms < now_ms - SETTLED_MS
    ended = settled or (to_ms is not None and listed[-1][1].end_ms >= to_ms)
    until = to_ms if to_ms is None else listed[-1][1].segment_no if ended else "later"
    key = (*name, listed[0][1].segment_no, until, "VOD" if settled else "EVENT")
    return await _playlist(request, key, listed, ended)


async def _playlist(
    request: web.Request, key: tuple[Any, ...], listed: Sequence[Listed], ended: bool
) -> web.StreamResponse:
    text = await request.app[TEXTS].get(key, listed, ended)
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
        refuse_old(request, s)
        part = SpoolPart(stored.media, s.offset, s.length, s.sha256)
        if answer := await _immutable(request, part, SEGMENT_TYPE):
            return answer
    archived = await archived_segment(request, name, number)
    return await _archived(request, archived, SEGMENT_TYPE)


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
            try:  # all of it is looked for at once, as a slow client is sent it in pieces
                is_whole = os.fstat(fd).st_size >= self.offset + self.length
                data = os.pread(fd, length, self.offset + start) if is_whole else b""
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


async def _immutable(
    request: web.Request, part: SpoolPart | Part, content_type: str
) -> web.StreamResponse | None:
    """Answer with a part or the range of it that was asked for; None when it cannot be read.

    A long one is read as the client takes it, so that a slow client holds a piece in memory.
    """
    headers = {"Cache-Control": IMMUTABLE, "ETag": f'"{part.sha256}"'}
    status, wanted = wanted_part(request, headers, part.length)
    if status == 304:
        return web.Response(status=304, headers=headers)
    piece = PIECE if isinstance(part, SpoolPart) else part.length
    if (data := await part.read(wanted.start, min(piece, len(wanted)))) is None:
        return None
    if len(data) == len(wanted):
        return web.Response(status=status, body=data, content_type=content_type, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type, response.content_length = content_type, len(wanted)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await response.write(data)
    for start in range(wanted.start + piece, wanted.stop, piece):
        data = await part.read(start, min(piece, wanted.stop - start))
        if data is None:  # it left the spool meanwhile: never a part for the whole
            if request.transport is not None:
                request.transport.abort()
            break
        await response.write(data)
    return response


async def _archived(request: web.Request, part: Part, content_type: str) -> web.StreamResponse:
    answer = await _immutable(request, part, content_type)
    assert answer is not None  # an archived part is read or raises
    return answer
