"""What a machine answers to the others of its installation: from its own spool, and nothing else.

Served on `node.address`, an address of an inner network. The paths stand in docs/scaling.md.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from storage.cluster.peer_auth import HEADER, is_signed
from storage.records import Index, Losses
from streaming.context import CONTEXT
from streaming.http.parameters import time_ms
from streaming.http.ranges import send
from streaming.http.scheduler import SCHEDULER
from streaming.media.keyframes import own_keyframe
from streaming.media.live import own_init, own_playlist, own_segment, send_playlist
from streaming.media.pictures import read_picture
from streaming.media.variants import own_variants, send_variants

LATEST_MS = 253_402_300_800_000  # the year 10000
MOST_RANGE = 32 << 20  # bytes of a recording at once
TOLD = 50  # recordings of a stretch, in one piece

routes = web.RouteTableDef()


@web.middleware
async def known(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer machines of this installation alone, where they have a password; 403 else."""
    context = request.app[CONTEXT]
    node = context.config.node
    if node is not None and node.password is not None:
        said, secret = request.headers.get(HEADER, ""), node.password.get_secret_value()
        if not is_signed(secret, request.raw_path, said, context.clock()):
            raise web.HTTPForbidden
    try:
        return await handler(request)
    except web.HTTPForbidden:  # what the public may watch no longer: 403 is of who asks
        raise web.HTTPNotFound from None


@routes.get("/status.json")
async def status(request: web.Request) -> web.StreamResponse:
    """Say how the cameras are that this machine records."""
    context = request.app[CONTEXT]
    await context.fresh()
    said: dict[str, dict[str, object]] = {}
    for alive, cameras in context.status.cameras():
        for name, one in cameras.items() if alive else ():
            said[name] = {"state": one.state}
            if one.state != "recording" and one.cause:
                said[name] |= {"since_ms": one.since_ms, "cause": one.cause}
    return web.Response(body=orjson.dumps({"cameras": said}), content_type="application/json")


@routes.get("/live/{station}/{camera}/{kind:(index|pictures)}.m3u8")
async def live(request: web.Request) -> web.StreamResponse:
    """Serve the live playlist of this spool, or that of its keyframes; 404 where this machine
    has the camera and has not recorded it yet."""
    context = request.app[CONTEXT]
    name, reader = context.camera(request)
    found = own_playlist(request, name, reader, request.match_info["kind"] == "pictures")
    machines, camera = context.machines, "/".join(name[1:])
    shard = machines.shard(camera) if machines else None
    if found and machines and shard and not machines.is_elsewhere(camera):
        found = found if found.epoch >= shard.epoch else None
    return send_playlist(request, found)


@routes.get("/live/{station}/{camera}/{segment_no:[0-9]{1,18}}.m4s")
async def segment(request: web.Request) -> web.StreamResponse:
    """Serve a segment of this spool."""
    name, spool = request.app[CONTEXT].camera(request)
    return _found(await own_segment(request, name, spool, int(request.match_info["segment_no"])))


@routes.get("/live/{station}/{camera}/{segment_no:[0-9]{1,18}}-key.m4s")
async def keyframe(request: web.Request) -> web.StreamResponse:
    """Serve the keyframe with which a segment of this spool begins."""
    name, spool = request.app[CONTEXT].camera(request)
    return _found(await own_keyframe(request, name, spool, int(request.match_info["segment_no"])))


@routes.get("/live/{station}/{camera}/all.m3u8")
async def variants(request: web.Request) -> web.StreamResponse:
    """Serve the streams of a camera that this spool has."""
    context = request.app[CONTEXT]
    body = await own_variants(context, *context.station_and_camera(request))
    return send_variants(request, body)


@routes.get("/live/{station}/{camera}/init-{run_no:[0-9]{1,18}}.mp4")
async def init(request: web.Request) -> web.StreamResponse:
    """Serve the init of a run of this spool."""
    name, spool = request.app[CONTEXT].camera(request)
    return _found(await own_init(request, name, spool, int(request.match_info["run_no"])))


