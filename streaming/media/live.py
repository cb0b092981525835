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

from base.i18n.format import format_hours
from base.i18n.gettext import gettext
from storage.catalogue.cameras import Name
from storage.records import Index, Segment
from storage.spool.reader import SpoolReader
from streaming.context import CONTEXT, parse_time
from streaming.http.connections import holding
from streaming.http.negotiation import language_of
from streaming.http.ranges import wanted_part
from streaming.http.responses import not_modified
from streaming.http.work import WORK
from streaming.media.archived import ArchivedSegment, archived_init, archived_segment, refuse_old
from streaming.media.playlist import LIVE_MOST, Entries, Listed, entries, live_window, playlist

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SEGMENT_TYPE, INIT_TYPE = "video/iso.segment", "video/mp4"
IMMUTABLE = "public, max-age=31536000, immutable"
SHORT_MS = 3_600_000  # of a stretch that is listed at once, without waiting for others
MAX_REWIND_SEGMENTS = 50_000  # about a day of one camera, 4 MB of text
LIVE_KEPT = 50_000  # live playlists in memory, about 1 kB each
ENTRIES_BYTES = 32 << 20  # of whole recordings, about 3 kB each
ENTRIES_AT_ONCE = 32  # that are in memory for one client beside these
SETTLED_MS = 60_000  # after this a stretch is all written, and who watched it grow saw it end
PIECE = 64 << 10  # bytes of a segment that are in memory for one client

log = structlog.get_logger()
routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class CachedPlaylist:
    """A live playlist as it is sent; `mark` is what it was made from."""

    mark: tuple[Any, ...]
    body: bytes
    etag: str


