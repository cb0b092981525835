"""Playlists and segments by HTTP. Segments and inits never change: one URL, cached for ever."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import formatdate

from aiohttp import web

from storage.archive import ArchiveError
from storage.catalogue import Name
from storage.index import Index, parse_archive_document
from storage.view import CameraView
from streaming.hls import LIVE_SEGMENTS, Listed, consecutive_tail, playlist
from streaming.views import VIEWS

PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
IMMUTABLE = "public, max-age=31536000, immutable"
PLAYLIST_CACHE = "public, max-age=1"
MAX_REWIND_SEGMENTS = 50_000  # about a day of one camera, 5 MB of text
INDEXES = 256  # of archived recordings, kept in memory

routes = web.RouteTableDef()


@routes.get("/live/{station}/{camera}/index.m3u8")
async def index(request: web.Request) -> web.StreamResponse:
    """Serve the live playlist, or with `from` (and `to`) a stretch of the rewind window."""
    _, view = request.app[VIEWS].camera(request)
    if request.query.keys() & {"from", "to"}:
        return _rewind(request, view)
    listed = consecutive_tail(view.live(LIVE_SEGMENTS))
    if not listed:
        raise web.HTTPNotFound(
            text="This camera has not been recorded yet; ask again.\n", headers={"Retry-After": "2"}
        )
    return _playlist(request, listed, None, False)


def _rewind(request: web.Request, view: CameraView) -> web.StreamResponse:
    now_ms = int(time.time() * 1000)
    rewind_s = request.app[VIEWS].config.rewind_s
    from_ms, to_ms = _moment(request, "from"), _moment(request, "to")
    if from_ms is None:
        raise web.HTTPBadRequest(text="'from' is missing: write from=2026-11-29T09:40:00Z\n")
    if to_ms is not None and to_ms <= from_ms:
        raise web.HTTPBadRequest(text="'to' is not after 'from'.\n")
    if from_ms > now_ms:
        raise web.HTTPNotFound(text="'from' is in the future.\n")
    if from_ms < now_ms - rewind_s * 1000:
        raise web.HTTPNotFound(
            text=f"'from' is before the rewind window, which is the last {rewind_s / 3600:g} h.\n"
        )
    ended = to_ms is not None and to_ms <= now_ms
    listed = view.between(from_ms, now_ms if to_ms is None else to_ms)
    if not listed:
        raise web.HTTPNotFound(text="Nothing was recorded in this stretch.\n")
    return _playlist(request, listed[:MAX_REWIND_SEGMENTS], "VOD" if ended else "EVENT", ended)


def _moment(request: web.Request, name: str) -> int | None:
    """Return a query parameter as UTC ms: an integer, or RFC 3339 with a zone."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        if text.isdigit() and len(text) <= 15:
            return int(text)
        at = datetime.fromisoformat(text.replace(" ", "+"))
        if at.tzinfo is None:
            raise ValueError
        return int(at.astimezone(UTC).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise web.HTTPBadRequest(
            text=f"'{name}' is not a time: write 2026-11-29T09:40:00Z or milliseconds of UTC.\n"
        ) from None


def _playlist(
    request: web.Request, listed: Sequence[Listed], kind: str | None, ended: bool
) -> web.StreamResponse:
    body = playlist(listed, kind, ended).encode()
    headers = {
        "Cache-Control": PLAYLIST_CACHE,
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        "Last-Modified": formatdate(listed[-1][1].end_ms / 1000, usegmt=True),
    }
    if _not_modified(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=PLAYLIST_TYPE, headers=headers)


@routes.get("/live/{station}/{camera}/{segment_no:[0-9]{1,18}}.m4s")
async def segment(request: web.Request) -> web.StreamResponse:
    """Serve one segment from the spool, or from the archive when it is no longer there."""
    name, view = request.app[VIEWS].camera(request)
    number = int(request.match_info["segment_no"])
    if found := view.find(number):
        stored, _, entry = found
        if (data := _read(stored.media, entry.offset, entry.length)) is not None:
            return _immutable(request, data, entry.sha256, "video/iso.segment")
    index, key = await _archived(request, name, number, None)
    at = number - index.segments[0].segment_no
    if not 0 <= at < len(index.segments):
        raise web.HTTPNotFound(text="There is no such segment.\n")
    entry = index.segments[at]
    data = await _from_archive(request, key, entry.offset, entry.length)
    return _immutable(request, data, entry.sha256, "video/iso.segment")


@routes.get("/live/{station}/{camera}/init-{run_no:[0-9]{1,18}}.mp4")
async def init(request: web.Request) -> web.StreamResponse:
    """Serve the init of a run."""
    name, view = request.app[VIEWS].camera(request)
    run_no = int(request.match_info["run_no"])
    if found := view.init(run_no):
        stored, header = found
        if (data := _read(stored.media, 0, header.init_length)) is not None:
            return _immutable(request, data, header.init_sha256, "video/mp4")
    index, key = await _archived(request, name, None, run_no)
    data = await _from_archive(request, key, 0, index.header.init_length)
    return _immutable(request, data, index.header.init_sha256, "video/mp4")


def _read(path: os.PathLike[str], offset: int, length: int) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)