@routes.get("/live/{station}/{camera}/{picture:(thumb|picture)[.]jpg}")
async def picture(request: web.Request) -> web.StreamResponse:
    """Serve the latest picture of a camera."""
    context = request.app[CONTEXT]
    (_, station, camera), _ = context.camera(request)
    path = context.config.spool / station / camera / request.match_info["picture"]
    if (found := read_picture(context, path)) is None:
        raise web.HTTPNotFound
    return await send(request, found[0], {"Cache-Control": "no-store"})


@routes.get("/spool/{station}/{camera}/stretch")
async def stretch(request: web.Request) -> web.StreamResponse:
    """List what this spool has of a camera between `from` and `to`: recordings and gaps.

    Each piece is sent as soon as it was read. In steps, a day of several cameras takes longer than
    a machine that says nothing is waited for: it would be taken for one that is away, live with it.
    """
    _, reader = request.app[CONTEXT].camera(request)
    from_ms, to_ms = time_ms(request, "from") or 0, time_ms(request, "to") or LATEST_MS
    steps = request.app[SCHEDULER].in_steps
    every, comma = iter(reader.recordings(from_ms, to_ms)), b""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    with suppress(ConnectionError):  # who asked has gone
        await response.prepare(request)
        await response.write(b'{"recordings":[')
        for first in every:
            told = [
                orjson.dumps(_recording(index))
                async for _, index in steps(request, chain([first], islice(every, TOLD - 1)))
                if index.segments and index.start_ms < to_ms
            ]
            if told:
                await response.write(comma + b",".join(told))
                comma = b","
        gaps = orjson.dumps([gap.to_dict() for gap in reader.gaps(from_ms, to_ms)])
        await response.write_eof(b'],"gaps":%b}' % gaps)
    return response


@routes.get("/spool/{station}/{camera}/motion")
async def motion(request: web.Request) -> web.StreamResponse:
    """Tell what the pictures of a camera took between `from` and `to`, by steps."""
    context = request.app[CONTEXT]
    _, reader = context.camera(request)
    from_ms, to_ms = time_ms(request, "from") or 0, time_ms(request, "to") or LATEST_MS
    recordings = reader.recordings(from_ms, to_ms)
    steps = await context.motion.of(request.app[SCHEDULER].in_steps(request, recordings))
    body = orjson.dumps({"steps": list(steps.items())})
    return web.Response(body=body, content_type="application/json")


def _recording(index: Index) -> dict[str, object]:
    return {
        "record_seq": index.header.record_seq,
        "start_ms": index.start_ms,
        "end_ms": index.end_ms,
        "sha256": index.seal.sha256 if index.seal else None,
        **Losses.of(index.segments).to_dict(),
    }


@routes.get("/spool/{station}/{camera}/{day:[0-9-]{10}}/{file:[0-9]{9}Z-[0-9]{1,18}[.](jsonl|mp4)}")
async def file(request: web.Request) -> web.StreamResponse:
    """Serve a file of a recording: `length` bytes from `offset` on, or all of an index."""
    context = request.app[CONTEXT]
    (_, station, camera), _ = context.camera(request)
    path = context.config.spool.joinpath(
        station, camera, request.match_info["day"], request.match_info["file"]
    )
    try:
        offset, length = (int(request.query.get(key, "0")) for key in ("offset", "length"))
        data = await asyncio.to_thread(_pread, path, offset, min(length, MOST_RANGE) or MOST_RANGE)
    except (ValueError, OverflowError):
        raise web.HTTPBadRequest from None
    except OSError:
        raise web.HTTPNotFound from None
    return web.Response(body=data, content_type="application/octet-stream")


def _pread(path: Path, offset: int, length: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(fd, length, offset)
    finally:
        os.close(fd)


def _found(answer: web.StreamResponse | None) -> web.StreamResponse:
    if answer is None:
        raise web.HTTPNotFound
    return answer
