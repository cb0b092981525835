"""The keyframe of a segment alone: for who scrubs, and where the link is too slow for video.

It is made of the segment's own bytes each time it is asked for; `pictures.m3u8` lists them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress

from aiohttp import web

from storage.media.fmp4 import Mp4Error
from storage.media.keyframe import Read, keyframe_fragment
from storage.recording_source import HashedRange, RecordingReader, Unreadable
from streaming.context import CONTEXT
from streaming.http.ranges import Content, send
from streaming.media.archived import archived_segment, checked, missing, refuse_old
from streaming.media.live import IMMUTABLE, SEGMENT_TYPE

routes = web.RouteTableDef()


@routes.get("/live/{station}/{camera}/{segment_no:[0-9]{1,18}}-key.m4s")
async def keyframe(request: web.Request) -> web.StreamResponse:
    """Serve the keyframe with which a segment begins; 404 where it begins with none."""
    context = request.app[CONTEXT]
    name, spool = context.camera(request)
    number = int(request.match_info["segment_no"])
    if found := spool.find(number):
        stored, _, s = found
        refuse_old(request, s.end_ms)
        reader = RecordingReader(context.sources, name)
        part = HashedRange(reader, stored.key, s.offset, s.length, s.sha256)
        with suppress(Unreadable):
            return await _send(request, part, number, _in_spool(part))
    part = await archived_segment(request, name, number)
    data = await checked(part.whole())
    return await _send(request, part, number, lambda at, length: data[at : at + length])


def _in_spool(part: HashedRange) -> Read:
    def read(at: int, length: int) -> bytes:
        if (data := part.piece_in_spool(at, length)) is None:
            raise Unreadable("the spool has it no longer")
        return data

    return read


async def _send(
    request: web.Request, part: HashedRange, number: int, read: Read
) -> web.StreamResponse:
    try:
        data = keyframe_fragment(part.length, read, number)
    except Mp4Error:
        raise missing() from None

    async def sent(start: int, stop: int) -> AsyncGenerator[bytes, None]:
        yield data[start:stop]

    content = Content(SEGMENT_TYPE, len(data), f'"{part.sha256}-key"', sent)
    return await send(request, content, {"Cache-Control": IMMUTABLE})