_INDEXES: OrderedDict[str, Index] = OrderedDict()


async def _archived(
    request: web.Request, name: Name, segment_no: int | None, run_no: int | None
) -> tuple[Index, str]:
    """Return index and key of the archived recording that holds a segment or begins a run."""
    views = request.app[VIEWS]
    missing = web.HTTPNotFound(text="There is no such segment.\n")
    if views.catalogue is None or views.archive is None:
        raise missing
    if segment_no is not None:
        row = await views.catalogue.recording_with_segment(name, segment_no)
    else:
        row = await views.catalogue.recording_of_run(name, run_no or 0)
    if row is None:
        raise missing
    key = row["archive_key"]
    if key not in _INDEXES:
        try:
            _INDEXES[key] = parse_archive_document(await views.archive.get(key + ".json"))
        except KeyError:
            raise missing from None
        except ArchiveError:
            raise _unavailable() from None
        while len(_INDEXES) > INDEXES:
            _INDEXES.popitem(last=False)
    _INDEXES.move_to_end(key)
    return _INDEXES[key], key


async def _from_archive(request: web.Request, key: str, offset: int, length: int) -> bytes:
    archive = request.app[VIEWS].archive
    assert archive is not None
    try:
        return await asyncio.wait_for(archive.get(key + ".mp4", offset, length), 30)
    except KeyError:
        raise web.HTTPNotFound(text="There is no such segment.\n") from None
    except (ArchiveError, TimeoutError):
        raise _unavailable() from None


def _unavailable() -> web.HTTPServiceUnavailable:
    return web.HTTPServiceUnavailable(
        text="The archive does not answer; the recording is there, ask again.\n",
        headers={"Retry-After": "10"},
    )


def _immutable(
    request: web.Request, data: bytes, sha256: str, content_type: str
) -> web.StreamResponse:
    headers = {"Cache-Control": IMMUTABLE, "ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
    if _not_modified(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    total = len(data)
    try:
        wanted = request.http_range
    except ValueError:
        raise web.HTTPRequestRangeNotSatisfiable(
            headers={"Content-Range": f"bytes */{total}"}
        ) from None
    if request.headers.get("If-Range", headers["ETag"]) == headers["ETag"] and (
        wanted.start is not None or wanted.stop is not None
    ):
        start, stop, _ = wanted.indices(total)
        if start >= stop:
            raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{total}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        return web.Response(
            status=206, body=data[start:stop], content_type=content_type, headers=headers
        )
    return web.Response(body=data, content_type=content_type, headers=headers)


def _not_modified(request: web.Request, etag: str) -> bool:
    tags = request.if_none_match or ()
    return any(t.value == "*" or f'"{t.value}"' == etag for t in tags)
