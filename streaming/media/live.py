"""Playlists and segments by HTTP. Segments and inits never change: one URL, cached for ever."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial

from aiohttp import web

from base.i18n.format import format_hours
from base.i18n.gettext import gettext
from storage.catalogue.cameras import Name
from storage.cluster.peers import Unreachable
from storage.recording_source import HashedRange, RecordingReader, Unreadable
from storage.records import Index, Segment, sha256_of
from storage.spool.node_map import MachineEntry
from storage.spool.reader import SpoolReader
from streaming.context import CONTEXT
from streaming.http.assets import IMMUTABLE
from streaming.http.connections import holding
from streaming.http.negotiation import language_of
from streaming.http.parameters import time_ms
from streaming.http.prepared import OFFER, PIECE, Offer
from streaming.http.ranges import Content, not_modified, send
from streaming.http.scheduler import SCHEDULER
from streaming.media.archived import (
    OnlyOn,
    archived_init,
    archived_segment,
    away,
    checked,
    oldest_ms,
    refuse_old,
)
from streaming.media.elsewhere import (
    LivePlaylist,
    elsewhere,
    elsewhere_playlist,
    is_elsewhere,
    pass_on,
)
from streaming.media.playlist import LIVE_MOST, Entries, Listed, entries, live_window, playlist
from streaming.media.stretch import shown_entries

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
SEGMENT_TYPE, INIT_TYPE = "video/iso.segment", "video/mp4"
SHORT_MS = 3_600_000  # of a stretch that is listed at once, without waiting for others
MAX_REWIND_SEGMENTS = 50_000  # about a day of one camera, 4 MB of text
CACHED_PLAYLISTS = 50_000  # live playlists in memory, about 1 kB each
ENTRIES_BYTES = 32 << 20  # of whole recordings, about 3 kB each
ENTRIES_AT_ONCE = 32  # that are in memory for one client beside these
SETTLED_MS = 60_000  # after this a stretch is all written, and who watched it grow saw it end
LOOK_S = 0.05  # between two looks whether a live playlist is still the newest

routes = web.RouteTableDef()


@dataclass(slots=True)
class Playlists:
    """What was made of playlists: the live ones of each camera, and entries of whole recordings.

    `pictures` asks for those of keyframes alone.
    """

    _live: OrderedDict[tuple[Name, bool], LivePlaylist] = field(default_factory=OrderedDict)
    _made: OrderedDict[tuple[str | int, ...], Entries] = field(default_factory=OrderedDict)
    _bytes: int = 0  # of these

    def live(self, name: Name, listed: Sequence[Listed], pictures: bool) -> LivePlaylist:
        """Return the playlist of the newest segments, made again when there is a newer one."""
        (_, first), (header, last) = listed[0], listed[-1]
        made_of = (first.segment_no, last.segment_no, last.sha256)
        text = self._live.get((name, pictures))
        if text is None or text.made_of != made_of:
            body = b"".join(playlist(entries(listed, pictures)))
            etag = f'"{sha256_of(body)[:32]}"'
            text = LivePlaylist(body, etag, last.end_ms, header.epoch, first.end_ms, made_of)
            self._live[name, pictures] = text
            if len(self._live) > CACHED_PLAYLISTS:
                self._live.popitem(last=False)
        return text

    def known(
        self, name: Name, record_seq: int, sha256: str | None, pictures: bool
    ) -> Entries | None:
        """Return the entries of a whole recording, where they are kept."""
        return self._made.get((*name, record_seq, sha256, pictures)) if sha256 else None

    def entries(self, index: Index, segments: list[Segment], pictures: bool) -> Entries:
        """Return the entries of segments of a recording; those of a whole one are kept."""
        if index.seal is None or segments is not index.segments:
            return Entries.of(index.header, segments, pictures)
        key = (*index.name, index.header.record_seq, index.seal.sha256, pictures)
        if (made := self._made.pop(key, None)) is None:
            made = Entries.of(index.header, segments, pictures)
            self._bytes += len(made.text)
        self._made[key] = made
        while self._bytes > ENTRIES_BYTES:
            self._bytes -= len(self._made.popitem(last=False)[1].text)
        return made


PLAYLISTS = web.AppKey("playlists", Playlists)


@routes.get("/live/{station}/{camera}/index.m3u8")
async def index(request: web.Request) -> web.StreamResponse:
    """Serve the live playlist, or with `from` (and `to`) a stretch of the rewind window."""
    return await _playlist(request, pictures=False)


@routes.get("/live/{station}/{camera}/pictures.m3u8")
async def pictures(request: web.Request) -> web.StreamResponse:
    """Serve the I-frame playlist (4.3.3.6) of the same segments: a picture of each."""
    return await _playlist(request, pictures=True)


async def _playlist(request: web.Request, pictures: bool) -> web.StreamResponse:
    context = request.app[CONTEXT]
    name, reader = context.camera(request)
    if request.query.keys() & {"from", "to"}:
        return await _rewind(request, name, reader, pictures)
    text = own_playlist(request, name, reader, pictures)
    if is_elsewhere(context, name, text):
        file = "pictures.m3u8" if pictures else "index.m3u8"
        there = await elsewhere_playlist(request, name, file)
        text = max(filter(None, (text, there)), key=lambda one: one.order, default=None)
    elif own := text:
        unchanged = Unchanged(reader)

        def lasts() -> bool:
            shown = own.first_ms >= oldest_ms(context)
            return unchanged() and shown and not is_elsewhere(context, name, own)

        request[OFFER] = Offer(own.etag, own.body, lasts)
    return send_playlist(request, text)


def own_playlist(
    request: web.Request, name: Name, reader: SpoolReader, pictures: bool
) -> LivePlaylist | None:
    """Return the playlist of the newest segments in this spool, or of their keyframes
    (`pictures`); None without any."""
    oldest = oldest_ms(request.app[CONTEXT])  # of a camera that ended long ago: it would be refused
    listed = [one for one in live_window(reader.live(LIVE_MOST)) if one[1].end_ms >= oldest]
    return request.app[PLAYLISTS].live(name, listed, pictures) if listed else None


def send_playlist(request: web.Request, text: LivePlaylist | None) -> web.Response:
    """Answer with a live playlist; raises 404 where there is none."""
    if text is None:
        raise nothing_recorded(request)
    headers = _headers(text.etag, "public, max-age=1", text.end_ms)
    if not_modified(request, text.etag):
        return web.Response(status=304, headers=headers)
    return web.Response(body=text.body, content_type=PLAYLIST_TYPE, headers=headers)


def nothing_recorded(request: web.Request) -> web.HTTPNotFound:
    """Return the answer for a camera of which nothing can be watched now."""
    why = gettext(
        "Nothing of this camera was recorded in the last %(hours)s h; ask again.",
        language_of(request),
        hours=format_hours(request.app[CONTEXT].config.rewind_s),
    )
    return web.HTTPNotFound(text=why, headers={"Retry-After": "2"})


class Unchanged:
    """Tells whether a camera's spool is as it was; looks at it after LOOK_S at the earliest."""

    __slots__ = ("_looked_s", "_reader", "_revision")

    def __init__(self, reader: SpoolReader):
        self._reader, self._revision = reader, reader.revision
        self._looked_s = time.monotonic()

    def __call__(self) -> bool:
        """Tell whether nothing came or went, LOOK_S ago at most."""
        if (now_s := time.monotonic()) - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._reader.refresh()
            self._reader.newest()  # where camera.json is lost, nothing else names it
        return self._reader.revision == self._revision