@dataclass(slots=True)
class Playlists:
    """What was made of playlists: the live one of each camera, and entries of whole recordings."""

    _live: OrderedDict[Name, CachedPlaylist] = field(default_factory=OrderedDict)
    _made: OrderedDict[tuple[Any, ...], Entries] = field(default_factory=OrderedDict)
    _bytes: int = 0  # of these

    def live(self, name: Name, listed: Sequence[Listed]) -> CachedPlaylist:
        """Return the playlist of the newest segments, made again when there is a newer one."""
        (_, first), (_, last) = listed[0], listed[-1]
        mark = (first.segment_no, last.segment_no, last.sha256)
        text = self._live.get(name)
        if text is None or text.mark != mark:
            body = b"".join(playlist(entries(listed)))
            text = CachedPlaylist(mark, body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
            self._live[name] = text
            if len(self._live) > LIVE_KEPT:
                self._live.popitem(last=False)
        return text

    def entries(self, index: Index, segments: list[Segment]) -> Entries:
        """Return the entries of segments of a recording; those of a whole one are kept."""
        if index.seal is None or segments is not index.segments:
            return Entries.of(index.header, segments)
        key = (*index.name, index.header.record_seq, index.seal.sha256)
        if (made := self._made.pop(key, None)) is None:
            made = Entries.of(index.header, segments)
            self._bytes += len(made.text)
        self._made[key] = made
        while self._bytes > ENTRIES_BYTES:
            self._bytes -= len(self._made.popitem(last=False)[1].text)
        return made


PLAYLISTS = web.AppKey("playlists", Playlists)


@routes.get("/live/{station}/{camera}/index.m3u8")
async def index(request: web.Request) -> web.StreamResponse:
    """Serve the live playlist, or with `from` (and `to`) a stretch of the rewind window."""
    name, view = request.app[CONTEXT].camera(request)
    if request.query.keys() & {"from", "to"}:
        return await _rewind(request, view)
    listed = live_window(view.live(LIVE_MOST))
    if not listed:
        raise web.HTTPNotFound(
            text=gettext("This camera has not been recorded yet; ask again.", language_of(request)),
            headers={"Retry-After": "2"},
        )
    text = request.app[PLAYLISTS].live(name, listed)
    headers = _headers(text.etag, "public, max-age=1", listed[-1][1].end_ms)
    if not_modified(request, text.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=text.body, content_type=PLAYLIST_TYPE, headers=headers)


def _headers(etag: str, cache: str, end_ms: int) -> dict[str, str]:
    modified = formatdate(end_ms / 1000, usegmt=True)
    return {"Cache-Control": cache, "ETag": etag, "Last-Modified": modified}


async def _rewind(request: web.Request, view: SpoolReader) -> web.StreamResponse:
    views = request.app[CONTEXT]
    now_ms, rewind_s = views.clock(), views.config.rewind_s
    from_ms, to_ms = parse_time(request, "from"), parse_time(request, "to")
    if from_ms is None:
        text = gettext("'from' is missing: write from=2026-11-29T09:40:00Z", language_of(request))
        raise web.HTTPBadRequest(text=text)
    if to_ms is not None and to_ms <= from_ms:
        raise web.HTTPBadRequest(text=gettext("'to' is not after 'from'.", language_of(request)))
    if from_ms > now_ms:
        raise web.HTTPNotFound(text=gettext("'from' is in the future.", language_of(request)))
    if from_ms < now_ms - rewind_s * 1000:
        text = gettext(
            "'from' is before the rewind window, which is the last %(hours)s h.",
            language_of(request),
            hours=format_hours(rewind_s),
        )
        raise web.HTTPNotFound(text=text)
    end_ms = now_ms if to_ms is None else min(to_ms, now_ms + rewind_s * 1000)
    work = request.app[WORK]
    work.check(request)
    async with work.turn(request) if end_ms - from_ms > SHORT_MS else nullcontext():
        listed = await _listed(request, view, from_ms, end_ms)
    return await _stretch(request, listed, to_ms, now_ms)


async def _listed(
    request: web.Request, view: SpoolReader, from_ms: int, to_ms: int
) -> list[Entries]:
    """Return the entries of a stretch; raises 400 and 404."""
    playlists, listed, count = request.app[PLAYLISTS], list[Entries](), 0
    async for found in request.app[WORK].in_steps(request, view.stretch(from_ms, to_ms)):
        listed.append(playlists.entries(*found))
        count += listed[-1].count
        if count > MAX_REWIND_SEGMENTS:
            text = gettext(
                "This stretch has more segments than a playlist may have, which is %(most)s:"
                " ask for a shorter one with 'to'.",
                language_of(request),
                most=MAX_REWIND_SEGMENTS,
            )
            raise web.HTTPBadRequest(text=text)
    if not listed:
        raise web.HTTPNotFound(
            text=gettext("Nothing was recorded in this stretch.", language_of(request))
        )
    return listed


async def _stretch(
    request: web.Request, listed: list[Entries], to_ms: int | None, now_ms: int
) -> web.StreamResponse:
    """Answer with the playlist of a stretch, a piece at a time."""
    # 6.2.1: a VOD playlist never changes and an EVENT playlist only grows. The segment that holds
    # 'to' is written some seconds after it; who watched the stretch grow sees it end as an EVENT.
    settled = to_ms is not None and to_ms < now_ms - SETTLED_MS
    ended = settled or (to_ms is not None and listed[-1].end_ms >= to_ms)
    pieces = list(playlist(listed, "VOD" if settled else "EVENT", ended))
    digest = hashlib.sha256(b"".join(part.sha256 for part in listed))
    digest.update(pieces[0] + pieces[1] + pieces[-1])
    etag = f'"{digest.hexdigest()[:32]}"'
    cache = "public, max-age=60" if settled else "public, max-age=1"
    headers = _headers(etag, cache, listed[-1].end_ms)
    if not_modified(request, etag):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_type, response.content_length = PLAYLIST_TYPE, sum(map(len, pieces))
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    with holding(request, response.content_length):
        for n in range(0, len(pieces), ENTRIES_AT_ONCE):
            await response.write(b"".join(pieces[n : n + ENTRIES_AT_ONCE]))
    return response


@routes.get("/live/{station}/{camera}/{segment_no:[0-9]{1,18}}.m4s")
async def segment(request: web.Request) -> web.StreamResponse:
    """Serve one segment from the spool, or from the archive when it is no longer there."""
    name, view = request.app[CONTEXT].camera(request)
    number = int(request.match_info["segment_no"])
    if found := view.find(number):
        stored, _, s = found
        refuse_old(request, s.end_ms)
        part = SpoolPart(stored.media, s.offset, s.length, s.sha256)
        if answer := await _immutable(request, part, SEGMENT_TYPE):
            return answer
    archived = await archived_segment(request, name, number)
    return await _archived(request, archived, SEGMENT_TYPE)


@routes.get("/live/{station}/{camera}/init-{run_no:[0-9]{1,18}}.mp4")
async def init(request: web.Request) -> web.StreamResponse:
    """Serve the init of a run."""
    name, view = request.app[CONTEXT].camera(request)
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
    request: web.Request, part: SpoolPart | ArchivedSegment, content_type: str
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


async def _archived(
    request: web.Request, part: ArchivedSegment, content_type: str
) -> web.StreamResponse:
    answer = await _immutable(request, part, content_type)
    assert answer is not None  # an archived part is read or raises
    return answer
