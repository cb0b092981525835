"""The multivariant playlist of a camera: its streams, and what each takes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from aiohttp import web

from config.model import Camera, Station
from storage.spool.rates import Rates
from streaming.context import CONTEXT, AppContext
from streaming.http.ranges import not_modified
from streaming.media.live import PLAYLIST_TYPE, never_recorded
from streaming.media.playlist import multivariant

BEHIND_MS = 30_000  # a stream that ended so long before the first is not recorded beside it

routes = web.RouteTableDef()


@routes.get("/live/{station}/{camera}/all.m3u8")
async def variants(request: web.Request) -> web.StreamResponse:
    """Serve the streams that a player may choose from: the camera's own, its second stream while
    that is recorded, and the pictures of both."""
    context = request.app[CONTEXT]
    streams = list(_streams(context, *context.station_and_camera(request)))
    if not streams:
        raise never_recorded(request)
    body = multivariant(streams)
    headers = {
        "Cache-Control": "public, max-age=5",
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
    }
    if not_modified(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=PLAYLIST_TYPE, headers=headers)


def _streams(context: AppContext, station: Station, camera: Camera) -> Iterator[tuple[str, Rates]]:
    """Yield the streams with their folders, as seen from the camera's."""
    until_ms: int | None = None
    for stream in camera.streams:
        newest = context.reader(station, stream).live(1)
        rates = context.rates(station, stream)
        if not newest or rates is None:
            continue
        end_ms = newest[0][1].end_ms
        if until_ms is None or end_ms > until_ms - BEHIND_MS:
            until_ms = end_ms if until_ms is None else until_ms
            yield "" if stream is camera else f"../{stream.id}/", rates
