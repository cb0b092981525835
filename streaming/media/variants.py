"""The multivariant playlist of a camera: its streams, and what each takes."""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from config.model import Camera, Station
from storage.records import sha256_of
from storage.spool.rates import Rates
from streaming.context import CONTEXT, AppContext
from streaming.http.ranges import not_modified
from streaming.media.archived import oldest_ms
from streaming.media.elsewhere import elsewhere_playlist
from streaming.media.live import PLAYLIST_TYPE, nothing_recorded
from streaming.media.playlist import multivariant

FILE = "all.m3u8"
BEHIND_MS = 30_000  # a stream that ended so long before the first is not recorded beside it

routes = web.RouteTableDef()


@routes.get("/live/{station}/{camera}/all.m3u8")
async def variants(request: web.Request) -> web.StreamResponse:
    """Serve the streams that a player may choose from: the camera's own, its second stream while
    that is recorded, and the pictures of both."""
    context = request.app[CONTEXT]
    station, camera = context.station_and_camera(request)
    body = await own_variants(context, station, camera)
    if body is None or context.is_elsewhere(station, camera):
        found = await elsewhere_playlist(request, context.name(station, camera), FILE)
        body = found.body if found else body
    return send_variants(request, body)


async def own_variants(context: AppContext, station: Station, camera: Camera) -> bytes | None:
    """Return the playlist of what this spool has of a camera; None where it has nothing."""
    await context.learn_rates(station, (camera,))
    streams = list(_streams(context, station, camera))
    return multivariant(streams) if streams else None


def send_variants(request: web.Request, body: bytes | None) -> web.Response:
    """Answer with a multivariant playlist; raises 404 where there is none."""
    if body is None:
        raise nothing_recorded(request)
    headers = {
        "Cache-Control": "public, max-age=5",
        "ETag": f'"{sha256_of(body)[:32]}"',
    }
    if not_modified(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=PLAYLIST_TYPE, headers=headers)


def _streams(context: AppContext, station: Station, camera: Camera) -> Iterator[tuple[str, Rates]]:
    """Yield the streams with their folders, as seen from the camera's."""
    oldest, until_ms = oldest_ms(context), None
    for stream in camera.streams:
        newest = context.reader(station, stream).live(1)
        rates = context.rates(station, stream)
        if not newest or rates is None:
            continue
        end_ms = newest[0][1].end_ms
        if end_ms < oldest:  # its segments would be refused
            continue
        if until_ms is None or end_ms > until_ms - BEHIND_MS:
            until_ms = end_ms if until_ms is None else until_ms
            yield "" if stream is camera else f"../{stream.id}/", rates
