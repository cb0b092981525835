"""What other machines of an installation have of a camera, from their spools to whoever asks here.

A machine answers others from its own spool alone (for_peers.py), so nothing goes round.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from aiohttp import web

from storage.catalogue.cameras import Name
from storage.cluster.peers import Flight, Unreachable
from storage.recording_source import Unreadable
from storage.spool.node_map import MachineEntry
from storage.spool.numbers import lease_of
from streaming.context import CONTEXT, AppContext
from streaming.http.assets import IMMUTABLE
from streaming.http.connections import holding
from streaming.http.ranges import Content, send

FRESH_S = 0.5  # for which a playlist of another machine is not asked for again
STALE_S = 30.0  # for which the last one is given while nobody has a newer one
MOST_PLAYLISTS = 50_000  # in memory, about 1 kB each


@dataclass(frozen=True, slots=True)
class LivePlaylist:
    """A live playlist as it is sent, of recordings of an epoch: from the end of its first segment
    to that of its last. `made_of` tells one from another: the number of its first segment and, of
    this spool, of its last, with what that is told by."""

    body: bytes
    etag: str
    end_ms: int
    epoch: int = 0
    first_ms: int = 0
    made_of: tuple[int, int, str] = (0, 0, "")

    @property
    def order(self) -> tuple[int, int]:
        """Which of two is newer: numbers only rise, also where another machine takes the camera
        over, whatever its clock says."""
        return self.made_of[0], self.end_ms


# the newest playlists of cameras that others record, by their files, and when they came
LAST_LIVE = web.AppKey("last_live", OrderedDict[tuple[Name, str], tuple[LivePlaylist, float]])


def is_elsewhere(context: AppContext, name: Name, own: LivePlaylist | None) -> bool:
    """Tell whether another machine may have newer recordings of a camera than `own`: it records
    the camera, or this one has only begun to."""
    if (machines := context.machines) is None:
        return False
    camera = "/".join(name[1:])
    if (shard := machines.shard(camera)) is None:
        return False
    return machines.is_elsewhere(camera) or own is None or own.epoch < shard.epoch


async def elsewhere_playlist(request: web.Request, name: Name, file: str) -> LivePlaylist | None:
    """Return the newest playlist of live that another machine has, by its file name; None where
    none had one for a while. While a camera changes machines the last one stands: players wait for
    what follows."""
    context, known = request.app[CONTEXT], request.app[LAST_LIVE]
    last, at_s = known.get((name, file), (None, float("-inf")))
    if context.elapsed_s() - at_s < FRESH_S:
        return last
    path = f"/live/{name[1]}/{name[2]}/{file}"
    machines = context.machines
    for machine in machines.others("/".join(name[1:])) if machines else ():
        with suppress(Unreachable):
            async with context.peers.ask(machine, path) as flight:
                body, etag = await flight.body(), flight.headers["ETag"]
                made_of = (_first_no(body), 0, "")
                found = LivePlaylist(body, etag, _modified_ms(flight), made_of=made_of)
            if last is not None and found.order < last.order:
                continue  # of a time before
            known[name, file] = found, context.elapsed_s()
            known.move_to_end((name, file))
            while len(known) > MOST_PLAYLISTS:
                known.popitem(last=False)
            return found
    return last if context.elapsed_s() - at_s < STALE_S else None


async def elsewhere(
    request: web.Request, name: Name, file: str, number: int
) -> web.StreamResponse | None:
    """Answer with a segment, its keyframe or an init that another machine has most probably, as the
    epoch is a part of its number; None where it has not. `number` is the segment's or the run's."""
    machines = request.app[CONTEXT].machines
    shard = machines.shard("/".join(name[1:])) if machines else None
    if machines is None or shard is None:
        return None
    is_newest = lease_of(number) == shard.epoch
    machine = machines.machine(shard.holder if is_newest else shard.before)
    if machine is None:
        return None
    try:
        return await pass_on(request, name, file, machine)
    except Unreachable:
        return None


async def pass_on(
    request: web.Request, name: Name, file: str, machine: MachineEntry
) -> web.StreamResponse:
    """Answer with a file of live that a machine has and that never changes, as it comes; raises
    Unreachable where nothing was sent."""
    path = f"/live/{name[1]}/{name[2]}/{file}"
    async with request.app[CONTEXT].peers.ask(machine, path) as flight:
        length = int(flight.headers.get("Content-Length", "0"))
        media_type, etag = flight.headers["Content-Type"], flight.headers["ETag"]

        async def read(start: int, stop: int) -> AsyncGenerator[bytes, None]:
            try:
                async for piece in flight.read(start, stop):
                    yield piece
            except Unreachable as error:
                raise Unreadable(str(error)) from None

        content = Content(media_type, length, etag, read)
        with holding(request, length):
            try:
                return await send(request, content, {"Cache-Control": IMMUTABLE})
            except Unreadable as error:
                raise Unreachable(str(error)) from None


async def elsewhere_picture(context: AppContext, name: Name, file: str) -> Content | None:
    """Return the latest picture that another machine has of a camera; None where none has one."""
    machines, camera = context.machines, "/".join(name[1:])
    if machines is None or not machines.is_elsewhere(camera):
        return None
    for machine in machines.others(camera)[:1]:
        with suppress(Unreachable):
            async with context.peers.ask(machine, f"/live/{camera}/{file}") as flight:
                data, etag = await flight.body(), flight.headers["ETag"]
                modified_s = _modified_ms(flight) // 1000

            async def read(
                start: int, stop: int, data: bytes = data
            ) -> AsyncGenerator[bytes, None]:
                yield data[start:stop]

            return Content("image/jpeg", len(data), etag, read, modified_s)
    return None


def _first_no(body: bytes) -> int:
    """Return the number of the first segment of a playlist; 0 where it lists none."""
    found = re.search(rb"^#EXT-X-MEDIA-SEQUENCE:(\d{1,18})$", body, re.M)
    return int(found[1]) if found else 0


def _modified_ms(flight: Flight) -> int:
    """Return what Last-Modified says, in UTC; 0 where it says nothing."""
    try:
        return int(parsedate_to_datetime(flight.headers["Last-Modified"]).timestamp() * 1000)
    except (KeyError, ValueError):
        return 0