def _headers(etag: str, cache: str, end_ms: int) -> dict[str, str]:
    modified = formatdate(end_ms / 1000, usegmt=True)
    return {"Cache-Control": cache, "ETag": etag, "Last-Modified": modified}


async def _rewind(
    request: web.Request, name: Name, reader: SpoolReader, pictures: bool
) -> web.StreamResponse:
    context = request.app[CONTEXT]
    now_ms, rewind_s = context.clock(), context.config.rewind_s
    from_ms, to_ms = time_ms(request, "from"), time_ms(request, "to")
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
    scheduler = request.app[SCHEDULER]
    scheduler.check(request)
    async with scheduler.turn(request) if end_ms - from_ms > SHORT_MS else nullcontext():
        listed = await _listed(request, name, reader, (from_ms, end_ms), pictures)
    return await _stretch(request, listed, to_ms, now_ms)


async def _listed(
    request: web.Request,
    name: Name,
    reader: SpoolReader,
    stretch: tuple[int, int],
    pictures: bool,
) -> list[Entries]:
    """Return the entries of a stretch; raises 400 and 404."""
    playlists, listed, count = request.app[PLAYLISTS], list[Entries](), 0
    every: AsyncIterator[Entries]
    if request.app[CONTEXT].machines is None:
        steps = request.app[SCHEDULER].in_steps(request, reader.stretch(*stretch))
        every = (playlists.entries(*found, pictures) async for found in steps)
    else:
        every = shown_entries(request, name, reader, stretch, playlists, pictures)
    async for found in every:
        listed.append(found)
        count += found.count
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
    name, spool = request.app[CONTEXT].camera(request)
    number = int(request.match_info["segment_no"])
    if (own := await own_segment(request, name, spool, number)) is not None:
        return own
    if (found := await elsewhere(request, name, f"{number}.m4s", number)) is not None:
        return found
    try:
        part = await archived_segment(request, name, number)
    except OnlyOn as only:
        return await only_on(request, name, f"{number}.m4s", only.machine)
    return await _send(request, part, _in_archive, SEGMENT_TYPE)


