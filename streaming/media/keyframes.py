"""The keyframe of a segment alone: for who scrubs, and where the link is too slow for video.

It is made of the segment's own bytes each time it is asked for; `pictures.m3u8` lists them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress

from aiohttp import web

from storage.catalogue.cameras import Name
from storage.media.fmp4 import Mp4Error
from storage.media.keyframe import Read, keyframe_fragment
from storage.recording_source import HashedRange, RecordingReader, Unreadable
from storage.spool.reader import SpoolReader
from streaming.context import CONTEXT
from streaming.http.assets import IMMUTABLE
from streaming.http.ranges import Content, send
from streaming.media.archived import OnlyOn, archived_segment, checked, missing, refuse_old
from streaming.media.elsewhere import elsewhere
from streaming.media.live import SEGMENT_TYPE, only_on

routes = web.RouteTableDef()


@routes.get("/live/{station}/{camera}/{segment_no:[0-9]{1,18}}-key.m4s")
async def keyframe(request: web.Request) -> web.StreamResponse:
    """Serve the keyframe with which a segment begins; 404 where it begins with none."""
    name, spool = request.app[CONTEXT].camera(request)
    number = int(request.match_info["segment_no"])
    if (own := await own_keyframe(request, name, spool, number)) is not None:
        return own
    file = f"{number}-key.m4s"
    if (found := await elsewhere(request, name, file, number)) is not None:
        return found
    try:
        part = await archived_segment(request, name, number)
    except OnlyOn as only:
        return await only_on(request, name, file, only.machine)
    data = await checked(part.whole())
    return await _send(request, part, number, lambda at, length: data[at : at + length])


async def own_keyframe(
    request: web.Request, name: Name, spool: SpoolReader, number: int
) -> web.StreamResponse | None:
    """Answer with the keyframe of a segment in this spool; None where the segment is not there."""
    if (found := spool.find(number)) is None:
        return None
    stored, _, s = found
    refuse_old(request, s.end_ms)
    reader = RecordingReader(request.app[CONTEXT].sources, name)
    part = HashedRange(reader, stored.key, s.offset, s.length, s.sha256)
    with suppress(Unreadable):
        return await _send(request, part, number, _in_spool(part))
    return None


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
