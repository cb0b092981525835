"""Segments that are no longer in the spool: where they are by the catalogue, then from the archive.

What is sent as whole has the hash that was recorded, or it is not sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web

from base.i18n.format import format_hours
from base.i18n.gettext import gettext
from storage.archive.port import Archive, ArchiveError
from storage.catalogue.cameras import Name
from storage.catalogue.database import CatalogueError
from storage.records import FormatError, Identity, Index, parse_archive_document
from storage.spool.recording import recording_name
from streaming.context import CONTEXT
from streaming.http.clients import client
from streaming.http.negotiation import language_of
from streaming.http.rate_limit import Limit, Turns
from streaming.http.work import WORK, Work

KEPT = 256  # indexes of archived recordings, in memory
READ_S = 30.0

log = structlog.get_logger()
# who watches at the far end of the rewind window may pause for a quarter of it
LEAST_GRACE_MS, MOST_GRACE_MS = 60_000, 1_200_000
ASKED = web.AppKey("asked", Work)  # see `asking`
INDEXES = web.AppKey("indexes", OrderedDict[str, Index])


@dataclass(frozen=True, slots=True)
class Place:
    """What the archives have of a recording, the first configured first."""

    archives: tuple[tuple[Archive, str], ...]  # with the bucket
    key: str

    async def get(self, ending: str, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes from the first archive that gives them; raises 404 or 503."""
        answer: web.HTTPException = unavailable()
        for archive, bucket in self.archives:
            try:
                return await asyncio.wait_for(
                    archive.get(self.key + ending, offset, length, bucket=bucket), READ_S
                )
            except KeyError:
                answer = missing()
            except (ArchiveError, TimeoutError):
                answer = unavailable()
        raise answer


@dataclass(frozen=True, slots=True)
class ArchivedSegment:
    """A range of an archived recording that has a hash."""

    place: Place
    offset: int
    length: int
    sha256: str

    async def read(self, start: int, length: int) -> bytes:
        """Return bytes of the part; raises 404 or 503."""
        data = await self.place.get(".mp4", self.offset + start, length)
        whole = length == self.length
        if len(data) != length or (whole and hashlib.sha256(data).hexdigest() != self.sha256):
            log.error("The archive holds other bytes than were recorded", key=self.place.key)
            raise unavailable()
        return data


async def archived_segment(request: web.Request, name: Name, segment_no: int) -> ArchivedSegment:
    """Return a segment; raises 404, 410 or 503."""
    place, index = await _recording(request, name, segment_no=segment_no)
    at = segment_no - index.segments[0].segment_no
    if not 0 <= at < len(index.segments):
        raise missing()
    s = index.segments[at]
    refuse_old(request, s.end_ms)
    return ArchivedSegment(place, s.offset, s.length, s.sha256)


async def archived_init(request: web.Request, name: Name, run_no: int) -> ArchivedSegment:
    """Return the init of a run; raises 404, 410 or 503."""
    place, index = await _recording(request, name, run_no=run_no)
    return ArchivedSegment(place, 0, index.header.init_length, index.header.init_sha256)


async def _recording(
    request: web.Request, name: Name, *, segment_no: int = 0, run_no: int = 0
) -> tuple[Place, Index]:
    views = request.app[CONTEXT]
    asked = request.app[ASKED]
    asked.check(request)
    asked.count(request, 1)
    await request.app[WORK].rest.turn(client(request))  # it was begun in the lane of video
    async with asked.turn(request):
        try:
            row = await views.ask(
                lambda catalogue: (
                    catalogue.recording_of_run(name, run_no)
                    if run_no
                    else catalogue.recording_with_segment(name, segment_no)
                )
            )
        except CatalogueError:
            raise unavailable() from None
    if row is None or not row["archives"]:
        raise missing()
    there = {a["archive"]: a["bucket"] for a in row["archives"] if a["removed_ms"] is None}
    if not there:
        raise gone(row["archives"][-1])
    if segment_no:
        refuse_old(request, row["end_ms"])
    place = Place(
        tuple((a, there[a.name]) for a in views.archives if a.name in there),
        "/".join((*name, recording_name(row["start_ms"], row["record_seq"]))),
    )
    indexes = request.app[INDEXES]
    if place.key not in indexes:
        try:
            indexes[place.key] = parse_archive_document(await place.get(".json"))
        except (FormatError, KeyError, TypeError) as error:
            log.error("A document in the archive cannot be read", key=place.key, why=str(error))
            raise unavailable() from None
        while len(indexes) > KEPT:
            indexes.popitem(last=False)
    indexes.move_to_end(place.key)
    index = indexes[place.key]
    if index.identity != Identity.of(row):
        log.error("The archive has another recording than the catalogue names", key=place.key)
        raise unavailable()
    return place, index


def asking() -> Work:
    """Return how often a client may have catalogue and archive asked, ten angles at full speed, and
    that the catalogue has one such question at a time."""
    return Work(Limit(100, 0.1), Turns(32, 256), asyncio.Semaphore(1))


def refuse_old(request: web.Request, end_ms: int) -> None:
    """Raise 403 for what ended before the public can watch: copies are the way to it."""
    views = request.app[CONTEXT]
    rewind_ms = views.config.rewind_s * 1000
    grace_ms = max(LEAST_GRACE_MS, min(MOST_GRACE_MS, rewind_ms // 4))
    if end_ms < views.clock() - rewind_ms - grace_ms:
        text = gettext(
            "This is further back than the %(hours)s h that can be watched here: order a copy.",
            language_of(request),
            hours=format_hours(views.config.rewind_s),
        )
        raise web.HTTPForbidden(text=text)


def gone(archived: dict[str, Any]) -> web.HTTPGone:
    """Return the answer for what was recorded and is kept no longer."""
    day = datetime.fromtimestamp(archived["removed_ms"] / 1000, UTC).date()
    return web.HTTPGone(text=f"Removed on {day}: {archived['removed_reason']}.\n")


def missing() -> web.HTTPNotFound:
    """Return the answer for what was never recorded."""
    return web.HTTPNotFound(text="There is no such segment.\n")


def unavailable() -> web.HTTPServiceUnavailable:
    """Return the answer for what is there and cannot be read now."""
    return web.HTTPServiceUnavailable(
        text="The archive does not answer; ask again.\n", headers={"Retry-After": "10"}
    )