async def only_on(
    request: web.Request, name: Name, file: str, machine: MachineEntry
) -> web.StreamResponse:
    """Answer with what one machine alone has; raises 503 where it is away."""
    try:
        return await pass_on(request, name, file, machine)
    except Unreachable:
        raise away() from None


async def own_segment(
    request: web.Request, name: Name, spool: SpoolReader, number: int
) -> web.StreamResponse | None:
    """Answer with a segment in this spool; None where it is not there."""
    if (found := spool.find(number)) is None:
        return None
    stored, _, s = found
    refuse_old(request, s.end_ms)
    context = request.app[CONTEXT]
    reader = RecordingReader(context.sources, name)
    part = HashedRange(reader, stored.key, s.offset, s.length, s.sha256)
    with suppress(Unreadable):
        return await _send_from_spool(
            request, part, SEGMENT_TYPE, lambda: s.end_ms >= oldest_ms(context)
        )
    return None


@routes.get("/live/{station}/{camera}/init-{run_no:[0-9]{1,18}}.mp4")
async def init(request: web.Request) -> web.StreamResponse:
    """Serve the init of a run."""
    name, spool = request.app[CONTEXT].camera(request)
    run_no = int(request.match_info["run_no"])
    if (own := await own_init(request, name, spool, run_no)) is not None:
        return own
    if (found := await elsewhere(request, name, f"init-{run_no}.mp4", run_no)) is not None:
        return found
    try:
        part = await archived_init(request, name, run_no)
    except OnlyOn as only:
        return await only_on(request, name, f"init-{run_no}.mp4", only.machine)
    return await _send(request, part, _in_archive, INIT_TYPE)


async def own_init(
    request: web.Request, name: Name, spool: SpoolReader, run_no: int
) -> web.StreamResponse | None:
    """Answer with the init of a run in this spool; None where it is not there."""
    if (found := spool.init(run_no)) is None:
        return None
    stored, header = found
    reader = RecordingReader(request.app[CONTEXT].sources, name)
    part = HashedRange(reader, stored.key, 0, header.init_length, header.init_sha256)
    with suppress(Unreadable):
        return await _send_from_spool(request, part, INIT_TYPE, lambda: True)
    return None


async def _send_from_spool(
    request: web.Request, part: HashedRange, media_type: str, lasts: Callable[[], bool]
) -> web.StreamResponse:
    """Answer with a part, and offer that answer to all as long as it `lasts`; raises Unreadable
    before anything is sent."""
    request[OFFER] = Offer(f'"{part.sha256}"', part, lasts)
    try:
        return await _send(request, part, _in_spool, media_type)
    except Unreadable:
        del request[OFFER]
        raise


async def _send(
    request: web.Request,
    part: HashedRange,
    read: Callable[[HashedRange, int, int], AsyncGenerator[bytes, None]],
    media_type: str,
) -> web.StreamResponse:
    """Answer with a part, which never changes; raises what `read` does before anything is sent."""
    content = Content(media_type, part.length, f'"{part.sha256}"', partial(read, part))
    return await send(request, content, {"Cache-Control": IMMUTABLE})


async def _in_spool(part: HashedRange, start: int, stop: int) -> AsyncGenerator[bytes, None]:
    """Yield bytes of a part as the client takes them, so that a slow one holds a piece in memory;
    raises Unreadable."""
    for at in range(start, stop, PIECE):
        data = part.piece_in_spool(at, min(PIECE, stop - at))
        if data is None:
            raise Unreadable("the spool has it no longer")
        yield data


async def _in_archive(part: HashedRange, start: int, stop: int) -> AsyncGenerator[bytes, None]:
    """Yield bytes of an archived part; raises 404 or 503."""
    yield (await checked(part.whole()))[start:stop]
